"""Negative preference optimization: forgets with brakes on (arXiv 2404.05868; for VLMs Safety Mirage, 2503.11832)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vlmend.objectives import Positive, Weight, cross_entropy
from vlmend.ops.scored import Loss, Needs, Scored, given
from vlmend.ops.unlearning import npo
from vlmend.types import Role


@dataclass(frozen=True)
class Npo:
    """gamma NPO(forget) + alpha CE(retain) - alpha_npo NPO(retain).

    reduction: `sequence`, as published, takes the log-ratio of each answer as a whole; `token_mean_sample` its mean per
    token; `token_mean_batch` one mean for all tokens of a forward pass, as Safety Mirage's code does: with a hundred
    tokens that is almost plain ascent at beta 0.1. alpha_npo is that code's extra retain term, 0 in the paper.
    """

    beta: Positive = 0.1
    gamma: Positive = 1.0
    alpha: Weight = 1.0
    alpha_npo: Weight = 0.0
    reduction: Literal["sequence", "token_mean_sample", "token_mean_batch"] = "sequence"

    @property
    def needs(self) -> Needs:
        """Retained examples only if they count; a reference of them only for alpha_npo."""
        streams = ((Role.FORGET,), (Role.RETAIN,)) if self.alpha or self.alpha_npo else ((Role.FORGET,),)
        compared = {Role.FORGET, Role.RETAIN} if self.alpha_npo else {Role.FORGET}
        return Needs(streams, reference=frozenset(compared))

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        before = given(reference)
        parts = {"forget": self.gamma * self._npo(policy.only(Role.FORGET), before.only(Role.FORGET))}
        if self.alpha:
            parts["retain"] = self.alpha * cross_entropy(policy, Role.RETAIN)
        if self.alpha_npo:
            parts["retain_npo"] = -self.alpha_npo * self._npo(policy.only(Role.RETAIN), before.only(Role.RETAIN))
        return Loss.of(parts)

    def _npo(self, policy: Scored, reference: Scored) -> Tensor:
        now, before = policy.answer_logps, reference.answer_logps
        if self.reduction == "token_mean_sample":
            now, before = now / policy.lengths, before / policy.lengths
        elif self.reduction == "token_mean_batch":
            now, before = (s.mean().expand(len(policy.roles)) for s in (policy.logps, reference.logps))
        return policy.example_mean(npo(now, before, self.beta))


plugin = Npo
