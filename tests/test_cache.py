"""Replies that were paid for outlive the process that got them, and several processes at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmend.errors import StoreError
from vlmend.store.cache import Cache

WRITE = """
import sys
from pathlib import Path
from vlmend.store.cache import Cache
cache = Cache(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    cache.put(f"{sys.argv[2]}-{i}", {"text": "\\ud800 " + str(i)})
    print(i, flush=True)
"""


def writer(path: Path, name: str, count: int) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", WRITE, str(path), name, str(count)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_what_was_said_to_be_stored_is_there_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "c" / "judged.sqlite"
    child = writer(path, "a", 1_000_000)
    assert child.stdout is not None
    for _ in range(200):
        last = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    keys = [f"a-{i}" for i in range(last + 1)]
    found = Cache(path).get(keys)
    assert len(keys) >= 200
    assert set(found) == set(keys)
    assert found["a-7"] == {"text": "\ud800 7"}


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "judged.sqlite"
    children = [writer(path, name, 150) for name in "abc"]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert len(Cache(path).get([f"{name}-{i}" for name in "abc" for i in range(150)])) == 450


def test_what_is_known_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "judged.sqlite")
    cache.put("k", {"text": "first"})
    cache.put("k", {"text": "second"})
    assert cache.get(["k", "other"]) == {"k": {"text": "first"}}
    cache.close()
    assert cache.get(["k"]) == {"k": {"text": "first"}}


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "judged.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"judged\.sqlite cannot be used .*VLMEND_CACHE"):
        Cache(path).get(["k"])
    started = time.monotonic()
    with pytest.raises(StoreError):
        Cache(Path("/proc/nowhere/judged.sqlite")).put("k", {})
    assert time.monotonic() - started < 5


def test_a_full_disk_is_named_and_nobody_is_told_to_remove_what_was_paid_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "judged.sqlite")
    cache.put("k", {"text": "first"})
    cache._database.execute("PRAGMA max_page_count = 3")  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StoreError, match=r"judged\.sqlite cannot be used .*the disk at /.* is full") as told:
        cache.put("large", {"text": "x" * 100_000})
    assert "remove" not in str(told.value)
    assert cache.get(["k"]) == {"k": {"text": "first"}}


CLAIM = """
import sys, time
from pathlib import Path
from vlmend.store.cache import Cache
print(Cache(Path(sys.argv[1])).claim("k"), flush=True)
time.sleep(600)
"""


def test_a_claim_is_of_one_process_until_it_lets_go_or_dies(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "judged.sqlite")

    def other() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", CLAIM, str(cache.path)], stdout=subprocess.PIPE, text=True)

    def said(child: "subprocess.Popen[str]") -> str:
        assert child.stdout is not None
        return child.stdout.readline().strip()

    assert cache.claim("k")
    children = [other()]
    try:
        assert said(children[0]) == "False"
        Cache(cache.path).close()  # another of the same file, in the same process
        cache.release(["k"])
        children.append(other())
        assert said(children[1]) == "True"
        assert cache.claim("another")
        assert not cache.claim("k")
        children[1].kill()
        children[1].wait()
        assert cache.claim("k")
    finally:
        for child in children:
            child.kill()
            child.communicate()
        cache.release(["k", "another"])
