"""The language-model head of a model: run at chosen positions only, or taken out of it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vlmend.models.prompts import bare
from vlmend.ops.head import Head


class Chosen:
    """Positions of the flattened rows that the head is to see, (K,), and what comes in there, (K, d)."""

    def __init__(self, places: Tensor) -> None:
        self.places = places
        self.hidden: Tensor | None = None

    @property
    def states(self) -> Tensor:
        """What came in, once the model has run."""
        if self.hidden is None:
            raise RuntimeError("the model ran without its language-model head")
        return self.hidden


@contextmanager
def at(model: Any, places: Tensor, *, run: bool = True) -> Generator[Chosen]:
    """In one forward pass the head sees these positions alone, and the model's logits are (1, K, V).

    Without `run` it sees none, and they are (1, 0, V): for who goes on from the states.
    """
    chosen = Chosen(places)

    def narrow(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        del module
        hidden: Tensor = inputs[0].flatten(0, 1)[chosen.places]
        chosen.hidden = hidden
        return (hidden[None] if run else hidden[None, :0], *inputs[1:])

    handle = bare(model).get_output_embeddings().register_forward_pre_hook(narrow)
    try:
        yield chosen
    finally:
        handle.remove()


def head_of(model: Any) -> Head | None:
    """The head's matrix, if logits are that times hidden states and nothing else: no adapter on it, no soft cap after.

    Found out by asking the model about one token, with large numbers put before the head.
    """
    found = bare(model).get_output_embeddings()
    if type(found) is not nn.Linear:
        return None
    head, weight, training = Head(found.weight, found.bias), found.weight, model.training
    large = 1e3 * torch.linspace(-1, 1, weight.shape[1], dtype=weight.dtype, device=weight.device)[None, None]
    handle = found.register_forward_pre_hook(lambda module, inputs: (large, *inputs[1:]))
    model.eval()
    try:
        with torch.no_grad():
            ids = torch.zeros(1, 1, dtype=torch.long, device=weight.device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            same = torch.allclose(logits, head.logits(large), rtol=1e-3)
    except (ValueError, TypeError, KeyError, RuntimeError):  # one that takes no text alone
        same = False
    finally:
        handle.remove()
        model.train(training)
    return head if same else None
