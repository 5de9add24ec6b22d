"""Any data set on the Hugging Face hub by its id, or a local folder of parquet, JSON, JSON Lines or CSV files.

`hf:OWNER/NAME#SPLIT?revision=COMMIT` streams from the hub at a fixed commit; `hf:FOLDER#SPLIT` reads a folder that is
laid out as on the hub: `train.jsonl`, `data/train-00000-of-00002.parquet`, `train/…`. `vlmend.data.formats` says what
a row may hold; `map` says which columns mean what where they have other names. A column of pictures is taken as bytes.
What could not be checked: sets that need code of their own are refused by the `datasets` library, not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vlmend.data import formats, hub, samples
from vlmend.data.rows import kind_of
from vlmend.errors import DataError, nearest
from vlmend.types import Example, Pair, Role

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json")
SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation")
ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


@dataclass(frozen=True)
class Hf:
    """Settings: id or folder, split (default: train, or the only one a folder has), commit and configuration of a set
    on the hub, and how rows are read: `images`, `ids`, `role`, `map` and `placeholders`
    as for `jsonl`.
    """

    path: Path
    split: str = ""
    revision: str = ""
    config: str = ""
    images: Path | None = None
    ids: Literal["given", "row"] = "given"
    role: Role = Role.UTILITY
    map: str = ""
    placeholders: Literal["places", "text"] = "places"

    def __iter__(self) -> Iterator[Example | Pair]:
        """Examples or pairs in the order of the files; the first bad row raises DataError with its place."""
        local = self.path.exists()
        rows = self._local() if local else self._remote()
        base = self.path.resolve().name if local else self.path.as_posix()
        yield from formats.items(rows, formats.Options(base, self.ids, self.role, self.map, self.placeholders))

    def _local(self) -> Iterator[formats.Line]:
        folder = self.path / self.config if self.config else self.path
        for file in _files(folder, self.split):
            yield from formats.rows_of(file, self.images)

    def _remote(self) -> Iterator[formats.Line]:
        name = self.path.as_posix()
        if not ID.fullmatch(name) or not (self.revision or name.count("/") == 1):
            raise DataError(f"there is no folder {name}, and a data set on the hub has an id like owner/name")
        repository = hub.Repository(name, self.config or None)
        for place, value in hub.values(repository, self.split or "train", self.revision):
            yield place, value, self.images or Path()

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write train.jsonl and test.jsonl with 16 and 8 conversations, and their pictures."""
        for split, n in (("train", 8), ("test", 4)):
            requests = (samples.requests("safe", n, seed=seed), samples.requests("unsafe", n, seed=seed))
            rows: list[dict[str, Any]] = []
            for number, example in enumerate(example for two in zip(*requests, strict=True) for example in two):
                name = f"images/{split}_{number}.png"
                samples.picture(example.images[0], folder / name)
                asked = [{"type": "image"}, {"type": "text", "text": example.question}]
                said = [{"role": "user", "content": asked}, {"role": "assistant", "content": example.answers[0]}]
                labels = {"expected": example.expected, "subset": example.subset}
                rows.append({"id": f"{split}-{number}", "messages": said, "images": [name], **labels})
            samples.json_lines(rows, folder / f"{split}.jsonl")


plugin = Hf


def _files(folder: Path, split: str) -> list[Path]:
    """The files of one split; files that name no split are all of one. Raises DataError saying what there is."""
    if folder.is_file():
        return [folder]
    files = sorted(f for f in folder.rglob("*") if kind_of(f) in SUFFIXES and f.name not in ABOUT)
    files = [f for f in files if f.is_file() and not any(part.startswith(".") for part in f.relative_to(folder).parts)]
    if not files:
        raise DataError(f"{folder} holds no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} files")
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file, folder), []).append(file)
    if len(splits) == 1 and not split:
        return files
    if (split or "train") in splits:
        return splits[split or "train"]
    if split in ("", "train") and not set(splits) & set(SPLITS):
        return files
    raise DataError(
        f"{folder} has no split {split or 'train'!r}.{nearest(split or 'train', splits)} "
        f"Splits there: {', '.join(sorted(splits))}"
    )


def _split_of(file: Path, folder: Path) -> str:
    """`train` of train.jsonl, data/train-00000-of-00002.parquet, train_1.csv and train/rows.jsonl."""
    shard = SHARD.fullmatch(file.stem)
    if shard:
        return shard[1]
    above = [part for part in file.relative_to(folder).parts[:-1] if part in SPLITS]
    word = re.split(r"[-_.]", file.stem)[0]
    return above[-1] if above else word if word in SPLITS else file.stem
