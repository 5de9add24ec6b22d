from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.data.files import REAL, png, write_jsonl, write_vlguard
from vlmend.cli.data import app
from vlmend.cli.data._common import mapped
from vlmend.data.dataset import read_any
from vlmend.data.progress import watched
from vlmend.errors import DataError, UsageError
from vlmend.registry import sources

KEYS = ["source", "examples", "pairs", "records", "images", "missing_images", "splits", "subsets", "categories"]
KEYS += ["subcategories", "expected", "roles", "images_per_example", "words", "first_words"]


def run(*args: str, command: str = "show") -> str:
    result = CliRunner().invoke(app, [command, *args], catch_exceptions=False)
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
    assert "train: 62" in text
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


PAIR = {"prompt": "What <b>is</b> it?", "chosen": "A ring.", "rejected": "A cup.", "image": "a.png", "category": "c"}


def test_show_counts_pairs_and_maps_keys(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    row = {**PAIR, "good": PAIR["chosen"]}
    del row["chosen"]
    file = write_jsonl(tmp_path / "rows.jsonl", [row, row])
    shown = json.loads(run(f"jsonl:{file}?ids=row", "--map", "good=chosen", "--json"))
    assert (shown["examples"], shown["pairs"], shown["images"], shown["missing_images"]) == (0, 2, 1, 0)
    assert "chosen: A ring." in run(f"jsonl:{file}", "--map", "good=chosen", "--missing-images", "error")
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="1 are missing"):
        run(f"jsonl:{file}", "--map", "good=chosen", "--missing-images", "error")


def test_keys_are_mapped_in_the_spec() -> None:
    assert mapped("jsonl:a.jsonl", None) == "jsonl:a.jsonl"
    assert mapped("jsonl:a.jsonl", ["q=prompt", "x="]) == "jsonl:a.jsonl?map=q:prompt,x:"
    assert mapped("hf:a/b?map=i:image&ids=row#test", ["q=prompt"]) == "hf:a/b#test?ids=row&map=i:image,q:prompt"
    with pytest.raises(UsageError, match="--map 'q' should be KEY=FIELD"):
        mapped("jsonl:a.jsonl", ["q"])


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    for number, rows in enumerate([[PAIR], [{"prompt": PAIR["prompt"], "answer": "A ring.", "image": "a.png"}] * 60]):
        file = write_jsonl(tmp_path / f"rows{number}.jsonl", rows)
        run(f"jsonl:{file}", "--html", str(tmp_path / "page.html"), "--sheet", "7")
        page = (tmp_path / "page.html").read_text()
        assert "What &lt;b&gt;is&lt;/b&gt; it?" in page
        assert "<b>is</b>" not in page
        assert page.count('<img src="data:image/png;base64,') == (7 if number else 1)
        assert "A ring." in page
        assert "http://" not in page
        assert "<script" not in page


def test_export_and_back(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path / "in")
    given = [(e.id, e.images[0].sha256) for e in read_any(f"vlguard:{folder}#train")]
    told = json.loads(
        run(f"vlguard:{folder}#train", "--format", "trl", "--out", str(tmp_path / "o"), "--json", command="export")
    )
    file = tmp_path / "o" / "data.jsonl"
    back = f"jsonl:{file}?allow_outside=true"  # its pictures stay where they are
    assert (told.pop("taken").partition(":")[0], told.pop("notes")) == (f"pictures are named from {file.parent}", [])
    assert told == {"format": "trl", "file": str(file), "spec": back, "examples": 62, "pairs": 0}
    assert [(e.id, e.images[0].sha256) for e in read_any(back)] == given
    spec, out = f"vlguard:{folder}#train", ("--format", "vlguard_as_coded", "--out", str(tmp_path / "coded.json"))
    assert "41 examples written" in run(spec, *out, command="export")
    for option in ("--embed", "--absolute", "--bare"):
        with pytest.raises(UsageError, match="no --embed"):
            run(spec, *out, option, command="export")


def test_export_says_how_its_program_is_told(tmp_path: Path) -> None:
    folder, out = write_vlguard(tmp_path / "in"), ("--out", str(tmp_path / "o"), "--limit", "3")
    said = run(f"vlguard:{folder}#train", "--format", "llamafactory", *out, command="export")
    assert f"in LLaMA-Factory's YAML: stage: sft, dataset_dir: {tmp_path / 'o'}, dataset: o\n" in said
    said = run(f"vlguard:{folder}#train", "--format", "swift", *out, command="export")
    assert f"ROOT_IMAGE_DIR={tmp_path / 'o'} swift sft --dataset {tmp_path / 'o' / 'data.json'}\n" in said
    said = run(f"vlguard:{folder}#train", "--format", "swift", *out, "--absolute", command="export")
    assert f"\nswift sft --dataset {tmp_path / 'o' / 'data.json'}\n" in said
    said = run(f"vlguard:{folder}#train", "--format", "openai", *out, command="export")
    assert "OpenAI opens no files: --embed writes the pictures in" in said


@pytest.mark.parametrize("name", [name for name in sources.names() if hasattr(sources.find(name), "sample")])
def test_every_sample_is_written_and_read(tmp_path: Path, name: str) -> None:
    told = json.loads(run(name, "--out", str(tmp_path / "s"), "--seed", "1", "--json", command="sample"))
    assert told["files"] == sum(1 for file in (tmp_path / "s").rglob("*") if file.is_file()) > 0
    with pytest.raises(UsageError, match="no empty folder"):
        run(name, "--out", str(tmp_path / "s"), command="sample")


def test_a_sample_can_be_looked_at(tmp_path: Path) -> None:
    told = json.loads(run("jsonl", "--out", str(tmp_path / "s"), "--json", command="sample"))
    assert json.loads(run(told["spec"], "--json"))["missing_images"] == 0


def test_a_source_without_a_sample_says_which_have_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"source 'world' has no sample.*Those that have: .*jsonl.*vlguard"):
        run("world", "--out", str(tmp_path / "s"), command="sample")
    assert not (tmp_path / "s").exists()


def test_nothing_is_said_about_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(watched(range(5), "rows")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_is_counted_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = iter(range(0, 1000, 10))
    monkeypatch.setattr("vlmend.data.progress.time.monotonic", lambda: next(ticks))
    assert len(list(watched(range(5), "rows read:"))) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "rows read: 2, 20 s" in err
