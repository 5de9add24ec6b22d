"""The recipes that ship with the package, by name: `world/sft_biased` is the file `world/sft_biased.yaml` here.

`mixes/` has data without a method, `sweeps/` options of `vlmend sweep`. A file of the user's always comes first.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from vlmend.errors import UsageError, nearest

FOLDER = Path(__file__).parent
LONG = 150  # letters of a line in `vlmend list recipes`


def names() -> list[str]:
    """Every shipped recipe, sorted."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def find(named: Path) -> Path:
    """The user's file of this name; else the shipped recipe. Raises UsageError where there is neither."""
    if named.is_file():
        return named
    name, known = named.as_posix().removesuffix(".yaml"), names()
    if name in known:
        return FOLDER / f"{name}.yaml"
    elsewhere = [other for other in known if other.endswith(f"/{Path(name).name}")]
    hint = f" Did you mean {elsewhere[0]!r}?" if elsewhere else nearest(name, known)
    raise UsageError(
        f"there is no file {named}, and no recipe of that name comes with vlmend.{hint} See vlmend list recipes."
    )


def summary(name: str) -> str:
    """The first sentence of its opening comment; of a long one, what stands before its last colon."""
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    lines = itertools.takewhile(lambda line: re.match(r"# \S", line), text.splitlines())
    sentence = " ".join(line.removeprefix("# ") for line in lines).partition(". ")[0].rstrip(".:")
    cut = sentence[:LONG].rpartition(": ")[0] if len(sentence) > LONG else ""
    return f"{cut or sentence}."
