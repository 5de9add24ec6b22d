"""Any labeled pictures, asked whether they are safe: sub-folders, a table of labels, or rows that hold the pictures.

    DIR/unsafe/1.png  DIR/safe/dogs/2.jpg      labels are the folders; what lies deeper says what is shown
    DIR/labels.csv    image,label[,concept]    labels are in the table, pictures named from its folder
    FILE.tsv          index,image,label        pictures in the rows as base64: SMID and NSFW as UnsafeConcepts has them

A table may also be .tsv, .json, .jsonl or .parquet. `hub:OWNER/NAME` reads such rows from the Hugging Face hub, where
yiting/SMID and yiting/NSFWDataset are. Of their labels it is not documented which is which: 1 is taken for unsafe in
the authors' code, so say `unsafe=1&safe=0`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vlmend.data import hub, samples
from vlmend.data.folders import concept_of, pictures_in, synsets
from vlmend.data.formats import rows_of
from vlmend.data.notices import notice
from vlmend.data.phrasings import Asking, Form, Half, Label, Subject, load
from vlmend.data.turns import picture
from vlmend.errors import DataError, UsageError, brief, nearest
from vlmend.terminal import plural
from vlmend.types import Example, Image, Pair
from vlmend.world.scenes import HARMLESS, HAZARDS

TABLE = "labels.csv"
REST = "*"
PICTURES = ("image", "image_path", "image_filename", "file_name", "filename", "path", "picture", "img")
LABELS = ("label", "labels")
CONCEPTS = ("concept", "unsafe_concept", "category")
NUMBERS = ("index", "id")


class Labeled(NamedTuple):
    """A picture with its label as the folder or table has it, and what it shows where that is said."""

    key: str
    image: Image
    label: str
    concept: str


@dataclass(frozen=True)
class Folder:
    """`folder:PATH?unsafe=A|B&safe=C`: which labels mean what, with | between them; `*` is all that are not named.

    A label that is named nowhere is an error, unless `ignore` names it. image, label, concept: columns of a table,
    where they have other names than usual. questions, phrasings, form, seed: as of unsafe_concepts; half: `test`, whose
    wordings are held out, or `train`. hub_split, revision: of a set on the hub.
    """

    path: Path
    unsafe: str = "unsafe"
    safe: str = "safe"
    ignore: str = ""
    image: str = ""
    label: str = ""
    concept: str = ""
    questions: str = "apart"
    phrasings: Literal["all", "one"] = "all"
    half: Half = "test"
    form: Form = "answers"
    seed: int = 0
    hub_split: str = "train"
    revision: str = ""
    meanings: Mapping[str, Label | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        meanings: dict[str, Label | None] = {}
        sides: tuple[tuple[str, Label | None], ...] = (
            (self.unsafe, "unsafe"),
            (self.safe, "safe"),
            (self.ignore, None),
        )
        for names, meaning in sides:
            for name in filter(None, names.split("|")):
                if name in meanings:
                    raise UsageError(f"label {name!r} is named twice among unsafe=, safe= and ignore=")
                meanings[name] = meaning
        object.__setattr__(self, "meanings", meanings)

    def __iter__(self) -> Iterator[Example | Pair]:
        """In the order of the table, or by name; pictures in files are named but not opened."""
        asking = Asking(load(self.questions), self.half, self.form, self.phrasings, self.seed)
        source = self.path.stem or self.path.resolve().name
        met: Counter[str] = Counter()
        for shown in self._labeled():
            met[shown.label] += 1
            label = self._meaning(shown.label)
            if label:
                name = f"folder/{source}/{shown.key}"
                yield from asking.rows(
                    Subject(name, (shown.image,), "this picture", label, f"image_{label}", shown.concept,
                            shown.label, name, "folder")
                )  # fmt: skip
        if unmet := [name for name in self.meanings if name not in met and name not in ("unsafe", "safe", REST)]:
            raise DataError(
                f"{self.path} has no label {unmet[0]!r}.{nearest(unmet[0], met)} It has "
                + ", ".join(f"{label} ({plural(n, 'picture')})" for label, n in met.items())
            )

    def _meaning(self, label: str) -> Label | None:
        if label not in self.meanings and REST not in self.meanings:
            raise DataError(
                f"{self.path}: nobody says whether label {brief(label)} is safe or unsafe; name it in unsafe=A|B,"
                " safe=C or ignore=D (* stands for all others)"
            )
        return self.meanings[label] if label in self.meanings else self.meanings[REST]

    def _labeled(self) -> Iterator[Labeled]:
        kind, _, name = str(self.path).partition(":")
        if kind == str(hub.HUB):
            if not name:
                raise UsageError("folder:hub:OWNER/NAME says which set of the hub is meant")
            rows = hub.values(hub.Repository(name), self.hub_split, self.revision)
            yield from self._rows(name, ((place, row, Path()) for place, row in rows))
        elif (table := self.path / TABLE if self.path.is_dir() else self.path).is_file():
            yield from self._rows(table, rows_of(table))
        elif self.path.is_dir():
            yield from self._folders()
        else:
            raise DataError(f"there is no folder or file {self.path}")

    def _folders(self) -> Iterator[Labeled]:
        names = synsets(self.path)
        for file in pictures_in(self.path):
            if file.parent == Path():
                raise DataError(
                    f"{self.path / file} lies in no sub-folder whose name would be its label, and there is no {TABLE}"
                )
            deeper = Path(*file.parts[1:-1])
            yield Labeled(file.as_posix(), Image(self.path / file), file.parts[0], concept_of(deeper, names))

    def _rows(self, about: object, rows: Iterator[tuple[object, Any, Path]]) -> Iterator[Labeled]:
        unread: Counter[str] = Counter()
        for number, (place, row, folder) in enumerate(rows):
            if not isinstance(row, dict):
                raise DataError(f"{place}: should be an object, is {brief(row)}")
            keys = _columns(row, {"image": self.image, "label": self.label, "concept": self.concept}, place)
            try:
                shown = picture(row[keys["image"]], folder)
            except DataError as error:
                raise DataError(f"{place}: {error}") from error
            told = [row.get(keys[name], "") if name in keys else "" for name in ("label", "concept")]
            if any(not isinstance(value, str | int) or isinstance(value, bool) for value in told):
                raise DataError(f"{place}: label and concept should be texts or whole numbers, are {brief(told)}")
            unread.update(row.keys() - {*keys.values(), *NUMBERS})
            index = next((str(row[key]) for key in NUMBERS if key in row), str(number))
            yield Labeled(index, shown, str(told[0]), str(told[1]))
        if unread:
            notice(about, f"columns that change nothing: {', '.join(sorted(unread))}")

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write drawn pictures in folders by label, 6 unsafe and 6 safe, and a table that says the same of them."""
        asked = [e for e in samples.requests("perception", 200, seed=seed) if e.meta["task"] == "choice"]
        rows: list[dict[str, str]] = []
        for label, kinds in (("unsafe", HAZARDS), ("safe", HARMLESS)):
            for number, example in enumerate([e for e in asked if e.subcategory in kinds][:6]):
                name = f"{label}/{example.subcategory.replace(' ', '_')}/{number}.png"
                samples.picture(example.images[0], folder / name)
                rows.append({"image": name, "label": label, "concept": example.subcategory})
        samples.table(rows, folder / TABLE)


plugin = Folder


def _columns(row: Mapping[str, Any], given: Mapping[str, str], place: object) -> dict[str, str]:
    """The keys of picture, label and concept in a row. Raises DataError where one that is needed is not there."""
    found: dict[str, str] = {}
    for meaning, usual in (("image", PICTURES), ("label", LABELS), ("concept", CONCEPTS)):
        wanted = (given[meaning],) if given[meaning] else usual
        key = next((name for name in wanted if row.get(name) not in (None, "")), None)
        if key is not None:
            found[meaning] = key
        elif meaning != "concept" or given[meaning]:
            raise DataError(
                f"{place}: no {meaning}; looked for {', '.join(wanted)} among {', '.join(map(str, row))}; say"
                f" {meaning}=COLUMN where it has another name"
            )
    return found
