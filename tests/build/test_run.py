"""A run asks everything once, whatever happens to it, and what comes of it does not depend on that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.build.generator import Generator, draw
from tests.servers.stub import Stub
from vlmend.build.drafts import made
from vlmend.build.stage import Kind
from vlmend.cli import main
from vlmend.data import read
from vlmend.types import Example, Verdict

PIPELINE = "vlguard?taxonomy=world&openers=free"
FAULTS = {"broken": 0.1, "wrong": 0.15, "declines": 0.1, "late": 0.1}


def command(stub: Stub, pictures: Path, out: Path, *more: str, pipeline: str = PIPELINE) -> list[str]:
    model = f"openai:gen@{stub.url}?backoff=0.01&server=plain&window=8"
    return ["build", pipeline, f"folder:{pictures}", "--generator", model, "--out", str(out), *more]


def report(capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def rows(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((out / "sets").iterdir())}


def kept(out: Path) -> Sequence[Example]:
    return read(f"jsonl:{out / 'sets/train.jsonl'}?allow_outside=true")


def test_every_start_is_accounted_for_and_every_row_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 40)
    generator = Generator(scenes, FAULTS)
    with Stub(generator) as stub:
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
    assert sum(told["starts"].values()) == 40
    assert max(generator.answered.values()) == 1
    declined = [loss for each in made(tmp_path / "run") for loss in each.losses]
    assert declined
    assert {loss.kind for loss in declined} == {"refused"}
    assert all("sorry" in loss.said for loss in declined)
    for row in kept(tmp_path / "run"):
        hazards = scenes[row.images[0].sha256].hazards
        assert (row.subset == "unsafe") == bool(hazards)
        assert row.category == (hazards[0] if hazards else row.category)
        assert (row.expected == "answer") == (row.subset == "safe_safe")
        assert row.meta["by_generator"].startswith("openai:gen@")
        assert row.meta["parents"] == row.images[0].path.name  # type: ignore[union-attr]


def test_repairs_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 3)

    class Stubborn(Generator):
        def answer(self, body: dict[str, Any]) -> dict[str, Any] | str:
            return "no braces here"

    generator = Stubborn(scenes)
    with Stub(generator) as stub:
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
    assert told["starts"] == {"done before": 0, "unfit": 3}
    assert told["calls"]["asked"] == {"look": 9}
    kinds: list[Kind] = [loss.kind for each in made(tmp_path / "run") for loss in each.losses]
    assert kinds == ["unfit"] * 3


def test_what_failed_is_asked_again_and_stands_in_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 20)
    with Stub(Generator(scenes)) as stub:
        report(capsys, command(stub, tmp_path / "p", tmp_path / "well"))
        stub.behave = Generator(scenes, {"dead": 0.3})
        words = [
            word.replace("&window=8", "&window=8&retries=0") for word in command(stub, tmp_path / "p", tmp_path / "run")
        ]
        first = report(capsys, words, code=1)
        assert first["starts"]["failed"] > 0
        again = Generator(scenes)
        stub.behave = again
        second = report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
    assert second["starts"]["made"] == first["starts"]["failed"]
    assert sum(again.calls.values()) == sum(second["calls"]["asked"].values())
    assert [row.id for row in kept(tmp_path / "run")] == [row.id for row in kept(tmp_path / "well")]


@pytest.mark.parametrize("calls", [1, 12, 25, 40])
def test_killed_anywhere_and_resumed_it_gives_the_same_and_asks_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], calls: int
) -> None:
    scenes = draw(tmp_path / "p", 20)
    faults = {"broken": 0.1, "wrong": 0.15, "declines": 0.1}
    with Stub(Generator(scenes, faults)) as stub:
        report(capsys, command(stub, tmp_path / "p", tmp_path / "whole"))
        generator = Generator(scenes, faults, delay=0.01)
        stub.behave = generator
        words = command(stub, tmp_path / "p", tmp_path / "run")
        killed = subprocess.Popen([sys.executable, "-m", "vlmend", *words], stdout=subprocess.DEVNULL)
        started = time.monotonic()
        while sum(generator.answered.values()) < calls and killed.poll() is None:
            assert time.monotonic() - started < 120
            time.sleep(0.002)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        before = sum(generator.answered.values())
        report(capsys, words)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    again = sum(generator.answered.values()) - len(generator.answered)
    assert again <= 8  # what was on its way when it died, at most the window
    assert before >= calls


def test_a_judge_that_does_not_say_lets_nothing_through_and_is_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["build", "replay?judge=exact", "world:utility?n=6", "--model", "base=scripted:echo"]
    asked: list[bool | None] = [None] * 3

    def verdicts(self: object, pairs: Sequence[Any], models: object) -> list[Verdict]:
        return [Verdict("exact", r.id, correct=asked.pop() if asked else True, why="down") for _, r in pairs]

    monkeypatch.setattr("vlmend.judge.judges.exact.Exact.__call__", verdicts)
    first = report(capsys, [*words, "--out", str(tmp_path / "run")])
    assert first["starts"] == {"done before": 0, "unscored": 3, "made": 3}
    second = report(capsys, [*words, "--out", str(tmp_path / "run")])
    assert second["starts"] == {"done before": 3, "made": 3}
    assert second["calls"]["asked"] == {}
    assert [each.start for each in made(tmp_path / "run")] == [row.id for row in read("world:utility?n=6")]


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Stub(Generator(draw(tmp_path / "p", 2))) as stub:
        report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
        capsys.readouterr()
        assert main(command(stub, tmp_path / "p", tmp_path / "run", pipeline="vlguard?openers=free")) == 2
        assert "holds another run: pipeline" in capsys.readouterr().err
        assert main(command(stub, tmp_path / "p", tmp_path / "p")) == 2
        assert "something else" in capsys.readouterr().err
