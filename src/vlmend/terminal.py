"""How lines, counts and tables look, whoever prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(console: Console, text: str, style: str = "") -> None:
    """A text as it is: nothing in it is markup, no number is colored, and the terminal breaks its lines."""
    console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 record`, `1,327 records`; `many` where an s does not do."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def table(title: str, first: str, *numbers: str) -> Table:
    """A plain table whose first column is kept whole and whose others are numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(title), title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE_HEAD
    )
    made.add_column(first, no_wrap=True)
    for name in numbers:
        made.add_column(name, justify="right")
    return made
