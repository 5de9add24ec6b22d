"""What a long stage says while it works."""

from __future__ import annotations

import time

import pytest

from vlmend.evaluate.progress import EVERY_SECONDS, Stages


def test_time_left_rests_on_the_stage_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What came before a stage, such as loading a model, neither hurries its first line nor counts in it."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Stages() as stages:
        clock[0] += 10 * EVERY_SECONDS
        stages("generate", 0, 60)
        clock[0] += 1
        stages("generate", 1, 60)
        assert capsys.readouterr().err == ""
        clock[0] += EVERY_SECONDS
        stages("generate", 20, 60)
    assert capsys.readouterr().err == f"generate: 20/60, {2 * (1 + EVERY_SECONDS):.0f} s left\n"
