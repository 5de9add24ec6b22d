"""A model folder that has no room is refused before the first byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vlmend.errors import StoreError
from vlmend.models import folder


def test_no_room_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(1000, 1000, bias=False)  # 4 MB
    monkeypatch.setattr(folder, "room_for", lambda out, what: 3_999_999)
    with pytest.raises(StoreError, match="4 MB") as caught:
        folder.write_whole(model, None, tmp_path / "out", {})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
