"""Peak memory and step time of each objective through LoRA on the embedded model, beside plain SFT on the same rows.

    python bench/memory.py [--steps 3] [--rows 16] [--device cpu]

Every method runs in a process of its own. On a CPU the peak is that of the process's resident memory over what it had
once the model was loaded; on a GPU, torch's own peak. A second copy of the model would show as its size in full.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

METHODS = ("sft", "ga", "gd", "kl", "po", "npo", "simnpo", "rmu", "dpo")


def measure(name: str, steps: int, rows: int, device: str) -> dict[str, float | str]:
    """Peak above the loaded model in MiB, and seconds for a step, of one method in this process."""
    import torch

    from vlmend.config import parse_recipe
    from vlmend.train import run as running
    from vlmend.train.loop import encode, take_step
    from vlmend.train.parallel import Team
    from vlmend.train.reference import Live

    torch.set_num_threads(1)
    # sft pools its roles, so it needs as many rows more to see as many examples in a pass
    rows = 2 * rows if name == "sft" else rows
    method = {"name": name, **({"layer": 2} if name == "rmu" else {})}
    recipe = parse_recipe(
        {
            "model": {"name": "world", "device": device},
            "method": method,
            "data": {"mix": [{"source": "world:unlearning?n=200"}]},
            "train": {"max_steps": steps + 1, "per_device_train_batch_size": rows},
            "output": {"dir": "unused"},
        }
    )
    prepared = running._prepare(recipe, Team.gather(device=device))
    run = running._tuning(prepared)
    if prepared.objective.needs.reference:
        run.reference = Live(run.before, {})
    run.model.train()
    windows = [encode(run, step) for step in range(steps + 1)]
    examples = sum(len(micro.batch.examples) for micro in windows[0])
    before = peak(device)
    take_step(run, windows[0])
    run = replace(run)
    began = time.perf_counter()
    for window in windows[1:]:
        take_step(run, window)
    seconds = (time.perf_counter() - began) / steps
    return {"method": name, "examples": examples, "peak": round(peak(device) - before, 1), "seconds": round(seconds, 3)}


def peak(device: str) -> float:
    """Highest memory so far, in MiB."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Print one line of JSON for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.steps, given.rows, given.device)))
        return
    for name in METHODS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name], check=True)


if __name__ == "__main__":
    main()
