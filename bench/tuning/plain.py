"""The published computations in plain transformers and peft: what the released codes do, with our means.

As there: each role is a forward pass of its own, padded to what is longest of all roles; logits are made at every
position; the model before tuning is a second full model that sees its pictures itself; RMU runs all layers. Not as
there: what a mean is taken over. Released codes take means of means of micro-batches; here a mean is over the
optimizer step, as in vlmend, so that losses and gradients are comparable. It costs nothing: transformers' own loss
takes the count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModelForImageTextToText, AutoProcessor

from tuning.cases import DECOUPLE, FORGET, RETAIN, Row, Unit, read
from tuning.job import BETAS, Data, Job, Step, clock, groups

Inputs = dict[str, Tensor]
Micro = dict[str, Inputs]  # by role
IGNORE = -100
TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
DOWN = ("layers.5.mlp.down_proj.weight", "layers.6.mlp.down_proj.weight", "layers.7.mlp.down_proj.weight")


def lora(rank: int) -> LoraConfig:
    """Adapters on every linear layer of the language model's blocks."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=TARGETS, task_type="CAUSAL_LM")


def base(job: Job) -> nn.Module:
    """The model as it was saved: fp32 on a CPU, else bf16."""
    dtype = torch.float32 if job.device == "cpu" else torch.bfloat16
    return AutoModelForImageTextToText.from_pretrained(job.model, dtype=dtype).to(job.device)


def trainable(job: Job) -> nn.Module:
    """The model with what the case trains opened."""
    model = base(job).requires_grad_(False)
    if job.of.deep:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("language_model" in name and name.endswith(DOWN))
        return model.train()
    return get_peft_model(model, lora(job.shape.lora)).train()


