from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.audit.made import example, rows
from tests.data.files import write_jsonl
from vlmend.audit.rows import Rows, opening, read, words
from vlmend.errors import DataError
from vlmend.types import Expected


def test_words_are_lower_case_with_their_apostrophes() -> None:
    assert words("Can’t I? N/A, O'Neill's 2nd") == ["can't", "i", "n", "a", "o'neill", "s", "2nd"]
    assert opening("Sure, it is.", 2) == "sure it"
    assert opening("…", 2) == ""


def test_a_fold_cuts_no_cluster() -> None:
    made = Rows("made", tuple(example(f"e{i}", "What?", i % 2 == 0, cluster=f"c{i % 40}") for i in range(400)))
    about = made.labeled
    folds = {(int(c), int(f)) for c, f in zip(about.cluster, about.fold, strict=True)}
    assert len(folds) == 40
    assert len({f for _, f in folds}) == 5


def test_the_bag_says_which_words_and_not_how_often() -> None:
    made = rows(("What is what", True), ("", False), ("Is it?", False))
    assert made.vocabulary == ["what", "is", "it"]
    assert made.bag.toarray().tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]
    assert made.first_words() == ["what", "", "is"]


def test_reasoning_counts_with_refusing() -> None:
    reason = replace(example("a", "What?", True), expected=Expected.REASON)
    assert Rows("made", (reason, example("b", "What?", False))).refused.tolist() == [True, False]


def test_taking_all_is_the_same() -> None:
    made = rows(("What?", True), ("Why?", False))
    assert made.take(np.array([True, True])) == made


def test_pairs_are_refused_with_a_reason(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Hi?", "chosen": "Hello.", "rejected": "No."}])
    with pytest.raises(DataError, match="preference pairs"):
        read(f"jsonl:{file}")
