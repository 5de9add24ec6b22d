"""The margin is the difference of two log-probabilities, and never a text."""

import pytest

from tests.judge.asking import MODEL, Model, Weigher, models, pair
from vlmend.errors import ConfigError, UsageError
from vlmend.registry import judges


@pytest.mark.parametrize(("yes", "no", "leads"), [(-1.0, -4.0, "yes"), (-4.0, -1.0, "no"), (-2.0, -2.0, "")])
def test_margin(yes: float, no: float, leads: str) -> None:
    weigher = Weigher(str, weight=lambda _, answer: {"Yes": yes, "No": no}[answer])
    judge = judges.from_spec(f"margin:{MODEL}")
    found = judge([pair("whatever", answers=(a,)) for a in ("Yes, it is.", "no", "Norway")], models(weigher))
    assert [v.score for v in found] == [yes - no] * 3
    assert [v.labels["leads"] for v in found] == [leads] * 3
    expected = [None, None] if not leads else [leads == "yes", leads == "no"]
    assert [v.correct for v in found] == [*expected, None]


def test_what_has_no_likelihood_is_unscored() -> None:
    weigher = Weigher(str, weight=lambda _, answer: None if answer == "No" else -1.0)
    [verdict] = judges.from_spec(f"margin:{MODEL}")([pair("x")], models(weigher))
    assert (verdict.score, verdict.correct) == (None, None)
    assert "too long" in verdict.why
    with pytest.raises(UsageError, match="local model"):
        judges.from_spec(f"margin:{MODEL}")([pair("x")], models(Model(str)))
    with pytest.raises(ConfigError, match="two different"):
        judges.from_spec("margin:world?yes=No")


def test_the_tested_model_has_to_be_asked_for() -> None:
    judge = judges.from_spec(f"margin:{MODEL}")
    with pytest.raises(UsageError, match="allow_self=yes"):
        judge([pair("x")], models(Weigher(str)).testing(MODEL))
