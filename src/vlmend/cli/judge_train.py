"""`vlmend judge train`: a small judge of your own from labeled answers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, percent, print_json
from vlmend.terminal import plural


class Input(StrEnum):
    """What the judge reads."""

    ANSWER = "answer"
    BOTH = "question+answer"


class Target(StrEnum):
    """What it learns to say."""

    REFUSED = "refused"
    HARMFUL = "harmful"
    CORRECT = "correct"
    LABEL = "label"


def train(
    labels: Annotated[str, typer.Argument(metavar="LABELED", help="JSON lines of answers with labels, or shipped.")],
    out: Annotated[Path, typer.Option(help="Folder of the judge.")],
    target: Annotated[
        Target | None, typer.Option(help="Which of the labels; not needed if there is one.", show_default=False)
    ] = None,
    input_: Annotated[Input, typer.Option("--input", help="What the judge reads.")] = Input.ANSWER,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run whose answers the labels name by id.", show_default=False)
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="A Hugging Face encoder, by name or folder, instead of words and weights.")
    ] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data, of an encoder.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the split, and of an encoder's training.")] = 0,
    json_: Json = False,
) -> None:
    """Train a text classifier on labeled answers, a quarter of the clusters held out; use it as classifier:OUT."""
    from dataclasses import asdict

    from vlmend.errors import UsageError
    from vlmend.judge import train as judge_train
    from vlmend.judge.labels import filled, read

    if out.exists() and any(out.iterdir()) and not (out / "judge.json").is_file():
        raise UsageError(f"{out} holds something else than a judge; choose another folder")
    rows = filled(read(labels), run)
    found = judge_train.task(rows, target.value if target else "", input_.value, seed)
    about = judge_train.train(found, out, encoder, seed, epochs)
    if json_:
        print_json({"judge": str(out), **asdict(about), "trained_on": len(found.train)})
        return
    score = about.held_out
    typer.echo(f"{out}: {about.target} ({', '.join(about.labels)}) from {plural(len(found.train), 'answer')}")
    if not score["n"]:
        return
    clusters = f" in {score['clusters']} clusters" if score["clusters"] < score["n"] else ""
    typer.echo(f"held out{clusters}: {score['right']} of {score['n']} right ({percent(score['right'] / score['n'])} %)")
    if score.get("kappa") is not None:
        shares = ", ".join(f"{name} {percent(score[name])} %" for name in ("precision", "recall", "specificity"))
        typer.echo(f"  {shares}, kappa {score['kappa']:.2f}, ECE {score['ece']:.3f}, Brier {score['brier']:.3f}")
