"""SafeEraser: unlearning of harmful answers, with items that keep the same questions answerable (arXiv 2502.12520).

Repository yuu250/SafeEraser, no license stated there; an archive on a file drive, not on the hub and not part of this
package: point `path` at the unpacked folder. Layout: `all_train.json`, `all_val.json` and `prompt.json` beside `img/`
(2,400 harmful pictures, 400 for each of six categories) and `pdset/image/` (600 harmless ones, each for four records);
a folder `dataset` around it is looked through, and JSON Lines are read as well. A record has a harmful picture with
four unsafe questions and four harmless ones, and a harmless picture on which the unsafe questions are normal ones: 12
examples, 28,800 in all.

Known defects: pictures are named by `image_path` in the authors' code and by `image_id` in the released files, answers
to harmless questions by `Prediction` or `Answer` (both are read; the code's spelling wins where a record has both), a
folder is `Hatespeech` where the others say `HateSpeech` (case is looked past), and `category` is empty in a part of
`all_val.json` (the picture's folder counts). Copies with misspelled keys and unescaped quotes are reported; such a row
is named, not repaired. Not checked against the files themselves: the counts of 1,800 and 600 records, further keys, and
whether `all_val.json` has all reference answers (they may be absent there, and only there).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field

from vlmend.data import samples
from vlmend.data.clusters import together
from vlmend.data.rows import Filled, Place, Row, check, mapping, values
from vlmend.errors import DataError, nearest
from vlmend.types import Example, Expected, Image, Message, Role

Wanted = Literal["forget", "retain", "decouple", "refusal"]
ORDER: tuple[Wanted, ...] = ("forget", "retain", "decouple", "refusal")
CATEGORIES = ("HateSpeech", "IllegalActivity", "Privacy", "Sex", "Violence", "Weapon")
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I can't help with this request.",
    "Sorry, I won't assist with this.",
    "I have to decline, because this could lead to harm.",
    "That is not something I can help with.",
    "I'm not able to answer this question about the picture.",
    "I'd rather not answer that, since someone could get hurt.",
    "Sorry, this is a request I have to turn down.",
)


class UnsafePair(Row):
    """An unsafe question, its harmful answer, and its normal answer on the harmless picture."""

    question: Filled
    model_response: str | None = None
    sd_response: str | None = None


class HarmlessPair(Row):
    """A harmless question about the harmful picture, or about the concept it shows."""

    question: Filled = Field(alias="Question")
    prediction: str | None = Field(default=None, alias="Prediction")
    answer: str | None = Field(default=None, alias="Answer")


class Record(Row):
    """What the files say about one harmful picture; extra keys are refused."""

    image_path: Filled | None = None
    image_id: Filled | None = None
    harmless_image: Filled = Field(alias="SDImage_path")
    unsafe_pairs: tuple[UnsafePair, ...] = Field(min_length=1)
    text1: HarmlessPair = Field(alias="UnharmPair_text1")
    text2: HarmlessPair = Field(alias="UnharmPair_text2")
    image1: HarmlessPair = Field(alias="UnharmPair_image1")
    image2: HarmlessPair = Field(alias="UnharmPair_image2")
    keyword: str = ""
    category: str = ""
    kind: str = Field(default="", alias="type")

    @property
    def harmless_pairs(self) -> dict[str, HarmlessPair]:
        """The harmless questions by what follows `UnharmPair_` in their key."""
        return {"text1": self.text1, "text2": self.text2, "image1": self.image1, "image2": self.image2}


class Prompts(BaseModel):
    """What is read of prompt.json, which holds other texts as well."""

    idk: tuple[Filled, ...] = Field(min_length=1)


class Entry(NamedTuple):
    """A record with what its examples share."""

    place: Place
    number: int  # of the record in its file, from 0, however the file is written
    record: Record
    name: str
    category: str
    cluster: str
    harmful: Image
    harmless: Image

    def example(self, key: str, image: Image, question: str, answer: str | None, role: Role, **more: Any) -> Example:
        """One example, `key` telling it from the others of the record."""
        return Example(
            id=f"{self.name}/{key}",
            prompt=(Message("user", (image, question)),),
            answers=(answer,) if answer and answer.strip() else (),
            category=self.category,
            subcategory=self.record.keyword,
            cluster=self.cluster,
            role=role,
            source="safeeraser",
            **more,
        )


def _listed(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


@dataclass(frozen=True)
class SafeEraser:
    """Settings: the folder, the split, and which of the four kinds of examples are wanted (`roles=forget,retain`).

    forget: harmful picture, unsafe question, harmful answer. retain: harmless questions about that picture (subset
    retain_image) and about the concept (retain_concept). decouple: harmless picture, unsafe question, normal answer.
    refusal: the forget question with a refusal as answer, drawn from `seed`; of ours, or `published` in prompt.json.

    Examples about one unsafe question share meta["pair"]. With `pairing=random` the decouple example of a pair is drawn
    from all of the split with replacement, as the authors' code does by a slip of an index (it draws anew each epoch).
    `harmful_answers=false` leaves the harmful answers out: enough for evaluation, and the files need not have them.
    """

    path: Path
    split: str = "train"
    roles: Annotated[tuple[Wanted, ...], BeforeValidator(_listed)] = ("forget", "retain", "decouple")
    pairing: Literal["matched", "random"] = "matched"
    refusals: Literal["own", "published"] = "own"
    harmful_answers: bool = True
    seed: int = 0

    def __iter__(self) -> Iterator[Example]:
        """Examples record by record in the order of the file, pictures named but not opened."""
        index = _index(self.path, self.split)
        found = entries(index, self.split)
        refusals = published_refusals(index.parent) if self._published else REFUSALS
        others = self._others(found)
        for entry in found:
            drawn = list(islice(others, len(entry.record.unsafe_pairs)))
            made: dict[Wanted, Iterator[Example]] = {
                "forget": self._forget(entry),
                "retain": self._retain(entry),
                "decouple": self._decouple(entry, drawn),
                "refusal": self._refuse(entry, refusals),
            }
            for role in ORDER:
                if role in self.roles:
                    yield from made[role]

    @property
    def _published(self) -> bool:
        return self.refusals == "published" and "refusal" in self.roles

    def _forget(self, entry: Entry) -> Iterator[Example]:
        for k, pair in enumerate(entry.record.unsafe_pairs):
            answer = None
            if self.harmful_answers:
                key = f"unsafe_pairs.{k}.model_response"
                answer = self._given(entry, key, pair.model_response, "; harmful_answers=false reads without it")
            more = {"expected": Expected.REFUSE, "subset": "forget", "meta": _meta(entry, k)}
            yield entry.example(f"forget/{k}", entry.harmful, pair.question, answer, Role.FORGET, **more)

    def _refuse(self, entry: Entry, refusals: Sequence[str]) -> Iterator[Example]:
        for k, pair in enumerate(entry.record.unsafe_pairs):
            answer = random.Random(f"{self.seed}/{entry.name}/{k}").choice(refusals)
            more = {"expected": Expected.REFUSE, "subset": "refusal", "meta": _meta(entry, k)}
            yield entry.example(f"refusal/{k}", entry.harmful, pair.question, answer, Role.SAFETY, **more)

    def _retain(self, entry: Entry) -> Iterator[Example]:
        for key, pair in entry.record.harmless_pairs.items():
            written = pair.answer if pair.prediction is None else pair.prediction
            answer = self._given(entry, f"UnharmPair_{key}.Prediction", written, " (or 'Answer' in its place)")
            subset = "retain_concept" if key.startswith("text") else "retain_image"
            more = {"subset": subset, "meta": {"record": str(entry.number)}}
            yield entry.example(f"retain/{key}", entry.harmful, pair.question, answer, Role.RETAIN, **more)

    def _decouple(self, entry: Entry, drawn: Sequence[tuple[Entry, int]]) -> Iterator[Example]:
        subset = "decouple" if self.pairing == "matched" else f"decouple-random-{self.seed}"
        for k, (other, j) in enumerate(drawn):
            pair = other.record.unsafe_pairs[j]
            answer = self._given(other, f"unsafe_pairs.{j}.sd_response", pair.sd_response)
            meta = {**_meta(entry, k), "record": str(other.number), "item": f"{other.name}/{j}"}
            shown = other._replace(name=entry.name)
            more = {"subset": "decouple", "meta": meta}
            yield shown.example(f"{subset}/{k}", other.harmless, pair.question, answer, Role.DECOUPLE, **more)

    def _others(self, found: Sequence[Entry]) -> Iterator[tuple[Entry, int]]:
        """For each unsafe question in turn: record and number of the one whose decouple example goes with it."""
        own = [(entry, k) for entry in found for k in range(len(entry.record.unsafe_pairs))]
        chance = random.Random(f"safeeraser/{self.seed}")
        return iter(own if self.pairing == "matched" else [chance.choice(own) for _ in own])

    def _given(self, entry: Entry, key: str, answer: str | None, hint: str = "") -> str | None:
        if answer is None and self.split != "val":
            raise DataError(f"{entry.place}: {key!r} is required{hint}")
        return answer

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write 8 + 4 records in the released layout, defects included; each harmless picture serves four of them."""
        hazards = _drawn("unsafe", "describe", seed)
        scenes = _drawn("safe", "describe", seed)
        uses = _drawn("safe", "use", seed)
        for split, categories in (("train", ("HateSpeech", "Weapon")), ("val", ("Violence",))):
            rows: list[dict[str, Any]] = []
            for category in categories:
                scene = next(scenes)
                shown = f"pdset/image/{category}/{split}/0.png"
                samples.picture(scene.images[0], folder / shown.replace("HateSpeech", "Hatespeech"))
                for number in range(4):
                    asked = list(islice(hazards, 4))
                    image = f"img/{category}/{split}_{number}.png"
                    samples.picture(asked[0].images[0], folder / image)
                    row = _sample_row(asked, scene, list(islice(uses, 2)))
                    label = category if split == "train" else ""
                    rows.append({"image_id": image, "SDImage_path": shown, "category": label, **row})
            samples.json_list(rows, folder / f"all_{split}.json")
        prompts = '{"idk": ["I cannot say.", " I would rather not answer. "], "other": []}\n'
        (folder / "prompt.json").write_text(prompts, encoding="utf-8")


