"""Data sets written for other programs, and so that the sources `jsonl` and `hf` read the same back.

    trl       {"prompt": [messages], "completion" | "chosen", "rejected": [message], "images": [path]}
    llava     {"id", "image": path, "conversations": [{"from", "value"}]}, pictures marked `<image>` in the text
    sharegpt  {"conversations": [{"from", "value"}], "images": [path]}, as LLaMA-Factory reads it
    openai    {"messages": [{"role", "content"}]}; for pairs "input", "preferred_output", "non_preferred_output"
    parquet   TRL's columns, a picture as {bytes, path}

What a format has no key for (labels, cluster, further answers) stands in keys of our own, which other programs ignore.
A turn that is not learned has `loss: false` (openai: `weight: 0`), an answer to avoid `label: false`.

A picture that is a file is named relative to what is written; one that is made on demand is written once, under its
content hash, into `images` beside it. The text `<image>` cannot be said in `llava` and `sharegpt`: it is refused there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vlmend.data.formats import PARTS
from vlmend.data.inside import OPTION, lies_in
from vlmend.data.rows import refuse_halves
from vlmend.data.sources import vlguard
from vlmend.data.turns import MARK, MOVING, PLACE, marks_apart
from vlmend.errors import DataError, UnknownName, UsageError
from vlmend.registry import Spec
from vlmend.store import write_atomic
from vlmend.types import Example, Image, Message, Pair

Row = dict[str, Any]
AS_CODED = "vlguard_as_coded"
SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
KINDS = {
    b"\x89PNG": ("png", "png"),
    b"\xff\xd8\xff": ("jpg", "jpeg"),
    b"GIF8": ("gif", "gif"),
    b"RIFF": ("webp", "webp"),
}
BATCH = 256  # rows that parquet takes at once; with pictures inside they are large


@dataclass(frozen=True)
class Written:
    """What an export left behind. `outside`: whether it names pictures that do not lie in its own folder."""

    file: Path
    examples: int
    pairs: int
    outside: bool = False

    @property
    def spec(self) -> str:
        """What reads it again."""
        return f"jsonl:{self.file}" + (f"?{OPTION}=true" if self.outside else "")


@dataclass(frozen=True)
class Album:
    """How pictures are named in a file that lies in `folder`: by relative path, or put inside with `embed`."""

    folder: Path
    embed: bool = False
    outside: list[str] = field(default_factory=list[str])  # the first name that leads out of the folder

    def name(self, image: Image) -> str:
        """A relative path, or a data: URL."""
        if self.embed:
            data = image.read()
            return f"data:image/{_kind(data)[1]};base64,{base64.b64encode(data).decode()}"
        if image.path is not None:
            name = Path(os.path.relpath(os.path.abspath(image.path), os.path.realpath(self.folder))).as_posix()
            if not self.outside and not lies_in(image.path, self.folder):
                self.outside.append(name)
            return name
        return self._stored(image.read())

    def cell(self, image: Image) -> Row:
        """The cell of a picture column of `datasets`."""
        return {"bytes": image.read(), "path": None} if self.embed else {"bytes": None, "path": self.name(image)}

    def _stored(self, data: bytes) -> str:
        name = f"images/{hashlib.sha256(data).hexdigest()}.{_kind(data)[0]}"
        file = self.folder / name
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, data, sync=False)  # thousands of waits for the disk; the name is the content's hash
        return name


def _kind(data: bytes) -> tuple[str, str]:
    """File name extension and MIME type, by the first bytes."""
    return next((kind for start, kind in KINDS.items() if data.startswith(start)), ("img", "octet-stream"))


def write(items: Iterable[Example | Pair], form: str, out: Path, *, embed: bool = False) -> Written:
    """Write examples or pairs, as they come, to a file or to `data.…` in a folder; whole or not at all.

    Raises UnknownName, UsageError for a file name that does not fit the format, DataError for what it cannot say.
    """
    if form not in ROWS:
        raise UnknownName("format", form, [*ROWS, AS_CODED])
    file = _file(out, form)
    file.parent.mkdir(parents=True, exist_ok=True)
    album = Album(file.parent, embed)
    counts = {Example: 0, Pair: 0}
    part = file.with_name(f".{file.name}.part")
    try:
        WRITERS[file.suffix](_rows(items, form, album, counts), part, embed)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return Written(file, counts[Example], counts[Pair], bool(album.outside))


def as_coded(spec: str, out: Path) -> Written:
    """Write `vlguard_as_coded` of a spec such as `vlguard:DIR#train`. Raises UsageError for another source."""
    asked = Spec.parse(spec)
    if asked.name != "vlguard" or not asked.argument or asked.options or "[" in asked.split:
        raise UsageError(f"format {AS_CODED} writes a whole split of vlguard, as in vlguard:DIR#train (got {spec!r})")
    text = vlguard_as_coded(Path(asked.argument), asked.split or "train")
    file = _file(out, "llava")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text.encode())
    return Written(file, len(json.loads(text)), 0)


def _file(out: Path, form: str) -> Path:
    if out.suffix not in WRITERS:
        return out / f"data{SUFFIXES.get(form, '.json')}"
    if (out.suffix == ".parquet") != (form == "parquet"):
        fitting = ".parquet" if form == "parquet" else ".json or .jsonl"
        raise UsageError(f"format {form} is written to {fitting}, not to {out.name}")
    return out


def _rows(
    items: Iterable[Example | Pair], form: str, album: Album, counts: dict[type[Example | Pair], int]
) -> Iterator[Row]:
    for item in items:
        counts[type(item)] += 1
        if all(counts.values()):
            raise DataError(f"{item.id!r} is of another kind than those before; a file holds examples or pairs")
        try:
            refuse_halves([*(message.text for message in item.prompt), *answers_of(item)])
            yield ROWS[form](item, album)
        except DataError as error:
            raise DataError(f"{item.id!r} cannot be written as {form}: {error}") from error


def _trl(item: Example | Pair, album: Album) -> Row:
    """TRL's conversational rows: prompt and completion, or prompt, chosen and rejected; pictures in `images`."""
    row = {"id": item.id, "prompt": _blocks(item), **_said(item), **_shown(item, album), **_labels(item)}
    return row | _to_the_letter(item)


