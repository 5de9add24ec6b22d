"""How many tokens a step has, how much arithmetic it needs, and what share of the device's that is (MFU).

Counted is what the mathematics needs with adapters on frozen weights, not what a program does: no padding, the head
where a label is, the tower forward only. A matrix of n weights costs 2n for each token forward, 2n for the gradient
going back through it, and 2n more where it is trained itself; attention costs 4 x width for each pair of tokens and
layer, and twice that backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shapes import Shape

from tuning.cases import FORGET, RETAIN, Unit
from vlmend.models.families.llava import SYSTEM, TRAINED

# dense bf16 operations per second, from the makers' data sheets; longer names first
PEAKS = {
    "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "A10G": 70e12,
    "L40S": 362e12, "L4": 121e12, "B200": 2250e12, "RTX 4090": 165e12,
}  # fmt: skip
# roles that are also scored with the model before tuning; other methods see no more than they train on
COMPARED = {"npo": (FORGET,), "kl": (RETAIN,), "dpo": ("chosen", "rejected")}


@dataclass(frozen=True)
class Span:
    """Tokens that come after others: how many, after how many, how many of them answer."""

    tokens: int
    after: int
    answer: int = 0

    @property
    def pairs(self) -> int:
        """Of tokens that attend to one another."""
        return self.tokens * self.after + self.tokens * (self.tokens + 1) // 2


@dataclass(frozen=True)
class Asked:
    """One example in spans: what is before the question, the question, the answer with its end."""

    image: str
    prompt: str
    role: str
    before: Span
    question: Span
    answer: Span

    @property
    def tokens(self) -> int:
        """All of them, picture and all."""
        return self.before.tokens + self.question.tokens + self.answer.tokens


def asked(shape: Shape, units: Iterable[Unit]) -> Iterator[Asked]:
    """Every example of some units; a word is a token."""
    before = 1 + len(SYSTEM.format(who=TRAINED).split()) + 1 + shape.picture_tokens  # <s>, system text, USER:
    for unit in units:
        for role, row in unit.items():
            question = len(row["prompt"].split()) + 1  # ASSISTANT:
            for side in ("chosen", "rejected") if role == "pair" else ("answer",):
                said = len(row[side].split()) + 1  # </s>
                yield Asked(
                    row["image"], row["prompt"], side if role == "pair" else role, Span(before, 0),
                    Span(question, before), Span(said, before + question, said),
                )  # fmt: skip


def spans(examples: Iterable[Asked], *, shared: bool) -> list[Span]:
    """What has to be computed: everything for each example, or what examples begin with in common once."""
    found: dict[object, Span] = {}
    for number, one in enumerate(examples):
        own = () if shared else (number,)
        found[("before", one.image, *own)] = one.before
        found[("question", one.image, one.prompt, *own)] = one.question
        found[("answer", number)] = one.answer
    return list(found.values())


def operations(shape: Shape, method: Mapping[str, object], step: Iterable[Unit], *, shared: bool) -> float | None:
    """Of one optimizer step. None for RMU, which trains weights and needs few of the layers."""
    if method["name"] == "rmu":
        return None
    examples = list(asked(shape, step))
    before = [one for one in examples if one.role in COMPARED.get(str(method["name"]), ())]
    trained, compared = (spans(some, shared=shared) for some in (examples, before))
    pictures = len({one.image for one in examples}) if shared else len(examples) + len(before)
    return (
        pictures * _picture(shape) + sum(_forward(shape, s) for s in compared) + sum(_both(shape, s) for s in trained)
    )


def _forward(shape: Shape, span: Span) -> float:
    head = 2 * shape.vocabulary * shape.hidden * span.answer
    return 2 * shape.layer_weights * span.tokens + head + 4 * shape.hidden * shape.layers * span.pairs


def _both(shape: Shape, span: Span) -> float:
    """Forward and backward: frozen matrices twice, attention and adapters three times."""
    attention = 4 * shape.hidden * shape.layers * span.pairs
    return 2 * _forward(shape, span) + attention + 3 * 2 * shape.lora_weights * span.tokens


def _picture(shape: Shape) -> float:
    """Tower and projector, forward."""
    seen, tower = shape.picture_tokens + 1, shape.tower
    projector = 2 * shape.hidden * (tower.hidden + shape.hidden) * shape.picture_tokens
    return 2 * shape.tower_weights * seen + 4 * tower.hidden * tower.layers * seen**2 + projector


def peak(device: str) -> float | None:
    """Operations per second that a CUDA device of this name is sold with; None where that is not known here."""
    return next((best for name, best in PEAKS.items() if all(word in device for word in name.split())), None)


def utilization(step: float | None, steps: int, seconds: float, device: str) -> float | None:
    """Model-flops utilization: needed operations per second, by those of the device."""
    best = peak(device)
    return None if step is None or best is None else step * steps / seconds / best
