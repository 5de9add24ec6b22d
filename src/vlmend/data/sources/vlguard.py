"""VLGuard: 3,000 labeled pictures, safe and unsafe, with instructions to answer and to refuse (arXiv 2402.02207).

Origin: github.com/ys-zong/VLGuard and ys-zong/VLGuard on the Hugging Face hub (tagged MIT, for research use; the
pictures come from five sets with terms of their own). The metadata of both splits are public. The hub has them and
archives of pictures, not rows with pictures: `hf download ys-zong/VLGuard --repo-type dataset`, unpack train.zip and
test.zip, and point `path` at the folder. Nothing of it is part of this package.

Layout: `train.json` (2,000 records) and `test.json` (1,000), in the folder or in its `data`, beside the folders of
pictures `train/` and `test/`. A record has id, image, safe, instr-resp and, where `safe` is false, harmful_category and
harmful_subcategory. `safe` speaks of the picture. A safe picture has two questions, a harmless one to answer
(`safe_safe`: 977 and 558) and a harmful one to refuse (`safe_unsafe`: as many); an unsafe picture has one instruction,
to refuse (`unsafe`: 1,023 and 442). Four categories, nine subcategories.

A file with the same layout and another name is a split of that name. An id that occurs again with the same picture is
another *shot* of one request, as in the published attack files (Safety Mirage's test_what_3shot.json rewrites each of
442 requests three times): told apart by `~2`, `~3`, and counted once by rates of any shot.

Known defects: in train an id and a picture occur twice, 16 instructions are N/A and
the like, 69 answers are one sentence with a slip in it, a few safe pictures are blank; some of the pictures and
instructions of test are in train, too. The paper's text has 977 and 1,023 the other way round. The first words of the
instructions give the label away. `vlmend data check` tells all of these.

Could not be checked, for want of the files: test.json, and the pictures.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, check, values
from vlmend.errors import DataError, nearest
from vlmend.types import Cell, Example, Expected, Image, Message, Role


class Harmless(Row):
    """The question about a safe picture that is to be answered."""

    safe_instruction: str
    response: str


class Harmful(Row):
    """The question about a safe picture that is to be refused."""

    unsafe_instruction: str
    response: str


class Instruction(Row):
    """The question about an unsafe picture."""

    instruction: str
    response: str


class SafePicture(Row):
    """A record with two questions; extra keys are refused."""

    id: Filled
    image: Filled
    safe: Literal[True]
    asks: tuple[Harmless, Harmful] = Field(alias="instr-resp")


class UnsafePicture(Row):
    """A record with one instruction and what is wrong with the picture."""

    id: Filled
    image: Filled
    safe: Literal[False]
    harmful_category: Filled
    harmful_subcategory: Filled
    asks: tuple[Instruction] = Field(alias="instr-resp")


Record = SafePicture | UnsafePicture


class Ask(NamedTuple):
    """One question with its reference answer."""

    turn: int
    subset: str
    question: str
    answer: str

    @property
    def expected(self) -> Expected:
        """Only the harmless question about a safe picture is to be answered."""
        return Expected.ANSWER if self.subset == "safe_safe" else Expected.REFUSE


@dataclass(frozen=True)
class VLGuard:
    """Settings: the folder, the split, and how the two questions of a safe picture are asked.

    `single`: each question is an example of its own, as models are evaluated. `published`: both make one conversation
    in the authors' shuffled order, so the second is asked after the first one's answer.
    """

    path: Path
    split: str = "train"
    turns: Literal["single", "published"] = "single"

    cells: ClassVar[Mapping[str, Cell]] = {
        "unsafe": Cell("unsafe", "", "unsafe"),
        "safe_unsafe": Cell("safe", "unsafe", "unsafe"),
        "safe_safe": Cell("safe", "safe", "safe"),
    }

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file, pictures named but not opened."""
        entries = records(self.path, self.split)
        root = _picture_root(self.path, self.split, {entry.image.partition("/")[0] for entry in entries})
        order = random.Random(0)
        seen: Counter[str] = Counter()
        shots = Counter((entry.id, entry.image) for entry in entries)
        for index, entry in enumerate(entries):
            seen[entry.id] += 1
            again = f"~{seen[entry.id]}" if seen[entry.id] > 1 else ""
            name = f"vlguard/{self.split}/{entry.id}{again}"
            shot = f"vlguard/{self.split}/{entry.id}/{entry.image}" if shots[entry.id, entry.image] > 1 else ""
            asks = questions(entry)
            if self.turns == "published":
                found = [_conversation(f"{name}/published", published_order(asks, order), entry, index, root)]
            else:
                found = [_conversation(f"{name}/{ask.turn}", [ask], entry, index, root) for ask in asks]
            yield from (_shot(example, shot) if shot else example for example in found)

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 24 records in the published layout: half of the pictures safe, with two questions each."""
        for split, n in (("train", 16), ("test", 8)):
            unsafe = samples.requests("unsafe", 4 * n, seed=seed)
            safe = samples.requests("safe", n, seed=seed)
            hazards = (e for e in unsafe if e.subset == "unsafe")
            asks = (e for e in samples.requests("unsafe", 4 * n, seed=seed) if e.subset == "safe_unsafe")
            rows: list[dict[str, Any]] = []
            for number in range(n // 2):
                shown, harmful, harmless = next(hazards), next(asks), next(safe)
                names = f"world/unsafe_{number}.png", f"world/safe_{number}.png"
                said = [
                    {"safe_instruction": harmless.question, "response": harmless.answers[0]},
                    {"unsafe_instruction": harmful.question, "response": harmful.answers[0]},
                ]
                rows += [
                    {
                        **{"id": f"{split}-{2 * number}", "image": names[0], "safe": False},
                        **{"harmful_category": "hazard", "harmful_subcategory": shown.subcategory},
                        "instr-resp": [{"instruction": shown.question, "response": shown.answers[0]}],
                    },
                    {"id": f"{split}-{2 * number + 1}", "image": names[1], "safe": True, "instr-resp": said},
                ]
                samples.picture(shown.images[0], folder / split / names[0])
                samples.picture(harmless.images[0], folder / split / names[1])
            samples.json_list(rows, folder / f"{split}.json")


plugin = VLGuard


def records(path: Path, split: str) -> list[Record]:
    """The published records of one split, checked strictly. Raises DataError with file and record."""
    return [_record(place, value) for place, value in values(_index(path, split))]


def _record(place: object, value: object) -> Record:
    unsafe = isinstance(value, dict) and value.get("safe") is False
    return check(UnsafePicture if unsafe else SafePicture, value, place)


def questions(entry: Record) -> list[Ask]:
    """The questions of a record, in the order of the file."""
    if isinstance(entry, UnsafePicture):
        return [Ask(0, "unsafe", entry.asks[0].instruction, entry.asks[0].response)]
    harmless, harmful = entry.asks
    return [
        Ask(0, "safe_safe", harmless.safe_instruction, harmless.response),
        Ask(1, "safe_unsafe", harmful.unsafe_instruction, harmful.response),
    ]


def published_order(asks: list[Ask], order: random.Random) -> list[Ask]:
    """The authors' order: one generator, seeded with 0, shuffles the two questions of each safe picture in turn."""
    asks = list(asks)
    if len(asks) > 1:
        order.shuffle(asks)
    return asks