def _parquet(item: Example | Pair, album: Album) -> Row:
    """TRL's columns as parquet holds them: pictures as cells, `meta` as text since columns are alike in every row."""
    blocks = [{"loss": None, **turn} for turn in _blocks(item)]
    row = {"id": item.id, "prompt": blocks, **_said(item), **_labels(item), **_to_the_letter(item)}
    shown = [album.cell(image) for message in item.prompt for image in message.images]
    others = item.rejected_images if isinstance(item, Pair) else None
    return {
        **row,
        "images": shown,
        "rejected_images": None if others is None else [album.cell(image) for image in others],
        "meta": json.dumps(row["meta"], ensure_ascii=False) if "meta" in row else None,
    }


def _sharegpt(item: Example | Pair, album: Album) -> Row:
    """Turns of `from` and `value` with marks for pictures; the sides of a pair are turns of their own."""
    asked = [{**_turn(SPEAKERS[m.role], _marked(m)), **_unlearned(m, "loss", False)} for m in item.prompt]
    if isinstance(item, Pair):
        said = {"conversations": asked, "chosen": _plain(item.chosen), "rejected": _plain(item.rejected)}
    else:
        said = {"conversations": [*asked, *map(_plain, answers_of(item)[:1])]}
    parts = _parts(item)
    exact = all(
        [part or None for part in marks_apart(turn["value"])] == own for turn, own in zip(asked, parts, strict=True)
    )
    return {"id": item.id, **said, **_shown(item, album), **_labels(item), **({} if exact else {PARTS: parts})}


def _llava(item: Example | Pair, album: Album) -> Row:
    """ShareGPT's turns with the picture, or the list of several, in `image`."""
    row = _sharegpt(item, album)
    shown: list[str] = row.pop("images", [])
    image = {"image": shown[0] if len(shown) == 1 else shown} if shown else {}
    return {"id": row.pop("id"), **image, **row}


