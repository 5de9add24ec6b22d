"""What a long stage says while it works."""

from __future__ import annotations

import pytest

from vlmend.evaluate import progress
from vlmend.evaluate.progress import Stages
from vlmend.pace import EVERY, MEASURED, WARM, Pace


def test_time_left_rests_on_the_stage_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What came before a stage, such as loading a model, neither hurries its first line nor counts in it."""
    clock = [1000.0]
    monkeypatch.setattr(progress, "Pace", lambda done: Pace(done, clock=lambda: clock[0]))
    with Stages() as stages:
        clock[0] += 10 * EVERY
        stages("generate", 0, 60)
        clock[0] += 1
        stages("generate", 1, 60)
        assert capsys.readouterr().err == ""
        clock[0] += WARM + EVERY
        stages("generate", 20, 60)
        assert capsys.readouterr().err == "generate: 20/60\n"
        clock[0] += 2 * max(MEASURED, EVERY)
        stages("generate", 40, 60)
    assert capsys.readouterr().err == f"generate: 40/60, 0:{2 * max(MEASURED, EVERY):02.0f} left\n"
