"""Without Inspect's package one is told how to get it; with it, see tests/peers/test_inspect.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vlmend.cli import main


def test_inspect_is_named_where_it_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "scripted:refuse", "--suite", "world?n=3", "--out", str(tmp_path / "r")]
    assert main(["eval", *words]) == 0
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    capsys.readouterr()
    assert main(["export", "inspect", str(tmp_path / "r"), "--out", str(tmp_path / "logs")]) == 2
    told = capsys.readouterr().err
    assert "pip install 'vlmend[inspect]'" in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "logs").exists()
