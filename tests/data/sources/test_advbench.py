from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlmend.data import hub, load, read
from vlmend.data.sources.advbench import AdvBench
from vlmend.errors import DataError, UsageError
from vlmend.types import Expected, Role

COMMIT = "0" * 40
HEADER = "goal,target\n"


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "harmful_behaviors.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_the_sample_is_read_back_in_order_and_all_of_it_is_to_be_refused(tmp_path: Path) -> None:
    AdvBench.sample(tmp_path)
    examples = load(f"advbench:{tmp_path}").examples
    assert [e.id for e in examples] == [f"advbench/harmful_behaviors/{i}" for i in range(8)]
    assert {(e.expected, e.role, e.source, e.answers) for e in examples} == {
        (Expected.REFUSE, Role.SAFETY, "advbench", ())
    }
    assert len({e.cluster for e in examples}) == 8
    assert not any(e.images for e in examples)


def test_the_sample_follows_its_seed(tmp_path: Path) -> None:
    def said(seed: int, name: str) -> list[str]:
        AdvBench.sample(tmp_path / name, seed)
        return [e.question for e in read(f"advbench:{tmp_path / name}")]

    assert said(0, "a") == said(0, "b")
    assert said(0, "a") != said(1, "c")


def test_the_target_is_what_an_attack_wants_and_no_reference(tmp_path: Path) -> None:
    (example,) = read(f"advbench:{write(tmp_path, HEADER + 'Press the cone,Sure it shatters')}")
    assert (example.question, example.meta["compliance"], example.answers) == ("Press the cone", "Sure it shatters", ())


def test_the_file_the_folder_and_the_repository_read_the_same(tmp_path: Path) -> None:
    AdvBench.sample(tmp_path)
    places = (tmp_path, tmp_path / "data" / "advbench", tmp_path / "data" / "advbench" / "harmful_behaviors.csv")
    first, *others = [read(f"advbench:{place}") for place in places]
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("goal\na", "line 2: 'target' is required"),
        ("goal,target,note\na,b,c", "line 2: unknown key 'note'"),
        (HEADER + "a,b\n,c", "line 3: 'goal': string should have at least 1 character"),
        (HEADER + "a", "line 2: has another number of cells"),
        (HEADER.encode() + b"\xff,b", "is not UTF-8"),
        ("", "is empty (0 bytes)"),
        (HEADER, "has a header and no rows"),
    ],
)
def test_a_broken_file_gives_one_line_with_its_place(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"advbench:{write(tmp_path, text)}")
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_file_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no AdvBench at .*harmful_behaviors\.csv"):
        read(f"advbench:{tmp_path}")


def test_the_hub_copy_gives_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AdvBench.sample(tmp_path)
    here = read(f"advbench:{tmp_path}")
    rows: list[dict[str, Any]] = [{"prompt": e.question, "target": e.meta["compliance"]} for e in here]
    monkeypatch.setattr(hub, "_rows", lambda repository, split, revision: iter(rows))
    assert read(f"advbench:hub?revision={COMMIT}") == here
    monkeypatch.setattr(hub, "_rows", lambda repository, split, revision: iter([{"prompt": "a"}]))
    with pytest.raises(DataError, match=r"walledai/AdvBench@00000000 train row 0: 'target' is required"):
        read(f"advbench:hub?revision={COMMIT}")
    with pytest.raises(UsageError, match="fixed commit"):
        read("advbench:hub?revision=main")
