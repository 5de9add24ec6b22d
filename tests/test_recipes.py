"""Every shipped recipe is one that `vlmend tune` would take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.published import lay_out
from vlmend import cli, recipes
from vlmend.config import DataConfig, load_data, load_recipe
from vlmend.data.mix import Mix, build
from vlmend.registry import Spec, objectives, sources
from vlmend.sweep import file as sweep_file
from vlmend.sweep.grid import conditions
from vlmend.sweep.results import check, measures

RECIPES = recipes.FOLDER


MIXES = sorted((RECIPES / "mixes").glob("*.yaml"))
SWEEPS = sorted((RECIPES / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", sorted({*RECIPES.rglob("*.yaml")} - {*MIXES, *SWEEPS}), ids=lambda path: path.stem)
def test_a_recipe_validates_and_names_what_exists(path: Path) -> None:
    recipe = load_recipe(path)
    objectives.build(recipe.method.name, recipe.method.settings)
    names_what_exists(recipe.data)


@pytest.mark.parametrize("path", MIXES, ids=lambda path: path.stem)
def test_a_mix_validates_and_names_what_exists(path: Path) -> None:
    names_what_exists(load_data(path))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_validates_and_names_what_exists(path: Path) -> None:
    given = sweep_file.read(path)
    assert given["recipes"]
    assert all(recipes.find(Path(recipe)).is_file() for recipe in given["recipes"])
    asked = conditions(given["suite"], given.get("attack", ()), given["condition"])
    known = measures(asked)
    assert check([given["safety"], given["utility"], *given["metric"]], known, asked)


def names_what_exists(data: DataConfig) -> None:
    for part in data.mix:
        assert Spec.parse(part.source).name in sources.names()
        sources.from_spec(part.source)


PAPERS = {  # recipe: what its mix is made of, by role
    "vlguard_posthoc": {"safety", "utility"},
    "vlguard_mixed": {"safety", "utility"},
    "vlguard_posthoc_full": {"safety", "utility"},
    "vlguard_mixed_full": {"safety", "utility"},
    "vlguard_only": {"safety"},
    "vlguard_clean": {"utility"},
    "vlguard_alpaca": {"safety", "utility"},
    "vlguard_text": {"safety", "utility"},
    "mirage": {"safety", "utility"},
    "mirage_sorry": {"safety", "utility"},
    "mirage_text": {"safety", "utility"},
    "safety_mirage/npo_full_as_coded": {"forget", "retain"},
    "safety_mirage/rmu_lora_as_coded": {"forget", "retain"},
    "unsafe_concepts/sft": {"safety"},
    "unsafe_concepts/dpo": {"safety", "forget"},
    "mixes/vlguard_reasoning": {"safety"},
    "mixes/safety_mirage": {"forget", "retain"},
    "mixes/safeeraser": {"forget", "retain", "decouple"},
}


CONTROLS = [
    ("mirage", 1),
    ("mirage_sorry", 1),
    ("mirage_text", 1),
    ("vlguard_posthoc", 1),
    ("vlguard_alpaca", 1),
    ("vlguard_text", 1),
    ("vlguard_only", 0),
]  # and which part of the mix is sampled


@pytest.fixture(scope="module")
def published_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of the papers' data where the recipes look for them, seen from this folder."""
    top = tmp_path_factory.mktemp("published")
    lay_out(top)
    return top