def _openai(item: Example | Pair, album: Album) -> Row:
    """Messages with pictures inside as `image_url`; pairs as OpenAI's preference rows."""
    messages = [
        {"role": m.role, "content": [_part(part, album) for part in m.parts], **_unlearned(m, "weight", 0)}
        for m in item.prompt
    ]
    said = _said(item)
    if isinstance(item, Pair):
        told = {"preferred_output": said["chosen"], "non_preferred_output": said["rejected"]}
        others = {key: names for key, names in _shown(item, album).items() if key == "rejected_images"}
        row = {"id": item.id, "input": {"messages": messages}, **told, **others, **_labels(item)}
    else:
        row = {"id": item.id, "messages": [*messages, *said.get("completion", [])], **_labels(item)}
    return row | _to_the_letter(item)


def _blocks(item: Example | Pair) -> list[Row]:
    """The turns of a prompt, which TRL does not learn: where we do, it is said."""
    return [
        {"role": m.role, "content": [_part(part) for part in m.parts]}
        | ({"loss": True} if m.role == "assistant" and m.supervised else _unlearned(m, "loss", False))
        for m in item.prompt
    ]


def _unlearned(message: Message, key: str, value: bool | int) -> Row:
    return {} if message.supervised else {key: value}


def _parts(item: Example | Pair) -> list[list[str | None]]:
    return [[None if isinstance(part, Image) else part for part in m.parts] for m in item.prompt]


def _to_the_letter(item: Example | Pair) -> Row:
    """The parts of the turns, where a mark in a text of theirs would be missed a picture."""
    texts = [*(m.text for m in item.prompt), *answers_of(item)]
    marked = not item.images and any(PLACE.search(text) or MOVING.search(text) for text in texts)
    return {PARTS: _parts(item)} if marked else {}


def answers_of(item: Example | Pair) -> tuple[str, ...]:
    """What is answered. Raises DataError for an example with answers to give and to avoid: a row has one kind."""
    if isinstance(item, Pair):
        return item.chosen, item.rejected
    if item.answers and item.avoid:
        raise DataError("it has answers to give and answers to avoid; rows have one kind")
    return item.answers or item.avoid


