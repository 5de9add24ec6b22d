"""REINFORCE leave-one-out: an answer against the mean of the model's others to the prompt (arXiv 2402.14740)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlmend.objectives import OnPolicy
from vlmend.ops.policy import Credit, Drawn, clipped, leave_one_out
from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class Rloo(OnPolicy):
    """-min(rho A, clip(rho, 1 - clip, 1 + clip_high) A), rho = pi(y|x) / pi_old(y|x); mean over answers.

    A = r - mean of r over the other answers to the prompt (section 3.3). With one update of a batch rho is 1, and the
    gradient is the paper's: A * grad log pi(y|x), log pi summed over the tokens. A KL in the loss is summed as well.
    """

    grouped: ClassVar[bool] = True

    def credit(self, scores: Tensor, penalty: Tensor, drawn: Drawn, head: int) -> Credit:
        """Of an answer, for all its tokens."""
        del head
        return Credit(leave_one_out(scores - drawn.summed(penalty), drawn.group)[drawn.owner])

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        ratio = policy.sums(policy.ratio.log()).exp()
        advantages = policy.sums(policy.known.advantages) / policy.lengths
        surrogate = policy.example_mean(clipped(ratio, advantages, self.clip, self.high))
        return Loss.of({"policy": surrogate, **self.beside(policy, reference, _summed)})


def _summed(policy: Scored, values: Tensor) -> Tensor:
    return policy.example_mean(policy.sums(values))


plugin = Rloo
