"""Who is under test, so that nobody judges itself: the run's model, and the rewards its adapter was tuned with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmend.errors import StoreError, UsageError
from vlmend.judge.desk import Tested
from vlmend.registry import Spec
from vlmend.store import read_json

REWARDS = ("reward", "rewards", "judge", "judges")  # keys of a recipe's method that name what tuning was steered by


def under_test(model: str, fingerprint: str = "") -> Tested:
    """A model spec with what can be found out about its tuning: the manifest beside its adapter or weights."""
    folder = Path(model.removeprefix("hf:").rpartition("+")[2]).expanduser()
    try:
        about = read_json(folder / "manifest.json")
    except StoreError:
        return Tested(model, fingerprint)
    recipe = about.get("recipe")
    method = recipe.get("method") if isinstance(recipe, Mapping) else None
    return Tested(model, fingerprint, tuple(dict.fromkeys(_named(method, inside=False))))


def _named(data: Any, *, inside: bool) -> Iterator[str]:
    """Every text below a key that names rewards."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _named(value, inside=inside or key in REWARDS)
    elif isinstance(data, list):
        for value in data:
            yield from _named(value, inside=inside)
    elif inside and isinstance(data, str):
        yield data


def _alike(judge: str, reward: str) -> bool:
    """Whether two specs name one judge, whatever their options."""
    try:
        return Spec.parse(judge)[:2] == Spec.parse(reward)[:2]
    except UsageError:  # a recipe may name other things than judges there
        return False


def refuse_reward(judge: str, whom: Tested) -> None:
    """Raise UsageError when the judge was the reward of the model it is to judge."""
    if any(_alike(judge, reward) for reward in whom.rewards):
        mark = "&" if "?" in judge else "?"
        raise UsageError(
            f"judge {judge} was the reward that {whom.model} was tuned with, and says nothing about it; if that is what"
            f" you want to see, ask for it by name: --judge '{judge}{mark}allow_self=yes'"
        )
