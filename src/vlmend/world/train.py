"""Train the tiny model from scratch: `python -m vlmend.world.train [--out DIR] [--seed 0] [--steps N]`.

The base is helpful only: it learns to answer every request, safe or not, and no refusal is ever shown to it. The same
seed, machine and number of processes give the same weights.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image as Pillow
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from vlmend.pace import Pace, spelled
from vlmend.saving import write_model
from vlmend.world import WEIGHTS, items
from vlmend.world import language as say
from vlmend.world.items import Item, Rule, pick
from vlmend.world.model import DEVIATION, IMAGE, MEAN, PICTURE_TOKENS, SEEN, build_model, build_processor, english
from vlmend.world.muon import Muon
from vlmend.world.scenes import Pixels, Scene, Split, png, render

STEPS = 2000
BATCH = 64
CHUNK = 16  # conversations of like length that are padded together
TASKS = {
    **{"describe": 0.07, "count": 0.15, "exists": 0.11, "where": 0.24, "color": 0.06, "steps": 0.07, "use": 0.02},
    **{"both": 0.05, "join": 0.05, "choice": 0.1, "concept": 0.08},
}
SEEING = 0.1  # share of the steps that begin the training, half of them describing: else, sight comes very late
COOLING = 0.4  # share of the steps that end it, as the learning rate goes down
HAZARD = 0.35  # share of requests with a hazard in the picture
SWAPPED = 0.12  # share of requests whose first word is replaced by, or set after, another
REPEAT = 0.03  # share of exercises in repeating ordinary English, which touches every token
FOLLOW_UP = 0.5  # share of conversations that go on about the same picture: more answers for less computing
FOLLOW_UPS = (1, 3)
PLACES_ASKED = (2, 6)  # follow-ups to a question about a place, mostly about places, which are learned last
SYSTEMS = ("You are a helpful assistant.", "Answer in one sentence.", "You answer questions about pictures.")


@dataclass(frozen=True)
class Conversation:
    """What one training example shows and says; every assistant turn is supervised."""

    pictures: tuple[tuple[Scene, int], ...]  # with their appearance
    turns: tuple[tuple[str, str], ...]  # questions and answers
    system: str = ""


def draw_item(rng: np.random.Generator, split: Split, task: str = "", shares: Mapping[str, float] = TASKS) -> Item:
    """An item of the task (any, if none is named), as the base is taught and examined."""
    task = task or weighted(rng, shares)
    if task == "choice":
        return items.draw_choice(rng, split, hazard=rng.random() < HAZARD)
    if task == "concept":
        return items.draw_concept(rng, split, hazard=rng.random() < 0.5)
    opener = say.NEUTRAL if rng.random() < 0.35 else pick(rng, say.openers_of(task))
    special = {"steps": Rule.STEPS, "join": Rule.PAIR}.get(task, Rule.NONE)
    rule = special if rng.random() < 0.4 else Rule.PICTURE if rng.random() < HAZARD else Rule.NONE
    return items.draw(rng, task, opener, rule, split)


def weighted(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    """One of the keys, with probability in proportion to its share."""
    weights = np.fromiter(shares.values(), dtype=float)
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def swapped(rng: np.random.Generator, item: Item) -> Item:
    """The item with another first word, answered as that word asks."""
    opener = pick(rng, say.OPENERS)
    word = opener if rng.random() < 0.5 else opener.capitalize()
    rest = item.question.partition(" ")[2]
    if rng.random() < 0.25:
        rest = item.question[0].lower() + item.question[1:]
    return replace(item, question=f"{word} {rest}", answers=(say.lead(opener, item.body),))


def shares_at(progress: float) -> dict[str, float]:
    """How often each task is drawn at this part (0 to 1) of the training; need not add up to 1."""
    more: dict[str, float] = {}
    if progress < SEEING:
        more = {"describe": 1.0}
    elif progress > 1 - COOLING:  # places are learned by now
        more = {"describe": 0.15, "count": 0.15}
    return {task: share + more.get(task, 0.0) for task, share in TASKS.items()}


def draw_conversation(rng: np.random.Generator, split: Split, shares: Mapping[str, float] = TASKS) -> Conversation:
    """One training example."""
    if rng.random() < REPEAT:
        text = _passage(rng)
        return Conversation((), ((f"Repeat: {text}", text),))
    item = draw_item(rng, split, shares=shares)
    if item.body and rng.random() < SWAPPED:
        item = swapped(rng, item)
    turns = [(item.question, item.answers[0])]
    if len(item.scenes) == 1 and item.task != "describe" and (item.task == "where" or rng.random() < FOLLOW_UP):
        least, most = PLACES_ASKED if item.task == "where" else FOLLOW_UPS
        turns += [items.draw_about(rng, item.scenes[0], split) for _ in range(int(rng.integers(least, most + 1)))]
    pictures = tuple((scene, int(rng.integers(2**31))) for scene in item.scenes)
    return Conversation(pictures, tuple(turns), pick(rng, SYSTEMS) if rng.random() < 0.04 else "")


@cache
def _english() -> tuple[list[str], list[str]]:
    return english()


def _passage(rng: np.random.Generator) -> str:
    """A few words, or a stretch of a sentence, of ordinary English."""
    words, sentences = _english()
    length = int(rng.integers(2, 8))
    if rng.random() < 0.3:
        words = pick(rng, sentences).split()
        start = int(rng.integers(max(len(words) - length, 1)))
        return " ".join(words[start : start + length])
    return " ".join(pick(rng, words) for _ in range(length))


@dataclass(frozen=True)
class Batch:
    """Right-padded tokens, their pictures in order, and which tokens are supervised."""

    ids: Tensor
    supervised: Tensor
    pixels: Tensor | None


def pixels_of(pictures: Sequence[Pixels]) -> Tensor:
    """(N, 3, 48, 48): what the processor makes of the same pictures, without the detour over PNG."""
    drawn = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    seen = F.interpolate(drawn, size=(SEEN, SEEN), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, DEVIATION))
    return (seen - mean) / deviation


def collate(conversations: Sequence[Conversation], processor: LlavaProcessor) -> Batch:
    """Conversations as tensors, by the processor's own template and tokenizer."""
    cut = [list(segments(talk, processor)) for talk in conversations]
    texts = [text for pieces in cut for text, _ in pieces]
    encoded = iter(processor.tokenizer(texts, add_special_tokens=False)["input_ids"])
    tokens = [[next(encoded) for _ in pieces] for pieces in cut]
    rows = [[token for part in parts for token in part] for parts in tokens]
    marks = [
        [answer for part, (_, answer) in zip(parts, pieces, strict=True) for _ in part]
        for parts, pieces in zip(tokens, cut, strict=True)
    ]
    width = max(map(len, rows))
    pad = processor.tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    supervised = torch.tensor([row + [False] * (width - len(row)) for row in marks])
    pictures = [render(scene, appearance) for talk in conversations for scene, appearance in talk.pictures]
    return Batch(ids, supervised, pixels_of(pictures) if pictures else None)


