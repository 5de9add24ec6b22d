"""Runs `asking.py` and `tuning.py`, in a process of their own, on a device that is emulated and on CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.devices import fake
from tests.devices.conftest import VARIABLE

HERE = Path(__file__).parent
CASES = [str(HERE / "asking.py"), str(HERE / "tuning.py")]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # about a minute, where nothing else runs


def run(device: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *CASES]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=HERE.parents[1], env={**environment, VARIABLE: device}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr[-2_000:]}"


@pytest.mark.skipif(fake.compiler() is None, reason="no C++ compiler to make the device with")
def test_a_device_that_refuses_what_a_gpu_would() -> None:
    fake.compiled()
    run(fake.NAME)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda() -> None:
    run("cuda")
