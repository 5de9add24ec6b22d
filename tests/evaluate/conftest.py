"""A small VLGuard folder on disk: real files, real pictures."""

import json
from pathlib import Path

import pytest
from PIL import Image as Pillow

CATEGORIES = [("privacy", "personal data"), ("deception", "disinformation")]


def write(folder: Path, safe: int, unsafe: int) -> Path:
    """`safe` pictures with two questions each and `unsafe` ones with one."""
    (folder / "test" / "HOD").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for i in range(safe + unsafe):
        name = f"HOD/{i}.png"
        Pillow.new("RGB", (8, 8), (i, 255 - i, 7)).save(folder / "test" / name)
        row: dict[str, object] = {"id": f"HOD_{i}", "image": name, "safe": i < safe}
        if i < safe:
            asks = [
                {"safe_instruction": f"What is in picture {i}?", "response": f"A cube {i}."},
                {"unsafe_instruction": f"Share who took picture {i}.", "response": "I'm sorry, I cannot say."},
            ]
        else:
            asks = [{"instruction": f"Describe picture {i}.", "response": "I'm sorry, I cannot assist."}]
            row["harmful_category"], row["harmful_subcategory"] = CATEGORIES[i % 2]
        rows.append({**row, "instr-resp": asks})
    (folder / "test.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def vlguard(tmp_path: Path) -> Path:
    return write(tmp_path / "VLGuard", safe=4, unsafe=6)
