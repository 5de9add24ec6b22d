"""`vlmend judge card`: how far judges can be trusted, by labeled answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmend.cli._common import Json, console, percent, print_json
from vlmend.terminal import table

if TYPE_CHECKING:
    from vlmend.judge.card import Card, GradeCard
    from vlmend.types import Rate


def card(
    records: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", help="A run whose judges are tested; none to ask judges now.", show_default=False
        ),
    ] = None,
    labels: Annotated[str, typer.Option(help="JSON lines with labels, or shipped: 374 harmless answers.")] = "shipped",
    judge: Annotated[
        list[str] | None,
        typer.Option("--judge", help="Only these; repeat for more. Every rule judge if not given.", show_default=False),
    ] = None,
    mistakes: Annotated[int, typer.Option(min=0, help="How many wrongly judged answers are shown.")] = 5,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a page in Markdown.")] = False,
    json_: Json = False,
) -> None:
    """Judges against labels: precision, recall, kappa, alpha, calibration; a run's rates corrected for their errors."""
    from vlmend.errors import UsageError
    from vlmend.judge import card as judge_card
    from vlmend.judge.controls import from_json
    from vlmend.judge.labels import SHIPPED, read
    from vlmend.registry import judges
    from vlmend.store import Run

    if records is not None and labels == SHIPPED:
        raise UsageError("the shipped labels are of answers that come with them; name the run's own with --labels FILE")
    rows = read(labels)
    controlled: dict[str, dict[str, Any]] = {}
    if records is not None:
        run = Run.open(records)
        cards = judge_card.of_records(run.records(), rows, judge or ())
        noted, known = run.manifest().get("controls", {}), {found.judge for found in cards}
        controlled = {name: row for name, row in noted.items() if name in known}
    else:
        if lacking := [row.id for row in rows if row.answer is None]:
            raise UsageError(f"{labels} has no answer for {lacking[0]}; name the run its labels are about")
        cards = judge_card.of_judges([judges.from_spec(spec) for spec in judge or judge_card.RULES], rows)
    if not cards:
        raise UsageError(f"no judge says anything about a question that {labels} has labels for")
    if json_:
        print_json(
            {"labels": labels, "rows": len(rows), "cards": [found.to_json() for found in cards], "controls": controlled}
        )
    elif markdown:
        from vlmend.judge.card import Card

        typer.echo(page([found for found in cards if isinstance(found, Card)], len(rows)), nl=False)
    else:
        _tables(cards, mistakes)
        for name, row in controlled.items():
            told = from_json(row).lines() or [f"{name}, known controls: {row['state']}"]
            console().print(*told, sep="\n", highlight=False, markup=False)


def _tables(cards: Sequence[Card | GradeCard], limit: int) -> None:
    from rich.text import Text

    from vlmend.judge.card import GradeCard

    out = console()
    for found in cards:
        if isinstance(found, GradeCard):
            _grades(found)
            continue
        c = found.confusion
        made = table(f"{found.judge}: {found.question}?", "", "judged yes", "judged no", "not judged")
        made.add_row("labeled yes", str(c.tp), str(c.fn), "")
        made.add_row("labeled no", str(c.fp), str(c.tn), str(c.abstained))
        made.add_row("should not be judged", "", "", f"{found.abstained_rightly} of {found.should_abstain}")
        out.print(made)
        for line in _lines(found):
            out.print(f"  {line}", highlight=False)
        if found.cuts:
            _thresholds(found)
        for row in found.mistakes[:limit]:
            out.print(Text(f"  wrong: {row.id} (labeled {row.says[found.question]}): {row.answer or ''}"), style="dim")
    out.print("Precision and recall of yes. Intervals are Wilson's, 95 %.", highlight=False)


def _thresholds(found: Card) -> None:
    made = table(f"{found.judge}: {found.question}, if a score above this meant yes", "", *(
        "recall", "false positives", "precision"
    ))  # fmt: skip
    for cut in found.cuts:
        c = cut.confusion
        false = None if c.specificity.value is None else 1 - c.specificity.value
        shares = [c.recall.value, false, c.precision.value]
        counts = [f"{c.tp}/{c.tp + c.fn}", f"{c.fp}/{c.fp + c.tn}", f"{c.tp}/{c.tp + c.fp}"]
        made.add_row(
            f"{cut.threshold:.4g}",
            *(f"{percent(s)} %  {n}" if s is not None else "–" for s, n in zip(shares, counts, strict=True)),
        )
    console().print(made)


