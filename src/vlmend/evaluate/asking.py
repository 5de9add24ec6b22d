"""What a run asks: the examples of a suite, attacked, in a run folder that is claimed for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vlmend import data
from vlmend.backends import response_id
from vlmend.data import pictures, placeholder
from vlmend.data.dataset import Dataset, PictureRules, fingerprint_of, pictured, refuse_duplicates, stand_ins
from vlmend.errors import StoreError, UnknownName, UsageError
from vlmend.evaluate import defend
from vlmend.evaluate.attack import aimed, attacked, name_of, needs_victim
from vlmend.evaluate.cells import EvalConfig
from vlmend.evaluate.elsewhere import Elsewhere
from vlmend.evaluate.generate import Questions
from vlmend.evaluate.progress import Stages
from vlmend.judge.models import Models
from vlmend.manifest import environment
from vlmend.metrics.views import measures_of
from vlmend.registry import attacks, suites
from vlmend.store import Asked, Row, Run
from vlmend.store.run import RESPONSES
from vlmend.terminal import plural
from vlmend.types import (
    AsksOnce,
    Attack,
    Backend,
    Decoding,
    Example,
    RendersPrompts,
    SeenInto,
    Suite,
    content_of,
    digest,
)

Chosen = tuple[list[Example], list[Dataset]]


@dataclass
class Known:
    """What the evaluations of one command share: data once read, and pictures whose stand-ins the user knows of."""

    sets: dict[str, tuple[Example, ...]] = field(default_factory=dict[str, tuple[Example, ...]])
    chosen: dict[object, Chosen] = field(default_factory=dict[object, Chosen])
    stand_ins: set[Path] = field(default_factory=set[Path])

    def read(self, source: str) -> tuple[Example, ...]:
        """All examples of a source, read once."""
        if source not in self.sets:
            self.sets[source] = data.read(source)
        return self.sets[source]

    def choose(self, config: EvalConfig, suite: Suite) -> Chosen:
        """What is asked of the suite, as `chosen` has it, read once."""
        key = (config.suite, config.limit, config.only, config.missing_images, config.max_pixels)
        if key not in self.chosen:
            self.chosen[key] = chosen(config, suite, self.read)
        return self.chosen[key]


def prepare(
    config: EvalConfig, backend: Backend, stages: Stages, known: Known, models: Models | None = None
) -> Questions:
    """Everything that comes before the first question is asked; says on `stages` what the user should know.

    Raises UsageError for what cannot be asked, and StoreError where the folder holds another run.
    """
    suite: Suite = suites.from_spec(config.suite)
    chain = [attacks.from_spec(spec) for spec in config.attack]
    defended = defend.chain_from(config.defence, models or config.judging.models()) if config.defence else defend.NONE
    plain, sets = known.choose(config, suite)
    if warning := placeholder.warning(len(stand_ins(sets) - known.stand_ins)):
        stages.say(warning, style="bold yellow")
    known.stand_ins |= stand_ins(sets)
    if isinstance(backend, Elsewhere):
        backend.prepare(plain)
    if not getattr(backend, "ready", True):
        stages.say(f"loading {config.model} …")
    examples = attacked(_aimed(chain, backend, config), plain)
    if chain and (same := _as_before(plain, examples)):
        stages.say(f"attack {config.attack_name} left {same} of {len(examples)} requests as they were", "yellow")
    decoding = decoded(suite.decoding, config)
    run, name = Run(config.out), defended.over(backend).fingerprint
    if defended.defences:
        name = digest(name, "behind", defended.made_of)
    wording = backend.wording(examples) if isinstance(backend, RendersPrompts) else {}
    for note, count in wording.items():
        stages.say(f"{note} ({count:,} of {len(examples):,} prompts)", style="bold yellow")
    contents = {example.id: content_of(example.prompt) for example in plain}
    asked = [
        Asked(
            e, response_id(name, e, decoding, sample), suite.name, suite.protocol, config.attack_name, sample,
            contents[e.origin],
        )
        for e in examples
        for sample in samples_of(suite, e, decoding)
    ]  # fmt: skip
    settings, about = _settings(config, suite, backend, decoding, defended), _about(config, sets, backend, decoding)
    if isinstance(backend, Elsewhere):
        about["answers"] = backend.about(plain, {(item.example.id, item.sample) for item in asked})
        backend.tell(about["answers"], stages.say)
    _tell_lost(run, run.refuse_other(settings), asked, about, stages)
    run.claim(settings, {**about, "wording": dict(wording)})
    run.write_asked(asked)
    return Questions(run, asked, decoding, defended)


def _tell_lost(run: Run, there: Mapping[str, Any], asked: Sequence[Asked], about: Row, stages: Stages) -> None:
    """Say which answers of before are lost or no longer counted. Raises UsageError where only a part is asked for.

    A changed data set may well have lost a question; a smaller limit would put the numbers of a few questions in the
    place of those of all.
    """
    if not there:
        return
    answered = run.outcomes()
    if wrong := run.wrong(RESPONSES):
        stages.say(f"{wrong}; what is lost is asked again", style="bold yellow")
    try:
        lost, held = run.lost_by(asked, answered)
    except StoreError as error:
        stages.say(f"{error}; it is written anew", style="bold yellow")
        return
    if not lost:
        return
    if _fingerprints(there) == _fingerprints(about) or _less(about, there):
        raise UsageError(
            f"{run.folder} holds {plural(held, 'answer')}, and {held - lost:,} of them are asked for now, whose numbers"
            " would stand for all; leave out --limit or --num-return-sequences (nothing is asked twice), or choose"
            " another folder"
        )
    stages.say(
        f"{run.folder}: the data have changed; of {plural(held, 'answer')} of before, {lost:,}"
        f" {'is' if lost == 1 else 'are'} to what is asked no longer, or differently, and not counted",
        style="bold yellow",
    )


def _fingerprints(about: Mapping[str, Any]) -> list[Any]:
    return [row.get("fingerprint") for row in about.get("data", ())]


def _less(about: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether fewer examples, or answers to each, are asked for than before."""
    limit, before = about["limit"], there.get("limit")
    samples = about["num_return_sequences"] < there.get("num_return_sequences", 1)
    return samples or (limit is not None and (before is None or limit < before))


