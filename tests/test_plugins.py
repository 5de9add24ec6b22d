"""The table every plugin must enter: found by its file name, documented, frozen, and built by the registry."""

from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import Any

import pytest

from vlmend.errors import VlmendError
from vlmend.judge.models import Models
from vlmend.registry import KINDS, Registry, Spec

# What a plugin is built from where its fields do not say it: names, or one of several things that it cannot do without.
SPECS = {
    ("attacks", "one_word"): "one_word:what",
    ("backends", "hf"): "hf:world",
    ("defences", "best_of"): "best_of:2?judge=refusal",
    ("judges", "cascade"): "cascade:refusal,exact",
    ("judges", "panel"): "panel:refusal,exact",
    ("judges", "trace"): "trace:refusal",
    ("judges", "rubric"): "rubric:harm",
    ("pictures", "hub"): f"hub:owner/name@{'0' * 40}",
    ("pictures", "world"): "world:2",
    ("rewards", "judge"): "judge:refusal",
    ("suites", "imported"): "imported:task?rates=exact_match",
    ("suites", "over_refusal"): "over_refusal?xstest=data&mossbench=data",
}
ALL = [(kind, name) for kind, registry in KINDS.items() for name in registry.names()]


def members(kind: str) -> list[str]:
    """What a plugin of this kind must have."""
    return {
        "objectives": ["__call__"],
        "sources": ["__iter__"],
        "judges": ["name", "answers", "__call__"],
        "attacks": ["changes", "__call__"],
        "suites": ["name", "protocol", "sources", "judges", "metrics", "decoding"],
        "backends": ["fingerprint", "generate"],
        "defences": ["asks", "answer"],
        "rewards": ["__call__"],
        "families": [],
        "pictures": ["pictures"],
        "pipelines": ["begins", "parts", "stages", "words", "version", "made_of", "starts", "build"],
    }[kind]


def spec_of(kind: str, name: str) -> str:
    """A spec with no more than what the plugin cannot be built without; what is named need not exist."""
    if (kind, name) in SPECS:
        return SPECS[kind, name]
    plugin = KINDS[kind].find(name)
    if getattr(plugin, "takes_spec", False):
        return f"{name}:world:suite#test"
    known = [f for f in fields(plugin) if f.init]
    needed = [f for f in known if f.default is MISSING and f.default_factory is MISSING]
    argument = ":data" if needed and needed[0] is known[0] else ""
    options = "&".join(f"{f.name}=data" for f in needed if f is not known[0])
    return f"{name}{argument}{'?' if options else ''}{options}"


def built(kind: str, name: str) -> Any:
    return KINDS[kind].from_spec(spec_of(kind, name))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_is_documented(kind: str, name: str) -> None:
    summary = KINDS[kind].summary(name)
    assert summary.endswith((".", "?", "!"))
    assert 20 <= len(summary) <= 120
    plugin = KINDS[kind].find(name)
    assert plugin.__doc__
    assert not plugin.__doc__.startswith(f"{plugin.__name__}(")


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_is_a_frozen_dataclass(kind: str, name: str) -> None:
    plugin = KINDS[kind].find(name)
    assert import_module(f"{KINDS[kind].package}.{name}").plugin is plugin
    assert is_dataclass(plugin)
    assert plugin.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_is_built_by_the_registry(kind: str, name: str) -> None:
    plugin = built(kind, name)
    for member in members(kind):
        if (kind, member) not in (("backends", "fingerprint"), ("judges", "answers")):  # which may load the model
            assert hasattr(plugin, member)
    assert Spec.parse(spec_of(kind, name)).name == name


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_refuses_options_it_does_not_have(kind: str, name: str) -> None:
    spec = spec_of(kind, name)
    if KINDS[kind].takes_spec(spec):
        return  # options are those of the plugin it is built around
    with pytest.raises(VlmendError, match=r"no .* option named 'nonsense'"):
        KINDS[kind].from_spec(f"{spec}{'&' if '?' in spec else '?'}nonsense=1")


@pytest.mark.parametrize("name", KINDS["suites"].names())
def test_suite_names_what_exists(name: str) -> None:
    suite = built("suites", name)
    assert suite.name == name
    for judge in suite.judges:
        assert KINDS["judges"].from_spec(judge).name == judge
    for source in suite.sources:
        assert Spec.parse(source).name in KINDS["sources"].names()
    names = [metric.name for metric in suite.metrics]
    assert len(set(names)) == len(names) > 0
    assert all(metric.summary for metric in suite.metrics)
    for metric in suite.metrics:  # a value inside the range may be best, or none may be
        assert metric.better in ("low", "high", None) or isinstance(metric.better, float)


@pytest.mark.parametrize("registry", KINDS.values(), ids=KINDS)
def test_unknown_name_says_what_exists(registry: Registry) -> None:
    with pytest.raises(VlmendError, match=rf"no {registry.kind} named 'nonsense'"):
        registry.find("nonsense")


def test_every_judge_abstains_from_silence() -> None:
    from vlmend.types import Example, Finish, Message, Response

    silent = Response("r", "e", "", Finish.STOP)
    example = Example("e", (Message("user", ("q",)),), answers=("a",))
    for name in KINDS["judges"].names():
        [verdict] = built("judges", name)([(example, silent)], Models())
        assert (verdict.refused, verdict.harmful, verdict.correct, verdict.score) == (None, None, None, None)
        assert verdict.response_id == "r"


def test_settings_have_no_mutable_defaults() -> None:
    for kind, name in ALL:
        for field in fields(KINDS[kind].find(name)):
            assert not isinstance(field.default, list | dict | set)
