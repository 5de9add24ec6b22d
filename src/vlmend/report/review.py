"""Drafted rows for a person to accept, reject or edit: one page that needs nothing else, and its decisions read back.

The page is opened from disk and sends nothing anywhere: decisions stay in the browser until they are saved as one JSON
file. Whatever a model wrote is data in it; the only script that its content policy lets run is the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vlmend.errors import DataError, UnknownName, brief, nearest
from vlmend.report.gallery import WANTED
from vlmend.report.html import SMALL, environment
from vlmend.store import write_atomic, write_json
from vlmend.types import Example, Expected, Image, Message, Pair, content_of, digest

Row = Example | Pair
Verb = Literal["accept", "reject", "edit", "undo"]

KIND, VERSION = "vlmend review", 1
REJECTED = "rejected in review"
KEPT = "kept"  # the status of what goes into a set
SIDE = 320  # pixels of the longer side of a picture in the page
CHUNK = 200  # rows that stand together in the page
FIELDS: dict[type[Row], tuple[str, ...]] = {  # what may be edited, by the names that decisions have for it
    Example: ("prompt", "answer", "reasoning", "category", "subcategory"),
    Pair: ("prompt", "chosen", "rejected", "category", "subcategory"),
}


@dataclass(frozen=True)
class ReviewItem:
    """One drafted row: which set it is for, what became of it (`kept`, or what else), why, and how it was made.

    Where no row came of it, `row` is what was said instead, about `pictures`; there is nothing to decide then.
    """

    id: str
    set: str
    row: Row | str
    status: str = KEPT
    why: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    pictures: tuple[Image, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        """All that is shown."""
        return self.pictures if isinstance(self.row, str) else self.row.images


@dataclass(frozen=True)
class Decision:
    """What a person decided about an item; `changed` has the new texts of an edit by field. undo: nothing any more.

    `about` is the `mark` of the row that was decided on, so that it holds for no other.
    """

    decision: Verb
    changed: Mapping[str, str] = field(default_factory=dict[str, str])
    by: str = ""
    when: str = ""
    about: str = ""


def write_review(
    items: Iterable[ReviewItem], out: Path, title: str, *, run: str, side: int = SIDE,
    decisions: Mapping[str, Decision] = MappingProxyType({}),
) -> Path:  # fmt: skip
    """Write the page as items come; each picture stands in it once, at most `side` pixels long.

    `run` names what is reviewed: a browser keeps decisions under it. `decisions` are those it begins with, unless the
    browser knows later ones. Raises DataError for an id that stands twice.
    """
    write_atomic(out, _pieces(items, title, run, side, decisions))
    return out


def read_decisions(path: Path, *, run: str = "") -> dict[str, Decision]:
    """The decisions of a file that the page saved, by item. Raises DataError saying what is wrong with it, and where.

    With `run`, decisions about anything else are an error.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"decisions {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"decisions {path} is damaged: it is not JSON ({error})") from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise DataError(f"{path} holds no decisions: it should be a file that a review page saved")
    if data.get("version") != VERSION:
        raise DataError(f"decisions {path} has version {brief(data.get('version'))}; this vlmend reads {VERSION}")
    try:
        saved = TypeAdapter(_Saved).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"decisions {path} is damaged at {where}: {first['msg']}") from error
    if run and saved.run != run:
        raise DataError(f"decisions {path} is about {saved.run!r}, and this is {run!r}")
    known = [name for names in FIELDS.values() for name in names]
    for name, made in saved.decisions.items():
        if unknown := next((key for key in made.changed if key not in known), ""):
            raise DataError(
                f"decisions {path}: {name!r} changes {unknown!r}, which cannot be edited.{nearest(unknown, known)}"
            )
        if bool(made.changed) != (made.decision == "edit"):
            told = "an edit that changes nothing" if made.decision == "edit" else f"{made.decision} with changes"
            raise DataError(f"decisions {path}: of {name!r} there is {told}")
    return {
        name: Decision(made.decision, made.changed, made.by or saved.by, made.when, made.about)
        for name, made in saved.decisions.items()
    }


