"""The device of this process, by VLMEND_TEST_DEVICE; tiny models of every family, saved once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.devices import fake
from tests.models import tiny

VARIABLE = "VLMEND_TEST_DEVICE"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The same sums in the same order, and no fight over the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def device() -> str:
    """Name of the device that is compared with the CPU."""
    name = os.environ.get(VARIABLE, "cpu")
    if name == fake.NAME:
        fake.load()
    if torch.device(name).type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    torch.zeros(1, device=name)
    return name


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by its family's name."""
    return cache(lambda name: tiny.save(name, tmp_path_factory.mktemp(name)))
