from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.files import png, write_jsonl, write_vlguard
from vlmend.data import dataset
from vlmend.data.dataset import fingerprint_of, load_pairs, read, read_any, read_pairs
from vlmend.data.slices import Slice
from vlmend.data.sources.beavertails_v import BeaverTailsV
from vlmend.data.sources.spa_vl import SpaVL
from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Pair


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    SpaVL.sample(tmp_path / "spa")
    return tmp_path / "spa"


def pair(name: str, picture: Image, rejected: tuple[Image, ...] | None = None) -> Pair:
    return Pair(name, (Message("user", (picture, "q")),), "yes", "no", rejected_images=rejected)


def test_who_needs_the_other_kind_is_told(tmp_path: Path, pairs: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "q", "answer": "a"}])
    with pytest.raises(DataError, match=r"spa_vl:.* holds preference pairs \(.*\); examples are needed here"):
        read(f"spa_vl:{pairs}#train")
    with pytest.raises(DataError, match=r"jsonl:.* holds examples; preference pairs \(.*\) are needed here"):
        read_pairs(f"jsonl:{rows}")


def test_reading_any_gives_what_reading_the_right_kind_gives(tmp_path: Path, pairs: Path) -> None:
    guard = write_vlguard(tmp_path, pictures=False)
    spec = f"vlguard:{guard}#train[:40%]"
    assert tuple(read_any(spec)) == read(spec)
    assert [p.id for p in read_any(f"spa_vl:{pairs}#train")] == [p.id for p in read_pairs(f"spa_vl:{pairs}#train")]


def one_then_a_fault() -> Iterator[Pair]:
    yield pair("a", Image(Path("a.png")))
    raise AssertionError("read too far")


def test_reading_any_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_open", lambda _spec: (one_then_a_fault(), None))
    assert next(read_any("somewhere")).id == "a"


def test_a_count_does_not_read_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_open", lambda _spec: (one_then_a_fault(), Slice(0, 1, percent=False)))
    assert [p.id for p in read_any("somewhere")] == ["a"]


def test_reading_any_refuses_a_second_use_of_an_id_and_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    one = pair("a", Image(Path("a.png")))
    for items, says in (([one, one], "uses the id 'a' more than once"), ([], "has no examples")):
        monkeypatch.setattr(dataset, "_open", lambda _spec, items=items: (items, None))
        stream = read_any("somewhere")
        with pytest.raises(DataError, match=says):
            list(stream)


def test_a_wrong_spec_is_refused_before_the_first_item() -> None:
    with pytest.raises(ValueError, match="no source named"):
        read_any("nothing:here")


def ids(spec: str) -> list[str]:
    return [p.id for p in read_pairs(spec)]


@pytest.mark.parametrize("cut", [20, 50, 80])
def test_two_slices_of_pairs_partition_the_set(tmp_path: Path, cut: int) -> None:
    BeaverTailsV.sample(tmp_path)
    spec = f"beavertails_v:{tmp_path}"
    whole = read_pairs(f"{spec}#train")
    left, right = ids(f"{spec}#train[:{cut}%]"), ids(f"{spec}#train[{cut}%:]")
    assert sorted(left + right) == sorted(p.id for p in whole)
    assert ids(f"{spec}#train[:3]") == [p.id for p in whole[:3]]
    assert ids(f"{spec}#train[3:]?by=helpful") == [p.id for p in whole[3:]]


def written(folder: Path) -> str:
    rows = [{"id": i, "image": f"{i}.png", "question": "q", "chosen": "a", "rejected": "b"} for i in range(4)]
    write_jsonl(folder / "lines", rows)
    (folder / "train.json").write_text("[" + ",".join((folder / "lines").read_text().splitlines()) + "]")
    return f"spa_vl:{folder / 'train.json'}"


def test_missing_pictures_of_pairs_are_counted_or_stood_in_for(tmp_path: Path) -> None:
    spec = written(tmp_path)
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png((i, 0, 0)))
    with pytest.raises(DataError, match=r"need 4 pictures; 1 are missing, first .*3\.png"):
        load_pairs(spec)
    data = load_pairs(spec, missing_images="placeholder")
    assert data.placeholders == 1
    assert "1 missing" in data.warning
    assert [p.images[0].path is None for p in data.pairs] == [False, False, False, True]


def test_a_broken_picture_of_a_pair_is_named(tmp_path: Path) -> None:
    spec = written(tmp_path)
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"0\.png is not a readable picture \(and 3 more\)"):
        load_pairs(spec)


def test_pictures_of_the_rejected_side_are_checked_and_stood_in_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    shown, other = Image(tmp_path / "a.png"), Image(tmp_path / "b.png")
    monkeypatch.setattr(dataset, "_open", lambda _spec: ([pair("a", shown, (other,))], None))
    with pytest.raises(DataError, match=r"b\.png"):
        load_pairs("somewhere")
    (found,) = load_pairs("somewhere", missing_images="placeholder").pairs
    assert found.images[0] == shown
    assert found.rejected_images is not None
    assert found.rejected_images[0].read()


def test_the_fingerprint_of_pairs_moves_with_both_answers_and_pictures() -> None:
    one = pair("a", Image(Path("a.png")))
    same = pair("a", Image(Path("a.png")))
    others = [
        replace(one, chosen="no", rejected="yes"),
        replace(one, rejected="never"),
        replace(one, category="x"),
        replace(one, rejected_images=()),
        replace(one, rejected_images=(Image(Path("b.png")),)),
        pair("a", Image(Path("b.png"))),
    ]
    assert fingerprint_of([one]) == fingerprint_of([same])
    assert len({fingerprint_of([p]) for p in (one, *others)}) == 7


def test_what_is_learned_of_an_example_is_part_of_its_data() -> None:
    def example(learned: bool) -> Example:
        turns = (Message("user", ("Hi",)), Message("assistant", ("Red.",), supervised=learned), Message("user", ("?",)))
        return Example("a", turns, ("Blue.",))

    assert fingerprint_of([example(True)]) != fingerprint_of([example(False)])
