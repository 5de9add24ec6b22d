"""`vlmend serve`: the command that serves a model with vLLM or transformers, printed or run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vlmend.cli._common import Json, print_json
from vlmend.errors import ModelError, UsageError

LOCAL = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")  # where a server may listen, but nobody can call


class Engine(StrEnum):
    """What serves."""

    VLLM = "vllm"
    TRANSFORMERS = "transformers"


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[+ADAPTER]", help="world, a folder or a Hugging Face id.", show_default=False)
    ],
    engine: Annotated[
        Engine, typer.Option("--with", help="vllm wants a GPU; transformers runs anywhere.")
    ] = Engine.VLLM,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOCAL,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    images: Annotated[int, typer.Option(min=0, help="The most pictures of a prompt (vllm).")] = 2,
    dtype: Annotated[str, typer.Option(help="Precision of the weights.")] = "auto",
    run: Annotated[bool, typer.Option("--run", help="Run it instead of printing it.")] = False,
    json_: Json = False,
) -> None:
    """Print the command that serves MODEL, and how to name the model then. With --run, run it."""
    from vlmend.models.places import adapter_folder, check_base, locate, weights_hash

    name, _, adapter = model.partition("+")
    folder = locate(name)
    added = adapter_folder(adapter).absolute() if adapter else None
    if added and Path(folder).is_dir() and (note := check_base(added, weights_hash(folder, None), name)):
        typer.echo(f"vlmend: {note}", err=True)
    if engine is Engine.VLLM:
        command, served = vllm_command(folder, added, host, port, images, dtype, served=name)
    else:
        command, served = transformers_command(folder, added, host, port, dtype)
    spec = f"openai:{served}@http://{LOCAL if host in EVERYWHERE else host}:{port}/v1?server={engine.value}"
    if run:
        _run(command, spec)
    if json_:
        print_json({"command": command, "model": spec})
        return
    typer.echo(shlex.join(command))
    typer.echo(
        f"# then, for example: vlmend eval --model {shlex.quote(spec)} --suite world --out runs/served", err=True
    )


def vllm_command(
    folder: str, adapter: Path | None, host: str, port: int, images: int, dtype: str, *, served: str
) -> tuple[list[str], str]:
    """vLLM's command and the served model's name. The model's own sampling defaults stay out."""
    name = "/".join(Path(served).parts[-2:]) if Path(served).is_absolute() else served
    command = [
        "vllm", "serve", folder, "--host", host, "--port", str(port), "--served-model-name", name, "--dtype", dtype,
        "--generation-config", "vllm", "--enable-prefix-caching",
        "--limit-mm-per-prompt", json.dumps({"image": images}),
    ]  # fmt: skip
    if adapter is None:
        return command, name
    from vlmend.models.places import vllm_rank

    name = f"{name}+{adapter.name}"
    rank = str(vllm_rank(adapter))
    return [*command, "--enable-lora", "--max-lora-rank", rank, "--lora-modules", f"{name}={adapter}"], name


def transformers_command(folder: str, adapter: Path | None, host: str, port: int, dtype: str) -> tuple[list[str], str]:
    """transformers' command and the served model's name, which is where its weights lie."""
    if adapter is not None:
        raise UsageError(
            f"transformers serve loads no adapters, so {adapter.name} would be left out; merge it, or use --with vllm"
        )
    return ["transformers", "serve", folder, "--host", host, "--port", str(port), "--dtype", dtype], folder


def _run(command: list[str], spec: str) -> None:
    """Become the server. Never returns."""
    beside = shutil.which(command[0], path=str(Path(sys.executable).parent))
    program = beside or shutil.which(command[0])
    if program is None:
        raise ModelError(f"{command[0]} is not installed: pip install {_package(command[0])}")
    typer.echo(f"vlmend: serving {spec}", err=True)
    sys.stderr.flush()
    os.execv(program, [program, *command[1:]])


def _package(name: str) -> str:
    return "'transformers[serving]'" if name == "transformers" else "'vlmend[vllm]'"
