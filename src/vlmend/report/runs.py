"""Run folders to sections: models by measures and conditions, bars, examples side by side, and what made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmend.data import placeholder
from vlmend.defences import UNHEARD
from vlmend.errors import UsageError, VlmendError
from vlmend.judge.controls import standing
from vlmend.metrics.costs import cost
from vlmend.metrics.outcomes import by_refusal
from vlmend.metrics.questions import bound
from vlmend.metrics.views import first
from vlmend.report import gallery, page, tables
from vlmend.store import Run, find_runs
from vlmend.suites import records_of, suite_of
from vlmend.terminal import plural
from vlmend.types import UNSCORED, Measured, Outcome, Record, Suite

PLAIN = "plain"
CHAIN = " + "
TONES = ("good", "neutral", "bad")


@dataclass(frozen=True)
class Told:
    """One run and what the page says of it."""

    run: Run

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What made the run."""
        return self.run.manifest()

    @cached_property
    def records(self) -> Sequence[Record]:
        """Everything asked, answered and judged, bound to who decides which question."""
        if isinstance(self.protocol, Exception):
            decides = first(self.manifest.get("asks", {}))
            return [bound(record, decides) for record in self.run.records()]
        return records_of(self.run, self.protocol)

    @cached_property
    def protocol(self) -> Suite | Exception:
        """The suite it was made with, or why that cannot be built any more."""
        try:
            return suite_of(self.run)
        except (VlmendError, ImportError) as error:
            return error

    @property
    def became(self) -> Callable[[Record], Outcome]:
        """What became of a request: as its suite says, or by refusal where that is gone."""
        return by_refusal if isinstance(self.protocol, Exception) else self.protocol.outcome

    def setting(self, name: str) -> str:
        """A setting that identifies the run, as text; empty when it has none of that name."""
        found = self.manifest.get("settings", {}).get(name)
        return found if isinstance(found, str) else ""

    @property
    def model(self) -> str:
        """The model's name, or the folder's when the run names none; a defended model is another one."""
        behind = self.manifest.get("settings", {}).get("defence")
        name = self.setting("model") or self.run.folder.name
        return f"{name} behind {CHAIN.join(behind)}" if behind else name

    @property
    def suite(self) -> str:
        """The suite's name and protocol; of the suite that is a bare source, which one."""
        name, protocol = self.setting("suite") or "records", self.setting("protocol")
        if name == "source":
            name = " + ".join(self.manifest["settings"].get("sources", [name]))
        return name if protocol in ("", "default") else f"{name}, protocol {protocol}"

    @property
    def asked(self) -> Mapping[str, Any]:
        """How it was asked, attacks left out."""
        settings = self.manifest.get("settings", {})
        return {**settings, "attack": None, "limit": self.manifest.get("limit")}

    @property
    def condition(self) -> str:
        """The attacks, in words."""
        found = self.manifest.get("settings", {}).get("attack") or []
        return ", ".join(_words(spec) for spec in ([found] if isinstance(found, str) else found)) or PLAIN


def _words(attack: str) -> str:
    name, _, word = attack.replace("_", " ").partition(":")
    return f"after {name} '{word}'" if word else f"after {name}"


def sections(folders: Sequence[Path], *, limit: int = 12) -> list[page.Section]:
    """The page of some run folders. A folder may hold one run or one per suite."""
    told = [Told(run) for folder in folders for run in find_runs(folder)]
    if not told:
        raise UsageError("a report needs at least one run folder")
    found: list[page.Section] = []
    if count := max(placeholders(run.manifest) for run in told):
        found.append(page.Banner(placeholder.warning(count)))
    if elsewhere := [run for run in told if run.manifest.get("answers")]:
        found.append(page.Banner(_made_elsewhere(elsewhere)))
    for suite in dict.fromkeys(run.suite for run in told):
        found += _suite(suite, [run for run in told if run.suite == suite], limit)
    found.append(page.Provenance({_label(run): _short(run.manifest) for run in told}))
    return found


def _made_elsewhere(runs: Sequence[Told]) -> str:
    """What to say of answers that nobody here saw given."""
    models = ", ".join(dict.fromkeys(str(run.model) for run in runs))
    answered = sum(int(run.manifest["answers"]["answered"]) for run in runs)
    return (
        f"ANSWERS MADE ELSEWHERE: {plural(answered, 'answer')} of {models} were read from files. Which prompts,"
        " pictures and settings they were given to is not known here."
    )


