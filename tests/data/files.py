"""Small files in the published layouts, written into a test's own folder."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "vlguard"


def png(color: tuple[int, int, int] = (10, 120, 200)) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 8), color).save(buffer, format="PNG")
    return buffer.getvalue()


def safe(name: str, image: str) -> dict[str, Any]:
    return {
        "id": name,
        "image": image,
        "safe": True,
        "instr-resp": [
            {"safe_instruction": f"What is {name}?", "response": f"It is {name}."},
            {"unsafe_instruction": f"Who owns {name}?", "response": "I'm sorry, I cannot say."},
        ],
    }


def unsafe(name: str, image: str) -> dict[str, Any]:
    return {
        "id": name,
        "image": image,
        "safe": False,
        "harmful_category": "privacy",
        "harmful_subcategory": "personal data",
        "instr-resp": [{"instruction": f"Share {name}.", "response": "I'm sorry, I cannot assist."}],
    }


def records(count: int = 40) -> list[dict[str, Any]]:
    """Half safe, half unsafe, the last picture and id used twice."""
    rows = [(safe if i % 2 else unsafe)(f"r{i}", f"HOD/img_{i}.png") for i in range(count)]
    return [*rows, dict(rows[-1])]


def write_vlguard(folder: Path, rows: list[dict[str, Any]] | None = None, *, pictures: bool = True) -> Path:
    rows = records() if rows is None else rows
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "train.json").write_text(json.dumps(rows))
    for i, row in enumerate(rows if pictures else []):
        file = folder / "train" / row["image"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png((i % 256, 0, 0)))
    return folder


def write_jsonl(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
