"""Known controls before a run's first real question: who is asked them, what came of it, and who is refused for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vlmend.errors import UsageError
from vlmend.judge import controls
from vlmend.judge.binding import Binding
from vlmend.judge.controls import FAILED, NONE, NOT_ASKED, PASSED, UNSCORED, Outcome
from vlmend.judge.models import Models, is_local
from vlmend.judge.naming import about, asks_model
from vlmend.types import Judge, digest

Result = Mapping[str, Any]
Noted = Mapping[str, Result]
"""What came of the controls of each judge, as the manifest of a run says."""

INSIST = "--judge-controls mark"


def try_judges(
    judges: Iterable[Judge], binding: Binding, models: Models, noted: Noted, say: Callable[..., None],
    *, loading: bool = True,
) -> dict[str, Result]:  # fmt: skip
    """Put their known controls to judges that are about to be asked; what came of it by judge, for the manifest.

    What was found out before, of a judge of the same making, in this run or by this process, is not asked again.
    Without `loading`, models that would have to be loaded here are left for later. Raises UsageError for a judge that
    fails.
    """
    found: dict[str, Result] = {}
    for judge in judges:
        if not asks_model(judge) or not (loading or _served(judge, binding, models)):
            continue
        key = _key(judge, binding, models)
        row = _known(key, judge, noted, models)
        new = row is None
        if row is None:
            row = _try(key, judge, binding, models)
        if row["state"] == FAILED and models.controls == "refuse":
            raise UsageError(
                f"judge {judge.name} {controls.from_json(row).told(judge.name)}; at least three quarters of either"
                f" kind should be right, so name another model, or have it judge all the same and its numbers"
                f" marked: {INSIST}"
            )
        if new:
            _tell(judge.name, controls.from_json(row), say)
        found[judge.name] = row
    return found


def expect(judge: Judge, binding: Binding, models: Models, noted: Noted) -> int:
    """Have a dry purse expect the controls of a judge; how many there are."""
    key = _key(judge, binding, models) if asks_model(judge) else ""
    if not key or models.controls == "none" or _known(key, judge, noted, models) is not None:
        return 0
    return controls.from_json(_try(key, judge, binding, models)).n


def _questions(judge: Judge, binding: Binding) -> list[str]:
    return [question for question, names in binding.asks.items() if judge.name in names]


def _key(judge: Judge, binding: Binding, models: Models) -> str:
    """What the outcome of controls depends on."""
    due = [[one.name, question] for one, question in controls.due(judge, _questions(judge, binding))]
    return digest(controls.version(), judge.name, dict(about(judge, models)), due)


def _known(key: str, judge: Judge, noted: Noted, models: Models) -> Result | None:
    """What is known of a judge. One that failed and is not insisted on is asked again: its model may be another now."""
    if key in models.tried:
        return models.tried[key]
    settled = (PASSED, NONE) if models.controls == "refuse" else (PASSED, NONE, FAILED)
    for row in controls.makings(noted.get(judge.name, {})):
        if row.get("of") == key and row.get("state") in settled:
            return row
    return {"of": key, "made_of": dict(about(judge, models)), "state": NOT_ASKED} if models.controls == "none" else None


def _try(key: str, judge: Judge, binding: Binding, models: Models) -> Result:
    """Ask the controls now; this process does so once."""
    outcome = controls.ask(judge, _questions(judge, binding), models)
    models.tried[key] = {"of": key, "made_of": dict(about(judge, models)), **outcome.to_json()}
    return models.tried[key]


def _tell(name: str, outcome: Outcome, say: Callable[..., None]) -> None:
    """Say what is wrong with a judge that will be asked all the same."""
    if outcome.state == FAILED:
        say(f"judge {name} {outcome.told(name)}; its numbers are marked", style="bold yellow")
    elif outcome.state == UNSCORED:
        lost = f"{outcome.unscored} of {outcome.n} known controls unscored"
        say(f"judge {name}: {lost}, among others because: {outcome.why}", style="bold yellow")


def _served(judge: Judge, binding: Binding, models: Models) -> bool:
    """Whether all of the models that its controls are for answer without being loaded here."""
    asked = [about(one, models) for one, _ in controls.due(judge, _questions(judge, binding))]
    return not any(is_local(made_of.get("model", "")) for made_of in asked)
