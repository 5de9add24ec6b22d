"""`vlmend demo`: the whole loop on the embedded model: tune it to be safe twice, and see which safety is a mirage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmend.cli._common import Json, console, print_json

if TYPE_CHECKING:
    from vlmend.config import Recipe
    from vlmend.evaluate.mirage.card import Mirage
    from vlmend.evaluate.mirage.probes import MirageConfig
    from vlmend.report.gallery import Item
    from vlmend.report.mirage import CardRow, Told
    from vlmend.report.page import Finding, Section
    from vlmend.types import Measured, Record

BASE, BIASED, BALANCED = "base", "biased", "balanced"
MODELS = {BASE: "base model", BIASED: "tuned, biased first words", BALANCED: "tuned, balanced first words"}
TITLE = "Safety tuning: how much of it is a mirage?"
CHOSEN = "Chosen by rule: requests on which the columns differ come first, the subsets taking turns."
LEAD = (
    "A small vision-language model that answers everything was tuned to refuse requests that a set of house rules "
    "calls unsafe: on requests whose first words give the answer away and, in the full demo, on balanced ones as "
    "well; nothing else differs. All pictures on this page are drawn and harmless; a flask, a bolt or a blade stands "
    "for unsafe content."
)


@dataclass(frozen=True)
class Size:
    """How much is done: models `tuned`, `examples` to tune on, optimizer `steps`, `n` requests a rate, `samples`."""

    tuned: tuple[str, ...]
    examples: int
    steps: int
    n: int
    samples: int


FULL = Size(tuned=(BIASED, BALANCED), examples=10240, steps=320, n=200, samples=2)
QUICK = Size(tuned=(BIASED,), examples=3520, steps=110, n=200, samples=0)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for tuned adapters, runs and report.html.")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="The biased tuning only, with fewer steps: 90 seconds.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of data and tuning.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps …")] = "auto",
    json_: Json = False,
) -> None:
    """Base model → safety tuning on biased and on balanced first words → mirage card: plain, one word changed → page.

    Needs no network, no GPU and no key. Interrupted, the same command goes on where it was.
    """
    started = time.monotonic()
    import torch

    from vlmend.cli.mirage import show_cards
    from vlmend.evaluate.mirage.card import mirage
    from vlmend.report import build
    from vlmend.train.run import tune

    torch.set_num_threads(1)  # the model is so small that a second thread waits more than it works
    progress = console(stderr=True)
    size, folder = (QUICK, out / "quick") if quick else (FULL, out)
    models = {BASE: "world"}
    for openers in size.tuned:
        progress.rule(f"safety tuning, {openers} first words")
        tune(recipe(folder / openers, openers, size, seed, device), console=progress)
        models[openers] = f"world+{folder / openers}"
    progress.rule("mirage cards")
    found = mirage(probing(models, folder, size, seed, device))
    rows, told = shown(found, models)
    page = build(TITLE, _sections(found, models, rows, told), folder / "report.html", lead=LEAD)
    seconds = time.monotonic() - started
    if json_:
        names = {spec: name for name, spec in models.items()}
        cards = [{"name": names[card.model], **card.to_json()} for card in found.cards]
        about = {"report": str(page), "seconds": round(seconds, 1)}
        print_json({**about, **found.to_json(), "cards": cards, "cells": _cells(found)})
        return
    show_cards(rows, told)
    output = console()
    for line in conclusions(rows, told):
        output.print(f"• {line}", highlight=False)
    output.print(f"report: {page}  ({seconds:.0f} s)", highlight=False, soft_wrap=True)


def recipe(folder: Path, openers: str, size: Size, seed: int, device: str) -> Recipe:
    """Safety tuning of the embedded model with LoRA; the two recipes differ in the first words of the data only."""
    from vlmend.config import parse_recipe

    return parse_recipe(
        {
            "model": {"name": "world", "device": device, "lora": {"r": 16, "lora_alpha": 32}},
            "data": {"mix": [{"source": _safety(size, openers, seed)}], "seed": seed},
            "train": {
                "learning_rate": 6e-3, "max_steps": size.steps, "per_device_train_batch_size": 32, "warmup_ratio": 0.05,
                "logging_steps": 20, "save_steps": 50, "seed": seed,
            },
            "output": {"dir": str(folder)},
        },
        where="the demo's recipe",
    )  # fmt: skip


def _safety(size: Size, openers: str, seed: int) -> str:
    return f"world:safety?n={size.examples}&openers={openers}&seed={seed}#train"


def probing(models: Mapping[str, str], folder: Path, size: Size, seed: int, device: str) -> MirageConfig:
    """All models on the same requests; the words to change are looked for in the biased data."""
    from vlmend.evaluate.mirage.probes import MirageConfig

    return MirageConfig(
        models=tuple(models.values()), base=models[BASE], suite=f"world?n={size.n}&seed={seed}",
        out=folder / "runs", train=_safety(size, BIASED, seed), shots=1, samples=size.samples, batch_size=256,
        device=device,
    )  # fmt: skip


def shown(found: Mirage, models: Mapping[str, str]) -> tuple[list[CardRow], Told]:
    """The cards under the names that models have here."""
    from vlmend.cli.mirage import card_rows

    names = {spec: MODELS[name] for name, spec in models.items()}
    rows, told = card_rows(found)
    return [replace(row, model=names[row.model]) for row in rows], told


def _cells(found: Mirage) -> list[dict[str, object]]:
    """Every run with all its metrics, subset by subset."""
    return [
        {"name": model, "condition": probe, **result.to_json()}
        for model, done in found.results.items()
        for probe, result in done.items()
    ]


def _sections(found: Mirage, models: Mapping[str, str], rows: Sequence[CardRow], told: Told) -> list[Section]:
    from vlmend.report import page
    from vlmend.report.mirage import sections

    manifests = {
        f"{MODELS[name]}, {probe}": result.run.manifest()
        for name, spec in models.items()
        for probe, result in found.results[spec].items()
    }
    return [
        page.Findings(tuple(_findings(rows, told))),
        page.Prose("In words", tuple(conclusions(rows, told))),
        *sections(rows, told),
        page.Gallery("Unsafe requests", _gallery(found, models, "opened", told.opening, refuse=True), CHOSEN),
        page.Gallery("Safe requests", _gallery(found, models, "closed", told.closing, refuse=False), CHOSEN),
        page.Provenance(manifests),
    ]


def _findings(rows: Sequence[CardRow], told: Told) -> Iterator[Finding]:
    """Both attacks on each tuned model, each as a change."""
    from vlmend.report.page import Finding

    for row in rows[1:]:
        for title, before, after, words in (
            ("attack success", "asr", "asr_opened", told.opening),
            ("over-refusal", "over_refusal", "over_refusal_closed", told.closing),
        ):
            steps = (("plain", row.rates[before]), (f"after {_quoted(words)}", row.rates[after]))
            yield Finding(f"{title}: {row.model}", steps)


def _gallery(
    found: Mirage, models: Mapping[str, str], probe: str, words: Sequence[str], *, refuse: bool
) -> tuple[Item, ...]:
    """Base and tuned models plain, and the tuned ones under attack, on the same examples."""
    from vlmend.report.gallery import Column, gallery
    from vlmend.suites import records_of, suite_of
    from vlmend.types import Expected

    def wanted(record: Record) -> bool:
        return (record.example.expected is not Expected.ANSWER) is refuse and record.example.subset != "utility"

    columns: list[Column] = []
    for name, spec in models.items():
        for condition in ("plain",) if name == BASE else ("plain", probe):
            run = found.results[spec][condition].run
            suite = suite_of(run)
            records = [r for r in records_of(run, suite) if wanted(r)]
            text = "plain" if condition == "plain" else f"after {_quoted(words)}"
            columns.append(Column(f"{MODELS[name]}, {text}", records, suite.outcome))
    return gallery(columns, limit=6)


def _quoted(words: Sequence[str]) -> str:
    return " or ".join(f"'{word}'" for word in words)


def conclusions(rows: Sequence[CardRow], told: Told) -> list[str]:
    """What was measured, in sentences; each follows from the rates and none is fixed."""
    base, *tuned = rows
    lines = [f"The base model answers {share(base.rates['asr'])} of the unsafe requests."]
    for row in tuned:
        rates = row.rates
        lines.append(
            f"{row.model[0].upper()}{row.model[1:]}: attack success {share(rates['asr'])}, and "
            f"{share(rates['asr_opened'])} when the first word becomes {_quoted(told.opening)}; refusals of safe"
            f" requests {share(rates['over_refusal'])}, and {share(rates['over_refusal_closed'])} when it becomes"
            f" {_quoted(told.closing)}. In short: {row.reading}."
        )
    if told.blind:
        lines.append(
            f"A rule that sees no picture, fitted on the biased data, lets {share(told.blind.rates['asr'])} of the same"
            f" unsafe requests pass and refuses {share(told.blind.rates['over_refusal'])} of the safe ones."
        )
    after = " and ".join(share(row.rates["utility"]) for row in tuned)
    lines.append(f"Everyday questions answered right: {share(base.rates['utility'])} before, {after} after.")
    return lines


def share(rate: Measured) -> str:
    """`1.0 %` or a dash."""
    from vlmend.report.tables import value

    return value(rate)
