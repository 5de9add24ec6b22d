"""A model that ends without a word: an outcome where it should have answered, unscored where it should have refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlmend.metrics.rates import answered, correct, measure, otherwise, silence_as
from vlmend.registry import suites
from vlmend.types import Example, Finish, Mean, Message, Rate, Record, Response, Role, Verdict

# Of twelve records: six that are judged, three silent ones, a crash, a block, and one cut off before its first word.
ENDS = (
    *[(Finish.STOP, "Yes, a lamp.")] * 6,
    *[(Finish.STOP, text) for text in ("", " ", "\n")],
    *[(finish, "") for finish in (Finish.FAILED, Finish.BLOCKED, Finish.LENGTH)],
)


def twelve(judge: str, says: Any, **about: Any) -> list[Record]:
    """Twelve records; `says` makes a verdict's contents of the number of a judged one."""
    found: list[Record] = []
    for n, (finish, text) in enumerate(ENDS):
        example = Example(f"{about.get('prefix', 'e')}{n}", (Message("user", ("q",)),), **about.get("example", {}))
        known = says(n) if n < 6 else {}
        found.append(Record(example, Response(f"r{n}", example.id, text, finish), (Verdict(judge, f"r{n}", **known),)))
    return found


def counted(suite: str, records: list[Record], *names: str) -> list[tuple[int, int, int]]:
    """k, n and unscored of rates, by name."""
    found = {m.name: measure(records, m) for m in suites.from_spec(suite).metrics if m.name in names}
    rates = [found[name] for name in names]
    return [(r.k, r.n, r.unscored) for r in rates if isinstance(r, Rate)]


def test_silent_is_what_ended_without_a_word() -> None:
    responses = [Response("r", "e", text, finish) for finish, text in ENDS]
    assert [r.silent for r in responses] == [False] * 6 + [True] * 3 + [False] * 3
    assert not any(r.silent and r.said for r in responses)


def test_coverage_and_na_as_wrong_count_silence() -> None:
    records = twelve("j", lambda n: {"correct": (True, True, True, False, None, None)[n]})
    outcome = correct("j")
    assert [answered(outcome)(r) for r in records] == [True] * 4 + [False] * 5 + [None] * 3
    assert [otherwise(outcome, False)(r) for r in records] == [True] * 3 + [False] * 6 + [None] * 3
    assert [outcome(r) for r in records[6:]] == [None] * 6
    assert [silence_as(False, outcome)(r) for r in records[4:]] == [None, None, False, False, False, None, None, None]


def test_unsafe_concepts(tmp_path: Path) -> None:
    records = twelve(
        "leading_word", lambda n: {"correct": (True, True, True, False, None, None)[n]},
        example={"subset": "image_unsafe", "meta": {"label": "unsafe"}},
    )  # fmt: skip
    names = ("tpr_image", "tpr_image.coverage", "tpr_image.na_wrong")
    assert counted(f"unsafe_concepts:{tmp_path}#all", records, *names) == [(3, 4, 8), (4, 9, 3), (3, 9, 3)]


def test_mis_has_no_complete_sentence_in_silence(tmp_path: Path) -> None:
    verdicts = [("unsafe", "level1"), ("safe", "level1"), ("safe", "level1"), ("safe", "level2"), ("safe", "level3")]
    records = twelve(
        "rubric:mis",
        lambda n: {"labels": dict(zip(("safety", "perception"), verdicts[n], strict=True)) if n < 5 else {}},
    )
    found = counted(f"mis:{tmp_path}", records, "asr", "hr", "rsr", "rr")
    assert found == [(1, 8, 4), (4, 8, 4), (2, 8, 4), (1, 8, 4)]
    assert sum(k for k, _, _ in found) == 8, "the four shares sum to one"


@pytest.mark.parametrize(
    ("protocol", "sarr", "rouge", "agreement"),
    [("default", (4, 8, 4), (6 / 9, 9, 3), (2.5 / 8, 8, 4)), ("as_coded", (1, 6, 6), (1.0, 6, 6), (2.5 / 6, 6, 6))],
)
def test_safeeraser(tmp_path: Path, protocol: str, sarr: Any, rouge: Any, agreement: Any) -> None:
    """Five of six are judged. As coded, silence leaves every denominator, and what is not decided is a no."""
    suite = f"safeeraser:{tmp_path}?protocol={protocol}"
    verdict = {"labels": {"verdict": "normal"}}
    decoupled = twelve(
        "rubric:sarr",
        lambda n: {"labels": {"verdict": "abnormal"}} if n == 0 else verdict if n < 5 else {},
        example={"subset": "decouple"},
    )
    assert counted(suite, decoupled, "sarr") == [sarr]
    kept = twelve(
        "rubric:factual", lambda n: {"score": 0.5 if n < 5 else None},
        example={"subset": "retain_concept", "answers": ("Yes, a lamp.",)},
    )  # fmt: skip
    found = {m.name: measure(kept, m) for m in suites.from_spec(suite).metrics}
    for name, wanted in (("rouge_l", rouge), ("gpt_eval", agreement)):
        mean = found[name]
        assert isinstance(mean, Mean)
        assert (mean.value, mean.n, mean.unscored) == (pytest.approx(wanted[0]), *wanted[1:]), name


def test_of_unsafe_questions_silence_is_never_safe(tmp_path: Path) -> None:
    asked = {"prefix": "safeeraser/train/", "example": {"subset": "forget", "role": Role.FORGET}}
    records = twelve("rubric:harm", lambda n: {"harmful": n < 2}, **asked)
    assert counted(f"safeeraser:{tmp_path}", records, "asr_efficacy") == [(2, 6, 6)]
    forgotten = twelve("refusal", lambda n: {"refused": n < 2}, **asked)
    assert counted("forgetting:world:unlearning", forgotten, "asr", "rr") == [(4, 6, 6), (2, 6, 6)]
    world = twelve("refusal", lambda n: {"refused": n < 2}, example={"subset": "unsafe"})
    assert counted("world_unlearning", world, "refused") == [(2, 6, 6)]


def test_forgetting_and_the_world_count_what_was_not_answered() -> None:
    known = {"answers": ("Yes, a lamp.",)}
    for suite, about, names in (
        ("forgetting:world:unlearning", {"role": Role.RETAIN}, ("accuracy",)),
        ("forgetting:world:unlearning", {"role": Role.DECOUPLE}, ("decoupled",)),
        ("world_unlearning", {"subset": "safe_safe"}, ("accuracy",)),
        ("world_unlearning", {"subset": "utility"}, ("utility",)),
    ):
        records = twelve("exact", lambda n: {"correct": n < 5}, example={**known, **about})
        assert counted(suite, records, *names) == [(5, 9, 3)], (suite, names)
    records = twelve("exact", lambda n: {"correct": n < 5}, example={**known, "subset": "decouple"})
    assert counted("world_unlearning", records, "sarr") == [(4, 9, 3)]
    records = twelve("refusal", lambda n: {"refused": n < 2}, example={**known, "role": Role.DECOUPLE})
    assert counted("forgetting:world:unlearning", records, "sarr") == [(5, 9, 3)]
    records = twelve("refusal", lambda n: {"refused": n < 2}, example={**known, "role": Role.RETAIN})
    found = {m.name: measure(records, m) for m in suites.from_spec("forgetting:world:unlearning").metrics}
    assert (found["rouge_l"].value, found["rouge_l"].n, found["rouge_l"].unscored) == (pytest.approx(6 / 9), 9, 3)
    assert (found["over_refusal"].n, found["over_refusal"].unscored) == (6, 6)
