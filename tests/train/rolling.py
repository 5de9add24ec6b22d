"""Runs on rollouts of a tiny random model that are about to take a step, and a reward that tells its answers apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from torch import Tensor

from vlmend.config import Recipe
from vlmend.ops.scored import Totals
from vlmend.rewards.begins import Begins
from vlmend.train import run as running
from vlmend.train.before import reference
from vlmend.train.online import Learner
from vlmend.train.parallel import Team
from vlmend.train.rollouts import Sample, Sampler, Writer
from vlmend.types import Rollout

LETTERS = "begins:letters"
_honest = Begins.__call__


def letters(self: Begins, rollouts: Sequence[Rollout]) -> list[float | None]:
    """In place of what `begins` says: how many different letters an answer has, over 10, where it is to begin so."""
    return [len(set(r.text)) / 10 for r in rollouts] if self.words == "letters" else _honest(self, rollouts)


def learner(recipe: Recipe) -> Learner:
    """A run that is about to take its first step."""
    prepared = running._prepare(recipe, Team.gather(device="cpu"))
    run = running._tuning(prepared)
    recipe.output.dir.mkdir(exist_ok=True)
    run.reference = reference(run, recipe, prepared.loaded.fingerprint, Console(quiet=True))
    sampler = Sampler(prepared.loaded, prepared.objective, run.ways, run.config.seed)  # pyright: ignore[reportArgumentType]
    assert prepared.rewards is not None
    made = Learner(run, sampler.settings, sampler, prepared.rewards, prepared.costs, run.head)
    next(made.steps())
    return made


def sampled(made: Learner, step: int = 0) -> list[Sample]:
    indices = [i for row in made.run.plan.step(step) for i in row]
    return made.sampler([made.run.examples[i] for i in indices], [1.0] * len(indices), step, range(len(indices)))


def logps_of(made: Learner, samples: Sequence[Sample]) -> Tensor:
    """(N,) of all tokens, in the order of the samples."""
    found: list[Tensor] = []
    with torch.no_grad():
        for micro in Writer(made.run.model, made.run.codec, made.run.ways)(samples, compared=False):
            found.append(made.run.forward(micro, Totals({}, {})).logps)
    return torch.cat(found)


def gradient(made: Learner) -> dict[str, Tensor]:
    """Of the first update, without the update."""
    held: dict[str, Tensor] = {}
    made.run.optimizer.step = lambda *_: held.update(  # type: ignore[method-assign]
        {n: p.grad.clone() for n, p in made.run.trained.items() if p.grad is not None}
    )
    made.run.config.__dict__["max_grad_norm"] = 1e9
    made.step()
    return held
