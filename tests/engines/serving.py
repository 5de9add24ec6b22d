"""A server of vLLM, started and ended by our own command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

MEMORY = "0.1"


@contextmanager
def serving(model: str, port: int = 8765, *more: str) -> Iterator[str]:
    """Its address, once it answers."""
    words = [
        "serve",
        model,
        "--run",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--gpu-memory-utilization",
        MEMORY,
        *more,
    ]
    process = subprocess.Popen([sys.executable, "-m", "vlmend", *words], start_new_session=True)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/models", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
