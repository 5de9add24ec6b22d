"""generate → judge → score. Each stage stands alone, stores what it makes, and goes on where a killed one stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vlmend import data
from vlmend.backends import response_id
from vlmend.config import MaxPixels, Section
from vlmend.data import pictures, placeholder
from vlmend.data.dataset import Dataset, PictureRules, fingerprint_of, pictured, refuse_duplicates, stand_ins
from vlmend.errors import StoreError, UnknownName, UsageError
from vlmend.evaluate import judging
from vlmend.evaluate.attack import aimed, attacked, name_of, needs_victim
from vlmend.evaluate.elsewhere import Elsewhere
from vlmend.evaluate.generate import Generated, generate
from vlmend.evaluate.judging import JudgeSettings, Plan
from vlmend.evaluate.progress import Stages
from vlmend.evaluate.score import EvalResult, score
from vlmend.judge.binding import bind, named, refuse_rewards
from vlmend.judge.models import Models
from vlmend.judge.sifting import scored
from vlmend.judge.verdicts import Judged, Planned, from_specs
from vlmend.manifest import environment
from vlmend.metrics.views import Asks, first, missing, read_verdicts, spoken, views
from vlmend.registry import attacks, backend_for, suites
from vlmend.rgb import MAX_PIXELS
from vlmend.store import Asked, Row, Run
from vlmend.store.run import RESPONSES, VERDICTS
from vlmend.suites import asked_of, suite_of
from vlmend.terminal import plural
from vlmend.types import (
    Attack,
    Backend,
    Decoding,
    Example,
    Finish,
    Record,
    RendersPrompts,
    Response,
    SeenInto,
    Suite,
    content_of,
    digest,
)


class EvalConfig(Section):
    """One evaluation: a model, a suite, what is done to its questions, and where the records go.

    None leaves a setting as the suite or the backend has it. `judges` are `QUESTION=SPEC`, in the place of the suite's
    own, or `SPEC`, beside them. `only` names a
    metric of the suite, or several with commas: nothing is asked but what these are about. `answers` are files of
    answers that `model` gave elsewhere, `FILE` or `SUBSET=FILE`: nothing is asked then, and no picture is needed.
    """

    model: str
    suite: str
    out: Path
    answers: tuple[str, ...] = ()
    attack: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    judging: JudgeSettings = JudgeSettings()
    missing_images: Literal["error", "placeholder"] = "error"
    only: str | None = None
    max_pixels: MaxPixels = MAX_PIXELS
    limit: int | None = Field(default=None, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)
    do_sample: bool | None = None
    temperature: float | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    num_return_sequences: int | None = Field(default=None, gt=0)
    seed: int | None = None
    batch_size: int | None = Field(default=None, gt=0)
    share_prefix: bool | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def attack_name(self) -> str:
        """The chain of attacks in one word; empty when there is none."""
        return " + ".join(self.attack)


def evaluate(
    config: EvalConfig,
    backend: Backend | None = None,
    *,
    models: Models | None = None,
    quiet: bool = False,
    told: set[Path] | None = None,
) -> EvalResult:
    """Generate, judge and score one suite. What the run folder holds already is neither asked nor judged again.

    `told`: pictures whose stand-ins the user knows of, which several evaluations of one command may share.
    """
    with Stages(quiet) as stages:
        suite: Suite = suites.from_spec(config.suite)
        models = models or config.judging.models()
        refuse_rewards(config.judges, models.testing(config.model))
        judging.check(bind(suite, config.judges), models, config.model, Run(config.out), stages.say)
        backend = backend or backend_of(config)
        run, generated = _generate(config, suite, backend, stages, set() if told is None else told)
        binding = bind(suite, config.judges, _asked_before(run, suite, config.judges))
        judged = judging.judge(run, suite, binding, models, stages, backend)
        if not generated.new and not judged.new:
            stages.say(f"nothing new: {plural(generated.kept, 'response')} and their verdicts were there")
        records = run.records()
        result = score(run, records, suite, asked_of(run, suite, records), generated)
        _complain(result, stages)
        return result


def _asked_before(run: Run, suite: Suite, given: Sequence[str]) -> Asks:
    """Who answers which question in a run; nobody yet where nothing was judged, not even the suite's own judges.

    Where the user gives a question to somebody, who was to answer it before and never did is out.
    """
    noted = "asks" in run.manifest()
    taken = {question for question, _ in map(named, given) if question}
    records = run.records() if (taken or not noted) and (run.folder / VERDICTS).exists() else []
    spoke = spoken(records)
    asks = asked_of(run, suite, records) if noted or spoke else {}
    return {q: [name for name in names if name in spoke or q not in taken] for q, names in asks.items()}


def evaluate_all(
    config: EvalConfig,
    specs: Sequence[str],
    backend: Backend | None = None,
    *,
    models: Models | None = None,
    quiet: bool = False,
) -> list[EvalResult]:
    """Several suites with one model, loaded once; each in a folder of its own below `out`."""
    configs = _per_suite(config, specs)
    backend, models = backend or backend_of(config), models or config.judging.models()
    told: set[Path] = set()
    return [evaluate(each, backend, models=models, quiet=quiet, told=told) for each in configs]


def generate_all(
    config: EvalConfig, specs: Sequence[str], backend: Backend | None = None, *, quiet: bool = False
) -> list[tuple[Run, Generated]]:
    """The first stage alone, for several suites."""
    configs = _per_suite(config, specs)
    backend = backend or backend_of(config)
    with Stages(quiet) as stages:
        told: set[Path] = set()
        return [_generate(each, suites.from_spec(each.suite), backend, stages, told) for each in configs]


def _per_suite(config: EvalConfig, specs: Sequence[str]) -> list[EvalConfig]:
    """The same evaluation of each suite; several get a folder each below `out`."""
    folders = _folders(specs) if len(specs) > 1 else [""]
    return [
        config.model_copy(update={"suite": spec, "out": config.out / folder})
        for spec, folder in zip(specs, folders, strict=True)
    ]


def judge_only(folder: Path, specs: Sequence[str], models: Models | None = None, *, quiet: bool = False) -> Judged:
    """The second stage alone: the given judges, `QUESTION=SPEC` or `SPEC`, or else all of the run, on a stored run."""
    run = Run.open(folder)
    suite = suite_of(run)
    models = models or JudgeSettings().models()
    refuse_rewards(specs, models.testing(str(run.settings().get("model", ""))))
    binding = bind(suite, specs, _asked_before(run, suite, specs), keep=True)
    if specs:
        binding = binding.only(from_specs(spec for _, spec in map(named, specs))[0])
    with Stages(quiet) as stages:
        judged = judging.judge(run, suite, binding, models, stages)
    if judged.new and not models.purse.dry:
        run.note_session({"kind": "judging", "judges": list(binding.judges), "environment": environment()})
    return judged


def plan(config: EvalConfig, specs: Sequence[str]) -> Plan:
    """Who would be asked what, and what that would cost; nothing is asked or stored.

    Answers still to come are taken to be as long as can be.
    """
    models = config.judging.model_copy(update={"dry_run": True}).models()
    planned: dict[str, list[Planned]] = {}
    for each in _per_suite(config, specs):
        suite: Suite = suites.from_spec(each.suite)
        decoding, run = _decoding(suite.decoding, each), Run(each.out)
        stored = {(r.example.id, r.response.sample): r.response for r in run.records()} if run.exists() else {}
        records: list[Record] = []
        chain = [attack for attack in map(attacks.from_spec, each.attack) if not needs_victim(attack)]
        for example, sample in product(attacked(chain, _chosen(each, suite)[0]), decoding.samples):
            response = stored.get((example.id, sample))
            if response is None or not response.said:
                response = _longest(example, sample, decoding)
            records.append(Record(example, response))
        noted = run.manifest().get("controls", {}) if run.exists() else {}
        binding = bind(suite, each.judges)
        planned[each.suite] = judging.plan(suite, binding, records, models.testing(each.model), noted)
    return Plan(models.purse, planned)


def _longest(example: Example, sample: int, decoding: Decoding) -> Response:
    """Stands for an answer still to come; samples differ, as most will, so that each is judged."""
    text = f"{sample or ''} " + "word " * decoding.max_new_tokens
    return Response(f"{example.id}/{sample}", example.id, text, Finish.STOP, sample=sample)


def score_only(folder: Path, *, quiet: bool = True) -> EvalResult:
    """The third stage alone: rates of a stored run from its verdicts."""
    run = Run.open(folder)
    suite = suite_of(run)
    records = run.records()
    asks = asked_of(run, suite, records)
    if {*first(asks).values(), *suite.judges} - spoken(records):
        decisive = [view for view in views(suite, asks, records) if not view.judge]
        if absent := missing(read_verdicts(decisive, records), records):
            raise StoreError(f"{folder} has no verdicts of {', '.join(absent)}; run vlmend judge first")
    before = run.stored_metrics()
    result = score(
        run, records, suite, asks, Generated(0, sum(r.response.finish is not Finish.FAILED for r in records), 0)
    )
    if before != run.stored_metrics():
        run.note_session({"kind": "scoring", "environment": environment()})
    with Stages(quiet) as stages:
        _complain(result, stages)
    return result


def backend_of(config: EvalConfig) -> Backend:
    """What answers. Raises UsageError for a setting that it cannot honor."""
    if config.answers:
        return _made_elsewhere(config)
    settings = {name: getattr(config, name) for name in ("device", "dtype", "batch_size", "share_prefix")}
    return backend_for(config.model, {name: value for name, value in settings.items() if value is not None})


def _made_elsewhere(config: EvalConfig) -> Elsewhere:
    """The answers that are there. Raises UsageError for a setting of who would give them."""
    names = ("attack", *(n for n in _DECODING if n != "num_return_sequences"), "batch_size", "share_prefix")
    given = [name for name in names if getattr(config, name) not in (None, ())]
    given += [name for name in ("device", "dtype") if getattr(config, name) != "auto"]
    if given:
        raise UsageError(f"--answers: the answers are there, so {', '.join(given)} could change nothing; leave it out")
    return Elsewhere(config.model, config.answers)


def _generate(
    config: EvalConfig, suite: Suite, backend: Backend | None, stages: Stages, told: set[Path]
) -> tuple[Run, Generated]:
    chain = [attacks.from_spec(spec) for spec in config.attack]
    chosen, sets = _chosen(config, suite)
    if warning := placeholder.warning(len(stand_ins(sets) - told)):
        stages.say(warning, style="bold yellow")
    told |= stand_ins(sets)
    backend = backend or backend_of(config)
    if isinstance(backend, Elsewhere):
        backend.prepare(chosen)
    if not getattr(backend, "ready", True):
        stages.say(f"loading {config.model} …")
    examples = attacked(_aimed(chain, backend, config), chosen)
    if chain and (same := _as_before(chosen, examples)):
        stages.say(f"attack {config.attack_name} left {same} of {len(examples)} requests as they were", "yellow")
    decoding = _decoding(suite.decoding, config)
    run, name = Run(config.out), backend.fingerprint
    wording = backend.wording(examples) if isinstance(backend, RendersPrompts) else {}
    for note, count in wording.items():
        stages.say(f"{note} ({count:,} of {len(examples):,} prompts)", style="bold yellow")
    contents = {example.id: content_of(example.prompt) for example in chosen}
    asked = [
        Asked(
            e, response_id(name, e, decoding, sample), suite.name, suite.protocol, config.attack_name, sample,
            contents[e.origin],
        )
        for e in examples
        for sample in decoding.samples
    ]  # fmt: skip
    settings, about = _settings(config, suite, backend, decoding), _about(config, sets, backend, decoding)
    if isinstance(backend, Elsewhere):
        about["answers"] = backend.about(chosen, decoding)
        backend.tell(about["answers"], stages.say)
    _tell_lost(run, run.refuse_other(settings), asked, about, stages)
    run.claim(settings, {**about, "wording": dict(wording)})
    run.write_asked(asked)
    try:
        done = generate(run, asked, backend, decoding, stages)
    finally:
        run.seal(RESPONSES)
    silent = f" ({done.silent} {'says' if done.silent == 1 else 'say'} nothing)" if done.silent else ""
    stages.say(f"{config.out}: {plural(done.new, 'new response')}{silent}, {done.kept} kept")
    return run, done


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


def _chosen(config: EvalConfig, suite: Suite) -> tuple[list[Example], list[Dataset]]:
    """What is asked of the suite, not yet attacked, and its sets, whose fingerprints are of the whole.

    Only pictures of what is asked need to be there. A bad one costs the examples that show it, and is found when asked.
    """
    if not suite.sources:
        raise UsageError(
            f"suite {config.suite} has nothing to ask: it is for what `vlmend utility import` reads of other evaluators"
        )
    whole = [(source, data.read(source)) for source in suite.sources]
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
    known = {m.name: m for m in suite.metrics}
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


_DECODING = ("max_new_tokens", "do_sample", "temperature", "top_p", "top_k", "num_return_sequences", "seed")


def _decoding(decoding: Decoding, config: EvalConfig) -> Decoding:
    """The suite's decoding with what the configuration says otherwise."""
    wanted = {name: getattr(config, name) for name in _DECODING}
    made = replace(decoding, **{key: value for key, value in wanted.items() if value is not None})
    idle = [name for name in ("temperature", "top_p", "top_k") if wanted[name] is not None]
    if made.num_return_sequences > 1:
        idle.append("num_return_sequences")
    if idle and not made.do_sample:
        raise UsageError(f"{', '.join(idle)} without do_sample: the likeliest answer is always the same")
    return made


