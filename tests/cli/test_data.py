from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.data.files import REAL, write_vlguard
from vlmend.cli.data import app

KEYS = ["source", "examples", "records", "images", "missing_images", "subsets", "categories", "subcategories"]
KEYS += ["expected", "roles", "images_per_example", "words", "first_words"]


def run(*args: str) -> str:
    result = CliRunner().invoke(app, ["show", *args], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_show_counts_without_pictures(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path, pictures=False)
    shown = json.loads(run(f"vlguard:{folder}#train", "--json"))
    assert list(shown) == KEYS
    assert (shown["examples"], shown["records"], shown["images"], shown["missing_images"]) == (62, 41, 40, 40)
    assert json.loads(run(f"vlguard:{folder}#train", "--json", "--limit", "5"))["examples"] == 5


def test_show_reads_for_people(tmp_path: Path) -> None:
    text = run(f"vlguard:{write_vlguard(tmp_path)}#train")
    assert "safe_unsafe: 21" in text
    assert "Who owns r1?" in text


@pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")
def test_show_the_published_metadata() -> None:
    shown = json.loads(run(f"vlguard:{REAL}#train", "--json"))
    assert (shown["examples"], shown["records"], shown["images"]) == (2977, 2000, 1999)
    assert shown["subsets"] == {"safe_safe": 977, "safe_unsafe": 977, "unsafe": 1023}


def test_reading_data_never_imports_torch(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    load = f"from vlmend.data import load, mix; load('vlguard:{folder}#train')"
    subprocess.run(
        [sys.executable, "-c", f"{load}; import sys, vlmend.cli.data; assert 'torch' not in sys.modules"], check=True
    )