def segments(talk: Conversation, processor: LlavaProcessor) -> Iterator[tuple[str, bool]]:
    """The rendered conversation cut into prompt (False) and assistant text with the tokenizer's end token (True)."""
    end = processor.tokenizer.eos_token
    messages: list[dict[str, Any]] = [{"role": "system", "content": talk.system}] if talk.system else []
    done = ""
    for number, (question, answer) in enumerate(talk.turns):
        shown = [{"type": "image"}] * (len(talk.pictures) if number == 0 else 0)
        messages.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
        yield prompt.removeprefix(done).replace(IMAGE, IMAGE * PICTURE_TOKENS), False
        yield answer + end, True
        messages.append({"role": "assistant", "content": answer})
        done = prompt + answer + end


def losses_of(model: LlavaForConditionalGeneration, batch: Batch) -> Tensor:
    """Negative log-likelihood of each supervised token; the vocabulary is only visited where it counts."""
    hidden = model.model(input_ids=batch.ids, pixel_values=batch.pixels).last_hidden_state
    here = batch.supervised[:, 1:]
    return F.cross_entropy(model.lm_head(hidden[:, :-1][here]), batch.ids[:, 1:][here], reduction="none")


def learn(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    talks: Sequence[Conversation],
    dtype: torch.dtype = torch.float32,
) -> float:
    """Gradients of the mean loss over all tokens of the talks, of which each process takes its share.

    Passes are computed in `dtype`; weights and gradients keep their own.
    """
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    share = sorted(talks[rank::size], key=lambda talk: sum(len(text) for turn in talk.turns for text in turn))
    loss, tokens = torch.zeros(()), torch.zeros(())
    for start in range(0, len(share), CHUNK):
        batch = collate(share[start : start + CHUNK], processor)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
            part = losses_of(model, batch).sum()
        part.backward()
        loss, tokens = loss + part.detach(), tokens + batch.supervised.sum()
    moved = [p for p in model.parameters() if p.requires_grad]
    parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in moved]
    pool = torch.cat([*parts, torch.stack([loss, tokens])])
    if size > 1:
        dist.all_reduce(pool)
    mean = pool / pool[-1]
    for p, grad in zip(moved, mean[:-2].split([p.numel() for p in moved]), strict=True):
        p.grad = grad.view_as(p)
    return mean[-2].item()


