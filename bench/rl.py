"""Rollouts per second against transformers' own `generate` on the same prompts.

    python bench/rl.py [--size small | --model world] [--prompts 8] [--samples 8]

All sample the same number of answers of the same length (none ends by itself, so that luck decides nothing) to the
same prompts about pictures. `generate` is called in two ways: every prompt as often as it is to be answered, in one
batch, as trainers do, and once with num_return_sequences; the ratio is to the faster. Its key-value cache is on. Sizes
are those of shapes.py, weights random. The ways take turns, and the least time of each counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import shapes
import torch

from vlmend.config import ModelConfig
from vlmend.models.generate import Engine
from vlmend.models.load import load
from vlmend.models.merged import merged
from vlmend.registry import sources
from vlmend.types import Decoding


def seconds(ways: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """The least of some tries of each, in turns, after one to warm up."""
    found: dict[str, float] = {}
    for number in range(times + 1):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            if number:
                found[name] = min(found.get(name, float("inf")), time.perf_counter() - started)
    return found


def main() -> None:
    """Measure, and print one JSON object."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--size", choices=sorted(shapes.SIZES), default="small")
    asked.add_argument("--model", default="", help="instead of a size: a model as recipes name it")
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--source", default="world:safety#train?n=40")
    asked.add_argument("--prompts", type=int, default=8)
    asked.add_argument("--samples", type=int, default=8)
    asked.add_argument("--new", type=int, default=24)
    asked.add_argument("--times", type=int, default=3)
    settings = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = shapes.SIZES[settings.size]
        name = settings.model or str(shapes.save(size, Path(folder) / settings.size, settings.device))
        loaded = load(ModelConfig(name=name, device=settings.device), for_training=True)
    model, codec = loaded.model.eval(), loaded.codec
    examples = [e for e in sources.from_spec(settings.source) if e.images][: settings.prompts]
    decoding = Decoding(
        max_new_tokens=settings.new, min_new_tokens=settings.new, do_sample=True, num_return_sequences=settings.samples
    )
    answers = len(examples) * settings.samples

    def ours() -> None:
        engine = Engine(
            loaded, batch_size=4096, batch_tokens=65_536, share_prefix=True, features_mb=256, banned=codec.unspeakable
        )
        with merged(model):
            said = sum(len(a.ids or ()) for a in engine.answers(examples, decoding))
        if said != answers * settings.new:
            raise SystemExit(f"{said} tokens were sampled, and {answers * settings.new} were to be")

    def generate(times: int, **more: int) -> None:
        batch = codec.encode_prompts([replace(e) for e in examples for _ in range(times)]).to(model.device)
        with torch.inference_mode():
            model.generate(
                **batch.inputs, **more, do_sample=True, top_k=0, max_new_tokens=settings.new,
                min_new_tokens=settings.new, pad_token_id=codec.pad_id,
            )  # fmt: skip

    took = seconds(
        {
            "vlmend": ours,
            "generate, prompts repeated": lambda: generate(settings.samples),
            "generate, num_return_sequences": lambda: generate(1, num_return_sequences=settings.samples),
        },
        settings.times,
    )
    fastest = min(took[name] for name in took if name != "vlmend")
    told = {
        "model": settings.model or settings.size,
        "device": settings.device,
        "prompts": len(examples),
        "samples": settings.samples,
        "new_tokens": settings.new,
        "threads": torch.get_num_threads(),
        "rollouts_per_second": {name: round(answers / s, 2) for name, s in took.items()},
        "ratio": round(fastest / took["vlmend"], 2),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
