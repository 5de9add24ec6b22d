"""The one rule about judging: only what was said, and a judge that fails has said nothing."""

from collections.abc import Sequence

import pytest

from vlmend.judge.models import Models
from vlmend.judge.verdicts import Pair, verdicts
from vlmend.types import Example, Finish, Message, Response, Verdict


class Planted:
    """Refused = True for everything, unless told to misbehave."""

    name = "planted"
    answers = ("refused",)

    def __init__(self, how: str = "") -> None:
        self.how, self.seen = how, list[str]()

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        del models
        self.seen += [r.id for _, r in pairs]
        if self.how == "raises" and any(r.id == "r2" for _, r in pairs):
            raise RuntimeError("boom")
        found = [Verdict("wrong name", r.id, refused=True, score=float("nan")) for _, r in pairs]
        if self.how == "short":
            return found[:-1]
        if self.how == "shifted":
            return [Verdict("planted", f"x{v.response_id}", refused=True) for v in found]
        return found


def pairs(finishes: Sequence[Finish] = (Finish.STOP,) * 4, texts: Sequence[str] = ("a",) * 4) -> list[Pair]:
    example = Example("e", (Message("user", ("q",)),))
    return [(example, Response(f"r{i}", "e", t, f)) for i, (f, t) in enumerate(zip(finishes, texts, strict=True))]


def test_only_what_was_said_reaches_the_judge() -> None:
    judge = Planted()
    finishes = [Finish.STOP, Finish.FAILED, Finish.BLOCKED, Finish.LENGTH]
    found = verdicts(judge, pairs(finishes, ["", "text", "text", "said"]), Models())
    assert judge.seen == ["r3"]
    assert [v.refused for v in found] == [None, None, None, True]
    assert [v.response_id for v in found] == ["r0", "r1", "r2", "r3"]
    assert all(v.why for v in found[:3])
    assert {v.judge for v in found} == {"planted"}
    assert found[3].score is None


@pytest.mark.parametrize(
    ("how", "refused"),
    [("raises", [True, True, None, True]), ("short", [None] * 4), ("shifted", [None] * 4)],
)
def test_misbehaving_judge(how: str, refused: list[bool | None]) -> None:
    found = verdicts(Planted(how), pairs(), Models())
    assert [v.refused for v in found] == refused
    assert all(v.why.startswith("judge failed") for v in found if v.refused is None)


def test_nothing_to_judge() -> None:
    assert verdicts(Planted("raises"), [], Models()) == []