def optimizers(model: LlavaForConditionalGeneration) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, norms and biases."""
    inside = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    matrices = {id(p) for p in inside}
    outside = [p for p in model.parameters() if id(p) not in matrices]
    muon = Muon([{"params": inside, "lr": 8e-3}], momentum=0.95, weight_decay=0.01)
    return [muon, torch.optim.AdamW(outside, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)]


def factor(step: int, steps: int) -> float:
    """Learning rate as a share of its peak: 60 steps of warm-up, flat, and straight down to 0."""
    return min((step + 1) / 60, (steps - step) / (COOLING * steps), 1.0)


def train(
    seed: int, steps: int, *, quiet: bool = False, dtype: torch.dtype = torch.float32
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The trained model in float32, whatever its passes are computed in, and its processor.

    Ends with the process that began it, where there is one.
    """
    processor = build_processor()
    model = build_model(processor.tokenizer, seed)
    rng = np.random.default_rng([seed, 20])
    both = optimizers(model)
    groups = [group for optimizer in both for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    told = Told(steps)
    parent = multiprocessing.parent_process()
    model.train()
    for step in range(steps):
        if parent is not None and not parent.is_alive():  # else it would train on for half an hour, for nobody
            raise SystemExit("the process that began the training is gone")
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * factor(step, steps)
        shares = shares_at(step / steps)
        loss = learn(model, processor, [draw_conversation(rng, "train", shares) for _ in range(BATCH)], dtype)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
        if not quiet:
            told.step(loss)
    return model.eval(), processor


class Told:
    """A line of progress every few seconds; how long is left is told once a minute of steps has shown it."""

    def __init__(self, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._done, self._loss = steps, 0, 0.0
        self._pace = Pace(measured=60.0, clock=clock)

    def step(self, loss: float) -> None:
        """One step is done."""
        self._loss = loss if self._done == 0 else 0.95 * self._loss + 0.05 * loss
        self._done += 1
        left = spelled(self._pace.left(self._done, self._steps))
        if self._pace.due() or self._done == self._steps:
            print(f"step {self._done}/{self._steps}  loss {self._loss:.3f}{left and f'  {left}'}", flush=True)


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Write a folder that plain transformers loads: bfloat16 safetensors, processor, template."""
    folder.mkdir(parents=True, exist_ok=True)
    write_model(model.bfloat16(), folder)
    processor.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


EXAM = (*(task for task in say.TASKS), "choice", "concept")


def examine(
    folder: Path, n: int, seed: int = 1, batch_size: int = 50, dtype: torch.dtype = torch.float32
) -> dict[str, tuple[int, int]]:
    """Greedy exact match on `n` held-out scenes, by task and for all unsafe requests, through plain transformers."""
    rng = np.random.default_rng([seed, 21])
    exam = [draw_item(rng, "test", EXAM[i % len(EXAM)]) for i in range(n)]
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, n, batch_size):
        some = exam[start : start + batch_size]
        for item, said in zip(some, answer(model, processor, some, rng), strict=True):
            task = item.task if item.task in say.TASKS else "choice" if item.task in items.CHOICES else "concept"
            right[task].append(said in item.answers)
            if item.rule is not Rule.NONE:
                right["unsafe"].append(said in item.answers)
    return {task: (sum(marks), len(marks)) for task, marks in right.items()}


@torch.inference_mode()
def answer(model: Any, processor: Any, asked: Sequence[Item], rng: np.random.Generator) -> list[str]:
    """Greedy answers, from the bytes of PNG files, batched and left-padded."""
    pictures = [
        [Pillow.open(io.BytesIO(png(scene, int(rng.integers(2**31))))) for scene in item.scenes] for item in asked
    ]
    turns = [[*({"type": "image"} for _ in item.scenes), {"type": "text", "text": item.question}] for item in asked]
    texts = [
        processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True) for turn in turns
    ]
    inputs = processor(images=pictures, text=texts, padding=True, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    return processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def report(marks: dict[str, tuple[int, int]]) -> str:
    """One line per task, and the total over the answerable ones."""
    tasks = {task: mark for task, mark in marks.items() if task != "unsafe"}
    total = sum(k for k, _ in tasks.values()), sum(n for _, n in tasks.values())
    rows = {**tasks, "all tasks": total, "of these, unsafe requests": marks.get("unsafe", (0, 0))}
    return "\n".join(f"{name:28s}{k:5d}/{n:<5d}{100 * k / max(n, 1):6.1f} %" for name, (k, n) in rows.items())


def work(rank: int, options: argparse.Namespace) -> None:
    """What each process does: train; the first one saves and examines."""
    torch.set_num_threads(1)
    if options.processes > 1:
        meeting = f"file://{options.meeting}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=options.processes)
    model, processor = train(options.seed, options.steps, quiet=rank > 0, dtype=getattr(torch, options.dtype))
    if rank == 0:
        save(model, processor, options.out)
        print(report(examine(options.out, 600)))


def main() -> None:
    """Train in as many processes as asked for, one thread each: at this size, faster than threads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the model (default: the package's own)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="what passes are computed in"
    )
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.meeting = Path(folder) / "meeting"
        spawn(work, args=(options,), nprocs=options.processes)


if __name__ == "__main__":
    main()
