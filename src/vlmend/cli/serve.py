"""`vlmend serve`: the command that serves a model with vLLM or transformers, printed or run; or a defended model."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmend.cli import _front
from vlmend.cli._common import Defences, Dtype, Json, JudgeModel, JudgeSees, judge_settings, print_json
from vlmend.errors import ModelError, UsageError

LOCAL = "127.0.0.1"
RUNTIME = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
EVERYWHERE = ("0.0.0.0", "::")  # where a server may listen, but nobody can call


class ModelImpl(StrEnum):
    """Whose code a model is run with."""

    AUTO = "auto"
    VLLM = "vllm"
    TRANSFORMERS = "transformers"


class Engine(StrEnum):
    """What serves."""

    VLLM = "vllm"
    TRANSFORMERS = "transformers"


def serve(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[+ADAPTER]",
            help="world, a folder or a Hugging Face id; with --defence any model that `vlmend eval` takes.",
            show_default=False,
        ),
    ],
    defence: Defences = None,
    judge_model: JudgeModel = "",
    judge_sees: JudgeSees = None,
    engine: Annotated[
        Engine, typer.Option("--with", help="vllm wants a GPU; transformers runs anywhere.")
    ] = Engine.VLLM,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOCAL,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    images: Annotated[int, typer.Option(min=0, help="The most pictures of a prompt (vllm).")] = 2,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the weights.")] = Dtype.AUTO,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="The longest prompt and answer (vllm).")] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="Share of the device's memory (vllm; default 0.9, on a processor 0.3).")
    ] = None,
    limit_mm_per_prompt: Annotated[str, typer.Option(help='JSON, such as {"image": 2} (vllm).')] = "",
    hf_overrides: Annotated[
        str, typer.Option(help="JSON: instead of what the model's configuration says (vllm).")
    ] = "",
    mm_processor_kwargs: Annotated[str, typer.Option(help="JSON: for the picture processor (vllm).")] = "",
    model_impl: Annotated[ModelImpl, typer.Option(help="Whose code the model is run with (vllm).")] = ModelImpl.AUTO,
    lora_rank: Annotated[
        int | None,
        typer.Option(min=1, help="Take adapters up to this rank while it runs, as `method.server` does (vllm)."),
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Run it instead of printing it.")] = False,
    json_: Json = False,
) -> None:
    """Print the command that serves MODEL, and how to name the model then. With --run, run it.

    With --defence MODEL is served behind it by vlmend itself, at once.
    """
    callable_at = LOCAL if host in EVERYWHERE else host
    if _front.wanted(context, defence):
        judging = judge_settings(judge_model, judge_sees, None, "", None, fresh=True)  # nothing is kept
        _front.serve(model, defence or (), judging, host, port, dtype, callable_at, as_json=json_)
        return
    from vlmend.models.engines import EngineSettings
    from vlmend.models.places import adapter_folder, locate

    name, _, adapter = model.partition("+")
    folder = locate(name)
    added = adapter_folder(adapter).absolute() if adapter else None
    settings = EngineSettings(
        max_model_len, gpu_memory_utilization, limit_mm_per_prompt, hf_overrides, mm_processor_kwargs, model_impl.value
    )
    if added and (note := _fits(added, folder, name)):
        typer.echo(f"vlmend: {note}", err=True)
    if engine is Engine.VLLM:
        command, served = vllm_command(
            folder, added, host, port, settings.arguments(images), dtype.value, served=name, lora_rank=lora_rank
        )
    else:
        if lora_rank:
            raise UsageError("transformers serve loads no adapters, so --lora-rank is nothing to it; use --with vllm")
        if settings != EngineSettings():
            given = [field.name for field in fields(settings) if getattr(settings, field.name) != field.default]
            raise UsageError(f"transformers serve has no {', '.join(given)}; leave it out, or use --with vllm")
        command, served = transformers_command(folder, added, host, port, dtype.value)
    spec = f"openai:{served}@http://{callable_at}:{port}/v1?server={engine.value}"
    variables = {RUNTIME: "True"} if lora_rank else {}
    if run:
        _run(command, spec, variables)
    if variables:
        command = ["env", *(f"{name}={value}" for name, value in variables.items()), *command]
    if json_:
        print_json({"command": command, "model": spec})
        return
    typer.echo(shlex.join(command))
    typer.echo(
        f"# then, for example: vlmend eval --model {shlex.quote(spec)} --suite world --out runs/served", err=True
    )


def _fits(adapter: Path, folder: str, name: str) -> str:
    """See `check_base`; of a model that is not downloaded yet, that nobody has looked."""
    from vlmend.models.places import check_base, weights_hash

    try:
        weights = weights_hash(folder, None)
    except OSError:  # nothing of it is in the cache
        return f"{name} is not downloaded yet, so whether adapter {adapter} was tuned on it is not known"
    return check_base(adapter, weights, name)


def vllm_command(
    folder: str, adapter: Path | None, host: str, port: int, settings: Mapping[str, Any], dtype: str, *, served: str,
    lora_rank: int | None = None,
) -> tuple[list[str], str]:  # fmt: skip
    """vLLM's command and the served model's name. The model's own sampling defaults stay out."""
    from vlmend.models.engines import engine, words
    from vlmend.models.places import vllm_fitting, vllm_rank

    name = _front.served_name(served)
    program = ["vllm", "serve", folder]
    if engine()[0] not in ("", "vllm"):  # its `vllm` looks for a distribution of that very name, and ends
        program = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    command = [
        *program, "--host", host, "--port", str(port), "--served-model-name", name, "--dtype", dtype,
        *words(settings),
    ]  # fmt: skip
    ranks = [*([vllm_fitting(lora_rank)] if lora_rank else []), *([vllm_rank(adapter)] if adapter else [])]
    if ranks:
        command += ["--enable-lora", "--max-lora-rank", str(max(ranks))]
    if adapter is None:
        return command, name
    name = f"{name}+{adapter.name}"
    return [*command, "--lora-modules", f"{name}={adapter}"], name


def transformers_command(folder: str, adapter: Path | None, host: str, port: int, dtype: str) -> tuple[list[str], str]:
    """transformers' command and the served model's name, which is where its weights lie."""
    if adapter is not None:
        raise UsageError(
            f"transformers serve loads no adapters, so {adapter.name} would be left out; merge it, or use --with vllm"
        )
    return ["transformers", "serve", folder, "--host", host, "--port", str(port), "--dtype", dtype], folder


def _run(command: list[str], spec: str, variables: Mapping[str, str]) -> None:
    """Become the server, with these environment variables. Never returns."""
    os.environ.update(variables)
    beside = shutil.which(command[0], path=str(Path(sys.executable).parent))
    program = beside or shutil.which(command[0])
    if program is None:
        raise ModelError(f"{command[0]} is not installed: pip install {_package(command[0])}")
    typer.echo(f"vlmend: serving {spec}", err=True)
    sys.stderr.flush()
    os.execv(program, [program, *command[1:]])


def _package(name: str) -> str:
    return "'transformers[serving]'" if name == "transformers" else "'vlmend[vllm]'"
