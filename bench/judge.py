"""How fast rules judge, and what a killed and faulty rubric run costs.

python bench/judge.py rules [N]     CPU seconds for N stored answers judged by `refusal` (default 100,000)
python bench/judge.py rubric [N]    N calls to a server of ours on loopback with 5 % faults, killed and resumed
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vlmend.evaluate.run import judge_only
from vlmend.judge.models import Models
from vlmend.judge.verdicts import verdicts
from vlmend.registry import judges
from vlmend.store import Asked, Run, response_to_json
from vlmend.types import Example, Expected, Finish, Message, Response

OPENINGS = (
    "I'm sorry, but I can't help with that request.",
    "Sure, here is what the picture shows: a table with two cups and a jar.",
    "I cannot see any people in the picture, only a dog beside a red ball.",
    "The label says to keep it cool. Step 1: open the lid. Step 2: pour slowly.",
)


def stored(folder: Path, count: int) -> Run:
    """A run with `count` answers of a usual length, nothing judged yet."""
    run = Run(folder)
    run.claim({"model": "scripted:none", "suite": "bench", "fingerprint": "none"}, {"suite_spec": "world"})
    rng = random.Random(0)
    asked: list[Asked] = []
    with run.response_journal() as journal:
        for i in range(count):
            example = Example(f"e{i}", (Message("user", (f"Question {i}?",)),), expected=Expected.REFUSE)
            asked.append(Asked(example, f"r{i}"))
            text = f"{rng.choice(OPENINGS)} " + "The rest of the answer goes on for a while. " * rng.randint(0, 12)
            journal.append(response_to_json(Response(f"r{i}", f"e{i}", f"{text} {i}", Finish.STOP)))
    run.write_asked(asked)
    return run


def rules(count: int) -> None:
    """CPU seconds of the judging stage: reading the run, judging, storing."""
    with tempfile.TemporaryDirectory() as folder:
        run = stored(Path(folder) / "run", count)
        started, cpu = time.perf_counter(), time.process_time()
        judged = judge_only(run.folder, ["refusal"], quiet=True)
        print(f"{judged.new:,} verdicts read, judged and stored: {time.process_time() - cpu:.2f} s CPU,", end=" ")
        print(f"{time.perf_counter() - started:.2f} s")
        pairs = [(r.example, r.response) for r in run.records()]
        cpu = time.process_time()
        found = verdicts(judges.from_spec("refusal"), pairs, Models())
        print(f"{len(found):,} verdicts alone: {time.process_time() - cpu:.2f} s CPU")


class Quiet(ThreadingHTTPServer):
    """Says nothing about clients that were killed."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address


class Server:
    """Answers every chat request with a verdict, but one in twenty with an error; counts what it answered."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.requests = self.faults = 0
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                del format, args

            def do_GET(self) -> None:
                self.say(404, {"error": {"message": "no such page"}})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.say(*owner.reply(str(body["messages"][-1]["content"])))

            def say(self, status: int, data: dict[str, Any]) -> None:
                text = json.dumps(data).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        self.http = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def reply(self, question: str) -> tuple[int, dict[str, Any]]:
        """1 % of all questions are refused for good, 4 % of all requests fail and may be tried again."""
        with self.lock:
            self.requests += 1
            mark = question.rpartition("[[end of answer ")[2][:4] if "[[end of answer " in question else ""
            if mark and int(mark, 16) % 100 == 0:
                self.faults += 1
                return 400, {"error": {"message": "not this one"}}
            if self.requests % 25 == 0:
                self.faults += 1
                return 500, {"error": {"message": "try again"}}
            self.answered[question] += 1
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": '{"verdict": "safe"}'},
        }
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 380, "completion_tokens": 8}}


def rubric(count: int) -> None:
    """Judge, kill after a third, resume, and compare with what the server counted."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VLMEND_CACHE"] = f"{folder}/cache"
        run, server = stored(Path(folder) / "run", count), Server()
        model = f"openai:judge@{server.url}?server=plain&backoff=0.01&retries=4"
        words = ["judge", str(run.folder), "--judge", "rubric:harm", "--judge-model", model]
        command = [sys.executable, "-c", "from vlmend.cli import main; raise SystemExit(main())", *words]
        started = time.perf_counter()
        child = subprocess.Popen(command)
        while len(server.answered) < count // 3 and child.poll() is None:
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        time.sleep(1.0)
        at_kill = sum(server.answered.values())
        subprocess.run(command, check=True)
        again = sum(server.answered.values()) - len(server.answered)
        calls = sum(server.answered.values())
        subprocess.run(command, check=True)
        print(
            f"killed after {at_kill:,} answers; {server.requests:,} requests in all, {server.faults:,} of them faults"
        )
        print(f"answered {len(server.answered):,} questions, {again} of them twice (on their way at the kill)")
        print(f"a third run was answered {sum(server.answered.values()) - calls} more times")
        found = Counter(v.harmful for r in run.records() for v in r.verdicts)
        print(
            f"verdicts: {found[False]:,} safe, {found[None]:,} unscored; {time.perf_counter() - started:.0f} s in all"
        )


if __name__ == "__main__":
    what, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rules(number or 100_000) if what == "rules" else rubric(number or 10_000)
