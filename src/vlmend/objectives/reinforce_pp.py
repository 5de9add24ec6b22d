"""REINFORCE++: no critic and no groups, advantages measured against the whole batch (arXiv 2501.03262)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vlmend.errors import ConfigError
from vlmend.objectives import OnPolicy
from vlmend.ops.policy import Credit, Drawn, at_the_end, clipped, leave_one_out, returns_to_go, whitened
from vlmend.ops.scored import Loss, Scored


@dataclass(frozen=True)
class ReinforcePp(OnPolicy):
    """-min(rho_t A_t, clip(rho_t, 1 - clip, 1 + clip_high) A_t), mean over the tokens of the step.

    A_t = (G_t - mean G) / std G over all tokens of the batch, G_t = r - sum from t on of what the KL takes off (with
    kl_in: reward). With `baseline` r is first measured against the other answers to its prompt.
    """

    samples: int = 1
    baseline: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline and self.samples < 2:
            raise ConfigError(
                "reinforce_pp with baseline compares answers to the same prompt: set samples to 2 or more"
            )

    def credit(self, scores: Tensor, penalty: Tensor, drawn: Drawn, head: int) -> Credit:
        """Of what is still to come at each token."""
        del head
        own = leave_one_out(scores, drawn.group) if self.baseline else scores
        return Credit(whitened(returns_to_go(at_the_end(own, drawn.owner) - penalty, drawn.owner)))

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        surrogate = clipped(policy.ratio, policy.known.advantages, self.clip, self.high)
        return Loss.of({"policy": policy.token_mean(surrogate), **self.beside(policy, reference, Scored.token_mean)})


plugin = ReinforcePp
