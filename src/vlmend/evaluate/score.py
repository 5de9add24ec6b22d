"""score: from stored records to numbers, those of the suite and those of judges that were asked beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vlmend.defences import UNHEARD
from vlmend.evaluate.generate import Generated
from vlmend.judge import controls
from vlmend.metrics import rates
from vlmend.metrics.costs import Cost, cost
from vlmend.metrics.views import Asks, View, agreements, judges_of, views
from vlmend.store import Run
from vlmend.types import Example, Measure, Measured, Record, Suite


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation found, and how much of it was new."""

    run: Run
    generated: Generated
    measured: tuple[Measure, ...]
    metrics: Mapping[str, Measured]
    unscored: float  # the largest share of any metric's population that could not be scored
    lost: tuple[Record, ...] = ()  # records that some metric asks about and cannot score
    agreement: tuple[Mapping[str, Any], ...] = ()  # of two judges of one question (see `metrics.views.agreements`)
    constant: tuple[Mapping[str, Any], ...] = ()  # judges that said one thing (see `judge.controls.constants`)
    cost: Cost | None = None
    unguarded: int = 0  # answers that are refusals because a guard said nothing

    def to_json(self) -> dict[str, Any]:
        """As `vlmend eval --json` prints it."""
        settings = self.run.settings()
        about = {key: settings.get(key) for key in ("model", "suite", "attack", "protocol")}
        about |= {"defence": settings["defence"]} if settings.get("defence") else {}
        return {
            "run": str(self.run.folder),
            **about,
            "generated": self.generated.new,
            "kept": self.generated.kept,
            "placeholders": self.run.manifest().get("placeholders", 0),
            "unscored": self.unscored,
            "metrics": {m.name: rates.as_json(self.metrics[m.name], m) for m in self.measured},
            "agreement": [dict(row) for row in self.agreement],
            "constant": [dict(row) for row in self.constant],
            "cost": asdict(self.cost) if self.cost else None,
        }


def score(run: Run, records: Sequence[Record], suite: Suite, asks: Asks, generated: Generated) -> EvalResult:
    """Measure the records of a run as each of its judges sees them, and store the numbers with it."""
    measured: list[Measure] = []
    found: dict[str, Measured] = {}
    told: dict[str, dict[str, Any]] = {}
    groups: dict[str, dict[str, Any]] = {"category": {}, "subcategory": {}}
    lost: dict[tuple[str, str], Record] = {}
    unscored, marks = 0.0, controls.marks(run.manifest(), records)
    for view in _telling(views(suite, asks, records), records):
        seen = view.records(records)
        measured += view.measures
        found |= rates.score(seen, view.measures)
        for m in view.measures:
            heard = judges_of(m, seen)
            found[m.name] = controls.marked(found[m.name], heard, marks)
            about = {"summary": m.summary, "better": m.better, "judges": heard}
            told[m.name] = {**rates.as_json(found[m.name], m), **about}
        for field, rows in groups.items():
            rows |= _groups(seen, view.measures, field)
        lost |= {(r.example.id, r.response.id): r for r in rates.unscored_records(seen, view.measures)}
        unscored = max(unscored, 0.0 if view.spare else rates.unscored_share(seen, view.measures))
    agreed, constant = agreements(asks, records), controls.constants(run.manifest(), asks, records)
    run.write_metrics(
        {
            "suite": suite.name,
            "protocol": suite.protocol,
            "records": len(records),
            "metrics": told,
            "agreement": agreed,
            "constant": constant,
            "categories": groups["category"],
            "subcategories": groups["subcategory"],
        }
    )
    return EvalResult(
        run, generated, tuple(measured), found, unscored, tuple(lost.values()), tuple(agreed), tuple(constant),
        cost(records), sum(r.response.why.startswith(UNHEARD) for r in records),
    )  # fmt: skip


def _telling(found: Sequence[View], records: Sequence[Record]) -> list[View]:
    """The views without what a judge can say nothing of, of those questions that the suite does not ask.

    A judge that says nothing at all is shown with all that it was asked.
    """
    said: dict[tuple[str, str], bool] = {}
    for view in found:
        seen = view.records(records) if view.beside else []
        for m in view.measures if view.beside else ():
            said[view.judge, m.name] = any(m.applies(r.example) and m.outcome(r) is not None for r in seen)
    speaking = {judge for (judge, _), n in said.items() if n}
    return [
        replace(v, measures=tuple(m for m in v.measures if said[v.judge, m.name] or v.judge not in speaking))
        if v.beside else v
        for v in found
    ]  # fmt: skip


def _groups(records: Sequence[Record], metrics: Sequence[Measure], field: str) -> dict[str, dict[str, Any]]:
    """Each metric's rates within each category."""

    def name(example: Example) -> str:
        return getattr(example, field)

    found = {m.name: rates.by(name, records, m) for m in metrics}
    return {m.name: {g: rates.as_json(r, m) for g, r in found[m.name].items()} for m in metrics if found[m.name]}