def _as_before(plain: Sequence[Example], examples: Sequence[Example]) -> int:
    """How many attacked requests ask what was asked without the attack."""
    prompts = {example.id: example.prompt for example in plain}
    return sum(example.prompt == prompts[example.origin] for example in examples)


def chosen(
    config: EvalConfig, suite: Suite, read: Callable[[str], tuple[Example, ...]]
) -> tuple[list[Example], list[Dataset]]:
    """What is asked of the suite, not yet attacked, and its sets, whose fingerprints are of the whole.

    Only pictures of what is asked need to be there. A bad one costs the examples that show it, and is found when asked.
    """
    if not suite.sources:
        raise UsageError(
            f"suite {config.suite} has nothing to ask: it is for what `vlmend utility import` reads of other evaluators"
        )
    whole = [(source, read(source)) for source in suite.sources]
    examples = [e for _, found in whole for e in found]
    refuse_duplicates(examples, f"suite {config.suite}")
    wanted = {e.id for e in _about_metric(limited(examples, config.limit), suite, config.only)}
    missing = "leave" if config.answers else config.missing_images
    rules = PictureRules(missing, "leave", config.max_pixels)
    sets: list[Dataset] = []
    for source, found in whole:
        shown, absent = pictured(source, tuple(e for e in found if e.id in wanted), rules)
        sets.append(Dataset(source, shown, absent, fingerprint_of(found)))
    return [e for s in sets for e in s.examples], sets


