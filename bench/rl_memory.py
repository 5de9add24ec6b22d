"""Peak memory of updates on rollouts through LoRA, beside SFT on the same tokens.

    python bench/rl_memory.py [--size wide] [--rows 8] [--new 64] [--times 2]

Each runs in a process of its own, one after the other and all of them again (A B C A B C). All learn from the same
answers, drawn at random and put in place of what would be sampled: rollouts are left aside, in time and in memory. The
peak is that of a step, over what the process held before the model was loaded, so that a second
model in memory, or a copy of its weights, would show in full; `over the weights` is what comes on top of them.
Sizes are those of shapes.py; on a CPU memory is to be compared on `wide`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import shapes
import torch
from rich.console import Console
from tuning.job import forget_peak, memory

from vlmend.config import Recipe, parse_recipe
from vlmend.train import run as running
from vlmend.train.before import reference
from vlmend.train.loop import take_step
from vlmend.train.parallel import Team
from vlmend.train.rollouts import Sample, Writer
from vlmend.types import Rollout

METHODS: dict[str, dict[str, Any]] = {
    "sft": {},
    "ppo": {"rewards": ["length"], "epochs": 1},
    "grpo": {"rewards": ["length"], "kl": 0.05},
}


def recipe(name: str, folder: Path, settings: argparse.Namespace) -> Recipe:
    """A step has two passes of as many answers as there are rows; GRPO's are to half as many prompts."""
    samples = 2 if name == "grpo" else 1
    own = {} if name == "sft" else {"max_new_tokens": settings.new, "samples": samples}
    lora = {"r": shapes.SIZES[settings.size].lora, "lora_alpha": 16}
    return parse_recipe(
        {
            "model": {"name": str(folder / settings.size), "device": settings.device, "lora": lora},
            "method": {"name": name, **METHODS[name], **own},
            "data": {"mix": [{"source": settings.source}]},
            "train": {
                "max_steps": 1,
                "per_device_train_batch_size": settings.rows // samples,
                "gradient_accumulation_steps": 2,
            },
            "output": {"dir": str(folder / "out")},
        }
    )


def measure(name: str, folder: Path, settings: argparse.Namespace) -> dict[str, float | str]:
    """Of one method in this process, in MiB."""
    torch.set_num_threads(settings.threads)
    forget_peak(settings.device)
    empty = memory(settings.device)
    asked = recipe(name, folder, settings)
    prepared = running._prepare(asked, Team.gather(device=settings.device))
    forget_peak(settings.device)
    weights = memory(settings.device) - empty
    run = running._tuning(prepared)
    run.reference = reference(run, asked, prepared.loaded.fingerprint, Console(quiet=True))
    run.model.train()
    learner = running._learner(prepared, run)
    writer = Writer(run.model, run.codec, run.ways)

    def step() -> None:
        answers = drawn(run, settings.new, getattr(prepared.objective, "samples", 1))
        if learner is not None:
            learner._sampled = lambda: answers  # pyright: ignore[reportAttributeAccessIssue]
            learner.step()
        else:
            halves = answers[: settings.rows], answers[settings.rows :]
            take_step(run, [micro for half in halves for micro in writer(half, compared=False)])

    if learner is not None:
        next(learner.steps())
    step()
    peak = memory(settings.device) - empty
    return {"method": name, "weights": round(weights), "peak": round(peak), "over the weights": round(peak - weights)}


def drawn(run: Any, tokens: int, samples: int) -> list[Sample]:
    """Answers of so many random tokens to the prompts of a step."""
    codec = run.codec
    speakable = sorted(set(range(len(codec.tokenizer))) - codec.unspeakable - codec.eos_ids)
    generator = torch.Generator().manual_seed(run.progress.step)
    found: list[Sample] = []
    for group, (index,) in enumerate(run.plan.step(run.progress.step)):
        for _ in range(samples):
            chosen = torch.randint(len(speakable), (tokens,), generator=generator).tolist()
            ids = tuple(speakable[at] for at in chosen)
            rollout = Rollout(run.examples[index], codec.decode(ids), tokens, finished=False)
            found.append(Sample(len(found), group, 1.0, ids, rollout))
    return found


def main() -> None:
    """Print one JSON object: medians, and how many times SFT's peak each has."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--size", choices=sorted(shapes.SIZES), default="wide")
    asked.add_argument("--rows", type=int, default=8)
    asked.add_argument("--new", type=int, default=64)
    asked.add_argument("--times", type=int, default=2)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--source", default="world:safety#train?n=80")
    asked.add_argument("--only", nargs=2, metavar=("METHOD", "FOLDER"))
    settings = asked.parse_args()
    if settings.only:
        print(json.dumps(measure(settings.only[0], Path(settings.only[1]), settings)))
        return
    with tempfile.TemporaryDirectory() as folder:
        shapes.save(shapes.SIZES[settings.size], Path(folder) / settings.size, settings.device)
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(settings.times):
            for name in METHODS:
                command = [sys.executable, __file__, *sys.argv[1:], "--only", name, folder]
                line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
                found.setdefault(name, []).append(json.loads(line))
                print(line, file=sys.stderr)
    keys = ("weights", "peak", "over the weights")
    told = {name: {key: statistics.median(one[key] for one in some) for key in keys} for name, some in found.items()}
    for one in told.values():
        one["times SFT's peak"] = round(one["peak"] / told["sft"]["peak"], 3)
        one["times SFT's over the weights"] = round(one["over the weights"] / told["sft"]["over the weights"], 3)
    print(json.dumps({"size": settings.size, "rows": settings.rows, "new_tokens": settings.new, **told}))


if __name__ == "__main__":
    main()
