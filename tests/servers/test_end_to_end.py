"""Against a server that we did not write: `transformers serve`, the embedded model, a kill in the middle, a resume."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch

from vlmend.cli import main
from vlmend.servers.abilities import CONTROL
from vlmend.store import Run, read_rows
from vlmend.types import Response
from vlmend.world import WEIGHTS

pytest.importorskip("transformers.cli.serve", reason="this transformers has no serve command")
pytest.importorskip("uvicorn", reason="transformers serve needs fastapi and uvicorn")

SUITE = "world?n=72"  # 216 questions, each with a picture


class Server:
    """`vlmend serve world --with transformers --run`, as its own process."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log
        command = ["serve", "world", "--with", "transformers", "--dtype", "float32", "--port", str(port), "--run"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "warning"}
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "import sys; from vlmend.cli import main; sys.exit(main())", *command],
                stdout=file, stderr=file, env=environment,
            )  # fmt: skip

    def wait(self) -> None:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    @property
    def requests(self) -> int:
        return self.log.read_text().count("[Request received]")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def when(count: Callable[[], int], reaches: int, then: Callable[[], None]) -> threading.Thread:
    """Do something as soon as a count is reached."""

    def watch() -> None:
        while count() < reaches:
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def texts(folder: Path) -> dict[str, tuple[str, str, int]]:
    def said(response: Response) -> tuple[str, str, int]:
        return response.text, response.finish.value, response.tokens

    return {record.example.id: said(record.response) for record in Run(folder).records()}


@pytest.mark.timeout(900)  # on a busy machine; alone it takes about a minute of one core
def test_killed_restarted_resumed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    port, served, local = free_port(), tmp_path / "served", tmp_path / "local"
    spec = f"openai:{WEIGHTS}@http://127.0.0.1:{port}/v1?server=transformers&window=8&patience=1&timeout=120"
    words = ["generate", "--suite", SUITE, "--json"]
    journal = served / "responses.jsonl"

    first = Server(port, tmp_path / "first.log")
    try:
        assert main([*words, "--model", "world", "--out", str(local)]) == 0  # while the server starts
        first.wait()
        watcher = when(lambda: journal.read_bytes().count(b"\n") if journal.exists() else 0, 60, first.kill)
        capfd.readouterr()
        assert main([*words, "--model", spec, "--out", str(served)]) == 2
        watcher.join()
        assert "no server answers there" in capfd.readouterr().err
    finally:
        first.kill()
    kept = list(read_rows(journal))
    assert 60 <= len(kept) < len(texts(local))
    assert all(row["finish"] != "failed" for row in kept)

    second = Server(port, tmp_path / "second.log")
    try:
        second.wait()
        assert main([*words, "--model", spec, "--out", str(served)]) == 0
    finally:
        second.kill()
    [done] = json.loads(capfd.readouterr().out)["runs"]
    expected = texts(local)
    assert len(expected) >= 200
    assert done["kept"] == len(kept)
    measured = 2 + len(CONTROL)  # requests by which it is found out what becomes of control tokens in text
    assert done["generated"] == second.requests - measured == len(expected) - len(kept)  # none lost, none asked twice
    assert Counter(row["id"] for row in read_rows(journal)).most_common(1)[0][1] == 1
    assert texts(served) == expected  # text, stop reason and tokens: greedy, as the local backend
