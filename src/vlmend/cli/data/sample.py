"""`vlmend data sample`: a small harmless copy of a data set's published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vlmend.cli._common import Json, print_json
from vlmend.terminal import plural


def sample(
    name: Annotated[str, typer.Argument(help="A source, e.g. vlguard.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    json_: Json = False,
) -> None:
    """Write a sample of the layout of NAME, filled with drawn pictures, to try a pipeline before the data are there."""
    from vlmend.errors import UsageError

    write = _sampler(name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already and is no empty folder; a sample goes into one of its own")
    out.mkdir(parents=True, exist_ok=True)
    write(out, seed)
    files = sum(1 for file in out.rglob("*") if file.is_file())
    spec = _spec(name, out)
    if json_:
        print_json({"source": name, "out": str(out), "files": files, "spec": spec})
        return
    written = f"{plural(files, 'file')} written to {out}"
    typer.echo(written + (f"; look at them with: vlmend data show {spec}" if spec else ""))


def _sampler(name: str) -> Any:
    from vlmend.errors import UsageError, nearest
    from vlmend.registry import sources
    from vlmend.types import Sampled

    plugin = sources.find(name)
    if not isinstance(plugin, Sampled):
        having = [known for known in sources.names() if isinstance(sources.find(known), Sampled)]
        raise UsageError(f"source {name!r} has no sample.{nearest(name, having)} Those that have: {', '.join(having)}")
    return plugin.sample


def _spec(name: str, out: Path) -> str:
    """The spec that reads the sample: its folder, or a file in it where the source reads files."""
    from vlmend.data.dataset import read_any
    from vlmend.errors import VlmendError

    for argument in (out, *sorted(file for file in out.iterdir() if file.is_file())):
        try:
            next(read_any(f"{name}:{argument}"))
        except (VlmendError, OSError, StopIteration):
            continue
        return f"{name}:{argument}"
    return ""
