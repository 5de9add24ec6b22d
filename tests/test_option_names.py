"""What options of the papers' scripts are called here: every key exists, and who writes theirs is told ours."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from vlmend.cli import main
from vlmend.config import Recipe
from vlmend.errors import UnknownName
from vlmend.option_names import meant, options, table
from vlmend.registry import objectives


def keys(section: type[BaseModel], before: str = "") -> set[str]:
    """All dotted keys of a recipe."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        found.add(f"{before}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys(field.annotation, f"{before}{name}.")
    return found


def test_every_key_of_ours_exists_and_none_of_theirs_is_one() -> None:
    known = keys(Recipe)
    methods = {f"method.{field.name}" for name in objectives.names() for field in fields(objectives.find(name))}
    for option in options():
        assert not option.ours or option.ours in known | methods, option
        assert option.ours or option.note
        same = {key for key in known | methods if key.rpartition(".")[2] == option.theirs}
        assert same <= {option.ours}, option
    assert len({option.theirs for option in options()}) == len(options())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("train.mm_projector_lr=2e-5", "scripts of LLaVA call mm_projector_lr is train.projector_learning_rate"),
        ("train.lora_alpha=3", "is model.lora.lora_alpha"),
        ("model.lora.alpha=3", "is model.lora.lora_alpha"),
        ("bits=4", "is model.quantization (4bit, 8bit, or none)"),
        ("train.model-max-length=9", "is train.max_length"),
        ("version=v1", "is nothing here: the model's own chat template"),
        ("method.npo_beta=0.7", "is method.beta"),
        ("train.learning_rat=2", "Did you mean 'learning_rate'?"),
        ("model.alpha=2", "unknown key 'model.alpha'. Known"),
    ],
)
def test_an_option_of_theirs_is_answered_with_ours_in_a_line(
    given: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["tune", "world/unlearn_npo", "--set", given, "--out", str(tmp_path / "out"), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert says in told.splitlines()[-1]  # what is shown before it is the recipe, where that is valid


def test_names_of_recipes_are_no_hint_for_other_plugins() -> None:
    from vlmend.registry import sources

    assert meant(["npo_beta"])
    with pytest.raises(UnknownName) as caught:
        sources.build("vlguard", {"path": "x", "bits": 4})
    assert "scripts" not in str(caught.value)


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[1] / "docs" / "recipes.md"
    assert table() in page.read_text(encoding="utf-8")
