"""Models whose forgetting is known are seen to have forgotten, and at what price."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlmend.backends.scripted import REFUSAL, Scripted
from vlmend.data.sources.safeeraser import SafeEraser
from vlmend.errors import VlmendError
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.evaluate.score import EvalResult
from vlmend.registry import suites
from vlmend.types import Example, Likelihood, Role

N = 12
# without refusals, which would share questions and so answers with what is to be forgotten
SPEC = f"world:unlearning#test?n={N}&parts=forget,decouple,retain"


class Knowing(Scripted):
    """A script that also finds answers as likely as it is told."""

    knows: Callable[[Example], float] = lambda _, __: 0.5

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        for example, answers in asked:
            p = type(self).knows(self, example)
            for answer in answers:
                yield Likelihood(example.id, answer, 4 * math.log(p), 4, "", (math.log(p),) * 4, (p > 0.5,) * 4)


def asked(
    out: Path, reply: Callable[[Example], str], spec: str = SPEC, backend: Any = Scripted, **more: Any
) -> EvalResult:
    config = EvalConfig(model="scripted:refuse", suite=f"forgetting:{spec}", out=out, **more)
    return evaluate(config, backend(reply=reply), quiet=True)


def counts(result: EvalResult, *names: str) -> dict[str, tuple[int, int]]:
    found: dict[str, Any] = dict(result.metrics)
    return {name: (found[name].k, found[name].n) for name in names}


SAID = ("complied", "told", "leaked", "asr", "rr", "irrelevant", "incoherent")
KEPT = ("sarr", "over_refusal", "accuracy", "decoupled")


def as_before(example: Example) -> str:
    return example.answers[0]


def refusing(example: Example) -> str:
    return REFUSAL if example.role is Role.FORGET else example.answers[0]


def refusing_all(example: Example) -> str:
    return REFUSAL


def telling(example: Example) -> str:
    return (
        f"I'm sorry, I can't help with that. {example.answers[0]}"
        if example.role is Role.FORGET
        else example.answers[0]
    )


def elsewhere(example: Example) -> str:
    return "The weather is fine." if example.role is Role.FORGET else example.answers[0]


def babbling(example: Example) -> str:
    return "so it is and so it is and so it is and so it is"


@pytest.mark.parametrize(
    ("reply", "said", "kept"),
    [
        (as_before, (N, N, 0, N, 0, 0, 0), (0, 0, N, N)),
        (refusing, (0, 0, 0, 0, N, 0, 0), (0, 0, N, N)),
        (refusing_all, (0, 0, 0, 0, N, 0, 0), (N, N, 0, 0)),
        (telling, (0, N, N, 0, N, 0, 0), (0, 0, N, N)),
        (elsewhere, (0, 0, 0, N, 0, N, 0), (0, 0, N, N)),
        (babbling, (0, 0, 0, N, 0, N, N), (N, 0, 0, 0)),
    ],
)
def test_models_by_hand(
    tmp_path: Path, reply: Callable[[Example], str], said: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    found = asked(tmp_path, reply)
    assert counts(found, *SAID) == {name: (k, N) for name, k in zip(SAID, said, strict=True)}
    assert counts(found, *KEPT) == {name: (k, N) for name, k in zip(KEPT, kept, strict=True)}
    assert (
        found.metrics["recall"].value == pytest.approx(1.0) if said[1] else (found.metrics["recall"].value or 0) < 0.5
    )
    assert (
        found.metrics["rouge_l"].value == pytest.approx(1.0) if kept[2] else (found.metrics["rouge_l"].value or 0) < 0.5
    )


def test_without_likelihoods_they_are_unscored_and_say_why(tmp_path: Path) -> None:
    found = asked(tmp_path, as_before)
    for name in ("probability", "total", "extraction", "min_k"):
        assert (found.metrics[name].value, found.metrics[name].unscored) == (None, N)
    assert found.unscored == 1.0
    verdict = next(r for r in found.run.records() if r.example.role is Role.FORGET).verdict("memory")
    assert verdict is not None
    assert "cannot say how likely" in verdict.why


def test_likelihoods_of_a_known_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Knowing, "knows", lambda _, e: 0.1 if e.role is Role.FORGET else 0.9)
    found = asked(tmp_path, refusing, backend=Knowing).metrics
    wanted = {"probability": 0.1, "total": 1e-4, "extraction": 0.0, "min_k": 0.1, "retained": 0.9}
    assert {name: found[name].value for name in wanted} == pytest.approx(wanted)
    assert found["probability"].n == N
    assert "membership" not in found


@pytest.mark.parametrize(("seen", "new", "apart"), [(0.9, 0.1, 1.0), (0.1, 0.9, 0.0), (0.5, 0.5, 0.5)])
def test_membership_compares_with_what_was_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: float, new: float, apart: float
) -> None:
    monkeypatch.setattr(Knowing, "knows", lambda _, e: new if e.subset == "holdout" else seen)
    spec = f"({SPEC})?holdout=(world:unlearning#test?n={N}&seed=1)"
    found = asked(tmp_path, refusing, spec, Knowing).metrics
    assert found["membership"].value == apart
    assert found["membership"].n == 2 * N
    assert found["probability"].n == N  # of what was to be forgotten alone
    assert found["probability"].value == pytest.approx(seen)


def test_a_word_in_front_changes_what_is_asked_and_not_who_is_counted(tmp_path: Path) -> None:
    def by_word(example: Example) -> str:
        return REFUSAL if example.question.startswith("Share") else example.answers[0]

    plain = asked(tmp_path / "plain", by_word)
    shared = asked(tmp_path / "share", by_word, attack=("one_word:share",))
    assert counts(plain, "over_refusal")["over_refusal"] == (0, N)  # safe requests never begin with it
    changed = counts(shared, "over_refusal")["over_refusal"][0]  # some requests make no sense with that word
    assert N / 2 < changed <= N
    assert counts(shared, "accuracy")["accuracy"] == (N - changed, N)


def test_silence_is_unscored_where_it_is_said_and_read_where_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Knowing, "knows", lambda _, __: 0.3)
    found = asked(tmp_path, lambda e: "" if e.role is Role.FORGET else e.answers[0], backend=Knowing).metrics
    for name in SAID:
        assert (found[name].n, found[name].unscored) == (0, N)
    assert found["probability"].value == pytest.approx(0.3)
    assert found["empty"].value is not None
    assert found["empty"].value > 0


def test_safeeraser_without_known_compliance_is_told_by_words(tmp_path: Path) -> None:
    SafeEraser.sample(tmp_path / "data")
    spec = f"safeeraser:{tmp_path / 'data'}#train"
    found = asked(tmp_path / "run", as_before, spec)
    assert found.metrics["complied"].n == found.metrics["complied"].unscored == 0
    assert counts(found, "told")["told"][0] == counts(found, "told")["told"][1] > 0
    assert found.metrics["rouge_l"].value == pytest.approx(1.0)


def test_a_wrong_source_or_option_is_told_at_once() -> None:
    for spec, told in (
        ("forgetting:wrld:unlearning", "no source named 'wrld'"),
        ("forgetting:(world:unlearning)?holdout=(wrld)", "no source named 'wrld'"),
        ("forgetting:(world:unlearning)?houldout=(world)", "no forgetting option named 'houldout'"),
    ):
        with pytest.raises(VlmendError, match=told):
            suites.from_spec(spec)


def test_parentheses_hold_a_source_whole() -> None:
    plain = suites.from_spec(f"forgetting:{SPEC}")
    assert suites.from_spec(f"forgetting:({SPEC})") == plain
    assert plain.sources == (SPEC,)
    both = suites.from_spec(f"forgetting:({SPEC})?holdout=({SPEC}&seed=1)")
    assert both.sources == (SPEC, f"holdout:{SPEC}&seed=1")
    assert replace(both, holdout="") == plain
