"""A model's own thoughts and answers: kept where right, left out or as given where not, and asked for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from vlmend.config import OwnConfig
from vlmend.data.dataset import read
from vlmend.data.own import own
from vlmend.errors import ConfigError, DataError, UsageError
from vlmend.registry import backend_for
from vlmend.types import Decoding, Example, Expected, Finish, Message, Response, Role

SAID = {
    "right": "<think>One and one.</think>Two.",
    "wrong": "<think>Hm.</think>Three.",
    "cut": "<think>One and",
    "silent": "",
    "free": "<think>Let me see.</think>Whatever you like.",
    "failed": "",
}


@dataclass
class Thinker:
    """Says what is written for an example, and counts."""

    fingerprint: str = "thinker"
    asked: list[str] = field(default_factory=list)
    dies_after: int = 99

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example in examples:
            if len(self.asked) == self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(example.id)
            finish = Finish.FAILED if example.id == "failed" else Finish.STOP
            text = "<think>It may burn them.</think>I'm sorry, but I can't." if "harm" in example.question else ""
            yield Response(example.id, example.id, text or SAID[example.id], finish)


def row(name: str, *answers: str, expected: Expected = Expected.ANSWER, role: Role = Role.SAFETY) -> Example:
    return Example(name, (Message("user", (f"{name}?",)),), answers, expected, role=role)


HARMLESS = [row("right", "Two.", "2"), row("wrong", "Two."), row("cut", "Two."), row("silent", "Two."), row("free")]
UNSAFE = row("unsafe", "I won't.", expected=Expected.REFUSE)
FORGOTTEN = row("forgotten", "Two.", role=Role.FORGET)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMEND_CACHE", str(tmp_path))


def kept(examples: Sequence[Example], model: Thinker | None = None, **settings: object) -> dict[str, Example]:
    found = own(examples, model or Thinker(), OwnConfig.model_validate(settings))
    return {example.id: example for example in found(examples)}


def test_what_is_right_is_kept_and_what_is_not_is_left_out_or_as_given() -> None:
    dropped = kept([*HARMLESS, UNSAFE, FORGOTTEN])
    assert list(dropped) == ["right", "free", "unsafe", "forgotten"]
    assert (dropped["right"].reasoning, dropped["right"].answers) == ("One and one.", ("Two.", "2"))
    assert (dropped["free"].reasoning, dropped["free"].answers) == ("Let me see.", ("Whatever you like.",))
    assert (dropped["unsafe"], dropped["forgotten"]) == (UNSAFE, FORGOTTEN)
    given = kept(HARMLESS, wrong="given")
    assert list(given) == [example.id for example in HARMLESS]
    assert given["wrong"] == HARMLESS[1]
    assert given["cut"] == HARMLESS[2]


def test_without_a_judge_whatever_is_said_to_the_end_is_kept() -> None:
    assert list(kept(HARMLESS, right="")) == ["right", "wrong", "free"]


def test_rows_that_share_a_pair_are_left_out_together_and_that_is_counted() -> None:
    def side(example: Example, pair: str) -> Example:
        return replace(example, meta={"pair": pair})

    right, wrong, free = (HARMLESS[i] for i in (0, 1, 4))
    rows = [side(wrong, "a"), side(UNSAFE, "a"), side(free, "b"), side(FORGOTTEN, "b"), right]
    assert list(kept(rows)) == ["free", "forgotten", "right"]
    assert list(kept(rows, wrong="given")) == [example.id for example in rows], "nothing is left out"
    counts = own(rows, Thinker(), OwnConfig()).counts
    assert counts == {
        "with the model's own answer": 2,
        "whose own answer is wrong (left out)": 1,
        "whose other side is left out (left out as well)": 1,
    }
    both = [side(right, "a"), side(wrong, "a"), free]
    assert list(kept(both)) == ["free"], "what was right goes too"
    assert own(both, Thinker(), OwnConfig()).counts["with the model's own answer"] == 1
    lost = [side(right, "a"), side(wrong, "a")]
    with pytest.raises(DataError, match=r"could be kept in none .*other side is left out"):
        kept(lost)


def test_rows_are_counted_by_what_became_of_them() -> None:
    counts = own([*HARMLESS, UNSAFE], Thinker(), OwnConfig()).counts
    assert counts == {
        "with the model's own answer": 2,
        "whose own answer is wrong (left out)": 1,
        "whose own answer was cut off (left out)": 1,
        "that were not answered (left out)": 1,
        "to be refused without any reasoning": 1,
    }


def test_nothing_kept_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match=r"could be kept in none \(whose own answer is wrong \(left out\): 1\)"):
        own([HARMLESS[1]], Thinker(), OwnConfig())


def test_reasoning_before_a_refusal_is_asked_for_and_the_answer_is_the_datas() -> None:
    found = kept([HARMLESS[0], UNSAFE], safety="own")["unsafe"]
    assert (found.reasoning, found.answers, found.prompt) == ("It may burn them.", UNSAFE.answers, UNSAFE.prompt)


def test_reasoning_that_does_not_end_in_a_refusal_is_not_kept(tmp_path: Path) -> None:
    script = tmp_path / "answers.yaml"
    script.write_text('- text: "<think>Easy.</think>Sure, here is how."\n')
    assert "unsafe" not in kept([HARMLESS[0], UNSAFE], safety=f"scripted:{script}")
    assert kept([HARMLESS[0], UNSAFE], safety=f"scripted:{script}", wrong="given")["unsafe"] == UNSAFE


def test_a_killed_run_goes_on_and_the_next_one_asks_nothing() -> None:
    first = Thinker(dies_after=3)
    with pytest.raises(KeyboardInterrupt):
        kept(HARMLESS, first)
    second = Thinker()
    found = kept(HARMLESS, second)
    assert second.asked == [example.id for example in HARMLESS[3:]]
    again = Thinker()
    assert kept(HARMLESS, again) == found
    assert again.asked == []


def test_another_model_request_or_decoding_is_another_answer() -> None:
    kept([HARMLESS[0]])
    for model, settings in ((Thinker("other"), {}), (Thinker(), {"max_new_tokens": 7})):
        kept([HARMLESS[0]], model, **settings)
        assert model.asked == ["right"]
    renamed = Thinker()
    kept([row("right", "Two.")], renamed)
    assert renamed.asked == []


def test_failed_answers_are_asked_for_again() -> None:
    rows = [HARMLESS[0], row("failed", "Two.")]
    kept(rows)
    model = Thinker()
    kept(rows, model)
    assert model.asked == ["failed"]


def test_as_a_source_around_any_other(tmp_path: Path) -> None:
    rows, script = tmp_path / "rows.jsonl", tmp_path / "answers.yaml"
    rows.write_text('{"id": "a", "prompt": "1+1?", "answer": "Two."}\n{"id": "b", "prompt": "2+2?", "answer": "4."}\n')
    script.write_text('- text: "<think>One and one.</think>Two."\n')
    (only,) = read(f"keep_own:(jsonl:{rows})?model=scripted:{script}")
    assert (only.id, only.reasoning, only.answers) == ("a", "One and one.", ("Two.",))
    assert len(read(f"keep_own:(jsonl:{rows}#[:1])?model=scripted:{script}&right=")) == 1
    with pytest.raises(UsageError, match="keep_own needs the model"):
        read(f"keep_own:(jsonl:{rows})")
    with pytest.raises(ConfigError, match="wrong is drop or given"):
        read(f"keep_own:(jsonl:{rows})?model=x&wrong=maybe")
    assert backend_for(f"scripted:{script}")
