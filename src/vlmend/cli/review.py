"""`vlmend review`: a page on which a person goes through what `vlmend build` drafted, and what comes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmend.cli._common import Json, print_json
from vlmend.terminal import plural

PAGE = "review.html"
LARGE = 300_000_000  # bytes of a page that not every browser opens
MANY, SMALLER = 2_000, 192  # drafts from which pictures are smaller, and their longer side then, so that the page opens


def review(
    run: Annotated[Path, typer.Argument(help="Folder of `vlmend build`.", show_default=False)],
    decisions: Annotated[
        list[Path] | None,
        typer.Option(help="A file that the page saved; repeat for more people.", show_default=False),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Show at most N that nobody decided on.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page. Default: RUN/review.html.", show_default=False)] = None,
    json_: Json = False,
) -> None:
    """Write a page to accept, reject or edit the drafts of RUN; with --decisions, write its sets as decided."""
    from vlmend.build import decisions as kept
    from vlmend.build import folder
    from vlmend.build.quality import worth
    from vlmend.build.sift import sift
    from vlmend.report.review import SIDE, write_review

    rules = folder.rules_of(run)
    taken, older = kept.keep(run, decisions) if decisions else (0, 0)
    sifted = sift(run, rules)
    made = sifted.decisions
    result: dict[str, Any] = {"decided": dict(Counter(each.decision for each in made.values()))}
    if decisions:
        result |= {"taken": taken, "left_out": older}
        written = folder.write_sets(run, sifted)
        result["sets"] = worth(run, sifted, written)
        folder.note(run, {"sets": result["sets"]})
    drafts = sum(sifted.drafts.values())
    side = SMALLER if min(drafts, sample or drafts) > MANY else SIDE
    page, title = out or run / PAGE, f"Review of {run.resolve().name}"
    listed = kept.items(run, sifted)
    if sample:
        listed = kept.sampled(lambda: kept.items(run, sifted), sample, made)
    result["page"] = str(write_review(listed, page, title, run=kept.run_id(run), side=side, decisions=made))
    if json_:
        print_json(result)
        return
    told = ", ".join(f"{verb} {n:,}" for verb, n in sorted(result["decided"].items()))
    typer.echo(f"{plural(drafts, 'draft')}, {plural(len(made), 'decision')}{f' ({told})' if told else ''}")
    if decisions:
        later = f", {older:,} left out because later ones are known" if older else ""
        typer.echo(f"{plural(taken, 'decision')} taken from {plural(len(decisions), 'file')}{later}")
    for name, row in result.get("sets", {}).items():
        typer.echo(f"{name}: {row['rows']:,} of {row['drafts']:,} kept, {row.get('file', 'no file')}")
    if page.stat().st_size > LARGE:
        typer.echo(
            f"the page has {page.stat().st_size / 1e6:,.0f} MB, which a browser may not open; --sample N shows less"
        )
    typer.echo(f"open {page}; then: vlmend review {run} --decisions FILE")