def _about_metric(examples: Sequence[Example], suite: Suite, name: str | None) -> Sequence[Example]:
    """What the metric of that name is about, or any of several with commas; everything where none is named."""
    if name is None:
        return examples
    known = {m.name: m for m in measures_of(suite)}
    for one in name.split(","):
        if one not in known:
            raise UnknownName(f"metric of suite {suite.name}", one, known)
    metrics = [known[one] for one in name.split(",")]
    return [e for e in examples if any(metric.applies(e) for metric in metrics)]


def _aimed(chain: Sequence[Attack], backend: Backend, config: EvalConfig) -> Sequence[Attack]:
    """The attacks, those that must see into the model turned against the one that is asked."""
    blind = next((attack for attack in chain if needs_victim(attack)), None)
    if blind is None:
        return chain
    if not isinstance(backend, SeenInto):
        raise UsageError(
            f"attack {name_of(blind)} needs gradients, so a model that runs here, not {config.model!r};"
            " pictures it made can be asked elsewhere from the run's folder"
        )
    return aimed(chain, backend.victim(), config.out / "attacked")


def limited(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """At most `limit` examples, as many of each subset as of any other, the first ones, in the order of the data."""
    if limit is None or limit >= len(examples):
        return list(examples)
    seen: dict[str, int] = {}
    turns: list[tuple[int, int]] = []
    for index, example in enumerate(examples):
        turn = seen[example.subset] = seen.get(example.subset, -1) + 1
        turns.append((turn, index))
    return [examples[index] for index in sorted(index for _, index in sorted(turns)[:limit])]


def samples_of(suite: Suite, example: Example, decoding: Decoding) -> range:
    """The answers to an example that are asked for."""
    return decoding.samples[:1] if isinstance(suite, AsksOnce) and suite.once(example) else decoding.samples


DECODING = (
    "max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "num_return_sequences", "seed", "thinking_budget",
)  # fmt: skip
MORE = ("num_return_sequences", "first_sample")  # how many answers there are, which may grow


def decoded(decoding: Decoding, config: EvalConfig) -> Decoding:
    """The suite's decoding with what the configuration says otherwise."""
    wanted = {name: getattr(config, name) for name in DECODING}
    made = replace(decoding, **{key: value for key, value in wanted.items() if value is not None})
    idle = [name for name in ("temperature", "top_p", "top_k") if wanted[name] is not None]
    if made.num_return_sequences > 1:
        idle.append("num_return_sequences")
    if idle and not made.do_sample:
        raise UsageError(f"{', '.join(idle)} without do_sample: the likeliest answer is always the same")
    return made


def _settings(
    config: EvalConfig, suite: Suite, backend: Backend, decoding: Decoding, defended: defend.Chain
) -> dict[str, Any]:
    """What makes two runs the same run, most telling first."""
    behind = {"defence": list(config.defence), "defence_made_of": defended.made_of} if config.defence else {}
    return {
        "model": getattr(backend, "name", config.model),
        "suite": suite.name,
        "protocol": suite.protocol,
        "sources": list(suite.sources),
        "attack": list(config.attack),
        **behind,
        "missing_images": config.missing_images,
        "only": config.only,
        "decoding": {k: v for k, v in asdict(decoding).items() if k not in MORE and (v or k != "thinking_budget")},
        "fingerprint": backend.fingerprint,
    }


def _about(config: EvalConfig, sets: Sequence[Dataset], backend: Backend, decoding: Decoding) -> dict[str, Any]:
    placeholders = len(stand_ins(sets))
    return {
        "kind": "evaluation",
        "suite_spec": config.suite,
        "limit": config.limit,
        "num_return_sequences": decoding.num_return_sequences,
        "placeholders": placeholders,
        "warning": placeholder.warning(placeholders),
        "max_pixels": config.max_pixels,
        "pictures": pictures.told(e for s in sets for e in s.examples),
        "data": [
            {"spec": s.spec, "examples": len(s.examples), "placeholders": s.placeholders, "fingerprint": s.fingerprint}
            for s in sets
        ],
        "notes": list(getattr(backend, "notes", ())),
        "environment": environment(getattr(backend, "ran_on", "")),
    }
