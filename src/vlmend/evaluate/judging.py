"""Judges at work on a run: what they may spend, what they are asked, what is noted about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmend.config import JudgingConfig, Section
from vlmend.errors import StoreError
from vlmend.evaluate import controls
from vlmend.evaluate.progress import Stages
from vlmend.judge import controls as known
from vlmend.judge.binding import Binding
from vlmend.judge.models import Controls, Models, Sees
from vlmend.judge.naming import about, asks_model
from vlmend.judge.verdicts import Judged, Planned, judge_records, stands
from vlmend.metrics.views import Key, read_verdicts, views
from vlmend.money import Budget, Purse, Usage, load_prices
from vlmend.store import Row, Run
from vlmend.store.cache import Cache, default_path
from vlmend.store.run import VERDICTS
from vlmend.types import Backend, Judge, Record, Suite, Verdict


class JudgeSettings(Section):
    """What judges that ask a model are given. `model` and `sees` are for those whose spec does not say.

    `budget` is money, or `500calls`, or `2Mtokens`; `prices` a price file. `dry_run` asks nothing and says what it
    would cost. `cache` remembers every reply, in all runs. `controls`: a judge that fails its known controls is
    refused, or asked all the same and its numbers marked; or no controls are asked.
    """

    model: str = ""
    sees: Sees = ""
    budget: str = ""
    prices: Path | None = None
    cache: bool = True
    dry_run: bool = False
    controls: Controls = "refuse"

    @classmethod
    def of(cls, config: JudgingConfig) -> JudgeSettings:
        """Those of a recipe."""
        return cls(model=config.model, sees=config.sees, controls=config.controls or "refuse")

    def models(self, purse: Purse | None = None) -> Models:
        """What these judges are given; they pay from the given purse or from one of their own."""
        budget = Budget.parse(self.budget) if self.budget else None
        purse = purse or Purse(load_prices(self.prices), budget, dry=self.dry_run)
        cache = Cache(default_path()) if self.cache else None
        return Models(self.model, self.sees, cache, purse, controls=self.controls)


def check(
    binding: Binding, models: Models, model: str, run: Run | None = None,
    say: Callable[..., None] = lambda *_, **__: None, *, loading: bool = True,
) -> None:  # fmt: skip
    """Find out before anything is generated whether the judges can judge this model, and fail no known control.

    Those that `run` has verdicts of by now are tried once it shows whether they are asked for more. Without `loading`,
    so are models that would have to be loaded here.
    """
    models = _for(binding, models.testing(model))
    made_of = {judge.name: dict(about(judge, models)) for judge in binding.judges.values()}
    for made in made_of.values():
        if "model" in made:
            models.purse.check(made["model"])
    there = run.manifest() if run is not None and run.exists() else {}
    made_before, noted = there.get("judged_by", {}), there.get("controls", {})
    new = [judge for judge in binding.judges.values() if made_before.get(judge.name) != made_of[judge.name]]
    if not models.purse.dry:
        controls.try_judges(new, binding, models, noted, say, loading=loading)


def _for(binding: Binding, models: Models) -> Models:
    return replace(models, allowed=binding.allowed)


def judge(
    run: Run, suite: Suite, binding: Binding, models: Models, stages: Stages, backend: Backend | None = None
) -> Judged:
    """Have the verdicts of a stored run given that its numbers read, and note in its manifest who answers what.

    `backend` is the model that answered, where it is loaded: some judges read it.
    """
    about_run = run.settings()
    models = _for(
        binding, models.testing(str(about_run.get("model", "")), str(about_run.get("fingerprint", "")), backend)
    )
    models = replace(models, defended=" + ".join(about_run.get("defence", ())))
    purse, judges = models.purse, list(binding.judges.values())
    made_now = {judge.name: dict(about(judge, models)) for judge in judges}
    noted: controls.Noted = run.manifest().get("controls", {})
    if purse.dry:
        return Judged(planned=_plan(suite, binding, run.records(), models, noted))
    at_work = _open(run, suite, binding, made_now)
    before = replace(purse, spent=dict(purse.spent))
    made_before = run.manifest().get("judged_by", {})
    tried = controls.try_judges(at_work, binding, models, noted, stages.say)
    names = dict.fromkeys([*run.manifest().get("judges", ()), *made_now])
    asks = {question: list(answering) for question, answering in binding.asks.items()}
    trials = known.after(noted, tried)
    # a judge of another making than before is noted as such once it has said something
    run.note({"judges": list(names), "asks": asks, "judged_by": {**made_now, **made_before}, "controls": trials})
    ended = suppress(StoreError)  # of a verdict that cannot be stored, that is what is to be told
    try:
        found = _judge(run, suite, binding, models, stages)
        ended = nullcontext()
    finally:
        with ended:
            run.seal(VERDICTS)
            if (purse.spent, purse.known) != (before.spent, before.known):
                run.note({"judging": _added(run.manifest().get("judging", {}), before, purse)})
    failed = {name for name in found.mute() if name in made_before}  # what stands is what was said before
    spoke = {name: made for name, made in made_now.items() if name not in failed}
    rest = {name: noted.get(name) if name in failed else row for name, row in trials.items()}
    run.note({"judged_by": {**made_before, **spoke}, "controls": {name: row for name, row in rest.items() if row}})
    _complain(found, judges, stages.say)
    for row in known.constants(run.manifest(), asks, run.records()) if found.new and trials else ():
        stages.say(known.told_constant(row), style="" if row["controls"] == known.PASSED else "bold yellow")
    return found


def _open(run: Run, suite: Suite, binding: Binding, made_of: Mapping[str, Mapping[str, str]]) -> list[Judge]:
    """The judges that ask a model and may be asked of some answer, since no verdict of theirs on it stands."""
    asking = {judge.name: judge for judge in binding.judges.values() if asks_model(judge)}
    if not asking:
        return []
    records = run.records()
    answers = {(r.example.id, r.response.id): r for r in records if r.response.said}
    found: dict[str, None] = {}
    for name, *answer in read_verdicts(views(suite, binding.asks, records), records, at_most=True):
        record = answers.get((answer[0], answer[1])) if name in asking and name not in found else None
        if record is not None and not stands(record.verdict(name), made_of[name]):
            found[name] = None
    return [asking[name] for name in found]


def _judge(run: Run, suite: Suite, binding: Binding, models: Models, stages: Stages) -> Judged:
    """Ask for the verdicts that are read, and then for those that are read now that these are there."""
    found = Judged()
    records = run.records()
    asked: set[Key] = set()
    with run.verdict_journal() as journal:
        while True:
            wanted = read_verdicts(views(suite, binding.asks, records), records).keys() - asked
            for judge in binding.judges.values():
                of = {key[1:] for key in wanted if key[0] == judge.name}
                places = [p for p, r in enumerate(records) if (r.example.id, r.response.id) in of]
                if not places:
                    continue
                given = judge_records(judge, models, [records[p] for p in places], journal, found, stages)
                for place, verdict in given.items():
                    records[places[place]] = _with(records[places[place]], verdict)
            asked |= wanted
            if not wanted:
                return found


def _with(record: Record, verdict: Verdict) -> Record:
    others = tuple(v for v in record.verdicts if v.judge != verdict.judge)
    return replace(record, verdicts=(*others, verdict))


def _complain(found: Judged, judges: Sequence[Judge], say: Callable[..., None]) -> None:
    """Rules leave much unscored by design, and the rates say how much; a model that says nothing is news."""
    asking = {judge.name for judge in judges if asks_model(judge)}
    for judge, line in zip(found.whys, found.complaints(), strict=True):
        if judge in asking:
            say(line, style="bold yellow")


@dataclass(frozen=True)
class Amount:
    """How many answers a model is to give, and how many pictures it is shown.

    `calls` is how often, at most, it has to answer for that behind a defence, `looks` how often the judges and rewards
    of one look.
    """

    answers: int
    pictures: int
    calls: int
    looks: int = 0


@dataclass(frozen=True)
class Plan:
    """What judging would cost, who would be asked what, and of how much the model, by suite."""

    purse: Purse
    planned: Mapping[str, Sequence[Planned]]
    asked: Mapping[str, Amount]


def plan(
    suite: Suite, binding: Binding, records: Sequence[Record], models: Models, noted: controls.Noted
) -> list[Planned]:
    """Have a dry purse expect everything that could be asked of these records, and say what that is.

    `models` are testing the model that answers, or is to answer; `noted` is what its run notes of controls.
    """
    models = _for(binding, models)
    for judge in binding.judges.values():  # before any of them is asked
        about(judge, models)
    return _plan(suite, binding, records, models, noted)


def _plan(
    suite: Suite, binding: Binding, records: Sequence[Record], models: Models, noted: controls.Noted
) -> list[Planned]:
    read = read_verdicts(views(suite, binding.asks, records), records, at_most=True)
    planned: list[Planned] = []
    for judge in binding.judges.values():
        mine = {key[1:]: questions for key, questions in read.items() if key[0] == judge.name}
        asked = [r for r in records if (r.example.id, r.response.id) in mine]
        made_of = about(judge, models)
        open_ = any(r.response.said and not stands(r.verdict(judge.name), made_of) for r in asked)
        first = controls.expect(judge, binding, models, noted) if open_ else 0
        judge_records(judge, models, asked, None, Judged(), lambda *_: None)
        questions = dict.fromkeys(question for found in mine.values() for question in found)
        planned.append(Planned(judge.name, tuple(questions), len(asked), first))
    return planned


def _added(noted: Row, before: Purse, after: Purse) -> Row:
    """What judging this run took so far: calls and tokens by model, and replies that were known."""
    spent = {model: usage - before.spent.get(model, Usage()) for model, usage in after.spent.items()}
    new = replace(after, spent=spent, known=after.known - before.known).to_json()
    rows: dict[str, Any] = dict(noted.get("models", {}))
    for model, row in new["models"].items():
        old = rows.get(model, {})
        rows[model] = {key: None if value is None else (old.get(key) or 0) + value for key, value in row.items()}
    return {"known": noted.get("known", 0) + new["known"], "currency": new["currency"], "models": rows}
