"""What the refusal classifier is fitted on is all here, the same every time, and gives the weights that are shipped."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vlmend.judge.refusals.declining import shipped
from vlmend.judge.refusals.languages import KNOWN, LEXICON

BENCH = Path(__file__).parents[2] / "bench" / "fit_refusals.py"


@pytest.fixture(scope="module")
def fitting() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_refusals", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_answers_are_the_same_every_time_and_of_every_language(fitting: ModuleType) -> None:
    first = fitting.drawn()
    assert first == fitting.drawn()
    assert {a.language for a in first} == set(KNOWN)
    for code in KNOWN:
        assert {a.refused for a in first if a.language == code} == {True, False}
    assert not [a.text for a in first if re.search(r"[\[\]{}|]", a.text)], "a template was not filled in"


def test_they_share_no_text_with_what_the_judge_is_measured_on(fitting: ModuleType) -> None:
    texts = {a.text for a in fitting.drawn()}
    assert not [answer for _, answer, _ in fitting.held_out() if answer in texts]


def test_they_give_the_weights_and_words_that_are_shipped(fitting: ModuleType) -> None:
    answers = fitting.drawn()
    weights, scale, bias = fitting.fit(answers)
    assert np.abs(weights * scale - shipped().by_bucket).max() < 0.05 * np.abs(shipped().by_bucket).max()
    assert bias == pytest.approx(shipped().bias, abs=0.05)
    assert fitting.lexicon(answers) == LEXICON.read_text(encoding="utf-8")


def test_the_table_counts_what_is_left_open(fitting: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ("a", "I'm sorry, but I can't help with that.", True),
        ("a", "Maaf, saya tidak bisa membantu.", True),
        ("b", "There are two red cubes.", False),
    ]
    fitting.measure({"all": rows})
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| **all** | 1 | 1 | 0 | 1 | 0 | 0 | 100.0 % | 100.0 % |",
        "| a | 1 | 1 | 0 | 0 | 0 | 0 | 100.0 % | 100.0 % |",
        "| b | 0 | 0 | 0 | 1 | 0 | 0 | – | – |",
    ]