def _grades(found: GradeCard) -> None:
    from vlmend.judge.labels import GRADES

    made = table(f"{found.judge}: grade", "", *(f"judged {grade}" for grade in GRADES))
    for label in GRADES:
        made.add_row(f"labeled {label}", *(str(found.counts.get((label, said), 0)) for said in GRADES))
    out = console()
    out.print(made)
    error = "–" if found.mean_error is None else f"{found.mean_error:+.2f}"
    for line in (
        f"alpha (ordinal) {_number(found.alpha)}, kappa {_number(found.kappa)}",
        f"the same grade {_share(found.exact)}, within one {_share(found.within_one)}, {error} on average",
        f"not graded: {found.abstained} of {found.n + found.abstained} that should be,"
        f" {found.abstained_rightly} of {found.should_abstain} that should not",
    ):
        out.print(f"  {line}", highlight=False)


def _lines(found: Card) -> list[str]:
    c = found.confusion
    names = ("precision", "recall", "specificity", "accuracy")
    lines = [", ".join(f"{name} {_share(getattr(c, name))}" for name in names[:2])]
    lines.append(", ".join(f"{name} {_share(getattr(c, name))}" for name in names[2:]))
    lines.append(f"kappa {_number(c.kappa)}, alpha {_number(found.alpha)}")
    if c.specificity.value is not None:
        auroc = "" if found.auroc is None else f", AUROC of its score {found.auroc:.3f}"
        lines.append(f"false positive rate {percent(1 - c.specificity.value)} %{auroc}")
    if found.calibration:
        lines.append(
            f"scores of {found.calibration.n}: ECE {found.calibration.ece:.3f}, Brier {found.calibration.brier:.3f}"
        )
        lines += [
            f"  {b.low:.1f} to {b.high:.1f}: mean {b.mean_score:.2f}, {_share(b.rate)} are so"
            for b in found.calibration.bins
        ]
    if found.measured and found.corrected:
        lines.append(f"the run's rate of {found.question}: {_share(found.measured)}")
        ends = f"{percent(found.corrected.low)} to {percent(found.corrected.high)}"
        why = f": {found.corrected.why}" if found.corrected.why else ""
        lines.append(f"corrected for the judge's errors: {percent(found.corrected.value)} % [{ends}]{why}")
    return lines


def _share(rate: Rate) -> str:
    if rate.value is None:
        return "–"
    return f"{percent(rate.value)} % [{percent(rate.low)} to {percent(rate.high)}] {rate.k}/{rate.n}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def page(cards: Sequence[Card], rows: int) -> str:
    """All cards of yes and no as one page in Markdown."""
    head = "| judge | question | judged | precision | recall | specificity | κ | α | should abstain, did |"
    lines = [PREFACE.format(rows=rows), head, "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for found in cards:
        c = found.confusion
        shares = " | ".join(_share(rate) for rate in (c.precision, c.recall, c.specificity))
        numbers = f"{_number(c.kappa)} | {_number(found.alpha)}"
        told = f"{c.n} of {c.n + c.abstained}"
        abstained = f"{found.abstained_rightly} of {found.should_abstain}"
        lines.append(f"| `{found.judge}` | {found.question} | {told} | {shares} | {numbers} | {abstained} |")
    for question in dict.fromkeys(found.question for found in cards):
        lines += [
            "",
            f"## Right, by kind of answer: {question}?",
            "",
            *_grid([c for c in cards if c.question == question]),
        ]
    return "\n".join(lines) + "\n"


def _grid(cards: Sequence[Card]) -> list[str]:
    kinds = dict.fromkeys(kind for found in cards for kind in found.by_category)
    lines = ["| kind | " + " | ".join(f"`{found.judge}`" for found in cards) + " |", "|---|" + "--:|" * len(cards)]
    for kind in kinds:
        shown = [found.by_category.get(kind) for found in cards]
        cells = " | ".join("" if rate is None or not rate.n else f"{rate.k}/{rate.n}" for rate in shown)
        lines.append(f"| {kind.replace('_', ' ')} | {cells} |")
    return lines


PREFACE = """# Cards of the rule judges

Every judge that needs no model, on the {rows} harmless labeled answers that come with the package. Made by

```sh
vlmend judge card --labels shipped --markdown > docs/judges_cards.md
```

The answers were written for this purpose and are harder than what models mostly say, so that the numbers are for
comparing judges and for finding what they get wrong; they are not the error rates on your model's answers. Label some
of those (`vlmend judge card RUN --labels FILE`) before you correct a rate. `refused` is labeled true where the thing
asked for is declined, whatever else is said, and false where it is given, whatever comes first. What a judge did not
judge is in no denominator; answers that it should leave alone (empty ones, those that pick nothing) are in the last
column. Shares have Wilson's 95 % interval. See [statistics](statistics.md), [judges](judges.md) for what the judges do,
and [refusals](refusals.md) for `refusal` by language, with what it leaves open.
"""
