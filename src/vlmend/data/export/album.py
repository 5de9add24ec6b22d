"""How the pictures of an export are named: by path, relative or absolute, or put inside."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlmend.data.inside import lies_in
from vlmend.store import write_atomic
from vlmend.types import Image

Naming = Literal["relative", "absolute", "embedded"]
KINDS = {
    b"\x89PNG": ("png", "png"),
    b"\xff\xd8\xff": ("jpg", "jpeg"),
    b"GIF8": ("gif", "gif"),
    b"RIFF": ("webp", "webp"),
    b"BM": ("bmp", "bmp"),
    b"II*\0": ("tif", "tiff"),
    b"MM\0*": ("tif", "tiff"),
}
UNKNOWN = ("img", "octet-stream")


@dataclass(frozen=True)
class Album:
    """Names for the pictures of a file that lies in `folder`.

    A picture that is a file keeps its place; one that is made on demand is written once, under its content hash, into
    `images` beside the rows. `cells`: as `datasets` holds pictures in tables. `outside`: the first name that leads out
    of the folder.
    """

    folder: Path
    naming: Naming = "relative"
    cells: bool = False
    outside: list[str] = field(default_factory=list[str])

    def name(self, image: Image) -> str:
        """A path, or a data: URL."""
        if self.naming == "embedded":
            data = image.read()
            return f"data:image/{kind_of(data)[1]};base64,{base64.b64encode(data).decode()}"
        if image.path is None:
            stored = self._stored(image.read())
            return stored if self.naming == "relative" else self._whole(self.folder / stored)
        near = Path(os.path.relpath(os.path.abspath(image.path), os.path.realpath(self.folder))).as_posix()
        if not self.outside and not lies_in(image.path, self.folder):
            self.outside.append(near)
        return near if self.naming == "relative" else self._whole(image.path)

    def entry(self, image: Image) -> str | dict[str, Any]:
        """A picture among those of a row."""
        if not self.cells:
            return self.name(image)
        if self.naming == "embedded":
            return {"bytes": image.read(), "path": None}
        return {"bytes": None, "path": self.name(image)}

    def _whole(self, path: Path) -> str:
        return Path(os.path.abspath(path)).as_posix()

    def _stored(self, data: bytes) -> str:
        name = f"images/{hashlib.sha256(data).hexdigest()}.{kind_of(data)[0]}"
        file = self.folder / name
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, data, sync=False)  # thousands of waits for the disk; the name is the content's hash
        return name


def kind_of(data: bytes) -> tuple[str, str]:
    """File name extension and MIME type, by the first bytes."""
    return next((kind for start, kind in KINDS.items() if data.startswith(start)), UNKNOWN)
