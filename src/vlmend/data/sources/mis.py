"""MIS: questions about two pictures that are dangerous together, trained with reasons (arXiv 2501.18533).

Repository DripNowhy/MIS; on the hub Tuwhy/MIS_Train and Tuwhy/MIS_Test, both tagged Apache-2.0. The hub has the texts
as JSON and the pictures as archives, so `mis:hub#easy?revision=COMMIT&pictures=DIR` reads the texts there and names the
pictures in the folder where they were unpacked. On disk: `mis_easy.json`, `mis_hard.json` and `mis_real.json` (1,675,
510 and 100 records) beside `easy_image`, `hard_image` and `real_image`; `mis_train.json` (3,927 records) beside its
pictures; `path` is one of these folders or the one around both.

The answers of the train split describe both pictures, reason about the risk and end safely; test records have none. The
question carries the harm in train; in easy at least one picture does; in hard only text and relation do; real repeats
test questions with photographs. No record is to be answered, so over-refusal cannot be measured here.

Known defects: 14 subcategories and 2,185 records where the paper says 12 and 2,187; one subcategory is spelled in two
ways; `id` is missing from the card's list of fields; an earlier mis_train.json was replaced, so pin the revision. Not
checked against the files: the fields of mis_train.json (known from others' readers: `image`, `conversations`,
`category`, `sub_category`), how its questions mark the places of pictures, and how the archives are laid out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from vlmend.data import hub, samples
from vlmend.data.clusters import together
from vlmend.data.rows import Filled, Row, check, values
from vlmend.errors import DataError, nearest
from vlmend.types import Cell, Example, Expected, Image, Message, Part, Role

SPLITS = ("train", "easy", "hard", "real")
TRAIN, TEST = hub.Repository("Tuwhy/MIS_Train"), hub.Repository("Tuwhy/MIS_Test")
MARK = "<image>"
SORRY = "I'm sorry, but I can't help with that."


class Question(Row):
    """A record of a test split; extra keys are refused."""

    id: int | Filled | None = None
    question: Filled
    category: str
    sub_category: str
    image_path1: Filled
    image_path2: Filled

    @property
    def pictures(self) -> tuple[str, str]:
        """Names of the two pictures, in the order they are shown."""
        return self.image_path1, self.image_path2


class Turn(Row):
    """What one side says."""

    speaker: Literal["human", "gpt"] = Field(alias="from")
    value: Filled


class Conversation(Row):
    """A record of the train split; extra keys are refused."""

    id: int | Filled | None = None
    image: tuple[Filled, Filled]
    conversations: tuple[Turn, ...] = Field(min_length=2)
    category: str = ""
    sub_category: str = ""

    @property
    def pictures(self) -> tuple[str, str]:
        """Names of the two pictures, in the order they are shown."""
        return self.image


class Entry(NamedTuple):
    """A record and where it stands."""

    place: object
    number: int
    record: Question | Conversation


@dataclass(frozen=True)
class Mis:
    """Settings: the folder or `hub`, the split (train, easy, hard, real), and for the hub the commit.

    `pictures` is the folder that pictures are named from; without it they lie beside the records. Two settings are
    controls of the paper: `answers=sorry` puts a sentence of refusal before each answer (there GPT-4o rewrote them),
    `shows=text` leaves the pictures out.
    """

    path: Path
    split: str = "train"
    revision: str = ""
    pictures: Path | None = None
    answers: Literal["published", "sorry"] = "published"
    shows: Literal["pictures", "text"] = "pictures"

    cells: ClassVar[Mapping[str, Cell]] = {  # as its authors sorted what they had made
        "train": Cell("", "unsafe", "unsafe"),
        "easy": Cell("unsafe", "safe", "unsafe"),
        "hard": Cell("safe", "safe", "unsafe"),
    }

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file, both pictures named but not opened, in order and before the question."""
        entries, folder = self._entries()
        root = self.pictures or _picture_root(folder, {e.record.pictures[0].partition("/")[0] for e in entries})
        clusters = together([[str(PurePosixPath(name)) for name in e.record.pictures] for e in entries])
        seen: Counter[str] = Counter()
        for entry, cluster in zip(entries, clusters, strict=True):
            key = str(entry.number if entry.record.id is None else entry.record.id)
            seen[key] += 1
            again = f"~{seen[key]}" if seen[key] > 1 else ""
            prompt, answers = _asked(entry, [Image(root / name) for name in entry.record.pictures])
            if self.shows == "text":
                prompt = tuple(replace(message, parts=(message.text,)) for message in prompt)
            if self.answers == "sorry":
                answers = tuple(f"{SORRY} {answer}" for answer in answers)
            yield Example(
                id=f"mis/{self.split}/{key}{again}",
                prompt=prompt,
                answers=answers,
                expected=Expected.REASON,
                subset=self.split,
                category=entry.record.category,
                subcategory=entry.record.sub_category,
                cluster=f"mis/{self.split}/{cluster}",
                role=Role.SAFETY,
                source="mis",
                meta={"record": str(entry.number)},
            )

    def _entries(self) -> tuple[list[Entry], Path]:
        """The records, and the folder they came from."""
        kind = Conversation if self.split == "train" else Question
        if self.path != hub.HUB:
            file = _index(self.path, self.split)
            rows = enumerate(values(file))
            return [Entry(place, n, check(kind, value, place)) for n, (place, value) in rows], file.parent
        if self.split not in SPLITS:
            raise DataError(f"MIS has no split {self.split!r}.{nearest(self.split, SPLITS)} It has {', '.join(SPLITS)}")
        repository = TRAIN if self.split == "train" else TEST
        found = hub.read(repository, self.split, self.revision, kind)
        return [Entry(f"{repository.id} {self.split} row {n}", n, record) for n, record in found], self.path

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 8 + 6 + 4 + 2 records in the published layout; a jar and a flame stand for what is dangerous."""
        pairs = (e for e in samples.requests("unsafe", 100, seed=seed) if e.subset == "pair")
        for split, n in (("train", 8), ("easy", 6), ("hard", 4), ("real", 2)):
            place = folder / ("mis_train" if split == "train" else "mis_test")
            rows: list[dict[str, Any]] = []
            for number, shown in enumerate(islice(pairs, n), start=1):
                top = "images" if split == "train" else f"{split}_image"
                names = [f"{top}/{number}/object{i}.png" for i in (1, 2)]
                for image, name in zip(shown.images, names, strict=True):
                    samples.picture(image, place / name)
                labels = {"category": "hazard", "sub_category": shown.subcategory}
                rows.append({**_sample_row(split, number, names, shown), **labels})
            samples.json_list(rows, place / f"mis_{split}.json")


plugin = Mis


def _asked(entry: Entry, pictures: list[Image]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """What is asked about the two pictures, and the reference answer where there is one."""
    if isinstance(entry.record, Question):
        return (Message("user", (*pictures, entry.record.question)),), ()
    turns = entry.record.conversations
    if any(turn.speaker != ("human", "gpt")[i % 2] for i, turn in enumerate(turns)) or len(turns) % 2:
        raise DataError(f"{entry.place}: 'conversations' should alternate between human and gpt and end with gpt")
    *asked, last = turns
    return tuple(_prompt(entry, asked, pictures)), (last.value,)


def _prompt(entry: Entry, turns: Sequence[Turn], pictures: list[Image]) -> list[Message]:
    """The turns with the pictures where the text marks them; before the first question if it marks none."""
    marks = sum(turn.value.count(MARK) for turn in turns)
    if marks not in (0, len(pictures)):
        raise DataError(f"{entry.place}: 'conversations' marks {marks} places for {len(pictures)} pictures")
    left = list(pictures)
    messages: list[Message] = []
    for turn in turns:
        parts: list[Part] = [] if marks or messages else [*left]
        for i, text in enumerate(turn.value.split(MARK)):
            if i:
                parts.append(left.pop(0))
            if text.strip():
                parts.append(text.strip())
        messages.append(Message("user" if turn.speaker == "human" else "assistant", tuple(parts)))
    if not messages[-1].text:
        raise DataError(f"{entry.place}: 'conversations.{len(turns) - 1}.value' asks nothing")
    return messages


def _index(path: Path, split: str) -> Path:
    files = [*sorted(path.glob("*/mis_*.json")), *sorted(path.glob("mis_*.json"))]
    found = {file.stem.removeprefix("mis_"): file for file in files}
    if split in found:
        return found[split]
    if not path.is_dir():
        raise DataError(f"there is no MIS folder {path}; download the data set and name its folder")
    known = sorted(found)
    raise DataError(
        f"MIS folder {path} has no mis_{split}.json, nor has a folder in it.{nearest(split, known)} "
        f"Splits there: {', '.join(known) or 'none'}"
    )


def _picture_root(folder: Path, tops: set[str]) -> Path:
    """The folder of the records, or where an archive may have been unpacked: the first that has any of the pictures."""
    places = [folder, folder / "images", folder.parent]
    return next((place for place in places if any((place / top).exists() for top in tops)), folder)


def _sample_row(split: str, number: int, names: list[str], shown: Example) -> dict[str, Any]:
    if split != "train":
        return {"id": number, "question": shown.question, "image_path1": names[0], "image_path2": names[1]}
    one, _, other = shown.subcategory.partition(" ")
    why = shown.answers[0].partition(". ")[2]  # what follows the refusal that the world's own answers begin with
    reasons = f"One picture shows a {one}, the other a {other}. {why} It is best to keep them apart."
    said = [f"{MARK}\n{MARK}\n{shown.question}", reasons]
    turns = [{"from": who, "value": text} for who, text in zip(("human", "gpt"), said, strict=True)]
    return {"image": names, "conversations": turns}
