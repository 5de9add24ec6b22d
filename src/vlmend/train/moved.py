"""What tuning did to the weights it trained: how far, and how many of them, so that updates are not lost unseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

FEW = 0.5  # of the weights that had a gradient; with fewer moved, it is said aloud


@dataclass(frozen=True)
class Moved:
    """`norm` of the change of all trained weights together, and shares of their number.

    share: those that differ from before. idle: those that never had a gradient, such as embeddings of words that no
    example has. kept: of those that are computed or saved in the coarser `dtype`, those that still differ once before
    and after are rounded to it; None where there are none of that kind.
    """

    norm: float
    share: float
    idle: float = 0.0
    dtype: str = ""
    kept: float | None = None

    def says(self) -> str:
        """In half a sentence, as '99.95 % of the trained weights moved, by 0.013 in all'."""
        rounded = "" if self.kept is None else f"; in {self.dtype}, {percent(self.kept)} differ"
        return f"{percent(self.share)} of the trained weights moved, by {self.norm:.3g} in all{rounded}"

    def warning(self, saved: str) -> str:
        """What is to be feared for the update; empty when nothing is. `saved` is the dtype of what is saved."""
        if self.share < FEW * (1 - self.idle):
            idle = f" ({percent(self.idle)} never had a gradient)" if self.idle else ""
            return (
                f"only {percent(self.share)} of the trained weights moved{idle}: steps may be too small for them, and"
                " what was to be learned is lost; a higher train.learning_rate or more steps help"
            )
        if self.kept is None or self.kept >= FEW * (1 - self.idle):
            return ""
        where = f"rounded to {self.dtype}, only {percent(self.kept)} of the weights tuned differ from before"
        if saved == self.dtype:
            return f"{where}, and so they are saved: output.dtype=float32 keeps the whole update"
        return f"{where}: they are saved in float32; loaded or served in {self.dtype}, most of the update is lost"


def percent(share: float) -> str:
    """With two places, and never 0 % or 100 % of what is neither."""
    for end in (0.0, 1.0):
        if abs(share - end) < 5e-5 and share != end:
            return f"{'less than 0.01' if end == 0 else 'more than 99.99'} %"
    return f"{100 * share:.2f} %".replace(".00 %", " %")


def snapshot(weights: Mapping[str, Parameter]) -> dict[str, Tensor]:
    """A copy on the CPU, in bfloat16 where that loses nothing: of weights that were read in it."""
    return {name: _copy(p.detach()) for name, p in weights.items()}


def _copy(weight: Tensor) -> Tensor:
    short = weight.to(torch.bfloat16)
    return (short if torch.equal(short.to(weight.dtype), weight) else weight).to("cpu", copy=True)


def compare(
    before: Mapping[str, Tensor],
    weights: Mapping[str, Parameter],
    optimizer: torch.optim.Optimizer,
    coarse: torch.dtype | None = None,
    *,
    adapters: bool = True,
) -> Moved:
    """Compare one weight after the other with what it was, and rounded to `coarse` if that is given.

    Weights of `adapters` need not be rounded: peft holds them in fp32.
    """
    total = squares = different = idle = rounded = kept = 0.0
    for name, weight in weights.items():
        total += weight.numel()
        idle += _idle(weight, optimizer)
        for now, was in _pieces(weight.detach(), before[name]):
            squares += float((now.double() - was.double()).pow(2).sum())
            different += int((now != was).sum())
            if coarse is not None and (adapters or "lora_" not in name):
                rounded += now.numel()
                kept += int((now.to(coarse) != was.to(coarse)).sum())
    dtype = str(coarse).removeprefix("torch.") if rounded else ""
    return Moved(squares**0.5, different / total, idle / total, dtype, kept / rounded if rounded else None)


def _pieces(now: Tensor, was: Tensor, size: int = 2**24) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in fp32 on the CPU, so many numbers at a time."""
    for one, two in zip(now.flatten().split(size), was.flatten().split(size), strict=True):
        yield one.float().cpu(), two.float().cpu()


def _idle(weight: Parameter, optimizer: torch.optim.Optimizer) -> int:
    """How many of its numbers never had a gradient, by Adam's mean of squares."""
    known: Tensor | None = optimizer.state.get(weight, {}).get("exp_avg_sq")
    return weight.numel() if known is None else int((known == 0).sum())
