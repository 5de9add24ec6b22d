"""The folder is the registry; specs name plugins; nothing is imported before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from vlmend import registry
from vlmend.errors import ConfigError, UnknownName, UsageError
from vlmend.registry import Registry, Spec, backend_for

CIRCLE = '''"""A round one.

More."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Circle:
    radius: float = 1.0
    split: str = ""
    fill: bool = False

plugin = Circle
'''


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of two plugins, one of which cannot be imported."""
    folder = tmp_path / "shapes_under_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_private.py").write_text("raise RuntimeError")
    (folder / "circle.py").write_text(CIRCLE)
    (folder / "broken.py").write_text('"""Needs what is not there."""\nimport not_installed_anywhere\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("shape", "shapes_under_test", "vlmend.shapes")  # type: ignore[misc]
    for name in [m for m in sys.modules if m.startswith("shapes_under_test")]:
        del sys.modules[name]


def test_names_and_summaries_need_no_import(shapes: Registry) -> None:
    assert shapes.names() == ["broken", "circle"]
    assert shapes.summary("circle") == "A round one."
    assert shapes.summary("broken") == "Needs what is not there."
    assert "shapes_under_test.circle" not in sys.modules


def test_a_missing_dependency_is_not_an_unknown_name(shapes: Registry) -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        shapes.find("broken")
    with pytest.raises(UnknownName, match=r"no shape named 'cirle'\. Did you mean 'circle'\? Known: broken, circle"):
        shapes.find("cirle")


def test_what_was_meant_by_a_name_of_another_kind_is_said() -> None:
    for kind, name, meant in (
        (registry.suites, "mine.jsonl", "source:jsonl:mine.jsonl"),
        (registry.suites, "jsonl", "source:jsonl:"),
        (registry.sources, "mine.json", "jsonl:mine.json"),
        (registry.judges, "npo", "an objective"),
    ):
        with pytest.raises(UnknownName, match=meant):
            kind.find(name)


def test_settings_are_checked(shapes: Registry) -> None:
    assert shapes.from_spec("circle:2.5#big?fill=true") == shapes.find("circle")(2.5, "big", True)
    with pytest.raises(UnknownName, match="Did you mean 'radius'"):
        shapes.build("circle", {"radious": 1})
    with pytest.raises(ConfigError, match=r"shape 'circle': radius: .* \(got 'wide'\)"):
        shapes.from_spec("circle:wide")


def test_other_packages_plug_in_by_entry_point(shapes: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = EntryPoint("square", "shapes_under_test.circle", "vlmend.shapes")
    monkeypatch.setattr(registry, "_entry_points", lambda: (foreign, EntryPoint("line", "x", "vlmend.lines")))
    assert shapes.names() == ["broken", "circle", "square"]
    assert shapes.summary("square") == "A round one."
    assert shapes.from_spec("square:3").radius == 3.0


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("name", Spec("name")),
        ("name:a/b.c", Spec("name", "a/b.c")),
        ("name:C:/x#train", Spec("name", "C:/x", "train")),
        ("name:d?a=1#test", Spec("name", "d", "test", (("a", "1"),))),
        ("name#test[80%:]?a=1&b=x=y", Spec("name", "", "test[80%:]", (("a", "1"), ("b", "x=y")))),
    ],
)
def test_specs(text: str, spec: Spec) -> None:
    assert Spec.parse(text) == spec


@pytest.mark.parametrize("text", ["", ":x", "#train", "name?flag", "name#a#b", "name?a=1?b=2"])
def test_specs_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        Spec.parse(text)


def test_no_plugin_kind_drags_in_torch_to_be_listed() -> None:
    code = (
        "import sys; from vlmend.registry import KINDS\n"
        "for r in KINDS.values():\n    [r.summary(n) for n in r.names()]\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parentheses_hold_what_they_hold() -> None:
    spec = Spec.parse("panel:(a:b?c=d&e=f#g),(h)?rule=(x?y=1&z)&more=2#s")
    assert spec == Spec("panel", "(a:b?c=d&e=f#g),(h)", "s", (("rule", "(x?y=1&z)"), ("more", "2")))
    assert Spec.parse("source:data/set (1)#test") == Spec("source", "data/set (1)", "test")
    assert Spec.parse("source:data/odd(name#test") == Spec("source", "data/odd(name", "test")


@pytest.mark.parametrize("model", ["vllm:world", "openai:tiny@http://127.0.0.1:9/v1", "scripted:refuse"])
@pytest.mark.parametrize("setting", [{"device": "cpu"}, {"batch_size": 4}, {"share_prefix": False}])
def test_what_a_backend_cannot_honor_is_refused(model: str, setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(UsageError, match=f"no setting {name}"):
        backend_for(model, setting)
    backend_for(model, dict.fromkeys(setting))  # not given
    backend_for(model, {"device": "auto", "dtype": "auto"})  # as it comes


def test_what_a_backend_can_honor_is_handed_on_and_its_spec_decides() -> None:
    found: Any = backend_for("vllm:world", {"dtype": "float32"})
    assert found.dtype == "float32"
    found = backend_for("vllm:world?dtype=float16", {"dtype": "float32"})
    assert found.dtype == "float16"
    with pytest.raises(UsageError, match="dtype"):
        backend_for("openai:tiny@http://127.0.0.1:9/v1", {"dtype": "float32"})
