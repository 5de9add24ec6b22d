"""The project's pages, and what they hold: commands as a shell understands them, other blocks, inline code.

No shell is written here. `recorded` lets bash read a block with `vlmend`, `python` and `make` replaced by functions
that write down their arguments, so loops, variables, braces and quotes mean what they mean to a reader who pastes it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmend import recipes

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
RECIPES = sorted(recipes.FOLDER.rglob("*.yaml"))
PROGRAMS = ("vlmend", "python", "make", "pre-commit")

FENCE = re.compile(r"^```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$", flags=re.M | re.S)
# In a comment a command stands after at least two blanks, and goes on in the next line after a backslash.
IN_COMMENT = re.compile(rf"^#.*? {{2,}}(?P<text>(?:{'|'.join(PROGRAMS)}) (?:.*\\\n#)*.*\n)", flags=re.M)
RECORD = """
_record() { printf '%s\\0' "$@" >&3; printf '\\0\\0' >&3; }
command_not_found_handle() { _record "${BASH_LINENO[0]}" "$@"; }
PATH=/nowhere
"""


@dataclass(frozen=True)
class Block:
    """A piece of a page: its language, its text, and the page's line on which it begins."""

    page: Path
    line: int
    kind: str
    text: str

    def where(self, line: int = 0) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{line or self.line}"


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and where it stands."""

    where: str
    program: str
    arguments: list[str]


def blocks(page: Path, *kinds: str) -> list[Block]:
    """The fenced blocks of these languages."""
    text = page.read_text(encoding="utf-8")
    found = (Block(page, _line(text, m.start("text")), m["kind"], m["text"]) for m in FENCE.finditer(text))
    return [block for block in found if block.kind in kinds]


def comments(recipe: Path) -> list[Block]:
    """The commands in a recipe's comments."""
    text = recipe.read_text(encoding="utf-8")
    return [
        Block(recipe, _line(text, m.start("text")), "sh", re.sub(r"^# *", "", m["text"], flags=re.M))
        for m in IN_COMMENT.finditer(text)
    ]


def inline(page: Path) -> Iterator[tuple[str, str]]:
    """Every piece of inline code with its place; one that is broken over two lines is joined."""
    text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))
    for match in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
        yield f"{page.relative_to(ROOT)}:{_line(text, match.start())}", " ".join(match[1].split())


def recorded(block: Block, folder: Path) -> list[Command]:
    """The commands that bash would start, in order. It finds no program, so nothing is started."""
    bash = shutil.which("bash")
    assert bash is not None, "the pages' commands are read by bash, which is not here"
    names = "\n".join(f'{name}() {{ _record "${{BASH_LINENO[0]}}" {name} "$@"; }}' for name in PROGRAMS)
    script, told = folder / "_block.sh", folder / "_commands"
    script.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
    line = f"set -u; {RECORD}\n{names}\nexec 3> {told.name}; source ./{script.name}"
    ran = subprocess.run([bash, "-c", line], cwd=folder, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), f"{block.where()}: bash cannot read this: {ran.stderr}"
    rows = [row.split("\0") for row in told.read_text(encoding="utf-8").split("\0\0\0") if row]
    script.unlink()
    told.unlink()
    return [Command(block.where(int(number)), program, arguments) for number, program, *arguments in rows]


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
