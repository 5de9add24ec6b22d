"""The memory judge reads the model under test, and nothing that was said."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

from tests.judge.asking import Model, pair
from vlmend.errors import ConfigError, UsageError
from vlmend.judge.models import Models
from vlmend.judge.verdicts import verdicts
from vlmend.money import Purse
from vlmend.registry import judges
from vlmend.types import Example, Finish, Likelihood, Verdict

TESTED = "scripted:tested"


@dataclass
class Knows(Model):
    """Gives the token probabilities of a table, by question; a token that has more than half is the likeliest."""

    table: dict[str, list[float] | None] = None  # pyright: ignore[reportAssignmentType]

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        for example, answers in reversed(asked):
            self.asked.append(example)
            found = self.table[example.question]
            for answer in answers:
                if found is None:
                    yield Likelihood(example.id, answer, None, why="too long")
                else:
                    logps = tuple(map(math.log, found))
                    yield Likelihood(
                        example.id, answer, sum(logps), len(logps), "", logps, tuple(p > 0.5 for p in found)
                    )


def judged(model: Model | None, *pairs: tuple[str, str], spec: str = "memory", **tested: object) -> list[Verdict]:
    models = Models(tested=TESTED, answering=model, **tested)  # pyright: ignore[reportArgumentType]
    judge = judges.from_spec(spec)
    asked = [pair(text, question, answers=("The answer.", "Another.")) for text, question in pairs]
    return verdicts(judge, asked, models)


def test_numbers_by_hand() -> None:
    model = Knows(str, table={"Why?": [0.25, 1.0, 1.0, 1.0], "How?": [0.9, 0.9, 0.9, 0.1]})
    first, second = judged(model, ("whatever", "Why?"), ("else", "How?"))
    assert first.scores == pytest.approx(
        {"probability": 0.25**0.25, "total": 0.25, "extraction": 0.75, "min_k": math.log(0.25)}
    )
    assert first.score == first.scores["probability"]
    assert (second.scores["extraction"], second.scores["min_k"]) == (0.0, math.log(0.1))
    assert second.scores["total"] == pytest.approx(0.9**3 * 0.1)
    [wider] = judged(model, ("whatever", "Why?"), spec="memory:50")
    assert wider.scores["min_k"] == pytest.approx(math.log(0.25) / 2)
    assert wider.judge == "memory:50"


def test_what_was_said_makes_no_difference_not_even_silence() -> None:
    model = Knows(str, table={"Why?": [0.5, 0.5]})
    found = judged(model, ("a", "Why?"), ("", "Why?"), ("b", "Why?"))
    assert [v.score for v in found] == [pytest.approx(0.5)] * 3
    assert len(model.asked) == 1  # several answers to a question are one reading


def test_unscored_says_why() -> None:
    model = Knows(str, table={"Why?": None, "How?": [float("inf")]})
    assert [v.why for v in judged(model, ("a", "Why?"), ("a", "How?"))] == [
        "too long",
        "the model gives no finite likelihood",
    ]
    [server] = judged(Model(str), ("a", "Why?"))
    assert server.score is None
    assert server.why == f"{TESTED} cannot say how likely an answer is; a local model can"
    judge, models = judges.from_spec("memory"), Models(tested=TESTED, answering=model)  # pyright: ignore[reportArgumentType]
    [nothing] = judge([pair("a")], models)
    assert nothing.why == "the example has no reference answer"
    [unasked] = judge([pair("a", answers=("x",))], replace(models, purse=Purse(dry=True)))
    assert unasked.why == "not asked: a dry run"


@dataclass
class Whole(Model):
    """Knows how likely an answer is, and not its tokens, as some backends do."""

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        for example, answers in asked:
            yield from (Likelihood(example.id, answer, -1.0, 3) for answer in answers)


def test_what_is_read_is_read_token_by_token() -> None:
    """A sum alone gives no probability per token: it is unscored, not 0 and not an error."""
    [verdict] = judged(Whole(str), ("a", "Why?"))
    assert (verdict.score, dict(verdict.scores)) == (None, {})
    assert verdict.why == "the model gives no finite likelihood"


def test_all_numbers_are_those_of_the_tokens() -> None:
    """Where the sum says something else, as one with an end token does, the tokens of the answer count."""

    class Odd(Knows):
        def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
            for one in super().likelihoods(asked):
                yield replace(one, logprob=-99.0, tokens=7)

    [verdict] = judged(Odd(str, table={"Why?": [0.5, 0.5, 1.0, 1.0]}), ("a", "Why?"))
    assert verdict.scores == pytest.approx(
        {"probability": 0.25**0.25, "total": 0.25, "extraction": 0.5, "min_k": math.log(0.5)}
    )


def test_another_model_under_the_same_name_is_refused() -> None:
    model = Knows(str, table={"Why?": [0.5]})
    assert judged(model, ("a", "Why?"), fingerprint="model")[0].score == 0.5
    with pytest.raises(UsageError, match="no longer the same"):
        judged(replace(model, fingerprint="other"), ("a", "Why?"), fingerprint="model")


def test_a_percentage_is_one() -> None:
    for wrong in (0, 101, -5):
        with pytest.raises(ConfigError, match="from 1 to 100"):
            judges.from_spec(f"memory:{wrong}")


def test_a_failed_answer_is_still_read() -> None:
    model = Knows(str, table={"Why?": [0.5]})
    models = Models(tested=TESTED, answering=model)  # pyright: ignore[reportArgumentType]
    [verdict] = verdicts(judges.from_spec("memory"), [pair("", finish=Finish.FAILED, answers=("x",))], models)
    assert verdict.score == 0.5
