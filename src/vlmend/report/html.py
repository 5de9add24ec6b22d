"""Sections to HTML. Whatever a model or a data set said is escaped; a content policy forbids everything remote."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vlmend.errors import DataError
from vlmend.report import curves, plots, tables, wordmap
from vlmend.types import Image, Measured

if TYPE_CHECKING:
    from jinja2 import Environment

    from vlmend.report.page import Section

SMALL = 128  # pictures up to this many pixels wide are shown enlarged, pixel by pixel
LARGE = 448  # pictures above this are embedded reduced
FOLD = 320  # answers longer than this many characters are folded


def render(title: str, sections: Sequence[Section], *, lead: str = "") -> str:
    """The whole page as text."""
    template = environment().get_template("page.html.jinja")
    return template.render(title=title, lead=lead, sections=sections, fold=FOLD, small=SMALL, series=plots.SERIES)


def environment() -> Environment:
    """Templates of this folder, which escape what they are given and know the filters of this module."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("vlmend.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(FILTERS)
    return found


def badness(rate: Measured | None, better: tables.Better) -> int:
    """0 to 100: how far a rate lies on the bad side, for tinting a cell."""
    if rate is None or rate.value is None:
        return 0
    at = tables.position(rate.value, rate)
    if better is None:
        return 0
    if isinstance(better, str):
        return round(at if better == "low" else 100 - at)
    best = tables.position(better, rate)
    return round(100 * abs(at - best) / max(best, 100 - best))


def picture(image: Image) -> dict[str, Any] | None:
    """A picture as a data URL with its size, reduced when large; None when it cannot be read any more."""
    try:
        drawn = image.open()
    except DataError:
        return None
    if max(drawn.size) > LARGE:
        drawn.thumbnail((LARGE, LARGE))
    buffer = io.BytesIO()
    kind = "png" if max(drawn.size) <= SMALL else "jpeg"
    drawn.save(buffer, format=kind.upper(), **({"quality": 82} if kind == "jpeg" else {}))
    url = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"url": url, "width": drawn.width, "height": drawn.height}


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names and texts."""
    for key, entry in data.items():
        name = f"{prefix}{key}"
        if isinstance(entry, Mapping) and entry:
            yield from flatten(entry, f"{name}.")
        elif isinstance(entry, list | tuple) and entry and all(isinstance(row, Mapping) for row in entry):
            yield from flatten({str(n): row for n, row in enumerate(entry, start=1)}, f"{name}.")
        elif isinstance(entry, list | tuple):
            yield name, ", ".join(map(str, entry)) if len(entry) <= 20 else f"{len(entry):,} entries"
        else:
            yield name, tables.NOTHING if entry is None else str(entry)


def _flat(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(flatten(data))


FILTERS: dict[str, Any] = {
    "value": tables.value,
    "interval": tables.interval,
    "counts": tables.counts,
    "counted": tables.counted,
    "worst": tables.worst_text,
    "sentence": tables.sentence,
    "share": tables.percent,
    "badness": badness,
    "direction": tables.direction,
    "bar_groups": plots.bar_groups,
    "plot": curves.plot,
    "wordmap": wordmap.layout,
    "by_measure": tables.by_measure,
    "picture": picture,
    "flat": _flat,
    "sign": tables.SIGNS.get,
}
