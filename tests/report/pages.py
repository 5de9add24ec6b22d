"""A small page with everything on it, and the records behind it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html.parser import HTMLParser

from vlmend.data.placeholder import draw
from vlmend.metrics.rates import of
from vlmend.report.tables import Column, RateTable, collect
from vlmend.types import Example, Expected, Finish, Image, Message, Rate, Record, Response, Verdict

EVIL = "<script>alert('x')</script><img src=http://example.org/x onerror=y>"
ASR, SHARE, UTILITY = Column("asr", "plain"), Column("asr", "after 'what'"), Column("utility", "plain", "high")


def rate(k: int, n: int, unscored: int = 0) -> Rate:
    return of([True] * k + [False] * (n - k) + [None] * unscored)


def table() -> RateTable:
    return collect(
        "Rates",
        [
            ("base", {ASR: rate(199, 200), UTILITY: rate(193, 200)}),
            ("base", {SHARE: rate(198, 200)}),
            (EVIL, {ASR: rate(3, 197, 3), SHARE: rate(0, 0, 200), UTILITY: rate(0, 0)}),
        ],
    )


def record(
    name: str, text: str, *, refused: bool | None, expected: Expected = Expected.REFUSE, subset: str = ""
) -> Record:
    picture = Image(make=partial(draw, name))
    example = Example(name, (Message("user", (picture, f"What is {name}?")),), expected=expected, subset=subset)
    response = Response(f"r/{name}", name, text, Finish.STOP if text else Finish.FAILED, why="no answer")
    return Record(example, response, (Verdict("refusal", response.id, refused=refused),))


class Parsed(HTMLParser):
    """Text, tags and addresses of a page; complains when tags do not nest."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(data.strip())
