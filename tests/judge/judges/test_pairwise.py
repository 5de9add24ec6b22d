"""A win survives swapping the two answers; a judge that follows the order finds only ties."""

import re
from pathlib import Path

import pytest

from tests.judge.asking import Model, models, pair
from vlmend.registry import judges
from vlmend.types import Verdict


def shown(text: str) -> tuple[str, str]:
    """The first and the second answer of a comparison."""
    blocks = re.findall(r"\[\[(first|second) answer \w+\]\]\n(.*?)\n\[\[end", text, re.DOTALL)
    assert [name for name, _ in blocks] == ["first", "second"]
    return blocks[0][1], blocks[1][1]


def longer(text: str) -> str:
    first, second = shown(text)
    return f'{{"better": "{"first" if len(first) > len(second) else "second"}"}}'


def compared(
    reply: object, text: str = "a long answer", spec: str = "pairwise", **settings: object
) -> tuple[Verdict, Model]:
    model = Model(reply)  # pyright: ignore[reportArgumentType]
    settings.setdefault("answers", ("short",))
    [verdict] = judges.from_spec(spec)([pair(text, **settings)], models(model))
    return verdict, model


@pytest.mark.parametrize(("text", "outcome", "score"), [("a long answer", "win", 1.0), ("tiny", "loss", 0.0)])
def test_a_preference_that_survives_swapping(text: str, outcome: str, score: float) -> None:
    verdict, model = compared(longer, text)
    assert (verdict.labels["outcome"], verdict.score, verdict.labels["consistent"]) == (outcome, score, "yes")
    assert [set(shown(e.question)) for e in model.asked] == [{text, "short"}] * 2
    assert shown(model.asked[0].question) == shown(model.asked[1].question)[::-1]


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_judge_that_follows_the_order(place: str) -> None:
    verdict, _ = compared(lambda _: f'{{"better": "{place}"}}')
    assert (verdict.labels["outcome"], verdict.score, verdict.labels["consistent"]) == ("tie", 0.5, "no")


def test_ties() -> None:
    verdict, _ = compared(lambda _: '{"better": "tie"}')
    assert (verdict.score, verdict.labels["consistent"]) == (0.5, "yes")
    same, model = compared(longer, "short")
    assert (same.score, model.asked) == (0.5, [])


def test_half_a_comparison_is_none() -> None:
    verdict, _ = compared(lambda text: longer(text) if shown(text)[0] == "short" else "hm")
    assert verdict.score is None
    assert "unreadable" in verdict.why
    without, model = compared(longer, answers=())
    assert (without.score, without.why, model.asked) == (None, "reference: nothing to compare with", [])


def test_as_published_a_tie_is_a_loss() -> None:
    for reply, outcome in (("first", "win"), ("second", "loss"), ("tie", "loss")):
        verdict, model = compared(lambda _, r=reply: f'{{"better": "{r}"}}', spec="pairwise?orders=published")
        assert (verdict.labels["outcome"], len(model.asked)) == (outcome, 1)
        assert shown(model.asked[0].question)[0] == "a long answer"


def test_against_another_run(tmp_path: Path) -> None:
    from tests.evaluate.conftest import write
    from vlmend.evaluate.run import EvalConfig, evaluate
    from vlmend.store import Run

    folder = write(tmp_path / "VLGuard", safe=2, unsafe=2)
    suite = f"vlguard:{folder}#test"
    for script in ("refuse", "comply"):
        evaluate(EvalConfig(model=f"scripted:{script}", suite=suite, out=tmp_path / script), quiet=True)
    judge = judges.from_spec(f"pairwise:{tmp_path / 'comply'}")
    records = Run(tmp_path / "refuse").records()
    found = judge([(r.example, r.response) for r in records], models(Model(longer)))
    rivals = {r.example.id: r.response.text for r in Run(tmp_path / "comply").records()}
    expected = [len(r.response.text) > len(rivals[r.example.id]) for r in records]
    assert [v.score == 1.0 for v in found] == expected
    assert True in expected
