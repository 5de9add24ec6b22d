"""Policy gradients on sampled tokens. Pure functions; what is averaged over what is not here.

Notation: x picture and question, y a sampled answer of |y| tokens, r its reward, pi the model, pi_old the model that
sampled, pi_0 the model before tuning. N tokens of E answers are flat: `owner` (N,) is the answer a token belongs to,
and the tokens of one answer stand together and in order. `group` (E,) numbers the prompts that answers are answers to.
There is no padding, so nothing is averaged over any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from vlmend.ops.scored import Vocabulary

TINY = 1e-6  # added to standard deviations
CHUNK = 2048  # positions whose distributions exist at once
Kind = Literal["k1", "k1_clamped", "k2", "k3", "full"]


@dataclass(frozen=True)
class Drawn:
    """E sampled answers of a step, N tokens in all: what came of them and what they are answers to.

    rewards and costs (E,), costs only where there are any; penalty (N,): what is taken off at each token, of the KL and
    for being cut off; values (N, H): what H heads read before each token, of the reward and then of the cost.
    """

    rewards: Tensor
    group: Tensor
    owner: Tensor
    penalty: Tensor
    costs: Tensor | None = None
    values: Tensor | None = None

    def summed(self, values: Tensor) -> Tensor:
        """(N,) token values to (E,) sums."""
        return values.new_zeros(len(self.rewards)).index_add(0, self.owner, values)


@dataclass(frozen=True)
class Credit:
    """(N,) advantages of tokens, and (N,) the returns that a head is to read, where one does."""

    advantages: Tensor
    returns: Tensor | None = None


def clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """-min(rho A, clip(rho, 1 - low, 1 + high) A): PPO's surrogate to be minimised (arXiv 1707.06347, eq. 7)."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def kl_estimate(now: Tensor, before: Tensor, kind: Kind) -> Tensor:
    """Of KL(pi || pi_0), from log pi (N,) and log pi_0 (N,) of tokens drawn from pi (J. Schulman, "Approximating KL
    divergence", 2020). With d = log pi - log pi_0:

    k1 = d, unbiased, of either sign; k2 = d^2 / 2, biased, its gradient is that of the KL; k3 = e^-d - 1 + d, unbiased
    and never negative. k1_clamped = max(d, 0), as some published code has it, is too large on average, and pays nothing
    for a return to pi_0.
    """
    gap = now - before
    match kind:
        case "k1":
            return gap
        case "k1_clamped":
            return gap.clamp(min=0)
        case "k2":
            return gap**2 / 2
        case "k3":
            return torch.expm1(-gap) + gap
        case "full":
            raise ValueError("the full KL takes whole distributions: full_kl")


def full_kl(now: Vocabulary, before: Vocabulary) -> Tensor:
    """(M,) KL(pi || pi_0) = sum over v of pi(v) (log pi(v) - log pi_0(v)), exact, at each position."""

    def divergence(logits: Tensor, reference: Tensor) -> Tensor:
        logps, then = logits.float().log_softmax(-1), reference.float().log_softmax(-1)
        return (logps.exp() * (logps - then)).sum(-1)

    return _pieced(divergence, now, before)


def entropy(vocabulary: Vocabulary) -> Tensor:
    """(M,) -sum over v of pi(v) log pi(v), in nats, at each position."""

    def of(logits: Tensor) -> Tensor:
        logps = logits.float().log_softmax(-1)
        return -(logps.exp() * logps).sum(-1)

    return _pieced(of, vocabulary)


def _pieced(work: Callable[..., Tensor], *vocabularies: Vocabulary) -> Tensor:
    """A few positions at a time, whose distributions are made again on the way back."""
    pieces = zip(*(vocabulary.chunks(CHUNK) for vocabulary in vocabularies), strict=True)
    found = [checkpoint(work, *piece, use_reentrant=False) for piece in pieces]
    return torch.cat(found) if found else vocabularies[0].held.new_zeros(0)


def group_relative(rewards: Tensor, group: Tensor, *, std: bool = True) -> Tensor:
    """(r - mean of its group) / standard deviation of its group (GRPO: arXiv 2402.03300, section 4.1.2).

    Without `std` only the mean is taken off (Dr. GRPO: arXiv 2503.20783). 0 in a group whose rewards are all the same.
    """
    count, total = _per_group(torch.ones_like(rewards), group), _per_group(rewards, group)
    centered = rewards - (total / count)[group]
    centered = torch.where(dead(rewards, group)[group], torch.zeros_like(centered), centered)
    if not std:
        return centered
    spread = (_per_group(centered**2, group) / (count - 1).clamp(min=1)).sqrt()
    return centered / (spread[group] + TINY)


