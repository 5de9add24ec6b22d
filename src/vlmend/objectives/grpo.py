"""Group relative policy optimization: better than the model's other answers to the same prompt (arXiv 2402.03300)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from vlmend.objectives import OnPolicy
from vlmend.ops.policy import Credit, Drawn, clipped, group_relative
from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class Grpo(OnPolicy):
    """-min(rho_t A, clip(rho_t, 1 - clip, 1 + clip_high) A) + kl * KL_t, rho_t = pi / pi_old of token t (eq. 3).

    A = (r - mean r) / std r over the answers to one prompt; without `std`, r - mean r (Dr. GRPO, arXiv 2503.20783).
    `loss_mean`: over an answer's tokens and then over answers (`sequence`, as published, so that tokens of long answers
    weigh less); over all tokens (`token`: DAPO, arXiv 2503.14476); sums over `max_new_tokens` (`constant`: Dr. GRPO).
    """

    std: bool = True
    loss_mean: Literal["sequence", "token", "constant"] = "sequence"

    grouped: ClassVar[bool] = True

    def credit(self, scores: Tensor, penalty: Tensor, drawn: Drawn, head: int) -> Credit:
        """Of an answer, for all its tokens."""
        del head
        return Credit(group_relative(scores - drawn.summed(penalty), drawn.group, std=self.std)[drawn.owner])

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        surrogate = clipped(policy.ratio, policy.known.advantages, self.clip, self.high)
        return Loss.of({"policy": self.mean(policy, surrogate), **self.beside(policy, reference, self.mean)})

    def mean(self, policy: Scored, values: Tensor) -> Tensor:
        """Of (N,) token values, as `loss_mean` says."""
        match self.loss_mean:
            case "token":
                return policy.token_mean(values)
            case "sequence":
                return policy.example_mean(policy.sums(values) / policy.lengths)
            case "constant":
                return policy.example_mean(policy.sums(values) / self.max_new_tokens)


plugin = Grpo
