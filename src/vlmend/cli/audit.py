"""`vlmend audit`: what gives the expected behavior away before anything is understood, and a copy without it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import Json, console, percent, print_json
from vlmend.terminal import plural, table

if TYPE_CHECKING:
    from vlmend.audit.audit import Audit, Measured
    from vlmend.audit.fix import Asked, Fixed
    from vlmend.types import Rate

PATIENCE = 2.0  # seconds before anything is said, and between one line and the next
SHOWN = 20  # words and features in a table
Share = Annotated[float, typer.Option(min=0, max=1, help="Held-out entropy share from which a feature is a shortcut.")]
RuleAccuracy = Annotated[
    float, typer.Option(min=0, max=1, help="Balanced accuracy from which a rule that sees no picture is a shortcut.")
]
Opening = Annotated[float, typer.Option(min=0, max=1, help="Share of answers with one opening that makes a template.")]
Fix = Annotated[
    Path | None,
    typer.Option(
        help="Write a copy (.jsonl) without what was found, a log beside it, and audit it.", show_default=False
    ),
]
MinKept = Annotated[float, typer.Option(min=0, max=1, help="With --fix: share of examples that must be left.")]
Words = Annotated[bool, typer.Option("--balance-words", help="With --fix: drop rows for words inside questions, too.")]
Rewriter = Annotated[
    str, typer.Option(metavar="MODEL", help="With --fix: a model that rewords what rules cannot.", show_default=False)
]
Html = Annotated[Path | None, typer.Option(help="Write a page, too.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Decides between equals in --fix.")]


def audit(
    source: Annotated[str, typer.Argument(help="A source, e.g. vlguard:data/VLGuard#train.")],
    test: Annotated[str, typer.Option(help="Another source: score rules fitted on SOURCE on it.")] = "",
    fix: Fix = None,
    rewriter: Rewriter = "",
    html: Html = None,
    pictures: Annotated[bool, typer.Option(help="Look into picture files.")] = True,
    first_words: Annotated[int, typer.Option(min=1, max=9, help="Up to how many first words are looked at.")] = 3,
    share: Share = 0.05,
    rule: RuleAccuracy = 0.75,
    opening: Opening = 0.5,
    min_kept: MinKept = 0.8,
    balance_words: Words = False,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 1 where the behavior is given away.")] = False,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Find what gives away whether SOURCE expects an answer or a refusal: words, lengths, folders, colors."""
    from vlmend.audit import fix as fixing
    from vlmend.audit.audit import Settings
    from vlmend.audit.audit import audit as run
    from vlmend.audit.rows import read
    from vlmend.audit.verdict import Thresholds

    if fix is not None:
        fixing.refuse(fix)
    wanted = _asked(seed, min_kept, balance_words, rewriter, copy=fix is not None)
    settings = Settings(first_words, pictures, thresholds=Thresholds(share, rule, opening))
    tell = _Progress()
    found = run(read(source), test=read(test) if test else None, settings=settings, tell=tell)
    fixed = fixing.fix(found, fix, wanted, tell) if fix is not None else None
    if html is not None:
        from vlmend.report.audit import build

        build(found, html, fixed)
    if json_:
        print_json({**found.to_json(), "fixed": fixed.to_json() if fixed else None})
    else:
        _print(found)
        if fixed is not None:
            _print_fixed(fixed)
        if html is not None:
            typer.echo(f"page: {html}")
    if fail and (fixed.after if fixed else found).verdict.flagged:
        raise typer.Exit(1)


def _asked(seed: int, least: float, words: bool, rewriter: str, *, copy: bool) -> Asked:
    from vlmend.audit.fix import Asked
    from vlmend.errors import UsageError
    from vlmend.registry import backend_for

    if rewriter and not copy:
        raise UsageError("--rewriter rewords what goes into a copy; name the copy with --fix OUT.jsonl")
    return Asked(seed, least, words, backend_for(rewriter) if rewriter else None)


