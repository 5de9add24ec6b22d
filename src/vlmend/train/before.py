"""Which reference a run gets: the model before tuning, as cheaply as its method allows."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from vlmend.config import Recipe
from vlmend.errors import ConfigError
from vlmend.ops.scored import Needs
from vlmend.terminal import plural
from vlmend.train.encoding import Encoder
from vlmend.train.keeping import says
from vlmend.train.loop import Tuning, forward
from vlmend.train.reference import Cached, Caching, Live, Reference, key, originals, read_cache
from vlmend.types import digest

FILE = "reference-{}.jsonl"  # one for each process


def reference(run: Tuning, recipe: Recipe, fingerprint: str, console: Console) -> Reference | None:
    """To be made while the weights are still those from before; `fingerprint` is theirs.

    Raises ConfigError for a cache that the method cannot use.
    """
    needs = run.objective.needs
    if not needs.reference:
        return None
    fresh = recipe.model.tune == "lora" and not recipe.model.adapter
    again = run.total > run.plan.steps_per_epoch  # what is known is not computed in later epochs
    wanted, tokens_only = run.config.reference, needs.look is None and not needs.rollouts
    if wanted == "cached" and needs.rollouts:
        raise ConfigError(
            f"train.reference: cached keeps log-probabilities of the data's answers, and method {recipe.method.name!r}"
            " learns from the model's own; leave it at auto"
        )
    if wanted == "cached" and not tokens_only:
        raise ConfigError(
            f"train.reference: cached keeps log-probabilities of answers, and method {recipe.method.name!r} compares "
            "hidden states or whole distributions as well; leave it at auto"
        )
    if wanted == "cached" or (wanted == "auto" and tokens_only and (again or not fresh)):
        return _cached(run, recipe.output.dir, digest(fingerprint, says(run.ways.autocast)), console)
    return Live(run.before, {} if fresh else originals(run.trained))


def _cached(run: Tuning, folder: Path, identity: str, console: Console) -> Cached:
    """Every process computes its share into a file of its own; then all read all of them."""
    roles, team = run.objective.needs.reference, run.team
    examples = [example for example in run.examples if example.role in roles]
    known = read_cache(sorted(folder.glob(FILE.format("*"))), identity)
    team.wait()  # before any process writes what another would read half of
    share = [e for i, e in enumerate(examples) if i % team.size == team.rank and key(e) not in known]
    if share and team.is_main:
        console.print(f"log-probabilities of {plural(len(share), 'answer')} before tuning, kept in {folder}")
    encoder = Encoder(run.model, run.codec, run.ways, Needs(()), run.config.max_length)
    caching = Caching(forward(run.model, run.ways), encoder, team.device, run.config.per_device_train_batch_size)
    caching.fill(share, folder / FILE.format(team.rank), identity)
    team.wait()
    return Cached(read_cache(sorted(folder.glob(FILE.format("*"))), identity), roles)
