"""How lines, counts and tables look, whoever prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def say(console: Console, text: str, style: str = "") -> None:
    """A text as it is: nothing in it is markup, no number is colored, and the terminal breaks its lines."""
    console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 record`, `1,327 records`; `many` where an s does not do."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


VERBS = {
    "are": "is", "were": "was", "have": "has", "do": "does", "look": "looks", "repeat": "repeats", "share": "shares",
    "show": "shows",
}  # fmt: skip


def counted(count: int, message: str) -> str:
    """A message about `{n}` things, as it is said of so many: its first noun and its verb agree with the count.

    `{n} records repeat an id` becomes `1 record repeats an id`; `{n} of 40 pictures are blank`, `1 of 40 pictures is`.
    """
    before, _, after = message.partition("{n}")
    words = after.split(" ")
    if count == 1:
        noun = next((i for i, word in enumerate(words) if word.endswith("s")), None)
        if noun is not None and words[1] != "of":
            words[noun] = words[noun].removesuffix("s")
        verb = next((i for i, word in enumerate(words) if word in VERBS), None)
        if verb is not None:
            words[verb] = VERBS[words[verb]]
    return f"{before}{count:,}{' '.join(words)}"


def named(name: str, most: int = 40) -> Text:
    """A name in the first column of a table: whole, on as many lines as it takes to leave the numbers their room.

    It is broken before one of `?&@+#`, after one of `/:.,-_ `, or where the line is full.
    """
    from rich.text import Text

    lines: list[str] = []
    while len(name) > most:
        breaks = [i for i in range(most // 2, most + 1) if name[i] in "?&@+#" or name[i - 1] in "/:.,-_ "]
        at = breaks[-1] if breaks else most
        lines.append(name[:at])
        name = name[at:]
    return Text("\n".join([*lines, name]))


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