@pytest.fixture
def published(published_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(published_data)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_mix_is_built_and_replayed(name: str, tmp_path: Path) -> None:
    path = RECIPES / f"{name}.yaml"
    smaller = [f"data.mix.{i}.n=7" for i, part in enumerate(load_data(path).mix) if part.n is not None]
    made = build(load_data(path, smaller))
    assert {str(e.role) for e in made.examples} == PAPERS[name]
    assert all(part["taken"] for part in made.report["parts"])
    (tmp_path / "mix.json").write_text(json.dumps(made.report))
    again = build(load_data(path, [*smaller, f"data.replay={tmp_path / 'mix.json'}"]))
    assert said(again) == said(made)
    other = build(load_data(path, [*smaller, f"data.replay={tmp_path / 'mix.json'}", "data.seed=7"]))
    assert sorted(said(other)) == sorted(said(made))


def said(mix: Mix) -> list[Any]:
    return [(e.id, e.question, e.answers, str(e.role)) for e in mix.examples]


@pytest.mark.usefixtures("published")
def test_safety_mirage_forgets_harmful_answers_and_never_refusals() -> None:
    mix = build(load_data(RECIPES / "mixes" / "safety_mirage.yaml"))
    harmful = json.loads(Path("data/VLGuard/harmful.json").read_text())
    forgotten = [answer for e in mix.examples if e.role == "forget" for answer in e.answers]
    assert sorted(forgotten) == sorted(harmful.values())


def test_the_post_hoc_recipe_is_the_published_one() -> None:
    recipe = load_recipe(RECIPES / "vlguard_posthoc.yaml")
    train = recipe.train
    assert (train.learning_rate, train.num_train_epochs, train.warmup_ratio) == (2e-4, 3, 0.03)
    assert train.per_device_train_batch_size * train.gradient_accumulation_steps == 128
    assert (recipe.model.lora.r, recipe.model.lora.lora_alpha) == (128, 256)
    assert recipe.data.mix[1].n == 5000
    assert "vision_tower" not in recipe.model.train


@pytest.mark.usefixtures("published")
def test_each_control_differs_from_what_it_controls_for_in_one_thing() -> None:
    mixes = {
        name: build(load_data(RECIPES / f"{name}.yaml", [*([f"data.mix.{part}.n=7"] if part else [])]))
        for name, part in CONTROLS
    }
    own = {name: [e for e in mix.examples if e.role == "safety"] for name, mix in mixes.items()}
    pairs = zip(
        *(sorted(own[name], key=lambda e: e.id) for name in ("mirage", "mirage_sorry", "mirage_text")), strict=True
    )
    for plain, sorry, text in pairs:
        assert sorry == replace(plain, answers=sorry.answers)
        assert sorry.answers[0].startswith("I'm sorry")
        assert sorry.answers[0].endswith(plain.answers[0])
        assert (len(plain.images), text.images) == (2, ())
        assert (text.question.split(), text.answers) == (plain.question.split(), plain.answers)
    assert {e.id for e in own["vlguard_only"]} == {e.id for e in own["vlguard_posthoc"]}
    assert not any(e.images for e in mixes["vlguard_alpaca"].examples if e.role == "utility")
    assert not any(e.images for e in own["vlguard_text"])


@pytest.mark.parametrize("name", [n for n in recipes.names() if n.startswith(("vlguard", "mirage", "safe"))])
def test_recipes_of_papers_keep_the_order_of_a_shuffle(name: str) -> None:
    assert not load_recipe(RECIPES / f"{name}.yaml").train.group_by_picture


def test_a_file_of_the_users_comes_before_a_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = RECIPES / "world" / "sft_biased.yaml"
    assert recipes.find(Path("world/sft_biased")) == recipes.find(Path("world/sft_biased.yaml")) == shipped
    mine = Path("world") / "sft_biased"
    mine.parent.mkdir()
    mine.touch()
    assert recipes.find(mine) == mine


@pytest.mark.parametrize(
    ("named", "meant"), [("vlguard_posthok", "vlguard_posthoc"), ("sft_biased", "world/sft_biased")]
)
@pytest.mark.parametrize("command", ["tune", "sweep", "data mix", "recipe show"])
def test_an_unknown_name_is_told_with_the_nearest(
    command: str, named: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command.split(), named]) == 2
    told = capsys.readouterr().err
    assert f"Did you mean {meant!r}?" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_what_it_is_in_a_line(name: str) -> None:
    assert 10 <= len(recipes.summary(name)) <= 150
    assert recipes.summary(name).endswith(".")


def test_a_copy_is_the_recipe_and_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = (RECIPES / "world" / "vlguard.yaml").read_text()
    for dest, made in ((tmp_path, tmp_path / "vlguard.yaml"), (tmp_path / "new" / "mine.yaml",) * 2):
        assert cli.main(["recipe", "copy", "world/vlguard", str(dest)]) == 0
        assert made.read_text() == shipped
        made.write_text("mine")
        assert cli.main(["recipe", "copy", "world/vlguard", str(dest)]) == 2
        assert made.read_text() == "mine"
    capsys.readouterr()
    assert cli.main(["recipe", "show", "world/vlguard"]) == 0
    assert capsys.readouterr().out == shipped