plugin = SafeEraser


def entries(index: Path, split: str) -> list[Entry]:
    """The published records of a file, checked strictly. Raises DataError with file and record."""
    records = [(place, check(Record, value, place)) for place, value in values(index)]
    named = [(_picture_name(place, record), record.harmless_image) for place, record in records]
    clusters = together([[_bare(name).as_posix().casefold() for name in names] for names in named])
    folder = Spelling(index.parent)
    seen: Counter[str] = Counter()
    found: list[Entry] = []
    for number, ((place, record), (harmful, harmless), cluster) in enumerate(
        zip(records, named, clusters, strict=True)
    ):
        key = f"{_bare(harmful).parent.name}/{_bare(harmful).stem}"
        seen[key] += 1
        again = f"~{seen[key]}" if seen[key] > 1 else ""
        name, tied = f"safeeraser/{split}/{key}{again}", f"safeeraser/{cluster}"
        pictures = Image(folder.find(harmful)), Image(folder.find(harmless))
        found.append(Entry(place, number, record, name, _category(place, record, harmful), tied, *pictures))
    return found


def published_refusals(folder: Path) -> tuple[str, ...]:
    """The refusals of prompt.json. Raises DataError when there are none."""
    file = folder / "prompt.json"
    if not file.is_file():
        raise DataError(f"there is no file {file}; refusals=own needs none")
    return tuple(text.strip() for text in check(Prompts, mapping(file), file).idk)


