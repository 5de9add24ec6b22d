"""Proximal policy optimization with a critic: a value head on the model's own states (arXiv 1707.06347, 1909.08593)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from vlmend.objectives import OnPolicy, Positive, Weight
from vlmend.ops.policy import Credit, Drawn, Kind, at_the_end, clipped, gae, stretched, value_loss, whitened
from vlmend.ops.scored import Loss, Scored

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Ppo(OnPolicy):
    """-min(rho_t A_t, clip(rho_t, 1 - clip, 1 + clip_high) A_t) + value * 1/2 (V_t - R_t)^2, mean over tokens.

    The reward is that of an answer's last token, less kl * KL_t at every token (kl_in: reward). A_t is GAE's, with
    `gamma` and `lam` (arXiv 1506.02438), `whiten` over the tokens of the step; R_t = A_t + V_t from before that. V_t is
    a linear head on the state that predicts token t, clipped to within `value_clip` of what it was, if that is given.
    `detach` keeps its gradient from the model.

    Two options are for repeating what others ran: `loss_mean: constant` divides sums by `max_new_tokens` and answers,
    as a mean over padding does; `stretch` spreads the rewards of a step over 0 to 1, so that what an answer is worth
    hangs on what else was sampled.
    """

    samples: int = 1
    epochs: int = 4
    kl: Weight = 0.05
    kl_kind: Kind = "k1"
    kl_in: Literal["loss", "reward"] = "reward"
    gamma: Share = 1.0
    lam: Share = 0.95
    value: Weight = 0.1
    value_clip: Positive | None = 0.2
    whiten: bool = True
    detach: bool = False
    loss_mean: Literal["token", "constant"] = "token"
    stretch: bool = False

    heads: ClassVar[bool] = True

    def credit(self, scores: Tensor, penalty: Tensor, drawn: Drawn, head: int) -> Credit:
        """Of each token, and what the head is to read."""
        if drawn.values is None:
            raise RuntimeError("PPO got no values")
        values = drawn.values[:, head]
        scores = stretched(scores) if self.stretch else scores
        rewards = at_the_end(scores, drawn.owner) - penalty
        advantages = gae(rewards, values, drawn.owner, self.gamma, self.lam)
        return Credit(whitened(advantages) if self.whiten else advantages, advantages + values)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        known, values = policy.known, policy.token_values
        if values is None or known.values is None or known.returns is None:
            raise RuntimeError("PPO got no values")
        surrogate = clipped(policy.ratio, known.advantages, self.clip, self.high)
        errors = value_loss(values, known.values, known.returns, self.value_clip).sum(dim=1)
        return Loss.of(
            {
                "policy": self.mean(policy, surrogate),
                "value": self.value * self.mean(policy, errors),
                **self.beside(policy, reference, self.mean),
            }
        )

    def mean(self, policy: Scored, values: Tensor) -> Tensor:
        """Of (N,) token values, as `loss_mean` says."""
        if self.loss_mean == "token":
            return policy.token_mean(values)
        return policy.example_mean(policy.sums(values) / self.max_new_tokens)


plugin = Ppo
