"""What plugs in has what its kind declares: a member that is misspelt, lacking or called otherwise is an error."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, make_dataclass
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from vlmend import registry
from vlmend.errors import ConfigError
from vlmend.plugged import check
from vlmend.registry import KINDS

MISSPELT = [
    ("judges", "straem", "stream"), ("judges", "abuot", "about"), ("judges", "answer", "answers"),
    ("judges", "take_silence", "takes_silence"), ("judges", "ask_model", "asks_model"),
    ("attacks", "amnog", "among"), ("attacks", "agianst", "against"), ("attacks", "change", "changes"),
    ("backends", "victm", "victim"), ("backends", "likelihood", "likelihoods"), ("backends", "wordings", "wording"),
    ("backends", "reday", "ready"), ("backends", "note", "notes"), ("backends", "run_on", "ran_on"),
    ("backends", "finger_print", "fingerprint"), ("backends", "acount", "account"),
    ("backends", "beginning", "beginnings"),
    ("objectives", "reasons_to_stop", "reason_to_stop"), ("objectives", "draw", "drawn"),
    ("objectives", "need", "needs"),
    ("sources", "smaple", "sample"), ("sources", "take_spec", "takes_spec"),
    ("suites", "source", "sources"), ("suites", "protocoll", "protocol"), ("suites", "takes_specs", "takes_spec"),
    ("families", "tempalte", "template"), ("families", "complet", "complete"),
]  # fmt: skip


def protocols(kind: str) -> list[type[Any]]:
    found = KINDS[kind]
    module = importlib.import_module(found.module)
    return [getattr(module, name) for name in found.protocols]


def members(protocol: type[Any]) -> dict[str, Any]:
    """Written out here again, so that the check is not its own witness."""
    kept = ("__call__", "__iter__")
    return {name: value for name, value in vars(protocol).items() if not name.startswith("_") or name in kept}


def plugin(kind: str, without: str = "", **more: Any) -> type[Any]:
    """A class with what every plugin of the kind has, as its protocol writes it, and what is given."""
    inherits = kind == "families"  # from a class with defaults for all
    bases = (protocols(kind)[0],) if inherits else ()
    least = {} if inherits else {name: value for name, value in members(protocols(kind)[0]).items() if name != without}
    return make_dataclass("X", [], bases=bases, namespace={**least, **more}, frozen=True)


def refused(kind: str, made: type[Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        check(KINDS[kind].kind, "x", made, protocols(kind))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_will_do_and_so_does_everything(kind: str) -> None:
    check(KINDS[kind].kind, "x", plugin(kind), protocols(kind))
    everything = {name: value for protocol in protocols(kind)[1:] for name, value in members(protocol).items()}
    check(KINDS[kind].kind, "x", plugin(kind, **everything), protocols(kind))
    own = {"helper": property(lambda self: 1), "_straem": 1, "TABLE": (1, 2)}
    check(KINDS[kind].kind, "x", plugin(kind, **own), protocols(kind))


@pytest.mark.parametrize(("kind", "wrong", "meant"), MISSPELT)
def test_what_is_misspelt_is_named_with_what_is_meant(kind: str, wrong: str, meant: str) -> None:
    for value in (property(lambda self: 1), lambda self, *given: None, True):
        said = refused(kind, plugin(kind, without=meant, **{wrong: value}))
        assert f"{KINDS[kind].kind} 'x' has {wrong!r}; meant is {meant!r}?" in said


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "families"])
def test_every_plugin_has_what_its_kind_has(kind: str) -> None:
    for member in members(protocols(kind)[0]):
        said = refused(kind, plugin(kind, without=member))
        assert f"{KINDS[kind].kind} 'x' lacks {member!r}" in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_is_called_as_declared(kind: str) -> None:
    """For every method of every protocol: none of its parameters, one too many, a property, a value; or a method."""
    for protocol in protocols(kind):
        for member, value in members(protocol).items():
            function = value.__func__ if isinstance(value, staticmethod) else value
            if not inspect.isfunction(function):
                said = refused(kind, plugin(kind, **{member: lambda self: 1}))
                assert f"{member!r} is a value, not a method" in said
                continue
            needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            wrong = [lambda self, a, b, c, d, *, e: None, property(lambda self: 1), 1]
            if len(needed) > (not isinstance(value, staticmethod)):
                wrong.append(lambda self: None)
            for given in wrong:
                assert member in refused(kind, plugin(kind, **{member: given}))


def test_arguments_that_changed_places_are_seen() -> None:
    assert "stream(models, pairs) should be stream(pairs, models)" in refused(
        "judges", plugin("judges", stream=lambda self, models, pairs: iter(()))
    )
    check("judge", "x", plugin("judges", stream=lambda self, pairs, models, more=1: iter(())), protocols("judges"))
    check("judge", "x", plugin("judges", stream=lambda self, *given: iter(())), protocols("judges"))


def test_a_judge_of_the_former_shape_is_told_the_new_one() -> None:
    assert "__call__(pairs) should be __call__(pairs, models)" in refused(
        "judges", plugin("judges", __call__=lambda self, pairs: [])
    )
    assert "it should be a method, about(models)" in refused(
        "judges", plugin("judges", about=property(lambda self: {}))
    )
    assert "write takes_silence = True" in refused("judges", plugin("judges", heeds_answers=False))
    assert "judge(pairs, models)" in refused("judges", plugin("judges", desk=None))


def test_a_setting_is_no_misspelt_ability() -> None:
    judge = members(protocols("judges")[0])
    check("judge", "x", make_dataclass("X", [("streams", int)], namespace=judge), protocols("judges"))
    unnamed = {name: value for name, value in judge.items() if name != "name"}
    check("judge", "x", make_dataclass("X", [("name", str)], namespace=unnamed), protocols("judges"))


@dataclass(frozen=True)
class Straem:
    """From another package."""

    name = "x"
    answers = ("refused",)

    def __call__(self, pairs: Any, models: Any) -> list[Any]:
        raise NotImplementedError

    def straem(self, pairs: Any, models: Any) -> Any:
        raise NotImplementedError


def test_it_is_found_out_when_a_plugin_is_found_and_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = EntryPoint("x", f"{__name__}:Straem", "vlmend.judges")
    monkeypatch.setattr(registry, "_entry_points", lambda: (foreign,))
    found = registry._registry("judge", "judge.judges", "types", *KINDS["judges"].protocols)  # pyright: ignore[reportPrivateUsage]
    for _ in range(2):  # what is wrong stays wrong
        with pytest.raises(ConfigError, match="judge 'x' has 'straem'; meant is 'stream'"):
            found.from_spec("x")


def test_our_own_have_nothing_that_is_not_declared_and_looks_like_it() -> None:
    """Found once, each class is not looked at again."""
    for kind in KINDS.values():
        for name in kind.names():
            assert kind.find(name) is kind.find(name)
