"""The pictures that the rows of a data source show, each once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmend.build.picture import Picture, as_file
from vlmend.registry import sources
from vlmend.types import Image


@dataclass(frozen=True)
class Source:
    """`source:SPEC`, any of `vlmend list sources`; ids are by content, and the first row tells what it is about."""

    spec: str

    takes_spec: ClassVar[bool] = True

    def pictures(self, folder: Path) -> Iterator[Picture]:
        """In the order of the rows."""
        seen: set[bytes] = set()
        for row in sources.from_spec(self.spec):
            for image in row.images:
                name = image.sha256
                if (key := bytes.fromhex(name)) in seen:
                    continue
                seen.add(key)
                about = {"row": row.id, "category": row.category, "subcategory": row.subcategory}
                shown = Image(as_file(image, folder).path, recorded=name, drawn=image.drawn)
                yield Picture(f"{row.source or 'source'}/{name[:16]}", shown, {k: v for k, v in about.items() if v})


plugin = Source