def latest(*several: Mapping[str, Decision]) -> dict[str, Decision]:
    """Of several people's decisions about one item the latest; of equally late ones the last that is given."""
    found: dict[str, Decision] = {}
    for decisions in several:
        for name, made in decisions.items():
            if name not in found or made.when >= found[name].when:
                found[name] = made
    return found


def write_decisions(decisions: Mapping[str, Decision], path: Path, *, run: str) -> None:
    """The file that `read_decisions` reads, and that the page loads."""
    write_json(path, {"kind": KIND, "version": VERSION, "run": run, "decisions": _plain(decisions)})


def apply_decisions(items: Iterable[ReviewItem], decisions: Mapping[str, Decision]) -> list[ReviewItem]:
    """The items as decided: what was accepted or edited is kept, what was rejected is not, and others stay as they are.

    Provenance tells who decided. Raises UnknownName for a decision about what is not there, DataError for a field that
    a row does not have.
    """
    done = [decided(item, decisions[item.id]) if item.id in decisions else item for item in items]
    there = {item.id for item in done}
    if unknown := next((name for name in decisions if name not in there), ""):
        raise UnknownName("item that was decided on", unknown, sorted(there)[:20], nearest(unknown, there))
    return done


def told(items: Iterable[ReviewItem]) -> str:
    """How many items there are of each status, in one line."""
    counts = Counter(item.status for item in items)
    parts = ", ".join(
        f"{n:,} {status}" for status, n in sorted(counts.items(), key=lambda pair: (pair[0] != KEPT, pair[0]))
    )
    return f"{sum(counts.values()):,} rows: {parts}" if counts else "no rows"


class _Made(BaseModel):
    model_config = ConfigDict(extra="forbid")
    decision: Verb
    changed: dict[str, str] = Field(default_factory=dict)
    by: str = ""
    when: str = ""
    about: str = ""


