"""`vlmend data mix` writes down what tuning would take, and what is written can be taken again."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from vlmend.cli.data import app


def recipe(folder: Path) -> Path:
    file = folder / "recipe.yaml"
    file.write_text("data: {seed: 3, mix: [{source: 'world:safety?n=40', where: {subset: safe_safe}, n: 10}]}")
    return file


def test_a_mix_is_written_printed_and_replayed(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["mix", str(recipe(tmp_path)), "--out", str(tmp_path / "a" / "mix.json"), "--json"])
    assert made.exit_code == 0, made.output
    written = json.loads((tmp_path / "a" / "mix.json").read_text())
    assert json.loads(made.stdout) == written
    assert written["examples"] == 10
    assert written["parts"][0]["available"] == 20

    changes = ["--set", f"data.replay={tmp_path / 'a' / 'mix.json'}", "--set", "data.seed=9"]
    again = CliRunner().invoke(app, ["mix", str(recipe(tmp_path)), "--out", str(tmp_path / "b.json"), *changes])
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "b.json").read_text())["parts"] == written["parts"]
    assert "10 examples" in again.stdout


def test_a_file_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: {name: world}")
    refused = CliRunner().invoke(app, ["mix", str(tmp_path / "recipe.yaml")])
    assert "has no section 'data'; it has model" in str(refused.exception)


def test_the_table_holds_every_spec_and_number_whole_however_long(tmp_path: Path) -> None:
    folder = tmp_path / "a_long_name_of_a_folder" / "another_long_name_of_a_folder" / "and_one_more_of_them"
    folder.mkdir(parents=True)
    rows = [json.dumps({"prompt": f"q{i}", "answer": "a"}) + "\n" for i in range(12_345)]
    (folder / "rows.jsonl").write_text("".join(rows))
    source = f"jsonl:{folder / 'rows.jsonl'}?ids=row&role=retain"
    file = tmp_path / "recipe.yaml"
    file.write_text(f"data: {{mix: [{{source: '{source}', weight: 0.25}}]}}")
    shown = CliRunner().invoke(app, ["mix", str(file), "--out", str(tmp_path / "mix.json")]).stdout
    table = [line.rstrip() for line in shown.partition(" examples; ")[0].splitlines()[:-1]]
    assert all(len(line) <= 120 for line in table)
    first = next(line for line in table if "jsonl:" in line)
    assert first.split()[1:] == ["12,345", "12,345", "0.25", "as", "given"]
    assert source in "".join(line.split("12,345")[0].strip() for line in table)
