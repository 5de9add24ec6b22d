"""Judges at work on a run: who sits, what they may spend, what is noted about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vlmend.config import Section
from vlmend.errors import StoreError
from vlmend.evaluate.progress import Stages
from vlmend.judge.cache import Cache, default_path
from vlmend.judge.models import Models, Sees
from vlmend.judge.naming import about, asks_model
from vlmend.judge.verdicts import Judged, Key, from_specs, judge_run
from vlmend.money import Budget, Purse, Usage, load_prices
from vlmend.registry import suites
from vlmend.store import Row, Run
from vlmend.store.run import VERDICTS
from vlmend.types import Backend, Judge, Measure, Record

HEARD = 256  # records that a measure is watched on


class JudgeSettings(Section):
    """What judges that ask a model are given. `model` and `sees` are for those whose spec does not say.

    `budget` is money, or `500calls`, or `2Mtokens`; `prices` a price file. `dry_run` asks nothing and says what it
    would cost. `cache` remembers every reply, in all runs.
    """

    model: str = ""
    sees: Sees = ""
    budget: str = ""
    prices: Path | None = None
    cache: bool = True
    dry_run: bool = False

    def models(self, purse: Purse | None = None) -> Models:
        """What these judges are given; they pay from the given purse or from one of their own."""
        budget = Budget.parse(self.budget) if self.budget else None
        purse = purse or Purse(load_prices(self.prices), budget, dry=self.dry_run)
        return Models(self.model, self.sees, Cache(default_path()) if self.cache else None, purse)


@dataclass(frozen=True)
class Bench:
    """Judges, and the models that they may ask."""

    judges: tuple[Judge, ...]
    models: Models

    @classmethod
    def of(cls, specs: Iterable[str], models: Models) -> Bench:
        """The judges of these specs, each once."""
        judges, allowed = from_specs(specs)
        return cls(tuple(judges), replace(models, allowed=allowed))

    def check(self, model: str) -> None:
        """Find out before anything is generated whether the judges can judge this model."""
        models = self.models.testing(model)
        for judge in self.judges:
            made_of = about(judge, models)
            if "model" in made_of:
                models.purse.check(made_of["model"])

    def judge(self, run: Run, stages: Stages, backend: Backend | None = None) -> Judged:
        """Judge a stored run, say what stayed unscored, and note in its manifest who judged and what it took.

        `backend` is the model that answered, where it is loaded: some judges read it.
        """
        known = run.settings()
        models = self.models.testing(str(known.get("model", "")), str(known.get("fingerprint", "")), backend)
        made_now = {judge.name: dict(about(judge, models)) for judge in self.judges}
        purse = models.purse
        dry, before = purse.dry, replace(purse, spent=dict(purse.spent))
        if not dry:
            before_them = run.manifest().get("judged_by", {})
            run.note({"judges": list(made_now), "judged_by": {**before_them, **made_now}})
        ended = suppress(StoreError)  # of a verdict that cannot be stored, that is what is to be told
        try:
            found = judge_run(run, self.judges, models, stages)
            ended = nullcontext()
        finally:
            if not dry:
                with ended:
                    run.seal(VERDICTS)
                    if (purse.spent, purse.known) != (before.spent, before.known):
                        run.note({"judging": _added(run.manifest().get("judging", {}), before, purse)})
        if found.whys:
            found = found.only(read_verdicts(_suite_metrics(run), run.records()))
        if not dry:
            self._complain(found, stages.say)
        return found

    def _complain(self, found: Judged, say: Callable[..., None]) -> None:
        """Rules leave much unscored by design, and the rates say how much; a model that says nothing is news."""
        asking = {judge.name for judge in self.judges if asks_model(judge)}
        for judge, line in zip(found.whys, found.complaints(), strict=True):
            if judge in asking:
                say(line, style="bold yellow")


def _added(noted: Row, before: Purse, after: Purse) -> Row:
    """What judging this run took so far: calls and tokens by model, and replies that were known."""
    spent = {model: usage - before.spent.get(model, Usage()) for model, usage in after.spent.items()}
    new = replace(after, spent=spent, known=after.known - before.known).to_json()
    rows: dict[str, Any] = dict(noted.get("models", {}))
    for model, row in new["models"].items():
        old = rows.get(model, {})
        rows[model] = {key: None if value is None else (old.get(key) or 0) + value for key, value in row.items()}
    return {"known": noted.get("known", 0) + new["known"], "currency": new["currency"], "models": rows}


def _suite_metrics(run: Run) -> Sequence[Measure]:
    """What the run's suite counts; nothing where the run does not say which it is."""
    spec = run.manifest().get("suite_spec")
    return suites.from_spec(spec).metrics if isinstance(spec, str) else ()


class _Watched(Record):
    """A record that remembers which judges it was asked for."""

    def __init__(self, record: Record, heard: dict[str, None]) -> None:
        super().__init__(record.example, record.response, record.verdicts, record.content)
        object.__setattr__(self, "heard", heard)

    def verdict(self, judge: str) -> Any:
        """The verdict, noted."""
        heard: dict[str, None] = self.heard  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
        heard[judge] = None
        return super().verdict(judge)


def judges_of(measure: Measure, records: Sequence[Record]) -> list[str]:
    """The judges whose verdicts a measure reads, found out by watching it."""
    heard: dict[str, None] = {}
    applies = [r for r in records if measure.applies(r.example) and r.response.said]
    for record in applies[:HEARD]:
        measure.outcome(_Watched(record, heard))
    return list(heard)


def read_verdicts(measures: Sequence[Measure], records: Sequence[Record]) -> set[Key]:
    """The verdicts that some measure reads. Of an answer that says nothing, those it would have read."""
    found: set[Key] = set()
    for measure in measures:
        usual = judges_of(measure, records)
        for record in (r for r in records if measure.applies(r.example)):
            heard: dict[str, None] = {} if record.response.said else dict.fromkeys(usual)
            if not heard:
                measure.outcome(_Watched(record, heard))
            found.update((judge, record.example.id, record.response.id) for judge in heard)
    return found