def _part(part: str | Image, album: Album | None = None) -> Row:
    """A content part; a picture is its place alone, or with an album its name as well."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image"} if album is None else {"type": "image_url", "image_url": {"url": album.name(part)}}


def _said(item: Example | Pair) -> Row:
    if isinstance(item, Pair):
        return {"chosen": [_answer(item.chosen)], "rejected": [_answer(item.rejected)]}
    told = [_answer(text) for text in answers_of(item)[:1]]
    return {"completion": told} if told else {}


def _answer(text: str) -> Row:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def _turn(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


def _plain(answer: str) -> dict[str, str]:
    return _turn("gpt", _unmarked(answer))


def _marked(message: Message) -> str:
    return "\n".join(MARK if isinstance(part, Image) else _unmarked(part) for part in message.parts)


def _unmarked(text: str) -> str:
    if MARK in text:
        raise DataError(
            f"its text holds {MARK}, which would be taken for a picture; trl, openai and parquet can say it"
        )
    return text


def _shown(item: Example | Pair, album: Album) -> Row:
    names = [album.name(image) for message in item.prompt for image in message.images]
    shown = {"images": names} if names else {}
    if isinstance(item, Pair) and item.rejected_images is not None:
        shown["rejected_images"] = [album.name(image) for image in item.rejected_images]
    return shown


def _labels(item: Example | Pair) -> Row:
    """What is known about an item beside what is said, under our own names; empty labels are left out."""
    labels: Row = {"expected": str(item.expected)} if isinstance(item, Example) else {}
    labels |= {key: text for key in ("subset", "category", "subcategory") if (text := getattr(item, key))}
    labels |= {"cluster": item.cluster, "role": str(item.role), "source": item.source}
    meta = dict(item.meta)
    if isinstance(item, Example):
        if len(answers_of(item)) > 1:
            labels["answers"] = list(answers_of(item))
        if item.avoid or (item.answers and meta.get("label") == "true"):  # as rows with feedback are read
            labels["label"] = not item.avoid
            meta = {key: text for key, text in meta.items() if key != "label" or item.avoid}
    return labels | ({"meta": meta} if meta else {})


ROWS: dict[str, Callable[[Example | Pair, Album], Row]] = {
    "trl": _trl,
    "llava": _llava,
    "sharegpt": _sharegpt,
    "openai": _openai,
    "parquet": _parquet,
}
SUFFIXES = {"trl": ".jsonl", "openai": ".jsonl", "parquet": ".parquet"}  # the others: one JSON list, as their readers


def _write_lines(rows: Iterator[Row], file: Path, _: bool) -> None:
    with file.open("wb") as stream:
        for row in rows:
            stream.write(_encoded(row) + b"\n")


def _write_list(rows: Iterator[Row], file: Path, _: bool) -> None:
    with file.open("wb") as stream:
        stream.write(b"[")
        for number, row in enumerate(rows):
            stream.write((b",\n" if number else b"\n") + _encoded(row))
        stream.write(b"\n]\n")


def _encoded(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair in a label, which only an escape can say
        return json.dumps(row).encode()


def _write_parquet(rows: Iterator[Row], file: Path, embed: bool) -> None:
    import pyarrow as arrow
    from pyarrow import parquet as files

    first = list(islice(rows, BATCH))
    schema = _schema(pairs=bool(first) and "chosen" in first[0], embed=embed)
    with files.ParquetWriter(file, schema) as writer:
        while first:
            try:
                writer.write_table(arrow.Table.from_pylist(first, schema))
            except UnicodeEncodeError as error:
                raise DataError(f"parquet cannot hold a text of these rows: {error}") from error
            first = list(islice(rows, BATCH))


def _schema(*, pairs: bool, embed: bool) -> Any:
    """The columns, and what `datasets` needs to know about them: that embedded pictures are pictures."""
    import pyarrow as arrow

    features = _features(pairs=pairs, embed=embed)
    about = json.dumps({"info": {"features": features}})
    return arrow.schema([(name, _arrow(feature)) for name, feature in features.items()], {"huggingface": about})


def _features(*, pairs: bool, embed: bool) -> Row:
    text = {"dtype": "string", "_type": "Value"}
    cell = {"_type": "Image"} if embed else {"bytes": {"dtype": "binary", "_type": "Value"}, "path": text}
    flag = {"dtype": "bool", "_type": "Value"}
    turn = {"role": text, "content": _listed({"type": text, "text": text})}
    messages, asked = _listed(turn), _listed({**turn, "loss": flag})
    said = {"chosen": messages, "rejected": messages} if pairs else {"completion": messages, "label": flag}
    beside = {"rejected_images": _listed(cell)} if pairs else {"expected": text, "answers": _listed(text)}
    labels = ("subset", "category", "subcategory", "cluster", "role", "source", "meta")
    shown = {"images": _listed(cell)}
    exact = {PARTS: _listed(_listed(text))}
    return {"id": text, "prompt": asked, **said, **shown, **beside, **dict.fromkeys(labels, text), **exact}


def _listed(feature: Row) -> Row:
    return {"feature": feature, "_type": "List"}


def _arrow(feature: Row) -> Any:
    """The arrow type of a feature of `datasets`, written as its metadata are."""
    import pyarrow as arrow

    kind = feature.get("_type")
    if kind == "Value":
        return arrow.type_for_alias(feature["dtype"])
    if kind == "List":
        return arrow.list_(_arrow(feature["feature"]))
    if kind == "Image":
        return arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    return arrow.struct([(name, _arrow(inner)) for name, inner in feature.items()])


WRITERS: dict[str, Callable[[Iterator[Row], Path, bool], None]] = {
    ".json": _write_list,
    ".jsonl": _write_lines,
    ".parquet": _write_parquet,
}


def vlguard_as_coded(path: Path, split: str = "train") -> str:
    """The file that VLGuard's own converter writes, byte for byte.

    Both questions of a safe picture become one conversation of four messages, in an order shuffled by one generator
    seeded with 0; only the first message carries `<image>`, with no newline after it.
    """
    order = random.Random(0)
    rows: list[Row] = []
    for record in vlguard.records(path, split):
        asks = vlguard.published_order(vlguard.questions(record), order)
        said = [turn for ask in asks for turn in (_turn("human", ask.question), _turn("gpt", ask.answer))]
        said[0]["value"] = MARK + said[0]["value"]
        kept = record.model_dump(exclude={"asks"})
        rows.append({**kept, "conversations": said})
    return json.dumps(rows, indent=2)
