"""A judge's name is the spec it can be asked for by; what it is made of goes into its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from vlmend.judge.models import Models
from vlmend.types import AsksModel, Described, Judge


def spec(plugin: str, judge: Any) -> str:
    """`plugin:argument?key=value`, without what is as it is by default."""
    argument, *options = [f for f in fields(judge) if f.init]
    first = _text(judge, argument)
    given = [f"{f.name}={_text(judge, f)}" for f in options if _text(judge, f) != str(_default(f))]
    named = plugin if first in ("", str(_default(argument))) else f"{plugin}:{first}"
    return f"{named}?{'&'.join(given)}" if given else named


def _text(judge: Any, field: Field[Any]) -> str:
    return str(getattr(judge, field.name))


def _default(field: Field[Any]) -> object:
    return "" if field.default is MISSING else field.default


def about(judge: Judge, models: Models) -> Mapping[str, str]:
    """What a judge says it is made of: version, prompt, model. It is known before anything is asked.

    Raises UsageError when the judge may not judge the model under test, or has no model to ask.
    """
    given = models.for_judge(judge.name)
    return judge.about(given) if isinstance(judge, Described) else {}


def asks_model(judge: Judge) -> bool:
    """Whether the judge asks a model, so that what it leaves unscored is news; a rule does so by design."""
    return isinstance(judge, AsksModel) and judge.asks_model


def composition(judges: Iterable[Judge], models: Models) -> str:
    """Several judges and what each is made of, in one line."""
    return "; ".join(f"{j.name} [{', '.join(f'{k} {v}' for k, v in about(j, models).items())}]" for j in judges)


def parts(text: str) -> tuple[str, ...]:
    """The judges named in `(first),(second)`; parentheses are needed only around a comma or options."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return tuple(f[1:-1] if f.startswith("(") and f.endswith(")") else f for f in map(str.strip, found) if f)
