"""`vlmend build`: make a data set with a generator model, at a known cost, without losing a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmend.cli import _paid
from vlmend.cli._common import Json, JudgeModel, console, percent, print_json
from vlmend.errors import DataError, UnknownName, UsageError
from vlmend.terminal import plural, table

if TYPE_CHECKING:
    from vlmend.build.drafts import Made
    from vlmend.build.pipeline import Part, Pipeline, Start
    from vlmend.build.run import Company, Tally
    from vlmend.build.sift import Sifted
    from vlmend.data.export import Written
    from vlmend.money import Purse
    from vlmend.types import Backend

SOURCE = "Pictures (folder:DIR, hub:REPO@COMMIT, world:N), or rows of any source, as the pipeline begins with."
SHOWN = 200  # characters of why something was lost
GENERATOR, PICTURES, SECOND = "generator", "pictures", "--second"


def build(
    pipeline: Annotated[str, typer.Argument(help="A pipeline: vlmend list pipelines.", show_default=False)],
    source: Annotated[str, typer.Argument(help=SOURCE, show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the run; a stopped run goes on there.")],
    generator: Annotated[str, typer.Option(metavar="MODEL", help="Who writes.", show_default=False)] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=MODEL", help="Who else is asked; repeat for more.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most N starts.", show_default=False)] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="A source no row may leak from; repeat for more.", show_default=False)
    ] = None,
    language: Annotated[str, typer.Option(help="Keep only rows in this language (en, de …).", show_default=False)] = "",
    longest: Annotated[int, typer.Option(min=0, help="Words of a question or answer, at most; 0 is any.")] = 400,
    second: Annotated[
        str, typer.Option(metavar="MODEL", help="Another generator, to see how far they agree.", show_default=False)
    ] = "",
    second_sample: Annotated[int, typer.Option(min=1, help="Starts that it is asked about.")] = 50,
    judge_model: JudgeModel = "",
    budget: _paid.Budget = "",
    prices: _paid.PriceFile = None,
    batch: _paid.Batch = False,
    dry_run: _paid.DryRun = False,
    json_: Json = False,
) -> None:
    """Make a data set from SOURCE with a generator, keep every call, and say what the set is worth."""
    from vlmend import registry
    from vlmend.build import folder
    from vlmend.build.agreement import agreement
    from vlmend.build.run import build as run
    from vlmend.build.run import readable
    from vlmend.build.sift import Rules, sift
    from vlmend.data.dataset import read_any
    from vlmend.evaluate.judging import JudgeSettings
    from vlmend.evaluate.progress import Stages

    chosen: Pipeline = registry.pipelines.from_spec(pipeline)
    named = _cast(chosen.parts, generator, model or (), pipeline)
    asked = {**named, **({SECOND: [second]} if second else {})}
    purse, everybody = _company(asked, budget, prices, batch, dry=dry_run)
    company = {part: everybody[part] for part in named}
    others = everybody.get(SECOND, ())
    rules = Rules(language, longest, [item for spec in test or () for item in read_any(spec)])
    models = JudgeSettings(model=judge_model).models(purse)
    if dry_run:
        with TemporaryDirectory() as there:  # nothing of a run's folder is begun
            given = _given(chosen, source, Path(there), dry=True)
            _tell_cost(chosen, given, limit, company, purse, (others[0][0] if others else "", second_sample), json_)
        return
    settings = {
        "pipeline": pipeline,
        "version": chosen.version,
        "made_of": chosen.made_of,
        "source": source,
        "company": {part: [[name, backend.fingerprint] for name, backend in some] for part, some in company.items()},
        "judge_model": judge_model,
    }
    folder.claim(out, settings)
    with Stages(quiet=json_) as stages:
        tally = run(chosen, _given(chosen, source, out), company, models, out, stages, limit)
        if not tally.starts.total() - tally.starts["passed over"]:
            over = tally.starts["passed over"]
            met = f"{plural(over, 'row')} there, none of the kind" if over else f"too few {chosen.begins} there"
            raise DataError(f"{source} has nothing that pipeline {pipeline.partition('?')[0]} could begin with: {met}")
        sifted = sift(out, rules)
        written = folder.write_sets(out, sifted)
        report = _report(tally, sifted, written, out)
        for other in others:
            some = islice(chosen.starts(readable(_given(chosen, source, out), [])), limit)
            agreed = agreement(chosen, islice(some, second_sample), company, other, models, out, stages)
            report["agreement"] = [asdict(row) for row in agreed]
    report["cost"] = purse.to_json()
    report["rules"] = {"language": language, "longest": longest, "test": list(test or ())}
    folder.note(out, report)
    if json_:
        print_json(report)
    else:
        _show(report, written, out)
        _paid.tell_all_spent(purse)
    if tally.starts["failed"]:
        raise typer.Exit(1)


def _cast(parts: Mapping[str, Part], generator: str, models: Sequence[str], pipeline: str) -> dict[str, list[str]]:
    """By part the models that have it. Raises UsageError for a part that nobody has, or that there is not."""
    named: dict[str, list[str]] = {part: [] for part in parts}
    if generator:
        models = (f"{GENERATOR}={generator}", *models)
    for each in models:
        part, equals, name = each.partition("=")
        if not equals or not name:
            raise UsageError(f"--model {each!r} should be PART=MODEL; parts of {pipeline}: {', '.join(parts)}")
        if part not in named:
            raise UnknownName(f"part of pipeline {pipeline}", part, parts)
        named[part].append(name)
    for part, about in parts.items():
        option = f"--{GENERATOR} MODEL" if part == GENERATOR else f"--model {part}=MODEL"
        if not named[part] and about.doubled:
            named[part] = named[GENERATOR]
        if not named[part]:
            raise UsageError(f"pipeline {pipeline} needs {option}: it {about.what}")
        if len(named[part]) > 1 and not about.several:
            raise UsageError(f"pipeline {pipeline}: {part} is one model, not {' and '.join(named[part])}")
    return named


def _company(
    named: Mapping[str, Sequence[str]], budget: str, prices: Path | None, batch: bool, *, dry: bool
) -> tuple[Purse, Company]:
    """The models by part, each loaded once; those on servers are paid from one purse."""
    from vlmend.money import Budget, Purse, load_prices

    purse = Purse(load_prices(prices), Budget.parse(budget) if budget else None, dry=dry)
    loaded: dict[str, Backend] = {}
    for name in dict.fromkeys(name for some in named.values() for name in some):
        loaded[name] = _paid.paying(name, purse, batch)
    return purse, {
        part: [(getattr(loaded[name], "name", name), loaded[name]) for name in some] for part, some in named.items()
    }


def _given(pipeline: Pipeline, source: str, out: Path, *, dry: bool = False) -> Iterator[Start]:
    """What the pipeline begins with, one by one; pictures that are no files are kept as such in the run's folder."""
    from vlmend.build.picture import as_file, pictures
    from vlmend.build.pipeline import Start
    from vlmend.data.dataset import read
    from vlmend.types import map_images

    if pipeline.begins == "pictures":
        for each in pictures(source, out / PICTURES, dry=dry):
            yield Start(each.id, (each.image,), meta=each.meta)
    else:
        for row in read(source):
            shown = map_images(row, lambda image: as_file(image, out / PICTURES))
            yield Start(shown.id, shown.images, shown)