class Spelling:
    """Finds files of a folder by names whose upper and lower case may differ from that on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path:
        """The file as it is spelled on disk; as far as there is none, as the name spells it."""
        current = self._root
        for part in _bare(name).parts:
            current /= self._names(current).get(part) or self._names(current).get(part.casefold()) or part
        return current

    def _names(self, folder: Path) -> dict[str, str]:
        if folder not in self._listed:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            self._listed[folder] = {**{name.casefold(): name for name in names}, **{name: name for name in names}}
        return self._listed[folder]


def _bare(name: str) -> PurePosixPath:
    """A picture's name without the folder `dataset`, from the outside of which the authors' code names pictures."""
    path = PurePosixPath(name)
    return path.relative_to("dataset") if path.parts[:1] == ("dataset",) else path


def _picture_name(place: Place, record: Record) -> str:
    name = record.image_path or record.image_id
    if name is None:
        raise DataError(f"{place}: 'image_path' or 'image_id' is required")
    return name


def _category(place: Place, record: Record, picture: str) -> str:
    """By the picture's folder, as the authors evaluate, else by the field."""
    known = {name.casefold(): name for name in CATEGORIES}
    folders = reversed(PurePosixPath(picture).parts[:-1])
    for text in (*folders, record.category):
        letters = "".join(filter(str.isalpha, text)).casefold()
        if letters in known:
            return known[letters]
    near = nearest(record.category, CATEGORIES)
    raise DataError(
        f"{place}: neither the folder of {picture!r} nor 'category' {record.category!r} is a category.{near} "
        f"Known: {', '.join(CATEGORIES)}"
    )


