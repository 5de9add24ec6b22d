"""How tables look in a terminal, whoever prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


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
