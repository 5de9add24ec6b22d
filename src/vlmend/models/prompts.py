"""Conversations encoded one at a time and unpadded, so that they can be put together and shared in any way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlmend.errors import DataError
from vlmend.models.codec import Batch, Codec
from vlmend.models.family import TOKEN_INPUTS
from vlmend.models.rows import whole_cache
from vlmend.ops.logprobs import IGNORE
from vlmend.types import Example


@dataclass(frozen=True, eq=False)
class Prompt:
    """Tokens (T,), their positions (A, T) on the model's A axes, and the pictures that stand in them.

    `shown`: content hashes of the pictures; `pieces`: how many tokens stand for them.
    A prefix may be shared when it has `pictured` tokens or more, so that it holds every picture, and `free` or fewer.
    """

    ids: Tensor
    positions: Tensor
    pictures: Mapping[str, Tensor]
    shown: tuple[str, ...]
    pieces: int
    pictured: int
    free: int

    def __len__(self) -> int:
        return len(self.ids)


def bare(model: Any) -> Any:
    """The model of transformers inside whatever an adapter wraps around it."""
    return model.get_base_model() if hasattr(model, "disable_adapter") else model


def shown(example: Example) -> tuple[str, ...]:
    """Content hashes of an example's pictures, in order."""
    return tuple(image.sha256 for image in example.images)


def whole_only(model: Any, codec: Codec) -> str:
    """Why prompts of this model can be fed only as a whole and by transformers itself; empty when they need not."""
    takes = signature(bare(model).forward).parameters
    if codec.family.lookahead != "none":
        return "its tokens see later ones of the prompt"
    if not codec.family.features or not {"mm_encoder_outputs", "position_ids", "logits_to_keep"} <= set(takes):
        return "its pictures do not enter as embeddings"
    if not whole_cache(bare(model)):
        return "its layers do not keep the whole past"
    return ""


def prompt(model: Any, codec: Codec, example: Example) -> Prompt:
    """An example as the model is to answer it. Raises DataError or ModelError for one that cannot be encoded."""
    return _encoded(model, codec, codec.encode_prompts([example]))


Place = Callable[[Codec, Example, str], Batch]  # where an answer stands, which is what is supervised


def as_answer(codec: Codec, example: Example, answer: str) -> Batch:
    """An example with an answer to it, as in tuning."""
    return codec.encode_training([replace(example, answers=(answer,), reasoning="")])


def as_beginning(codec: Codec, example: Example, text: str) -> Batch:
    """The prompt of an example and right behind it the tokens of a text, as the model would begin to write it."""
    return continued(
        codec, codec.encode_prompts([example]), codec.tokenizer(text, add_special_tokens=False)["input_ids"]
    )


def continued(codec: Codec, asked: Batch, ids: Sequence[int]) -> Batch:
    """One prompt and right behind it the tokens of an answer, which are supervised."""
    words = torch.tensor([list(ids)], dtype=torch.long)
    behind: dict[str, Tensor] = {"input_ids": words, "attention_mask": torch.ones_like(words)}
    labels = torch.cat([asked.labels, words], dim=1)
    inputs: dict[str, Tensor] = {}
    for name, value in asked.inputs.items():
        if name in TOKEN_INPUTS:  # what else runs along the tokens goes on as at the prompt's last one, which is text
            more = behind.get(name, value[:, -1:].expand(-1, words.shape[1], *value.shape[2:]))
            value = torch.cat([value, more.to(value.dtype)], dim=1)
        inputs[name] = value
    pictures = torch.cat([asked.image_mask, torch.zeros_like(words, dtype=torch.bool)], dim=1)
    return Batch(codec.family.complete(inputs, labels), labels, pictures, asked.examples)


def answered(model: Any, codec: Codec, example: Example, answer: str, place: Place = as_answer) -> tuple[Prompt, int]:
    """An example with an answer to it, up to the answer's last token; and how many tokens it has.

    What may be shared ends before the last token of the prompt, which predicts the first one of the answer.
    """
    batch = place(codec, example, answer)
    supervised = (batch.labels[0] != IGNORE).tolist()
    end = len(supervised) - supervised[::-1].index(True)
    start = end - next((i for i, yes in enumerate(supervised[end - 1 :: -1]) if not yes), end)
    while end > start and int(batch.labels[0, end - 1]) in codec.eos_ids:
        end -= 1
    if end == start:
        raise DataError(f"an answer to example {example.id!r} has no tokens")
    return _encoded(model, codec, batch, free=start - 1, end=end), end - start


def taught(model: Any, codec: Codec, example: Example, max_length: int | None = None) -> tuple[Prompt, Batch]:
    """An example with its answer as in tuning: what the model is fed, and a batch of it alone, which has its labels."""
    batch = codec.encode_training([example], max_length)
    return _encoded(model, codec, batch), batch


def said(model: Any, codec: Codec, asked: Batch, ids: Sequence[int]) -> tuple[Prompt, Batch]:
    """One prompt with an answer of these very tokens, as in tuning."""
    batch = continued(codec, asked, ids)
    return _encoded(model, codec, batch), batch


def together(batches: Sequence[Batch]) -> Batch:
    """Batches of one example each as one, padded on the right, without pictures: what is known about its tokens."""
    rows = [(b.inputs["input_ids"][0], b.inputs["attention_mask"][0], b.labels[0], b.image_mask[0]) for b in batches]
    ids, real, labels, pictures = (
        pad_sequence(list(column), batch_first=True, padding_value=blank)
        for column, blank in zip(zip(*rows, strict=True), (0, 0, IGNORE, False), strict=True)
    )
    inputs = {"input_ids": ids, "attention_mask": real}
    return Batch(inputs, labels, pictures, tuple(e for b in batches for e in b.examples))


def _encoded(model: Any, codec: Codec, batch: Batch, free: int | None = None, end: int | None = None) -> Prompt:
    inputs = dict(batch.inputs)
    ids = inputs.pop("input_ids")
    places = bare(model)._prepare_position_ids_for_generation(ids, inputs)  # no public way to it
    pieces = batch.image_mask[0].nonzero()
    return Prompt(
        ids=ids[0, :end],
        positions=places.reshape(-1, ids.shape[1])[:, :end].cpu(),
        pictures={name: value for name, value in inputs.items() if name not in TOKEN_INPUTS},
        shown=shown(batch.examples[0]),
        pieces=int((ids == codec.image_id).sum()),
        pictured=int(pieces[-1]) + 1 if len(pieces) else 0,
        free=ids.shape[1] - 1 if free is None else free,
    )


def shared_length(prompts: Sequence[Prompt]) -> int:
    """How many first tokens prompts of the same pictures have in common and may share; 0 when that cuts a picture."""
    limit = min(p.free for p in prompts)
    first = prompts[0].ids[:limit]
    for other in prompts[1:]:
        differs = (first != other.ids[: len(first)]).nonzero()
        first = first[: int(differs[0])] if len(differs) else first
    return len(first) if len(first) >= prompts[0].pictured else 0
