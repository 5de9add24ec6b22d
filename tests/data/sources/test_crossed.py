"""Pictures and questions change partners, and everything else can be accounted for."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluate.conftest import write
from vlmend import data
from vlmend.data.sources.crossed import CELLS, pairs
from vlmend.errors import DataError, VlmendError
from vlmend.types import Example, Expected


def crossed(spec: str) -> list[Example]:
    return list(data.load(f"crossed:{spec}").examples)


def test_each_cell_shows_and_asks_what_its_name_says(tmp_path: Path) -> None:
    folder = write(tmp_path / "VLGuard", safe=4, unsafe=6)
    originals = {e.id: e for e in data.load(f"vlguard:{folder}#test").examples}
    examples = crossed(f"vlguard:{folder}#test")
    assert Counter(e.subset for e in examples) == dict.fromkeys(CELLS, 4)  # 4 to answer, 10 to refuse
    for example in examples:
        unsafe, safe = (originals[name] for name in example.meta["pair"].split(" x "))
        assert (unsafe.expected, safe.expected) == (Expected.REFUSE, Expected.ANSWER)
        assert unsafe.cluster != safe.cluster
        assert example.images == (unsafe if example.subset in ("both", "picture") else safe).images
        assert example.question == (unsafe if example.subset in ("both", "question") else safe).question
        assert example.cluster == example.meta["pair"]
    assert len({e.id for e in examples}) == len(examples)


def test_partners_are_drawn_by_id_and_used_once() -> None:
    examples = list(data.load("world:suite#test?n=12").examples)
    found = list(pairs(examples))
    assert found == list(pairs(examples[::-1]))
    used = [e.id for pair in found for e in pair]
    assert len(used) == len(set(used)) > 4
    assert all(len(a.images) == len(b.images) and a.cluster != b.cluster for a, b in found)


def test_a_slice_is_cut_before_pairs_are_made(tmp_path: Path) -> None:
    spec = f"vlguard:{write(tmp_path / 'VLGuard', safe=20, unsafe=20)}#test"
    held_out = {e.id for e in data.load(f"{spec}[50%:]").examples}
    for example in crossed(f"{spec}[50%:]"):
        assert set(example.meta["pair"].split(" x ")) <= held_out


def test_without_pairs_there_is_a_clear_error(tmp_path: Path) -> None:
    folder = write(tmp_path / "VLGuard", safe=0, unsafe=3)
    with pytest.raises(DataError, match="has no pairs"):
        crossed(f"vlguard:{folder}#test")
    with pytest.raises(VlmendError, match=r"no source named 'vlgard'.*'vlguard'"):
        crossed("vlgard:x#test")
    with pytest.raises(VlmendError, match="no vlguard option named 'turn'"):
        crossed(f"vlguard:{folder}#test?turn=single")
    one = next(iter(data.load("world:suite#test?n=12").examples))
    assert list(pairs([one, replace(one, id="b", expected=Expected.ANSWER)])) == []  # one cluster