def _conversation(name: str, asks: list[Ask], entry: Record, index: int, root: Path) -> Example:
    *earlier, last = asks
    picture = Image(root / entry.image)
    messages: list[Message] = []
    for ask in earlier:
        messages += [Message("user", (ask.question,)), Message("assistant", (ask.answer,))]
    messages.append(Message("user", (last.question,)))
    messages[0] = Message("user", (picture, *messages[0].parts))
    harm = (entry.harmful_category, entry.harmful_subcategory) if isinstance(entry, UnsafePicture) else ("", "")
    return Example(
        id=name,
        prompt=tuple(messages),
        answers=(last.answer,) if last.answer.strip() else (),
        expected=last.expected,
        subset=last.subset,
        category=harm[0],
        subcategory=harm[1],
        cluster=f"vlguard/{entry.image}",
        role=Role.SAFETY,
        source="vlguard",
        meta={"record": str(index), "origin": entry.image.partition("/")[0]},
    )


def _shot(example: Example, request: str) -> Example:
    """The example as one of several ways to ask for the same thing."""
    turn = example.id.rpartition("/")[2]
    return replace(example, meta={**example.meta, "shot_of": f"{request}/{turn}"})


def _index(path: Path, split: str) -> Path:
    folders = [path, path / "data"]
    found = {f.stem: f for folder in reversed(folders) for f in sorted(folder.glob("*.json"))}
    if split in found:
        return found[split]
    if not path.is_dir():
        raise DataError(
            f"there is no VLGuard folder {path}; ask for access at https://huggingface.co/datasets/ys-zong/VLGuard "
            "and name the folder that it is unpacked to"
        )
    known = sorted(found)
    raise DataError(
        f"VLGuard folder {path} has no {split}.json, nor has its data folder.{nearest(split, known)} "
        f"Splits there: {', '.join(known) or 'none'}"
    )


def _picture_root(path: Path, split: str, tops: set[str]) -> Path:
    """The usual places, in order; the first that has any of the picture folders, else where the archive puts them.

    A file of rewritten instructions, such as test_what_3shot.json, is about the pictures of the split it begins with.
    """
    names = dict.fromkeys((split, split.partition("_")[0]))
    places = [
        place for name in names for place in (path / name, path / "data" / name, path / name / name, path.parent / name)
    ]
    places[3:3] = [path, path / "images"]
    return next((place for place in places if any((place / top).is_dir() for top in tops)), path / list(names)[-1])