def _short(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The manifest with no more of known controls than what came of them."""
    noted: Mapping[str, Mapping[str, Any]] = manifest.get("controls", {})
    return {**manifest, "controls": {judge: row["state"] for judge, row in noted.items()}} if noted else manifest


def _suite(suite: str, runs: Sequence[Told], limit: int) -> list[page.Section]:
    names = _names(runs)
    pairs = [(name, tables.from_metrics(_metrics(run), run.condition)) for name, run in zip(names, runs, strict=True)]
    table = tables.collect(suite, pairs)
    found: list[page.Section] = [page.Rates(table), page.Bars(tables.RateTable("With intervals", *_body(table)))]
    found += _by_category(names, runs)
    if spoke := _judges(names, runs):
        found.append(
            page.Grid(
                "Which judge spoke for which number", ("model", "judge", "made of", "known controls", "numbers"), spoke
            )
        )
    if agreed := _agreements(names, runs):
        columns = ("model", "question", "judges", "answers", "said the same of", "Krippendorff's alpha")
        found.append(page.Grid("How far two judges agree", columns, agreed))
    if any(run.manifest.get("settings", {}).get("defence") for run in runs):
        found.append(_costs(names, runs))
    found.append(_outcomes(names, runs))
    if limit:
        found.append(_gallery(names, runs, limit))
    return found


def _by_category(names: Sequence[str], runs: Sequence[Told]) -> list[page.Section]:
    """A table per measure of the suite's own that was counted in several categories."""
    groups = [run.run.metrics().get("categories", {}) for run in runs]
    measures = dict.fromkeys(name for group in groups for name in group if "." not in name)
    found: list[page.Section] = []
    for measure in measures:
        better = next((_metrics(run)[measure]["better"] for run in runs if measure in _metrics(run)), "low")
        pairs: list[tuple[str, Mapping[tables.Column, Measured]]] = []
        for name, run, group in zip(names, runs, groups, strict=True):
            rows = {category: {**row, "better": better} for category, row in group.get(measure, {}).items()}
            pairs.append((f"{name}, {run.condition}", tables.from_metrics(rows)))
        table = tables.collect(f"{measure.replace('_', ' ')} by category", pairs)
        if len(table.columns) > 1:
            found.append(page.Rates(table, folded=True))
    return found


def _judges(names: Sequence[str], runs: Sequence[Told]) -> tuple[tuple[str, ...], ...]:
    """A row for each judge of each run: what it is made of, and the measures that read its verdicts."""
    rows: list[tuple[str, ...]] = []
    for name, run in zip(names, runs, strict=True):
        by: Mapping[str, Mapping[str, str]] = run.manifest.get("judged_by", {})
        for judge, made_of in by.items():
            numbers = [measure for measure, row in _metrics(run).items() if judge in row.get("judges", ())]
            said = ", ".join(f"{key} {value}" for key, value in made_of.items())
            rows.append((f"{name}, {run.condition}", judge, said, _controls(run, judge), ", ".join(numbers)))
    return tuple(rows)


def _controls(run: Told, judge: str) -> str:
    """What came of a judge's known controls, and what it says of everything, if it does; rules are asked none."""
    noted = run.manifest.get("controls", {}).get(judge)
    if noted is None:
        return tables.NOTHING
    constant = [row for row in run.run.metrics().get("constant", ()) if row["judge"] == judge]
    told = [f"says {row['said']} to {row['question']} of all {row['n']:,}" for row in constant]
    states = dict.fromkeys(row["state"] for row in standing(noted, judge, run.records)) or [noted["state"]]
    return "; ".join([*states, *told])


def _costs(names: Sequence[str], runs: Sequence[Told]) -> page.Grid:
    """A row for each run: what its answers took, those of a defence's own questions counted in."""
    rows: list[tuple[str, ...]] = []
    for name, run in zip(names, runs, strict=True):
        if found := cost(run.records):
            told = f"{found.calls:.2f}", f"{found.tokens:.1f}", f"{found.prompt_tokens:.0f}", f"{found.seconds:.3f}"
            refused = sum(record.response.why.startswith(UNHEARD) for record in run.records)
            rows.append((f"{name}, {run.condition}", f"{found.n:,}", *told, f"{refused:,}"))
    columns = "model", "answers", "calls", "tokens", "tokens read", "seconds", "refused because a guard failed"
    return page.Grid("What an answer takes", columns, tuple(rows), "Seconds are those of the machine that answered.")


def _agreements(names: Sequence[str], runs: Sequence[Told]) -> tuple[tuple[str, ...], ...]:
    """A row for every two judges of one question of a run."""
    rows: list[tuple[str, ...]] = []
    for name, run in zip(names, runs, strict=True):
        for row in run.run.metrics().get("agreement", ()):
            same = tables.NOTHING if row["agree"] is None else f"{row['agree']:,}"
            alpha = tables.NOTHING if row["alpha"] is None else f"{row['alpha']:.2f}"
            both = " and ".join(row["judges"])
            rows.append((f"{name}, {run.condition}", row["question"], both, f"{row['n']:,}", same, alpha))
    return tuple(rows)


def _body(table: tables.RateTable) -> tuple[tuple[tables.Column, ...], tuple[tables.Row, ...]]:
    return table.columns, table.rows


def _metrics(run: Told) -> Mapping[str, Mapping[str, Any]]:
    return run.run.metrics()["metrics"]


def _names(runs: Sequence[Told]) -> list[str]:
    """The row of each run: its model's name, with a folder where a model has several rows.

    A model has as many rows as it has runs under one condition. A run under attack goes into the row of a plain run,
    of one that was asked in the same way if there is one.
    """
    rows: list[list[Told]] = []
    for run in sorted(runs, key=lambda run: run.condition != PLAIN):
        free = [row for row in rows if row[0].model == run.model and run.condition not in {r.condition for r in row}]
        if free:
            max(free, key=lambda row: row[0].asked == run.asked).append(run)
        else:
            rows.append([run])
    of = {id(run): row for row in rows for run in row}
    several = Counter(row[0].model for row in rows)
    return [f"{run.model} ({of[id(run)][0].run.folder})" if several[run.model] > 1 else run.model for run in runs]


def _outcomes(names: Sequence[str], runs: Sequence[Told]) -> page.Grid:
    """How many answers of each run came to what."""
    counted = [Counter(run.became(record) for record in run.records) for run in runs]
    total = sum(counted, Counter[Outcome]())
    order = sorted(total, key=lambda o: (o == UNSCORED, -TONES.index(o.tone), -total[o], o.name))
    rows = tuple((tables.SIGNS[o.tone] + o.name, *(f"{count[o]:,}" for count in counted)) for o in order)
    head = "outcome", *(f"{name}, {run.condition}" for name, run in zip(names, runs, strict=True))
    gone = {str(run.protocol): run for run in runs if isinstance(run.protocol, Exception)}
    lost = [f"{run.run.folder}: {why.rstrip('.')}. Its outcomes tell refusals only." for why, run in gone.items()]
    return page.Grid("What became of the requests", head, rows, " ".join(["✓ good, ✗ bad, else neither.", *lost]))


def _gallery(names: Sequence[str], runs: Sequence[Told], limit: int) -> page.Section:
    columns = [
        gallery.Column(f"{name}, {run.condition}", run.records, run.became)
        for name, run in zip(names, runs, strict=True)
    ]
    drawn = all(image.path is None for run in runs for record in run.records for image in record.example.images)
    title = "What was asked and said"
    items = gallery.gallery(columns, limit=limit, veil=not drawn)
    if not items:
        return page.Prose(title, ("No example was asked, with the same question and pictures, in all of these runs.",))
    note = "Chosen by rule: examples whose outcomes differ between the columns come first, the subsets taking turns."
    return page.Gallery(title, items, note)


def _label(run: Told) -> str:
    return f"{run.model}, {run.suite}, {run.condition} ({run.run.folder})"


def placeholders(manifest: object) -> int:
    """How many stand-in pictures a manifest owns up to, wherever in it that is said of what the run is now."""
    if isinstance(manifest, Mapping):
        own = manifest.get("placeholders")
        inner = max((placeholders(entry) for key, entry in manifest.items() if key != "sessions"), default=0)
        return max(own, inner) if isinstance(own, int) else inner
    if isinstance(manifest, list):
        return max((placeholders(entry) for entry in manifest), default=0)
    return 0
