"""Many pictures: how near `vlmend build` comes to what a server could answer, and what it holds in memory.

    python bench/build_many.py                         requests per second, two clients taking turns
    python bench/build_many.py --pictures 100000       a whole run, with its peak memory

A server in a process of its own answers each request after `--delay` seconds, 64 at a time. It is asked by the pipeline
`vlguard`, and by the least that a user would write: sixty-four loops over httpx that post bodies of the same size, made
before. The possible rate is 64 / delay, if the processor can make so many requests.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from PIL import Image

WINDOW = 64
HERE = Path(__file__).parent


@contextmanager
def serving(delay: float) -> Iterator[str]:
    """Its address."""
    words = [sys.executable, str(HERE / "building/server.py"), "--delay", str(delay)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip() if process.stdout else ""
    finally:
        process.kill()


def draw(folder: Path, number: int) -> None:
    """Pictures of 3 kB; a trailing number makes each another file, and other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "base.jpg", quality=80)
    data = (folder / "base.jpg").read_bytes()
    (folder / "base.jpg").unlink()
    for place in range(number):
        inner = folder / f"{place // 1000:03}"
        inner.mkdir(exist_ok=True)
        (inner / f"{place:06}.jpg").write_bytes(data + b"%06d" % place)


def bare(url: str, picture: Path, number: int) -> float:
    """Requests per second of loops that do nothing but ask."""
    shown = "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": shown}}, {"type": "text", "text": "x" * 3000}]
    body = json.dumps({"model": "any", "messages": [{"role": "user", "content": content}]}).encode()

    async def main() -> float:
        left = iter(range(number))
        clients = [httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) for _ in range(WINDOW)]

        async def loop(client: httpx.AsyncClient) -> None:
            for _ in left:
                (await client.post(f"{url}/chat/completions", content=body)).json()

        started = time.perf_counter()
        await asyncio.gather(*map(loop, clients))
        seconds = time.perf_counter() - started
        for client in clients:
            await client.aclose()
        return number / seconds

    return asyncio.run(main())


def ours(url: str, pictures: Path, out: Path, limit: int) -> tuple[float, int]:
    """Calls per second of a run of the pipeline, and how many calls."""
    from vlmend import registry
    from vlmend.build.picture import pictures as found
    from vlmend.build.pipeline import Start
    from vlmend.build.run import build
    from vlmend.evaluate.judging import JudgeSettings

    shutil.rmtree(out, ignore_errors=True)
    pipeline = registry.pipelines.from_spec("vlguard?openers=free")
    backend = registry.backend_for(f"openai:any@{url}?server=plain&window={WINDOW}")
    given = (Start(each.id, (each.image,), meta=each.meta) for each in found(f"folder:{pictures}", out / "pictures"))
    started = time.perf_counter()
    tally = build(pipeline, given, {"generator": [("any", backend)]}, JudgeSettings().models(), out, _silent, limit)
    calls = sum(tally.asked.values())
    return calls / (time.perf_counter() - started), calls


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--pictures", type=int, default=0, help="A whole run over so many, instead of rounds.")
    given = parser.parse_args()
    with TemporaryDirectory() as scratch, serving(given.delay) as url:
        folder, out = Path(scratch) / "pictures", Path(scratch) / "run"
        draw(folder, given.pictures or given.requests // 3)
        possible = WINDOW / given.delay
        if given.pictures:
            rate, calls = ours(url, folder, out, given.pictures)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{given.pictures:,} pictures, {calls:,} calls: {rate:.0f} a second, peak {peak:.0f} MB")
            return
        ours(url, folder, out, 64)  # imports and the first connections
        for _ in range(given.rounds):
            plain = bare(url, folder / "000/000000.jpg", given.requests)
            rate, calls = ours(url, folder, out, given.requests // 3)
            print(f"bare {plain:.0f}, ours {rate:.0f} of {possible:.0f} a second ({calls:,} calls): {rate / plain:.2f}")


if __name__ == "__main__":
    main()
