"""What pages show beside commands is right: recipes validate, Python runs, and what they name exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.docs.pages import PAGES, ROOT, Block, blocks, inline, recorded
from vlmend.build.taxonomy import Taxonomy
from vlmend.cli import application
from vlmend.config import parse_recipe
from vlmend.errors import ConfigError
from vlmend.judge.rubric import Rubric
from vlmend.metrics import questions
from vlmend.papers.paper import Paper

WHOLE: dict[str, Any] = {
    "model": {"name": "world"},
    "data": {"mix": [{"source": "world:safety#train"}]},
    "output": {"dir": "runs/name"},
}
KINDS = {"sh", "python", "yaml", "json", ""}  # without a language: what a command prints, or a tree of files


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_of_a_kind_that_is_tested(page: Path) -> None:
    fences = page.read_text(encoding="utf-8").count("```")
    text = re.findall(r"^```(.*)\n(?:.*\n)*?```$", page.read_text(encoding="utf-8"), flags=re.M)
    assert 2 * len(text) == fences
    assert set(text) <= KINDS
    assert len(blocks(page, *KINDS)) == len(text)


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "yaml")], ids=Block.where)
def test_a_recipe_validates(block: Block) -> None:
    shown = yaml.safe_load(block.text)
    if "menu" in shown:  # a judge's rubric
        assert Rubric.model_validate(shown)
        return
    if "categories" in shown:
        assert Taxonomy.model_validate(shown)
        return
    if "tables" in shown:
        assert Paper.model_validate({"name": "mine", **shown})
        return
    parse_recipe({**WHOLE, **{key: {**WHOLE.get(key, {}), **part} for key, part in shown.items()}}, block.where())


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "json")], ids=Block.where)
def test_rows_are_json(block: Block) -> None:
    assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines())


def test_a_recipe_that_is_wrong_would_be_found() -> None:
    with pytest.raises(ConfigError, match="learning_rate"):
        parse_recipe({**WHOLE, "train": {"learning_rat": 1.0}})


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "python")], ids=Block.where)
def test_python_runs(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "QUESTIONS", dict(questions.QUESTIONS))  # a page adds one
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec", dont_inherit=True)
    exec(code, {"__name__": "a_page"})


def commands() -> Iterator[tuple[str, list[str]]]:
    """Commands in running text, with their places; `a|b` names two."""
    for page in PAGES:
        for where, code in inline(page):
            program, *words = code.split()
            if program == "vlmend" and words and words[0] != "COMMAND":
                for choice in words[1].split("|") if len(words) > 1 and "|" in words[1] else [""]:
                    yield where, [words[0], choice, *words[2:]] if choice else words


def test_commands_in_running_text_exist_and_take_these_options() -> None:
    found = list(commands())
    assert len(found) > 20
    for where, words in found:
        command: Any = typer.main.get_command(application())
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        assert command.name != "vlmend", f"{where}: there is no command {words[0]}"
        taken = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        unknown = [word for word in words if word.startswith("--") and word not in taken]
        assert not unknown, f"{where}: vlmend {command.name} has no {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_and_pages_that_are_named_exist(page: Path) -> None:
    for where, code in inline(page) if page.name != "CONTRIBUTING.md" else ():  # which names files that are to be made
        if re.fullmatch(r"(?:src|tests|docs|recipes|bench)/[\w/.-]+", code):
            assert (ROOT / code).exists(), f"{where}: there is no {code}"
    for name in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / name).exists(), f"{named(page)}: there is no {name}"


def test_a_command_that_nobody_knows_is_found(tmp_path: Path) -> None:
    block = Block(ROOT / "README.md", 7, "sh", "for i in 1 2; do\n  frobnicate $i\ndone\nmake test\n")
    found = [(c.where, c.program, c.arguments) for c in recorded(block, tmp_path)]
    assert found == [
        ("README.md:8", "frobnicate", ["1"]),
        ("README.md:8", "frobnicate", ["2"]),
        ("README.md:10", "make", ["test"]),
    ]
