"""`vlmend tamper` as a command: what is shown, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluate.tamper.conftest import RECIPE, SUITE, tune
from vlmend.cli import main
from vlmend.config import load_recipe


def test_table_json_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    sets = ["train.max_steps=1", "train.per_device_train_batch_size=1", f"output.dir={folder}"]
    tune(load_recipe(RECIPE, [*sets, "data.mix.0.source=world:unlearning#train?n=4"]))
    command = ["tamper", str(folder), "--suite", SUITE, "--limit", "2", "--relearn", "0", "--max-new-tokens", "16"]
    command += ["--adapter", "0.5", "--quantize", "4", "--opening", "Sure,"]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [(point["attack"], point["setting"]) for point in found["points"]]
    assert names[:2] == [("before tuning", ""), ("as tuned", "")]
    assert names[-2:] == [("weights rounded", "4 bits"), ("answer begun", "Sure,")]
    assert found["points"][1]["metrics"]["complied"]["n"] == 1
    page = (folder / "tamper" / "tamper.html").read_text()
    assert "<polyline" in page
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "adapter scaled: 0.5" in shown
    assert "+1 unscored" in shown  # no likelihood where the answer was begun


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "holds no finished tuning run"),
        (["--relearn", "4,many"], "--relearn '4,many' is no list of whole numbers"),
        (["--adapter", "1.5"], "adapter.0"),
        (["--quantize", "16"], "bits.0"),
    ],
)
def test_one_line_for_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert main(["tamper", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
