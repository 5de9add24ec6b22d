"""`vlmend serve --defence`: a model behind defences, served by this process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from vlmend.cli._common import Dtype, print_json
from vlmend.errors import UsageError

BOTH = ("model", "defence", "host", "port", "dtype", "json_")  # options of a server of ours and of an engine's
OURS = ("judge_model", "judge_sees")
WORDS = {"engine": "--with", "run": "--run"}


def wanted(context: typer.Context, defences: Sequence[str] | None) -> bool:
    """Whether a server of ours is asked for. Raises UsageError for an option that would mean nothing then."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if defences:
        lost = [name for name in given if name not in (*BOTH, *OURS, "run")]
        why = "is for engines that serve a model alone; settings of a model stand in its spec (MODEL?name=value)"
    else:
        lost, why = [name for name in given if name in OURS], "is for judges of defences; name one with --defence"
    if lost:
        raise UsageError(f"{', '.join(WORDS.get(n, '--' + n.replace('_', '-')) for n in lost)} {why}")
    return bool(defences)


def serve(
    model: str, defences: Sequence[str], judging: dict[str, Any], host: str, port: int, dtype: Dtype, callable_at: str,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Serve until a signal comes. Says how to name the model as soon as it can be asked."""
    from vlmend.evaluate.cells import chain_of
    from vlmend.evaluate.defend import chain_from
    from vlmend.evaluate.judging import JudgeSettings
    from vlmend.front.answers import Answers
    from vlmend.front.server import Card, Front
    from vlmend.registry import backend_for

    judges = JudgeSettings(**judging).models()
    specs = tuple(spec for text in defences for spec in chain_of(text))
    chain = chain_from(specs, judges)
    backend = backend_for(model, {"dtype": dtype.value} if dtype is not Dtype.AUTO else {})
    if not getattr(backend, "ready", True):
        typer.echo(f"vlmend: loading {model} …", err=True)
    answers = Answers(backend, chain, judges)
    name = served_name(model)
    with Front(host, port, Card(name, model, specs), answers) as front:
        at = f"http://{callable_at}:{front.server_port}/v1"
        spec = f"openai:{name}@{at}?server=vlmend&revision={answers.fingerprint[:12]}"
        if as_json:
            print_json({"model": spec, "serves": model, "defence": list(specs)})
        else:
            typer.echo(f"vlmend: serving {model} behind {' + '.join(specs) or 'no defence'}; Ctrl-C ends it", err=True)
            typer.echo(
                f"# for example: vlmend eval --model {shlex.quote(spec)} --suite world --out runs/served", err=True
            )
        sys.stdout.flush()
        front.run()


def served_name(model: str) -> str:
    """What a model is called on a server: the last two parts of a path, the name alone of one on another server."""
    spec = model.partition("?")[0]
    kind, colon, rest = spec.partition(":")
    if colon and kind == "openai":
        return rest.partition("@http")[0]
    name, plus, adapter = (rest if colon else spec).partition("+")
    name = "/".join(Path(name).parts[-2:]) if Path(name).is_absolute() else name
    return f"{name}+{Path(adapter).name}" if plus else name
