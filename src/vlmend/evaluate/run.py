"""generate → judge → score. Each stage stands alone, stores what it makes, and goes on where a killed one stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vlmend.errors import StoreError, UsageError
from vlmend.evaluate import defend, judging
from vlmend.evaluate.asking import DECODING, Known, decoded, prepare, samples_of
from vlmend.evaluate.attack import attacked, needs_victim
from vlmend.evaluate.cells import EvalConfig, titles
from vlmend.evaluate.elsewhere import Elsewhere
from vlmend.evaluate.generate import Generated, generate
from vlmend.evaluate.judging import Amount, JudgeSettings, Plan
from vlmend.evaluate.progress import Stages
from vlmend.evaluate.score import EvalResult, score
from vlmend.judge.binding import bind, named, refuse_rewards
from vlmend.judge.models import Models
from vlmend.judge.sifting import scored
from vlmend.judge.verdicts import Judged, Planned, from_specs
from vlmend.manifest import environment
from vlmend.metrics.views import Asks, first, missing, read_verdicts, spoken, views
from vlmend.registry import attacks, backend_for, suites
from vlmend.store import Run
from vlmend.store.run import VERDICTS
from vlmend.suites import asked_of, suite_of
from vlmend.terminal import plural
from vlmend.types import Backend, Checked, Decoding, Example, Finish, Record, Response, Suite


def evaluate(
    config: EvalConfig,
    backend: Backend | None = None,
    *,
    models: Models | None = None,
    quiet: bool = False,
    known: Known | None = None,
) -> EvalResult:
    """Generate, judge and score one suite. What the run folder holds already is neither asked nor judged again."""
    models = models or config.judging.models()
    [result] = evaluate_together([config], backend or backend_of(config), models, quiet=quiet, known=known)
    return result


def evaluate_together(
    configs: Sequence[EvalConfig],
    backend: Backend,
    models: Models,
    *,
    quiet: bool = False,
    known: Known | None = None,
) -> list[EvalResult]:
    """The same of several evaluations of one model, whose questions are asked together: see `generate`.

    Everything that can be refused is, before the first question is asked.
    """
    known = known or Known()
    with Stages(quiet) as stages:
        for config in configs:
            suite: Suite = suites.from_spec(config.suite)
            refuse_rewards(config.judges, models.testing(config.model))
            judging.check(bind(suite, config.judges), models, config.model, Run(config.out), stages.say)
        done = _generate(configs, backend, stages, known, models)
        return [
            _judged_and_scored(config, run, generated, models, stages, backend)
            for config, (run, generated) in zip(configs, done, strict=True)
        ]


def _generate(
    configs: Sequence[EvalConfig], backend: Backend, stages: Stages, known: Known, models: Models
) -> list[tuple[Run, Generated]]:
    questions = [prepare(config, backend, stages, known, models) for config in configs]
    done = list(zip([each.run for each in questions], generate(questions, backend, stages, models), strict=True))
    for run, found in done:
        silent = f" ({found.silent} {'says' if found.silent == 1 else 'say'} nothing)" if found.silent else ""
        stages.say(f"{run.folder}: {plural(found.new, 'new response')}{silent}, {found.kept} kept")
    return done


def _judged_and_scored(
    config: EvalConfig, run: Run, generated: Generated, models: Models, stages: Stages, backend: Backend
) -> EvalResult:
    suite: Suite = suites.from_spec(config.suite)
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
    configs: Sequence[EvalConfig],
    backends: Mapping[str, Backend] | None = None,
    *,
    models: Models | None = None,
    quiet: bool = False,
    known: Known | None = None,
) -> list[EvalResult]:
    """Several evaluations (see `cells`), those of one model together; each model is loaded once.

    `backends` are by model what answers for it, where that is there already; `models` are what judges are given.
    """
    models = models or configs[0].judging.models()
    known = known or Known()
    results: list[EvalResult] = []
    for some, answering in _by_model(configs, backends or {}):
        results += evaluate_together(some, answering, models, quiet=quiet, known=known)
    return results


def generate_all(
    configs: Sequence[EvalConfig], backends: Mapping[str, Backend] | None = None, *, quiet: bool = False
) -> list[tuple[Run, Generated]]:
    """The first stage alone, of several evaluations."""
    known = Known()
    with Stages(quiet) as stages:
        return [
            found
            for some, answering in _by_model(configs, backends or {})
            for found in _generate(some, answering, stages, known, some[0].judging.models())
        ]


def _by_model(
    configs: Sequence[EvalConfig], backends: Mapping[str, Backend]
) -> Iterator[tuple[list[EvalConfig], Backend]]:
    """The evaluations of each model, and what answers for it. A model that is not there is told before any is asked.

    Answers made elsewhere are joined to one suite at a time.
    """
    models: dict[tuple[str, str], list[EvalConfig]] = {}
    for config in configs:
        models.setdefault((config.model, config.suite if config.answers else ""), []).append(config)
    answering = {key: backends.get(key[0]) or backend_of(some[0]) for key, some in models.items()}
    for each in answering.values() if len(answering) > 1 else ():
        if isinstance(each, Checked):
            each.check()
    for key, some in models.items():
        yield some, answering.pop(key)  # one model in memory at a time


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


def plan(configs: Sequence[EvalConfig], known: Known | None = None) -> Plan:
    """Who would be asked what, and what that would cost, by suite (and model, and attack, where there are several).

    Nothing is asked or stored. Answers still to come are taken to be as long as can be.
    """
    models = configs[0].judging.model_copy(update={"dry_run": True}).models()
    planned: dict[str, list[Planned]] = {}
    amounts: dict[str, Amount] = {}
    known = known or Known()
    for title, each in zip(titles(configs), configs, strict=True):
        suite: Suite = suites.from_spec(each.suite)
        decoding, run = decoded(suite.decoding, each), Run(each.out)
        stored = {(r.example.id, r.response.sample): r.response for r in run.records()} if run.exists() else {}
        records: list[Record] = []
        chain = [attack for attack in map(attacks.from_spec, each.attack) if not needs_victim(attack)]
        asked = attacked(chain, known.choose(each, suite)[0])
        for example, sample in ((e, s) for e in asked for s in samples_of(suite, e, decoding)):
            response = stored.get((example.id, sample))
            if response is None or not response.said:
                response = _longest(example, sample, decoding)
            records.append(Record(example, response))
        calls, looks = defend.chain_from(each.defence, models).asks
        pictures = {image for record in records for image in record.example.images}
        amounts[title] = Amount(len(records), len(pictures), len(records) * calls, len(records) * looks)
        noted = run.manifest().get("controls", {}) if run.exists() else {}
        binding = bind(suite, each.judges)
        planned[title] = judging.plan(suite, binding, records, models.testing(each.model), noted)
    return Plan(models.purse, planned, amounts)


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
    names = ("attack", "defence", *(n for n in DECODING if n != "num_return_sequences"), "batch_size", "share_prefix")
    given = [name for name in names if getattr(config, name) not in (None, ())]
    given += [name for name in ("device", "dtype") if getattr(config, name) != "auto"]
    if given:
        raise UsageError(f"--answers: the answers are there, so {', '.join(given)} could change nothing; leave it out")
    return Elsewhere(config.model, config.answers)


def _complain(result: EvalResult, stages: Stages) -> None:
    """Say which records could not be scored, and why the first of them."""
    if result.unguarded:
        stages.say(
            f"{plural(result.unguarded, 'request')} refused because a guard said nothing of them, and so counted",
            style="bold yellow",
        )
    lost = result.lost
    if not lost:
        return
    whys = [f"{v.why} ({v.judge})" for v in lost[0].verdicts if v.why and not scored(v)]
    whys = whys or [lost[0].response.why or "no verdict"]
    stages.say(
        f"{plural(len(lost), 'record')} could not be scored, first {lost[0].example.id}: {whys[0]}",
        style="bold yellow",
    )
