"""What is kept comes back bit by bit, in whatever process; what was not wholly written is not there; bounds hold."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vlmend.errors import StoreError
from vlmend.models import kept
from vlmend.models.kept import Entry, Memory, Shelf, size_of
from vlmend.store import Journal

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def entry(seed: int, dtype: torch.dtype = torch.float32, rows: int = 3) -> Entry:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows, 5, 7, generator=generator).to(dtype)
    return {"pooler_output.0": numbers, "pooler_output.1": numbers[0, :1].t(), "deepstack_features.0.1": numbers[1, 0]}


def same(one: Entry | None, two: Entry) -> bool:
    return one is not None and list(one) == list(two) and all(torch.equal(one[n], two[n]) for n in two)


def in_another_process(work: Callable[[], None]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shelf_gives_back_the_same_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    shelf = Shelf(tmp_path, "one")
    entries = {(f"{i}", "more"): entry(i, dtype) for i in range(3)}
    for key, found in entries.items():
        assert shelf.get(key) is None
        shelf.put(key, found)
        assert same(shelf.get(key), found)
    for again in (shelf, Shelf(tmp_path, "one")):
        assert len(again) == 3
        assert all(same(again.get(key), found) for key, found in entries.items())
        assert all(t.dtype == dtype for key in entries for t in (again.get(key) or {}).values())
    assert len(Shelf(tmp_path, "another")) == 0


def test_what_is_changed_in_place_is_not_changed_in_the_file(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "one")
    shelf.put(("a",), entry(0))
    for tensor in (shelf.get(("a",)) or {}).values():
        tensor.zero_()
    assert same(Shelf(tmp_path, "one").get(("a",)), entry(0))


def test_processes_read_one_another_while_they_run(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "one")
    shelf.put(("mine",), entry(0))

    def work() -> None:
        other = Shelf(tmp_path, "one")
        assert same(other.get(("mine",)), entry(0))
        other.put(("theirs",), entry(1))

    assert in_another_process(work) == 0
    assert same(shelf.get(("theirs",)), entry(1))
    shelf.put(("after",), entry(2))
    assert len(list(shelf.folder.glob("*.bin"))) == 2  # a file for each process
    assert len(Shelf(tmp_path, "one")) == 3


def test_a_process_killed_between_numbers_and_index_leaves_nothing_that_is_believed(tmp_path: Path) -> None:
    def work() -> None:
        shelf = Shelf(tmp_path, "one")
        shelf.put(("whole",), entry(0))
        Journal.append = lambda self, *rows: os.kill(os.getpid(), signal.SIGKILL)
        shelf.put(("half",), entry(1))

    assert in_another_process(work) == -signal.SIGKILL
    numbers = next(tmp_path.rglob("*.bin"))
    assert numbers.stat().st_size > 1.5 * size_of(entry(0))  # those of both are there
    shelf = Shelf(tmp_path, "one")
    assert same(shelf.get(("whole",)), entry(0))
    assert shelf.get(("half",)) is None
    shelf.put(("half",), entry(1))
    assert same(Shelf(tmp_path, "one").get(("half",)), entry(1))


@pytest.mark.parametrize("harm", ["line", "short", "changed"])
def test_what_is_damaged_is_not_there_and_can_be_kept_again(tmp_path: Path, harm: str) -> None:
    first = Shelf(tmp_path, "one")
    first.put(("a",), entry(0))
    first.put(("b",), entry(1))
    index, numbers = next(tmp_path.rglob("*.jsonl")), next(tmp_path.rglob("*.bin"))
    if harm == "line":
        index.write_bytes(index.read_bytes()[:-9])
    else:
        data = bytearray(numbers.read_bytes())
        data[-40 if harm == "changed" else 0] ^= 0 if harm == "short" else 1
        numbers.write_bytes(data if harm == "changed" else data[:-40])
    shelf = Shelf(tmp_path, "one")
    assert same(shelf.get(("a",)), entry(0))
    assert shelf.get(("b",)) is None
    shelf.put(("b",), entry(1))
    assert same(shelf.get(("b",)), entry(1))


def test_a_full_disk_is_said_once_and_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(tmp_path, "one")
    shelf.put(("a",), entry(0))

    def full(*_: object) -> int:
        raise StoreError("no space left")

    monkeypatch.setattr(kept, "append_whole", full)
    for name in "bcd":
        shelf.put((name,), entry(1))
        assert shelf.get((name,)) is None
    assert same(shelf.get(("a",)), entry(0))
    assert [r.message for r in caplog.records] == ["no more vision features are kept: no space left"]


@pytest.mark.parametrize("room", [0, 1, 2.5, 4])
def test_memory_holds_what_was_used_last_within_its_bound(room: float) -> None:
    each = size_of(entry(0))
    memory = Memory(room * each)
    used: list[str] = []
    for name in "abcabdaadbeab":
        found = memory.get((name,))
        expected = name in used[: int(room)]
        assert (found is not None) is expected
        if found is None:
            memory.put((name,), entry(ord(name)))
        else:
            assert same(found, entry(ord(name)))
        used = [name, *(other for other in used if other != name)]
        assert memory.held == each * len(memory) <= room * each