def _settings(config: EvalConfig, suite: Suite, backend: Backend, decoding: Decoding) -> dict[str, Any]:
    """What makes two runs the same run, most telling first."""
    return {
        "model": getattr(backend, "name", config.model),
        "suite": suite.name,
        "protocol": suite.protocol,
        "sources": list(suite.sources),
        "attack": list(config.attack),
        "missing_images": config.missing_images,
        "only": config.only,
        "decoding": {k: v for k, v in asdict(decoding).items() if k not in ("num_return_sequences", "first_sample")},
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


def _complain(result: EvalResult, stages: Stages) -> None:
    """Say which records could not be scored, and why the first of them."""
    lost = result.lost
    if not lost:
        return
    whys = [f"{v.why} ({v.judge})" for v in lost[0].verdicts if v.why and not scored(v)]
    whys = whys or [lost[0].response.why or "no verdict"]
    stages.say(
        f"{plural(len(lost), 'record')} could not be scored, first {lost[0].example.id}: {whys[0]}",
        style="bold yellow",
    )


def _folders(specs: Sequence[str]) -> list[str]:
    """A folder name per suite: its plugin's name, with a hash where two would share it."""
    names = [re.sub(r"[^\w.-]+", "-", re.split(r"[:#?]", spec)[0]) for spec in specs]
    if len(set(specs)) < len(specs):
        raise UsageError("the same suite is named twice")
    return [n if names.count(n) == 1 else f"{n}-{digest(s)[:6]}" for n, s in zip(names, specs, strict=True)]
