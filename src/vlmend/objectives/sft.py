"""Supervised fine-tuning: cross-entropy on the answers of safety and utility examples alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class Sft:
    """-(1/N) * sum of log p(token): mean over all answer tokens of the step, each weighted by its example."""

    needs_reference: ClassVar[bool] = False

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        del reference
        loss = policy.token_mean(-policy.logps)
        return Loss(loss, {"nll": loss.detach()})


plugin = Sft