class _Saved(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: str
    version: int
    run: str
    by: str = ""
    saved: str = ""
    decisions: dict[str, _Made]


def mark(row: Row) -> str:
    """A short hash of all that a page shows of a row and lets people edit."""
    said = (row.chosen, row.rejected) if isinstance(row, Pair) else (*row.answers, row.reasoning)
    return digest(content_of(row.prompt), said, row.category, row.subcategory)[:12]


def decided(item: ReviewItem, made: Decision) -> ReviewItem:
    """The item as a person decided. Raises DataError for a field that its row does not have, or where it has no row."""
    if made.decision == "undo":
        return item
    row, said = item.row, {"review": made.decision, "reviewer": made.by, "reviewed": made.when}
    if isinstance(row, str):
        raise DataError(f"no row came of {item.id!r}, so nothing can be decided about it")
    if made.about and made.about != mark(row):
        raise DataError(f"{item.id!r} says something else than when it was decided on; review it again")
    provenance = {**item.provenance, **{key: value for key, value in said.items() if value}}
    if made.decision == "reject":
        return replace(item, status="rejected", why=(*item.why, REJECTED), provenance=provenance)
    for key in made.changed:
        if key not in FIELDS[type(row)]:
            raise DataError(f"{item.id!r} has no {key!r} to edit; it has {', '.join(FIELDS[type(row)])}")
    return replace(item, row=_edited(row, made.changed), status=KEPT, provenance=provenance)


def _edited(row: Row, changed: Mapping[str, str]) -> Row:
    new: dict[str, Any] = {key: text for key, text in changed.items() if key not in ("prompt", "answer")}
    if "prompt" in changed:
        new["prompt"] = (*row.prompt[:-1], row.prompt[-1].with_text(changed["prompt"]))
    if "answer" in changed and isinstance(row, Example):
        new["answers"] = (changed["answer"], *row.answers[1:])
    return replace(row, **new)


def _pieces(
    items: Iterable[ReviewItem], title: str, run: str, side: int, decisions: Mapping[str, Decision]
) -> Iterator[bytes]:
    """The page from top to bottom: what is seen at once, pictures and rows as they come, and the script at the end."""
    script = Path(__file__).with_name("review.js").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = _plain(decisions)
    about = json.dumps({"run": run, "version": VERSION, "wanted": WANTED, "fields": _names(), "decisions": made})
    page = environment().get_template("review.html.jinja")
    top, _, end = page.render(title=title, allowed=allowed, about=_inert(about)).partition("<!-- rows -->")
    yield top.encode("utf-8", "replace")
    places: dict[str, int] = {}  # of pictures, by content
    seen: set[str] = set()
    stream = iter(items)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while some := list(islice(stream, CHUNK)):
            fresh: dict[str, Image] = {}
            for item in some:
                if item.id in seen:
                    raise DataError(f"item {item.id!r} stands twice, so nobody could say which of them was decided on")
                seen.add(item.id)
                for image in item.images:
                    if (key := _name(image)) not in places:
                        fresh[key], places[key] = image, len(places)
            for key, url in zip(fresh, pool.map(partial(_thumbnail, side=side), fresh.values()), strict=True):
                yield f'<script type="text/plain" id="p{places[key]}">{url}</script>\n'.encode()
            rows = ",".join(_inert(json.dumps(_shown(item, places), ensure_ascii=False)) for item in some)
            yield f'<script type="application/json" class="rows">[{rows}]</script>\n'.encode("utf-8", "replace")
    yield end.replace("<!-- script -->", f"<script>{script}</script>").encode("utf-8", "replace")


def _plain(decisions: Mapping[str, Decision]) -> dict[str, Any]:
    return {name: asdict(made) | {"changed": dict(made.changed)} for name, made in decisions.items()}


def _names() -> dict[str, tuple[str, ...]]:
    return {"text": (), **{kind.__name__.lower(): names for kind, names in FIELDS.items()}}


def _inert(text: str) -> str:
    """JSON that no HTML parser takes for anything but text."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _name(image: Image) -> str:
    try:
        return image.recorded or image.sha256
    except DataError:
        return f"unreadable {image.path}"


def _thumbnail(image: Image, side: int) -> str:
    """A picture as a data URL; nothing where it cannot be read any more."""
    try:
        drawn = image.open()
    except DataError:
        return ""
    drawn.thumbnail((side, side))
    file = io.BytesIO()
    drawn.save(file, format="WEBP", quality=90 if max(drawn.size) <= SMALL else 75)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _shown(item: ReviewItem, places: Mapping[str, int]) -> dict[str, Any]:
    """What the page knows of an item; parts of a turn are texts, or numbers of pictures."""

    def turn(message: Message) -> dict[str, Any]:
        parts = [places[_name(part)] if isinstance(part, Image) else part for part in message.parts]
        return {"role": message.role, "parts": parts}

    row = item.row
    about = {
        "id": item.id,
        "set": item.set,
        "status": item.status,
        "why": item.why,
        "provenance": dict(item.provenance),
    }
    if isinstance(row, str):
        turns = [turn(Message("user", item.pictures))]
        return {**about, "kind": "text", "said": row, "turns": turns, "category": "", "subcategory": "", "subset": ""}
    shown: dict[str, Any] = {
        **about, "category": row.category, "subcategory": row.subcategory, "subset": row.subset,
        "turns": [turn(message) for message in row.prompt], "prompt": row.question,
        "mark": mark(row), "kind": type(row).__name__.lower(),
    }  # fmt: skip
    if isinstance(row, Pair):
        other = [places[_name(image)] for image in row.rejected_images or ()]
        return {**shown, "chosen": row.chosen, "rejected": row.rejected, "other": other}
    reasoning = {"reasoning": row.reasoning, "expected": Expected(row.expected).value}
    return {**shown, "answer": row.answers[0] if row.answers else "", "more": row.answers[1:], **reasoning}
