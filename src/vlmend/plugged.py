"""What plugs in has what its kind declares: no member is lacking, none is misspelt, none takes other arguments.

A kind is declared by protocols: the first has what every plugin must have, each other one an ability that it may have.
A class may have other public members as long as none looks like a declared one that it lacks.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from vlmend.errors import ConfigError, brief, nearest

CALLED = ("__call__", "__iter__")  # what a protocol may declare without a name of its own
NEAR = 0.7  # of difflib: `straem` is 0.83 from `stream`
FORMER: Mapping[tuple[str, str], str] = {
    ("judge", "desk"): "models are an argument of the call now: judge(pairs, models)",
    ("judge", "heeds_answers"): "instead of heeds_answers = False write takes_silence = True",
}


def check(kind: str, name: str, plugin: type[Any], protocols: Sequence[type[Any]]) -> None:
    """Raise ConfigError in one line for the first thing about the class that cannot be meant."""
    declared = {member: value for protocol in protocols for member, value in _members(protocol).items()}
    settings = {f.name for f in fields(plugin)} if is_dataclass(plugin) else set[str]()
    own: dict[str, Any] = {**dict.fromkeys(settings), **_members(plugin)}
    for member in own:
        if told := FORMER.get((kind, member)):
            raise ConfigError(f"{kind} {name!r} has {member!r}; {told}")
    unknown = [member for member in own if member not in declared and member not in CALLED and member not in settings]
    # what a base class gives by default may still be what was meant
    defaults = _members(protocols[0]) if protocols[0] in plugin.__mro__ else {}
    missing = [member for member in declared if member not in own or own[member] is defaults.get(member, own)]
    for member in unknown:
        if meant := difflib.get_close_matches(member, missing, n=1, cutoff=NEAR):
            raise ConfigError(f"{kind} {name!r} has {brief(member)}; meant is {meant[0]!r}?")
    required = list(_members(protocols[0]))
    for member in required:
        if member not in own:
            raise ConfigError(
                f"{kind} {name!r} lacks {member!r}.{nearest(member, unknown)} Every {kind} has {', '.join(required)}"
            )
    for member, value in own.items():
        if member in declared and (wrong := _unlike(declared[member], value, member)):
            raise ConfigError(f"{kind} {name!r}: {wrong}")


def _members(protocol: type[Any]) -> dict[str, Any]:
    """Public members of a class by name, inherited ones included."""
    bases = [c for c in reversed(protocol.__mro__) if c.__module__ not in ("builtins", "typing")]
    found = {name: value for base in bases for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if name in CALLED or not name.startswith("_")}


def _unlike(declared: Any, given: Any, member: str) -> str:
    """How a member differs from what is declared: a value where it is a method, or one that is called otherwise."""
    wanted = _function(declared)
    if wanted is None:
        plain = inspect.isfunction(given)
        return f"{member!r} is a value, not a method; put @property before it" if plain else ""
    form = f"{member}({', '.join(_names(wanted, declared))})"
    function = _function(given)
    if function is None and callable(given):
        return ""  # wrapped by something that does not say how it is called
    if function is None:
        shown = "a property" if hasattr(given, "__get__") else "a value"
        return f"{member!r} is {shown}; it should be a method, {form}"
    names, other = _names(wanted, declared), _names(function, given)
    swapped = any(name in other and other.index(name) != place for place, name in enumerate(names))
    if swapped or not _takes(function, given, wanted, declared):
        return f"{member}({', '.join(other)}) should be {form}"
    return ""


def _function(member: Any) -> Any:
    """What is called where the member is a method, or None."""
    function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
    return function if inspect.isfunction(function) else None


def _parameters(function: Any, member: Any) -> list[inspect.Parameter]:
    """Parameters without the object itself."""
    found = list(inspect.signature(function).parameters.values())
    return found if isinstance(member, staticmethod) else found[1:]


def _names(function: Any, member: Any) -> list[str]:
    return [parameter.name for parameter in _parameters(function, member)]


def _takes(function: Any, member: Any, wanted: Any, declared: Any) -> bool:
    """Whether a function can be called as is declared, with and without what has a default."""
    signature = inspect.Signature(_parameters(function, member))
    asked = _parameters(wanted, declared)
    try:
        for given in (asked, [p for p in asked if p.default is p.empty]):
            signature.bind(*(None for _ in given))
    except TypeError:
        return False
    return True