def _tell_cost(
    pipeline: Pipeline, given: Iterator[Start], limit: int | None, company: Company, purse: Purse,
    second: tuple[str, int], as_json: bool,
) -> None:  # fmt: skip
    from vlmend.build.cost import expected
    from vlmend.build.run import readable

    aside: list[Made] = []
    count = expected(pipeline, islice(pipeline.starts(readable(given, aside)), limit), company, purse, *second)
    if not as_json:
        typer.echo(f"{plural(count, 'start')}, {plural(len(pipeline.stages), 'stage')} at most; nothing was asked")
        if aside:
            typer.echo(f"{len(aside):,} cannot be shown, such as {aside[0].start}: {aside[0].losses[0].why}")
    _paid.show_bill(purse, as_json)


def _report(tally: Tally, sifted: Sifted, written: Mapping[str, Written], out: Path) -> dict[str, Any]:
    """What became of starts, calls and drafts, and what each set is worth."""
    from vlmend.build.drafts import losses
    from vlmend.build.quality import worth

    calls = {"asked": dict(tally.asked), "known": dict(tally.known)}
    return {
        "starts": dict(tally.starts), "lost": losses(out), "calls": calls, "sets": worth(out, sifted, written)
    }  # fmt: skip


def _show(report: Mapping[str, Any], written: Mapping[str, Written], out: Path) -> None:
    words = {"nothing": "nothing in them to build on", "passed over": "passed over, as not for this pipeline,"}
    told = ", ".join(f"{words.get(what, what)} {count:,}" for what, count in report["starts"].items() if count)
    typer.echo(f"starts: {told or 'none'}")
    for row in report["lost"]:
        where = "" if row["stage"] == "start" else f" at {row['stage']}"
        again = "; the same command asks again" if row["kind"] in ("failed", "unscored") else ""
        why = _line(row["why"])
        typer.echo(f"{row['kind']}{where}: {row['count']:,}, such as {_line(row['of'])}: {why}{again}")
    calls = table("calls", "stage", "asked", "known already")
    for stage in dict.fromkeys((*report["calls"]["asked"], *report["calls"]["known"])):
        asked, known = (report["calls"][which].get(stage, 0) for which in ("asked", "known"))
        calls.add_row(stage, f"{asked:,}", f"{known:,}")
    if calls.row_count:
        console().print(calls)
    sets = table("sets", "set", "drafts", "kept", "left out", "questions, distinct", "variety")
    for name, row in report["sets"].items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in row["left_out"].items())
        variety = "" if row.get("variety") is None else f"{row['variety']:.2f}"
        sets.add_row(
            name, f"{row['drafts']:,}", f"{row['rows']:,}", reasons, f"{row.get('distinct_questions', 0):,}", variety
        )
    if sets.row_count:
        console().print(sets)
    for name, row in report["sets"].items():
        if "audit" in row:
            typer.echo(f"audit of {name}: {row['audit']['headline']}")
    for row in report.get("agreement", ()):
        share = f"{percent(row['equal'] / row['pairs'])} %" if row["pairs"] else "nothing to compare"
        asked = f" (of {row['asked']} asked)" if row["asked"] > row["pairs"] else ""
        kappa = "" if row["kappa"] is None else f", kappa {row['kappa']:.2f}"
        typer.echo(
            f"two generators on {row['stage']}.{row['key']}: {row['equal']} of {row['pairs']}{asked} equal, "
            f"{share}{kappa}"
        )
    for name, file in written.items():
        typer.echo(f"{name}: {file.spec}")
    typer.echo(f"look through it: vlmend review {out}")


def _line(text: str) -> str:
    """What a model or a file's name says, on one line of a terminal, which none of it may steer."""
    plain = "".join(each if each.isprintable() else " " for each in text)
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}…"