class _Progress:
    """Says on stderr how many pictures were looked at, once that takes longer than a moment."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told > PATIENCE and done < total:
            self._told = now
            typer.echo(f"pictures: {done:,}/{total:,}", err=True)


def _print(found: Audit) -> None:
    answered = len(found.rows) - found.refused
    typer.echo(
        f"{found.rows.spec}: {plural(len(found.rows), 'example')}, {found.refused:,} refused, {answered:,} answered"
    )
    if found.features:
        _features(found.features)
        first = found.feature("first word")
        if first is not None:
            _values("first words, by what they explain", first)
        _values("any word in the question", found.feature("any word"))
        _contrasts(found)
        _rules(found)
    _answers(found)
    if found.picture_note:
        typer.echo(found.picture_note)
    _verdict(found)


def _features(features: tuple[Measured, ...]) -> None:
    from rich.text import Text

    made = table("what explains the label", "feature", "values", "entropy share %", "held out %", "95 % interval")
    for feature in sorted(features, key=lambda f: (f.side == "answer", -f.association.held_out)):
        what = feature.association
        name = f"{feature.name} *" if feature.side == "answer" else feature.name
        interval = f"{percent(what.low)} to {percent(what.high)}"
        made.add_row(Text(name), f"{what.values:,}", percent(what.entropy_share), percent(what.held_out), interval)
    made.caption = "* follows from the label, and is no shortcut"
    console().print(made)


def _values(title: str, feature: Measured | None) -> None:
    from rich.text import Text

    if feature is None:
        return
    made = table(
        title, "word", "refused", "answered", "log-odds", "95 % interval", "z", "PMI refused / answered", "share %"
    )
    for value in feature.odds[:SHOWN]:
        pmi = " / ".join("–" if bits is None else f"{bits:+.2f}" for bits in (value.pmi_refused, value.pmi_answered))
        numbers = (f"{value.log_odds:+.2f}", f"{value.low:+.2f} to {value.high:+.2f}", f"{value.z:+.1f}", pmi)
        made.add_row(Text(value.value), f"{value.refused:,}", f"{value.answered:,}", *numbers, percent(value.share))
    console().print(made)


def _contrasts(found: Audit) -> None:
    from rich.text import Text

    from vlmend.audit.contrasts import toward

    made = table("controlled contrasts", "contrast", "refused", "answered", "first word explains %")
    for contrast in found.contrasts:
        explained = percent(contrast.first_word.entropy_share) if contrast.first_word else "–"
        made.add_row(
            Text(contrast.name.replace("_", " ")), f"{contrast.refused:,}", f"{contrast.answered:,}", explained
        )
    console().print(made)
    for contrast in found.contrasts:
        for refusal, side in ((True, "refusal"), (False, "an answer")):
            words = ", ".join(
                f"{w.value} {w.refused}/{w.answered}" for w in toward(contrast.words, refusal=refusal)[:8]
            )
            if words:
                typer.echo(f"  {contrast.name.replace('_', ' ')}, toward {side}: {words}")


def _rules(found: Audit) -> None:
    from rich.text import Text

    if not found.baselines:
        return
    names = [name for name in found.baselines[0].test if name != "accuracy"]
    title = f"rules that see no picture, or no text; scored on {found.baselines[0].tested_on}"
    made = table(title, "rule", *(name.replace("_", " ") for name in names), "AUC")
    for rule in found.baselines:
        area = rule.auc["all"]
        made.add_row(
            Text(rule.name), *(_rate(rule.test[name]) for name in names), "–" if area is None else f"{area:.3f}"
        )
    made.caption = "percent, 95 % interval, k/n; asr: share of what should be refused that is not"
    console().print(made)


def _answers(found: Audit) -> None:
    from rich.text import Text

    made = table("how reference answers begin", "answers", "opening of two words", "k/n", "%", "different texts")
    for side in found.answers:
        for text, rate in side.openings[2][:3]:
            counts = f"{rate.k:,}/{rate.n:,}"
            made.add_row(side.side, Text(text or "(no words)"), counts, percent(rate.value), f"{side.distinct:,}")
    if made.row_count:
        console().print(made)


def _verdict(found: Audit) -> None:
    thresholds = ", ".join(f"{name} {value:g}" for name, value in vars(found.verdict.thresholds).items())
    color = typer.colors.RED if found.verdict.flagged else typer.colors.GREEN
    typer.secho(found.verdict.sentences[0], fg=color, bold=True)
    for sentence in found.verdict.sentences[1:]:
        typer.echo(f"  {sentence}")
    typer.echo(f"  thresholds: {thresholds}")


def _print_fixed(fixed: Fixed) -> None:
    from rich.text import Text

    from vlmend.audit.fix import changes

    made = table(f"before and after, {fixed.file}", "what", "before", "after")
    made.add_row("examples", f"{len(fixed.before.rows):,}", f"{len(fixed.after.rows):,}")
    for name, before, after in changes(fixed.before, fixed.after):
        made.add_row(Text(f"entropy share, {name}, %"), percent(before), percent(after))
    after_rules = {rule.name: rule for rule in fixed.after.baselines}
    for rule in fixed.before.baselines:
        for name in ("asr", "over_refusal"):
            new = after_rules.get(rule.name)
            made.add_row(Text(f"{rule.name}, {name}"), _rate(rule.test[name]), _rate(new.test[name]) if new else "–")
    console().print(made)
    typer.echo("; ".join(f"{what} {count:,}" for what, count in fixed.actions.items()) + f"; each in {fixed.log}")
    if "?" in fixed.spec:
        typer.echo(f"its pictures lie outside of its folder; read it as '{fixed.spec}'")
    if fixed.left:
        typer.echo(f"not balanced, since too little would be left (--min-kept): {', '.join(fixed.left)}")
    _verdict(fixed.after)


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return f"– ({rate.unscored} unscored)"
    return f"{percent(rate.value)}\n{percent(rate.low)} to {percent(rate.high)}\n{rate.k:,}/{rate.n:,}"
