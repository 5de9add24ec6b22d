"""The model before tuning, without a second copy of it in memory.

`Live`: at every step, with the adapter off (where modules are tuned in full beside an adapter, peft keeps their
originals) or, without an adapter, with the original of every trained weight put in its place for the moment.
`Cached`: log-probabilities computed once, before the first step, and kept in the run's folder by example and content.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from vlmend.errors import ModelError
from vlmend.ops.scored import Scored, Totals
from vlmend.store import Journal, read_rows
from vlmend.train.encoding import Encoder
from vlmend.train.scoring import Forward, Micro
from vlmend.types import Example, Role, conversation_key, digest


class Reference(Protocol):
    """Scores a forward pass as the model before tuning would, in examples of the roles that are compared."""

    def __call__(self, micro: Micro, totals: Totals) -> Scored | None:
        """None when the pass has no such example."""
        ...


@dataclass(frozen=True)
class Live:
    """A forward pass at every step. `originals` of the trained weights; none where taking an adapter off does it."""

    forward: Forward
    originals: Mapping[str, Tensor]

    def __call__(self, micro: Micro, totals: Totals) -> Scored | None:
        if micro.compared is None:
            return None
        with untuned(self.forward.model, self.originals):
            return self.forward(micro.compared, totals).now()


@dataclass(frozen=True)
class Cached:
    """Log-probabilities of each answer's tokens by the example's key."""

    logps: Mapping[str, Sequence[float]]
    roles: frozenset[Role]

    def __call__(self, micro: Micro, totals: Totals) -> Scored | None:
        device = micro.batch.labels.device
        pairs = zip(micro.batch.examples, micro.weights, strict=True)
        kept = [(example, weight) for example, weight in pairs if example.role in self.roles]
        if not kept:
            return None
        known = [self.logps[key(example)] for example, _ in kept]
        owner = [row for row, values in enumerate(known) for _ in values]
        return Scored(
            torch.tensor(list(itertools.chain.from_iterable(known)), dtype=torch.float32, device=device),
            torch.tensor(owner, dtype=torch.long, device=device),
            tuple(example.role for example, _ in kept),
            torch.tensor([weight for _, weight in kept], dtype=torch.float32, device=device),
            totals,
        )


def key(example: Example) -> str:
    """Identity of an example and of what it shows, asks, answers and teaches, pictures by content."""
    untaught = [turn for turn, message in enumerate(example.prompt) if not message.supervised]
    besides = [["reasoning", example.reasoning]] if example.reasoning else []
    besides += [untaught] if untaught else []
    return digest(example.id, conversation_key(example.prompt), example.answers[0], *besides)


def originals(trained: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """A copy of every trained weight."""
    return {name: p.detach().clone() for name, p in trained.items()}


@contextmanager
def untuned(model: torch.nn.Module, originals: Mapping[str, Tensor]) -> Generator[torch.nn.Module]:
    """The model as it was before tuning: no dropout, no gradients, original weights in place or else no adapter."""
    training, adapter = model.training, cast(Any, model)
    with torch.no_grad(), _swapped(model, originals) if originals else adapter.disable_adapter():
        model.eval()
        try:
            yield model
        finally:
            model.train(training)


@contextmanager
def _swapped(model: torch.nn.Module, originals: Mapping[str, Tensor]) -> Generator[None]:
    """Exchange pointers, not contents: it costs no time, and tied weights stay tied."""
    parameters = {name: p for name, p in model.named_parameters() if name in originals}
    tuned = {name: p.data for name, p in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = originals[name]
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = tuned[name]


@dataclass(frozen=True)
class Caching:
    """What it takes to fill a cache: the model as it is before tuning, in passes of `size` examples."""

    forward: Forward
    encoder: Encoder
    device: torch.device
    size: int
    nothing: Totals = field(default_factory=lambda: Totals({}, {}))

    def fill(self, examples: Sequence[Example], file: Path, identity: str) -> None:
        """Add what the file lacks. Killed, the same call goes on where it was; of another model, it is refused."""
        known = read_cache([file], identity)
        missing = [example for example in examples if key(example) not in known]
        with Journal(file) as journal:
            for at in range(0, len(missing), self.size):
                some = missing[at : at + self.size]
                for example, logps in zip(some, self._logps(some), strict=True):
                    journal.append({"key": key(example), "example": example.id, "model": identity, "logps": logps})

    def _logps(self, examples: Sequence[Example]) -> Iterator[list[float]]:
        micro = self.encoder(examples, [1.0] * len(examples)).to(self.device)
        model = self.forward.model
        training = model.training
        model.eval()
        with torch.no_grad():
            scored = self.forward(micro, self.nothing)
        model.train(training)
        yield from (scored.logps[scored.owner == row].tolist() for row in range(len(examples)))


def read_cache(files: Sequence[Path], identity: str) -> dict[str, list[float]]:
    """What cache files hold. Raises ModelError when one was made with another model."""
    rows = [(file, row) for file in files for row in read_rows(file)]
    for file, row in rows:
        if row["model"] != identity:
            raise ModelError(f"{file} holds log-probabilities of another model; remove it to have them computed anew")
    return {row["key"]: row["logps"] for _, row in rows}