def leave_one_out(rewards: Tensor, group: Tensor) -> Tensor:
    """r - mean of the others of its group (RLOO: arXiv 2402.14740, section 3.3). 0 for an answer that is alone."""
    count, total = _per_group(torch.ones_like(rewards), group)[group], _per_group(rewards, group)[group]
    baseline = (total - rewards) / (count - 1).clamp(min=1)
    gap = torch.where(count > 1, rewards - baseline, torch.zeros_like(rewards))
    return torch.where(dead(rewards, group)[group], torch.zeros_like(gap), gap)


def dead(rewards: Tensor, group: Tensor) -> Tensor:
    """(G,) whether all answers of a group have the same reward, so that it says nothing of which is better."""
    count = int(group.max()) + 1 if len(group) else 0
    most = rewards.new_full((count,), -torch.inf).scatter_reduce(0, group, rewards, "amax")
    least = rewards.new_full((count,), torch.inf).scatter_reduce(0, group, rewards, "amin")
    return most <= least


def _per_group(values: Tensor, group: Tensor) -> Tensor:
    count = int(group.max()) + 1 if len(group) else 0
    return values.new_zeros(count).index_add(0, group, values)


def stretched(values: Tensor) -> Tensor:
    """(values - least) / (most - least), 0 if all are equal: what one is worth hangs on what else is in the batch."""
    width = values.max() - values.min()
    return torch.zeros_like(values) if width == 0 else (values - values.min()) / width


def whitened(values: Tensor, *, shift: bool = True) -> Tensor:
    """Values less their mean, over their standard deviation. All there are are real: there is no padding among them."""
    if len(values) < 2:
        return torch.zeros_like(values) if shift else values
    mean, spread = values.mean(), values.std()
    return (values - mean) / (spread + TINY) + (0 if shift else mean)


def at_the_end(rewards: Tensor, owner: Tensor) -> Tensor:
    """(N,) the reward (E,) of an answer at its last token, 0 at all others."""
    found = rewards.new_zeros(len(owner))
    found[last_tokens(owner)] = rewards[owner.unique_consecutive()]
    return found


def last_tokens(owner: Tensor) -> Tensor:
    """(E,) where each answer's last token stands."""
    return owner.unique_consecutive(return_counts=True)[1].cumsum(0) - 1


def gae(rewards: Tensor, values: Tensor, owner: Tensor, gamma: float, lam: float) -> Tensor:
    """(N,) A_t = sum over l of (gamma lam)^l delta_(t+l), delta_t = r_t + gamma V_(t+1) - V_t.

    GAE (arXiv 1506.02438, eq. 16). Rewards and values (N,) are of tokens; what comes after an answer's last token is
    worth 0, whether it ended there or was cut.
    """
    lengths = _lengths(owner)
    r, v = (pad_sequence(list(each.split(lengths)), batch_first=True) for each in (rewards, values))
    real = pad_sequence([torch.ones(n, dtype=torch.bool, device=r.device) for n in lengths], batch_first=True)
    advantages, following = torch.zeros_like(r), r.new_zeros(len(lengths))
    later = torch.cat([v[:, 1:], v.new_zeros(len(v), 1)], dim=1)
    for t in range(r.shape[1] - 1, -1, -1):
        following = (r[:, t] + gamma * later[:, t] - v[:, t] + gamma * lam * following) * real[:, t]
        advantages[:, t] = following
    return advantages[real]


def returns_to_go(rewards: Tensor, owner: Tensor, gamma: float = 1.0) -> Tensor:
    """(N,) what is still to come: sum over l of gamma^l r_(t+l)."""
    return gae(rewards, torch.zeros_like(rewards), owner, gamma, 1.0)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """1/2 max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2); without clipping, the first alone."""
    error = (values - returns) ** 2
    if clip is None:
        return error / 2
    near = old + (values - old).clamp(-clip, clip)
    return torch.maximum(error, (near - returns) ** 2) / 2


def _lengths(owner: Tensor) -> Sequence[int]:
    return owner.unique_consecutive(return_counts=True)[1].tolist()
