"""YAML is plain data: no key twice, nothing that holds itself, no more values than a person writes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import yaml

from tests.test_config import minimal
from vlmend import plain_yaml
from vlmend.config import load_recipe
from vlmend.errors import ConfigError
from vlmend.judge import rubric
from vlmend.money import load_prices
from vlmend.registry import backend_for, objectives
from vlmend.types import Decoding, Example, Message

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)  # 10^9 values in half a kilobyte


def test_plain_data_is_what_pyyaml_reads() -> None:
    text = yaml.safe_dump({"a": [1, 2.5, None, True, "x", {"b": "2024-01-01"}], "c": {}}, sort_keys=False)
    assert plain_yaml.parse(text, "it") == yaml.safe_load(text)
    assert plain_yaml.parse("", "it") is None
    shared = "one: &one {r: 4}\ntwo: *one\nthree: {<<: *one, alpha: 8}\n"
    assert plain_yaml.parse(shared, "it") == {"one": {"r": 4}, "two": {"r": 4}, "three": {"r": 4, "alpha": 8}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "more than 100,000 values"),
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: *a}", "holds itself"),
        ("[" * 20_000, "nested"),
        ("a: " + "[" * 200 + "]" * 200, "nested more than 100 deep"),
        ("a: 1\nb: 2\na: 3", "key 'a' stands twice"),
        ("x: {r: 4, r: 8}", "key 'r' stands twice"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: [", "not valid YAML"),
        ("a: 2024-99-99", "not valid YAML"),
    ],
)
def test_what_is_no_plain_data_is_refused_in_one_short_line(text: str, says: str) -> None:
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"^recipe r\.yaml is not valid YAML") as caught:
        plain_yaml.parse(text, "recipe r.yaml")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert peak < 100e6


def test_every_reader_of_yaml_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(BOMB)
    asked = [Example("e", (Message("user", ("What?",)),))]
    readers = (
        load_recipe,
        lambda p: rubric.load(str(p)),
        load_prices,
        lambda p: list(backend_for(f"scripted:{p}").generate(asked, Decoding())),
    )
    for read in readers:
        with pytest.raises(ConfigError, match="more than 100,000 values"):
            read(path)
    path.write_text(yaml.safe_dump(minimal()))
    with pytest.raises(ConfigError, match="stands twice"):
        load_recipe(path, ["method={name: sft, name: npo}"])


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "inf", "1e999"])
@pytest.mark.parametrize("key", ["train.learning_rate", "train.adam_epsilon", "train.adam_beta1", "data.mix.0.weight"])
def test_a_number_is_a_finite_one(tmp_path: Path, key: str, number: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load_recipe(path, [f"{key}={number}"])


def test_settings_of_plugins_are_finite_too() -> None:
    for number in ("inf", "nan", float("inf")):
        with pytest.raises(ConfigError, match="beta"):
            objectives.build("npo", {"beta": number})
