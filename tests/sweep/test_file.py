"""A sweep in a file says what the command line would, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vlmend.cli import main
from vlmend.cli.sweep import sweep
from vlmend.errors import ConfigError
from vlmend.sweep.file import SweepFile, read
from vlmend.sweep.grid import conditions, expand


def write(folder: Path, text: str) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(text)
    return file


def test_a_file_means_what_the_options_mean(tmp_path: Path) -> None:
    given = read(write(tmp_path, """
recipes: [a.yaml, b.yaml]
grid: {method.pd: [true, false], train.seed: 1}
condition: {what: [world, "one_word:what"], other: "source:(world:unsafe)"}
base: true
metric: harm
"""))  # fmt: skip
    conditions_given = given.pop("condition")
    assert conditions_given == ["what=world one_word:what", "other='source:(world:unsafe)'"]
    assert given == {
        "recipes": ["a.yaml", "b.yaml"],
        "grid": ["method.pd=true,false", "train.seed=1"],
        "base": True,
        "metric": ["harm"],
    }
    asked = conditions("world", (), conditions_given)
    assert asked["what"].words == ["world", "one_word:what"]
    assert asked["other"].suite == "source:(world:unsafe)"
    cells = list(expand([Path(recipe) for recipe in given["recipes"]], given["grid"]))
    assert [cell.settings for cell in cells[:2]] == [
        ("method.pd=true", "train.seed=1"),
        ("method.pd=false", "train.seed=1"),
    ]


def test_every_option_of_the_command_is_a_key() -> None:
    app = typer.Typer()
    app.command()(sweep)
    command: Any = typer.main.get_command(app)
    options = {parameter.name for parameter in command.params} - {"file", "json_", "help"}
    assert options <= {*SweepFile.model_fields, "install_completion", "show_completion"}
    assert {*SweepFile.model_fields} <= options


def test_the_command_line_decides_over_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is told of the value that counts, before anything runs."""
    file = write(tmp_path, f"recipes: world/sft_biased\nsuite: wrld\nout: {tmp_path}/out\n")
    assert main(["sweep", "--file", str(file)]) == 2
    assert "Did you mean 'world'?" in capsys.readouterr().err
    assert main(["sweep", "--file", str(file), "--suite", "vlgard:data"]) == 2
    assert "Did you mean 'vlguard'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recipe: [a]", "Did you mean 'recipes'?"),
        ("- a", "should hold the options of a sweep"),
        ("base: maybe", "'base'"),
        ("grid: [a=1]", "'grid'"),
        ("recipes: [a", "sweep.yaml"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_come_from_somewhere() -> None:
    app = typer.Typer()
    app.command()(sweep)
    assert CliRunner().invoke(app, []).exit_code == 2
