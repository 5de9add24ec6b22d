"""What is in a sweep: the grid, the conditions, and what counts as the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vlmend.config import JudgingConfig, load_recipe
from vlmend.errors import UsageError
from vlmend.recipes import FOLDER
from vlmend.registry import suites
from vlmend.store import Run
from vlmend.sweep.grid import Cell, Condition, _content, conditions, expand, identity, untuned
from vlmend.sweep.worker import carry_out
from vlmend.types import digest

RECIPES = FOLDER / "world"
NPO = RECIPES / "unlearn_npo.yaml"


def test_a_grid_is_every_combination() -> None:
    cells = list(expand([Path("a.yaml"), Path("b.yaml")], ["x=1,2", "y.z=true,false"]))
    assert len(cells) == 8
    assert cells[1].name == "a,x=1,y.z=false"
    assert [cell.name for cell in expand([Path("a.yaml")], [])] == ["a"]
    for wrong in ("x", "=1", "x=", "x=1,,2"):
        with pytest.raises(UsageError, match="not of the form"):
            list(expand([Path("a.yaml")], [wrong]))
    for twice in ([Path("a.yaml"), Path("other/a.yaml")], [Path("base.yaml")]):
        with pytest.raises(UsageError, match="called"):
            list(expand(twice, []))


def test_a_row_is_named_after_what_is_not_pooled() -> None:
    cell = Cell(Path("a.yaml"), ("method.pd=true", "train.seed=1"))
    assert cell.without(["train.seed"]) == "a,method.pd=true"
    assert cell.without([]) == cell.name
    assert cell.without(["seed", "train"]) == cell.name, "keys are whole"


def test_conditions_are_suites_attacks_or_both() -> None:
    asked = conditions("world", ["one_word:what"], ["share=world?n=4&utility=no one_word:share", "mix=vlguard:'a b'#x"])
    assert asked == {
        "plain": Condition("world"),
        "one_word-what": Condition("world", ("one_word:what",)),
        "share": Condition("world?n=4&utility=no", ("one_word:share",)),
        "mix": Condition("vlguard:a b#x"),
    }
    for wrong in ("share", "=world", "share=", "a/b=world"):
        with pytest.raises(UsageError, match="not of the form"):
            conditions("world", [], [wrong])
    with pytest.raises(UsageError, match="two conditions"):
        conditions("world", ["one_word:what"], ["one_word-what=world"])


def test_a_run_is_the_same_run_wherever_it_lies_and_another_one_where_anything_counts(tmp_path: Path) -> None:
    asked = conditions("world", [], [])
    first = identity(Cell(NPO, ("train.seed=1",)), tmp_path / "a", asked)
    assert first == identity(Cell(NPO, ("train.seed=1",)), tmp_path / "b", asked)
    others = [
        identity(Cell(NPO, ("train.seed=2",)), tmp_path, asked),
        identity(Cell(NPO, ("train.seed=1",), tuned=False), tmp_path, asked),
        identity(Cell(NPO, ("train.seed=1",)), tmp_path, conditions("world?n=3", [], [])),
        identity(Cell(NPO, ("train.seed=1",)), tmp_path, conditions("world", ["one_word:what"], [])),
        identity(Cell(RECIPES / "unlearn_ga.yaml", ("train.seed=1",)), tmp_path, asked),
    ]
    assert len({first, *others}) == 6


def test_other_data_under_the_same_name_make_another_run(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"

    def made(question: str) -> str:
        rows.write_text(f'{{"prompt": "{question}", "answer": "A."}}\n')
        _content.cache_clear()
        return identity(Cell(NPO), tmp_path, conditions(f"source:jsonl:{rows}", [], []))

    first = made("What is it?")
    assert made("What is this?") != first
    assert made("What is it?") == first


def test_there_is_one_base() -> None:
    cells = list(expand([NPO, RECIPES / "unlearn_po.yaml"], ["train.seed=0,1"]))
    base = untuned(cells)
    assert (base.name, base.tuned) == ("base", False)
    with pytest.raises(UsageError, match="the recipes tune world, owner/other"):
        untuned([*cells, Cell(NPO, ("model.name=owner/other",))])


def test_a_run_that_nobody_else_judges_is_the_one_it_was_before_recipes_named_judges(tmp_path: Path) -> None:
    """So that what was finished then still counts as done; with a judge, wherever it is named, it is another run."""
    asked = conditions("world", [], [])
    cell = Cell(NPO, ("train.seed=1",))
    recipe = load_recipe(NPO, ["train.seed=1", f"output.dir={str(tmp_path / 'tuned')!r}"])
    settings = {key: value for key, value in recipe.resolved().items() if key not in ("output", "judging")}
    settings["method"].pop("same_judge")  # a key that came later
    read = [part.source for part in recipe.data.mix] + list(suites.from_spec("world").sources)
    contents = [_content(source) for source in dict.fromkeys(read)]
    assert identity(cell, tmp_path, asked) == digest(settings, True, {"plain": ["world"]}, contents)
    judged = replace(cell, judging=JudgingConfig(judges=("refused=refusal:vlguard",)))
    named = tmp_path / NPO.name
    named.write_text(f"{NPO.read_text()}\njudging: {{judges: ['refused=refusal:vlguard']}}\n")
    there = identity(replace(cell, recipe=named), tmp_path, asked)
    assert identity(judged, tmp_path, asked) == there != identity(cell, tmp_path, asked)


@pytest.mark.parametrize("where", ["the sweep", "the recipe"])
def test_a_sweep_counts_by_the_judge_that_is_bound(where: str, tmp_path: Path) -> None:
    """One that calls every answer harmful."""
    (tmp_path / "harm.yaml").write_text(
        "version: 1\nsummary: s\ntask: t\nmenu: {harmful: {yes: it is, no: it is not}}\n"
    )
    (tmp_path / "says.yaml").write_text('- {text: \'{"harmful": "yes"}\'}\n')
    judging = {"judges": [f"harmful=rubric:{tmp_path / 'harm.yaml'}"], "model": f"scripted:{tmp_path / 'says.yaml'}"}
    recipe = tmp_path / NPO.name
    recipe.write_text(NPO.read_text() + (f"\njudging: {json.dumps(judging)}\n" if where == "the recipe" else ""))
    cell = Cell(recipe, (), tuned=False)
    if where == "the sweep":
        cell = replace(cell, judging=JudgingConfig.model_validate(judging))
    carry_out(cell, tmp_path / "run", conditions("world_unlearning?n=2&parts=unsafe", [], []))
    harm = Run(tmp_path / "run" / "plain").metrics()["metrics"]["harm"]
    assert (harm["judges"], harm["k"], harm["unscored"]) == ([judging["judges"][0].partition("=")[2]], harm["n"], 0)