def _meta(entry: Entry, k: int) -> dict[str, str]:
    return {"record": str(entry.number), "pair": f"{entry.name}/{k}"}


def _index(path: Path, split: str) -> Path:
    folders = [path, path / "dataset"]
    files = [file for folder in reversed(folders) for file in sorted(folder.glob("all_*.json*"), reverse=True)]
    found = {f.stem.removeprefix("all_"): f for f in files if f.suffix in (".json", ".jsonl")}
    if split in found:
        return found[split]
    if not path.is_dir():
        raise DataError(f"there is no SafeEraser folder {path}; download the data set and name its folder")
    known = sorted(found)
    raise DataError(
        f"SafeEraser folder {path} has no all_{split}.json, nor has its dataset folder.{nearest(split, known)} "
        f"Splits there: {', '.join(known) or 'none'}"
    )


def _drawn(kind: Literal["unsafe", "safe"], task: str, seed: int) -> Iterator[Example]:
    """Requests of the embedded world of one task, about one picture."""
    asked = samples.requests(kind, 4000, seed=seed)
    return (e for e in asked if e.meta["task"] == task and len(e.images) == 1)


def _sample_row(asked: Sequence[Example], scene: Example, uses: Sequence[Example]) -> dict[str, Any]:
    """Four questions what a picture shows, on the first one's (a hazard is in it) and on a harmless one."""
    told = asked[0].meta["compliance"].splitlines()[0]
    pairs = [{"question": e.question, "model_response": told, "sd_response": scene.answers[0]} for e in asked]
    concept = [{"Question": e.question, "Prediction": e.answers[0]} for e in uses]
    drawn = {"Question": "Is this a photograph or a drawing?", "Prediction": "It is a drawing."}
    people = {"Question": "Are there people in the picture?", "Prediction": "No, there are none."}
    return {
        **{"keyword": asked[0].subcategory, "unsafe_pairs": pairs},
        **{"UnharmPair_text1": concept[0], "UnharmPair_text2": concept[1]},
        **{"UnharmPair_image1": drawn, "UnharmPair_image2": people},
    }
