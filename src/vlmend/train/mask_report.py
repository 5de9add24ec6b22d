"""What is trained on, token by token: counted, shown before every run, and refused when it cannot be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from vlmend.errors import DataError
from vlmend.models.codec import Batch
from vlmend.ops.logprobs import IGNORE


@dataclass(frozen=True)
class MaskReport:
    """Tokens of the first batches by kind. Supervised are the answer's tokens, its end token included.

    wording: what the chat template does with conversations that is to be known, and with how many of all examples.
    """

    examples: int
    picture: int
    prompt: int
    answer: int
    padding: int
    supervised: int
    first_answer: str
    wording: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.picture + self.prompt + self.answer + self.padding

    def to_json(self) -> dict[str, Any]:
        """As plain data, for the manifest."""
        return asdict(self)

    def rows(self) -> list[tuple[str, int, int]]:
        """(kind, tokens, of these supervised), one row per kind."""
        return [
            ("picture", self.picture, 0),
            ("prompt", self.prompt, 0),
            ("answer", self.answer, self.supervised),
            ("padding", self.padding, 0),
        ]


def check_mask(batch: Batch) -> None:
    """Raise DataError when a picture, padding or first token is supervised, or an example has nothing supervised."""
    supervised = batch.labels != IGNORE
    real = batch.inputs["attention_mask"].bool()
    _refuse(batch, (supervised & batch.image_mask).any(dim=1), "has supervised picture tokens")
    _refuse(batch, (supervised & ~real).any(dim=1), "has supervised padding")
    _refuse(batch, supervised[:, 0], "has a supervised first token, which nothing predicts")
    _refuse(
        batch,
        (supervised & (batch.labels != batch.inputs["input_ids"])).any(dim=1),
        "has labels that differ from its tokens",
    )
    _refuse(batch, ~supervised.any(dim=1), "has no supervised token: its answer is empty")


def _refuse(batch: Batch, bad: Tensor, why: str) -> None:
    names = [example.id for example, is_bad in zip(batch.examples, bad.tolist(), strict=True) if is_bad]
    if names:
        raise DataError(f"example {names[0]!r} {why} ({len(names)} of {len(batch.examples)} in its batch)")


def mask_report(
    batches: Iterable[Batch],
    decode: Callable[[Sequence[int]], str],
    wording: Mapping[str, int] | None = None,
    *,
    answered: bool = True,
) -> MaskReport:
    """Check and count. `decode` shows the first supervised span, special tokens included.

    Prompts that are not `answered` yet have nothing to check.
    """
    examples = picture = prompt = padding = supervised = 0
    first = ""
    for batch in batches:
        if answered:
            check_mask(batch)
        answer = batch.labels != IGNORE
        real = batch.inputs["attention_mask"].bool()
        examples += len(batch.examples)
        picture += int(batch.image_mask.sum())
        padding += int((~real).sum())
        supervised += int(answer.sum())
        prompt += int((real & ~answer & ~batch.image_mask).sum())
        first = first or decode(batch.labels[0][answer[0]].tolist())
    return MaskReport(examples, picture, prompt, supervised, padding, supervised, first, dict(wording or {}))
