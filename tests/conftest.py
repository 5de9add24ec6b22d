"""What all tests share: the same random numbers every time, and no cache but their own."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for every test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("VLMEND_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Generators that a test does not seed itself begin at 0, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_warn_always(True)  # what torch says once per process would fail whichever test came first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker starts on one when the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