class Encoder:
    """Rows to padded inputs with labels on the answer and its end."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)

    def __call__(self, units: Sequence[Unit]) -> Micro:
        """By role, all padded to one length. A preference pair is its chosen answers, then its rejected ones."""
        roles: dict[str, list[Row]] = {}
        for unit in units:
            for role, row in unit.items():
                sides = {role: row["answer"]} if role != "pair" else {s: row[s] for s in ("chosen", "rejected")}
                for side, answer in sides.items():
                    roles.setdefault(side, []).append({**row, "answer": answer})
        encoded = {role: [self.one(row) for row in rows] for role, rows in roles.items()}
        longest = max(len(one["labels"]) for rows in encoded.values() for one in rows)
        return {role: self.pad(rows, longest) for role, rows in encoded.items()}

    def one(self, row: Row) -> Inputs:
        """One conversation."""
        asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["prompt"]}]}
        said = {"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]}
        prompt = self.processor.apply_chat_template([asked], add_generation_prompt=True)
        whole = self.processor.apply_chat_template([asked, said])
        with Image.open(row["image"]) as picture:
            made = self.processor(images=picture.convert("RGB"), text=whole, return_tensors="pt")
        ids = made["input_ids"][0]
        answer = len(self.ids(whole)) - len(self.ids(prompt))
        labels = ids.clone()
        labels[:-answer] = IGNORE
        return {"input_ids": ids, "labels": labels, "pixel_values": made["pixel_values"][0]}

    def ids(self, text: str) -> list[int]:
        """Tokens, one for a picture."""
        return self.processor.tokenizer(text)["input_ids"]

    def pad(self, rows: Sequence[Inputs], longest: int) -> Inputs:
        """On the right."""
        fill = {"input_ids": self.processor.tokenizer.pad_token_id, "labels": IGNORE}
        made = {
            name: torch.stack([F.pad(row[name], (0, longest - len(row[name])), value=value) for row in rows])
            for name, value in fill.items()
        }
        mask = torch.stack([torch.arange(longest) < len(row["labels"]) for row in rows]).long()
        return {**made, "attention_mask": mask, "pixel_values": torch.stack([row["pixel_values"] for row in rows])}


@dataclass(frozen=True)
class Totals:
    """Of an optimizer step: answer tokens and text positions by role, and units."""

    tokens: dict[str, int]
    text: dict[str, int]
    units: int

    @classmethod
    def of(cls, window: Sequence[Micro], text: Callable[[Inputs], Tensor]) -> Totals:
        """Over its micro-batches."""
        tokens, spots = Counter[str](), Counter[str]()
        for micro in window:
            tokens.update({role: int((rows["labels"] != IGNORE).sum()) for role, rows in micro.items()})
            spots.update({role: int(text(rows).sum()) for role, rows in micro.items()})
        return cls(tokens, spots, sum(len(next(iter(micro.values()))["labels"]) for micro in window))


class Plain:
    """Trains as published, `job.batch` units at a time."""

    def __init__(self, job: Job) -> None:
        self.job, self.case = job, job.of
        self.model = trainable(job)
        self.encode = Encoder(job.model)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=job.shape.rate, betas=BETAS, weight_decay=0.0)
        self.method = str(self.case.method["name"])
        self.warm = False
        compares = self.method in ("npo", "kl", "dpo", "rmu")
        self.before = base(job).requires_grad_(False).eval() if compares else None

    def seconds(self, data: Data) -> float:
        """Of the timed steps, after one to warm up when it is new."""
        if not self.warm:
            self.train(data.first)
            self.warm = True
        began = clock(self.job)
        self.train(data.timed)
        return clock(self.job) - began

    def step(self, rows: Path, weights: Sequence[Tensor]) -> Step:
        """Loss and gradients of one step on all of the rows, from these weights."""
        units = read(rows)
        with torch.no_grad():
            for parameter, value in zip(self.trained, weights, strict=True):
                parameter.copy_(value)
        self.optimizer.zero_grad()
        [window] = self.windows(units, len(units))
        return Step(self.backward(window), list(weights), [p.grad for p in self.trained])

    def train(self, rows: Path) -> None:
        """Once through the rows."""
        for window in self.windows(read(rows), self.case.step):
            self.update(window)

    def windows(self, units: Sequence[Unit], step: int) -> Iterator[list[Micro]]:
        """The micro-batches of each optimizer step, pictures decoded as they come."""
        parts = [part for window in groups(units, step) for part in groups(window, self.job.batch)]
        loader = iter(
            DataLoader(parts, batch_size=None, collate_fn=self.encode, num_workers=self.job.workers)  # pyright: ignore
        )
        each = -(-step // self.job.batch)
        while window := list(islice(loader, each)):
            yield window

    def update(self, window: Sequence[Micro]) -> None:
        """One optimizer step."""
        self.backward(window)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, window: Sequence[Micro]) -> float:
        """The loss of a step, differentiated one micro-batch after the other."""
        totals = Totals.of(window, self.text)
        total = 0.0
        for micro in window:
            moved = {role: {k: v.to(self.job.device) for k, v in rows.items()} for role, rows in micro.items()}
            with self.autocast():
                loss = getattr(self, self.method)(moved, totals)
            loss.backward()
            total += float(loss.detach())
        return total

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 on an accelerator, as the released codes train."""
        return torch.autocast(self.job.device, torch.bfloat16, enabled=self.job.device != "cpu")

    # losses, by the name of the method

    def sft(self, micro: Micro, totals: Totals) -> Tensor:
        """Cross-entropy, by transformers' own loss."""
        [(role, rows)] = micro.items()
        return self.entropy(rows, totals.tokens[role])

    def gd(self, micro: Micro, totals: Totals) -> Tensor:
        """SafeEraser's gdpd with the paper's weights: three forward passes."""
        forget, retain, decouple = (self.entropy(micro[r], totals.tokens[r]) for r in (FORGET, RETAIN, DECOUPLE))
        return -forget + retain + 0.5 * decouple

    def kl(self, micro: Micro, totals: Totals) -> Tensor:
        """SafeEraser's kl: whole distributions of two models at all positions. The mean is over answers'."""
        rows = micro[RETAIN]
        now = self.logits(self.model, rows).float().log_softmax(-1)
        with torch.no_grad():
            before = self.logits(self.before, rows).float().log_softmax(-1)
        divergence = (before.exp() * (before - now)).sum(-1)
        mask = shifted(rows["labels"]) != IGNORE
        return -self.entropy(micro[FORGET], totals.tokens[FORGET]) + (divergence * mask).sum() / totals.tokens[RETAIN]

    def npo(self, micro: Micro, totals: Totals) -> Tensor:
        """NPO as published, on the log-ratio of whole answers, and Safety Mirage's cross-entropy."""
        beta = self.case.method["beta"]
        ratio = self.ratio(micro[FORGET])
        forget = (2 / beta) * F.softplus(beta * ratio).sum() / totals.units
        return forget + self.entropy(micro[RETAIN], totals.tokens[RETAIN])

    def dpo(self, micro: Micro, totals: Totals) -> Tensor:
        """Chosen and rejected answers in one batch, as its authors' code has it."""
        both = {name: torch.cat([micro["chosen"][name], micro["rejected"][name]]) for name in micro["chosen"]}
        chosen, rejected = self.ratio(both).chunk(2)
        return -F.logsigmoid(self.case.method["beta"] * (chosen - rejected)).sum() / totals.units

    def rmu(self, micro: Micro, totals: Totals) -> Tensor:
        """Hidden states of a layer, after which all others and the head run as well, in three forward passes."""
        width, layer = self.job.shape.hidden, self.case.method["layer"]
        drawn = torch.randn(width, generator=torch.Generator().manual_seed(42))
        target = (self.case.method["coefficient"] * drawn / drawn.norm()).to(self.job.device)
        now, kept = (self.states(self.model, micro[role], layer) for role in (FORGET, RETAIN))
        with torch.no_grad():
            before = self.states(self.before, micro[RETAIN], layer)
        steer = (now - target).pow(2).mean(-1)[self.text(micro[FORGET])].sum() / totals.text[FORGET]
        drift = (kept - before).pow(2).mean(-1)[self.text(micro[RETAIN])].sum() / totals.text[RETAIN]
        return self.case.method["alpha_hidden"] * drift + steer

    # their parts

    def logits(self, model: Any, rows: Inputs) -> Tensor:
        """(B, T, V), at every position."""
        return model(**{name: value for name, value in rows.items() if name != "labels"}, use_cache=False).logits

    def text(self, rows: Inputs) -> Tensor:
        """(B, T) positions of words, the first of a row left out."""
        model: Any = self.model
        mask = rows["attention_mask"].bool() & (rows["input_ids"] != model.config.image_token_id)
        mask[:, 0] = False
        return mask

    def entropy(self, rows: Inputs, tokens: int) -> Tensor:
        """Sum over the answers of a batch by the tokens of the step."""
        model: Any = self.model
        return model(**rows, use_cache=False, num_items_in_batch=tokens).loss

    def ratio(self, rows: Inputs) -> Tensor:
        """(B,) log-probabilities of answers, less those of the model before."""
        now = answers(self.logits(self.model, rows), rows["labels"])
        with torch.no_grad():
            before = answers(self.logits(self.before, rows), rows["labels"])
        return now - before

    def states(self, model: Any, rows: Inputs, layer: int) -> Tensor:
        """(B, T, d) what a layer puts out."""
        seen: list[Tensor] = []
        hook = model.model.language_model.layers[layer].register_forward_hook(
            lambda module, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        self.logits(model, rows)
        hook.remove()
        return seen[0].float()


def shifted(labels: Tensor) -> Tensor:
    """(B, T) what each position predicts."""
    return F.pad(labels, (0, 1), value=IGNORE)[:, 1:]


def answers(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) log-probability of each answer, from whole distributions at every position."""
    wanted = shifted(labels)
    logps = logits.float().log_softmax(-1).gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (logps * (wanted != IGNORE)).sum(-1)
