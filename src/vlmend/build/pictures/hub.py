"""The pictures of a data set on the Hugging Face hub, streamed at a commit: what it holds later changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmend.build.picture import Picture, kept
from vlmend.data import hub
from vlmend.errors import ConfigError, DataError, nearest

SHORT = 500  # letters of a value that is kept with its picture; a longer text tells no category


@dataclass(frozen=True)
class Hub:
    """`hub:OWNER/NAME@COMMIT#SPLIT?column=image`, with `config` where the set has several.

    `meta` names columns, with | between them, that are kept with the picture.
    """

    repository: str
    split: str = "train"
    column: str = "image"
    config: str = ""
    meta: str = ""

    def __post_init__(self) -> None:
        name, at, commit = self.repository.partition("@")
        if name.count("/") != 1 or not at or not hub.COMMIT.fullmatch(commit):
            raise ConfigError(
                f"pictures of the hub are hub:OWNER/NAME@COMMIT, with the 40 hex digits of a commit (got"
                f" {self.repository!r}); those there are stand at https://huggingface.co/datasets/{name}/commits/main"
            )

    def pictures(self, folder: Path) -> Iterator[Picture]:
        """One for each row, its bytes as they are there; a row without one raises DataError with its place."""
        name, _, commit = self.repository.partition("@")
        keys = list(filter(None, self.meta.split("|")))
        rows = hub.values(hub.Repository(name, self.config or None), self.split, commit)
        for number, (place, row) in enumerate(rows):
            for key in (self.column, *keys):
                if key not in row:
                    raise DataError(f"{place} has no column {key!r}.{nearest(key, row)} It has {', '.join(row)}")
            image = kept(hub.picture(row[self.column], place).read(), folder)
            about = {key: str(row[key])[:SHORT] for key in keys if row[key] is not None}
            yield Picture(f"{name}@{commit[:12]}/{self.config or 'default'}/{self.split}/{number}", image, about)


plugin = Hub
