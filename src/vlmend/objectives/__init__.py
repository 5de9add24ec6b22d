"""Training objectives, one per file: frozen settings whose call turns scored tokens into a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from vlmend.config import MethodConfig
from vlmend.errors import ConfigError
from vlmend.ops.policy import Credit, Drawn, Kind, entropy, full_kl, kl_estimate
from vlmend.ops.scored import Look, Loss, Needs, Scored, given
from vlmend.ops.unlearning import ascent
from vlmend.registry import objectives
from vlmend.types import Role

LEADERS = (Role.FORGET, Role.SAFETY)  # what a decouple example may be matched with, the first that a method uses
PROMPTED = (Role.SAFETY, Role.UTILITY, Role.RETAIN)  # whose prompts are answered by the model that learns from that
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Smoothing = Annotated[float, Field(ge=0, le=0.5)]


class Objective(Protocol):
    """What the loop asks of an objective: what it needs, and its loss on one forward pass.

    `reference` has the examples of the roles in `needs.reference`, scored with the model before tuning.
    """

    @property
    def needs(self) -> Needs: ...

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss: ...


@runtime_checkable
class Stops(Protocol):
    """An objective that can say that enough was done."""

    def reason_to_stop(self, parts: Mapping[str, float]) -> str:
        """Why the run should end after a step with these parts of the loss; empty to go on."""
        ...


@runtime_checkable
class Draws(Protocol):
    """An objective that draws tensors of its own, which are saved with the run."""

    def drawn(self, width: int) -> Mapping[str, Tensor]:
        """The tensors by name, for hidden states of this width."""
        ...


@runtime_checkable
class Surveys(Protocol):
    """An objective whose loss takes numbers of the whole step, which get no gradient (`needs.survey`)."""

    def survey(self, policy: Scored, reference: Scored | None = None) -> Mapping[str, Tensor]:
        """One pass's share of each number. They add up over the step to what `policy.totals.surveyed` then holds."""
        ...


@dataclass(frozen=True)
class Ascent:
    """Settings of every objective that makes the forgotten answers unlikely by plain ascent, weighted by `gamma`.

    That has no end of its own: with `floor`, tokens less likely than e^-floor are not pushed on; with `stop`, the run
    ends once the forgotten answers' mean loss (nats per token, of one optimizer step) reaches it. Both are off by
    default, as published. `alpha` weighs what is retained.
    """

    gamma: Positive = 1.0
    floor: Positive | None = None
    stop: Positive | None = None

    def forget(self, policy: Scored) -> Tensor:
        """gamma * mean of log pi over the tokens of all forgotten answers."""
        forget = policy.only(Role.FORGET)
        return self.gamma * forget.token_mean(ascent(forget.logps, self.floor))

    def reason_to_stop(self, parts: Mapping[str, float]) -> str:
        """See `Stops`."""
        reached = -parts["forget"] / self.gamma
        if self.stop is None or reached < self.stop:
            return ""
        return f"the forgotten answers' loss reached {reached:.3g} nats per token (method.stop: {self.stop:g})"


def cross_entropy(policy: Scored, *roles: Role) -> Tensor:
    """-(1/N) sum of log pi over the answer tokens of these roles, pooled."""
    answers = policy.only(*roles)
    return answers.token_mean(-answers.logps)


@dataclass(frozen=True)
class Decoupled:
    """Any objective with a Prompt Decouple term: L + lambda * CE on decouple examples (arXiv 2502.12520, PD loss).

    Those ask what a forgotten example asks, about a harmless picture, and have a normal answer.
    """

    base: Objective
    weight: float
    matched: bool = True

    @property
    def needs(self) -> Needs:
        """What the objective needs, and a decouple example with each forgotten (or else refused) one."""
        needs = self.base.needs
        leader = next((role for role in LEADERS if role in needs.roles), None)
        links = {**needs.links, Role.DECOUPLE: leader} if self.matched and leader else needs.links
        read = None if needs.tokens is None else needs.tokens | {Role.DECOUPLE}
        return replace(needs, streams=(*needs.streams, (Role.DECOUPLE,)), links=links, tokens=read)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        loss = self.base(policy, reference)
        decouple = self.weight * cross_entropy(policy, Role.DECOUPLE)
        return Loss(loss.total + decouple, {**loss.parts, "decouple": decouple.detach()})


@dataclass(frozen=True)
class Pairs:
    """Settings of every objective on preference pairs: what is kept beside the preference, each off by default.

    `sft` weighs CE of the chosen answers, `alpha` CE of retained examples, each pooled over tokens. With
    `picture_negatives` each pair that shows pictures comes with one more, in which the chosen answer is preferred to
    itself about another pair's pictures, so that it has to hang on what is seen (mDPO, arXiv 2406.11839).

    A pair is an example of role `safety` (chosen) and one of role `forget` (rejected) that share meta["pair"]; sources
    of preference pairs are read as such.
    """

    sft: Weight = 0.0
    alpha: Weight = 0.0
    picture_negatives: bool = False

    @property
    def needs(self) -> Needs:
        """Both sides of every pair in one row; retained examples only if they count."""
        streams = ((Role.FORGET,), (Role.SAFETY,), *(((Role.RETAIN,),) if self.alpha else ()))
        return Needs(streams, links={Role.SAFETY: Role.FORGET}, strict=True, picture_negatives=self.picture_negatives)

    def beside(self, policy: Scored) -> dict[str, Tensor]:
        """The terms that were asked for."""
        parts: dict[str, Tensor] = {}
        if self.sft:
            parts["sft"] = self.sft * cross_entropy(policy, Role.SAFETY)
        if self.alpha:
            parts["retain"] = self.alpha * cross_entropy(policy, Role.RETAIN)
        return parts


@dataclass(frozen=True)
class ComparedPairs(Pairs):
    """Settings of objectives on pairs that compare with the model before tuning.

    `length_normalized` divides the log-ratio of each answer by its tokens.
    """

    length_normalized: bool = False

    @property
    def needs(self) -> Needs:
        """Both sides also before tuning."""
        return replace(super().needs, reference=frozenset({Role.SAFETY, Role.FORGET}))

    def ratios(self, policy: Scored, reference: Scored | None) -> tuple[Tensor, Tensor]:
        """(E,) log pi - log pi_0 of the chosen answers and of the rejected."""
        now, before = pair_sides(policy), pair_sides(given(reference))
        chosen, rejected = (
            (one.answer_logps - other.answer_logps) / (one.lengths if self.length_normalized else 1.0)
            for one, other in zip(now, before, strict=True)
        )
        return chosen, rejected


@dataclass(frozen=True)
class OnPolicy:
    """Settings of every objective that learns from the model's own answers to the examples, as `rewards` value them.

    A step samples `samples` answers to each prompt of a batch, of `max_new_tokens` at most, from softmax(logits /
    temperature), which is the policy that is tuned (`top_p` below 1 draws from its likelier part), and goes through
    them `epochs` times in `minibatches` parts, each of which is an update.

    An answer that was cut off at the limit has `unfinished` taken off its reward.

    `clip` and `clip_high` (`clip` where it is not given) bound the ratio pi / pi_old. `kl` weighs the KL from the model
    before tuning, as `kl_kind` estimates it: in the loss, or taken off the reward (`kl_in`), where its weight may
    follow `kl_target` (nats per answer; arXiv 1909.08593, section 2.2). `entropy` weighs the entropy, to be kept.

    `costs` are rewards as well, high where all is well: an answer's cost is the negative of their sum. It is to stay at
    or below `limit` on average: advantages are (A_r - m A_c) / (1 + m), where m >= 0 starts at `multiplier` and moves
    by `multiplier_rate` * (mean cost - limit) after each step (Safe RLHF, arXiv 2310.12773, section 3.3).

    `server` names who samples in place of this process, as `--model` does (`openai:NAME@URL`): a vLLM that serves the
    model before tuning, and is handed the adapter before every step.
    """

    rewards: tuple[Mapping[str, Any] | str, ...] = ()
    samples: Annotated[int, Field(gt=0)] = 8
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: Annotated[int, Field(gt=0)] = 48
    unfinished: Weight = 0.0
    epochs: Annotated[int, Field(gt=0)] = 1
    minibatches: Annotated[int, Field(gt=0)] = 1
    clip: Positive = 0.2
    clip_high: Positive | None = None
    kl: Weight = 0.0
    kl_kind: Kind = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    kl_target: Positive | None = None
    kl_horizon: Positive = 10_000
    entropy: Weight = 0.0
    costs: tuple[Mapping[str, Any] | str, ...] = ()
    limit: float = 0.0
    multiplier: Weight = 1.0
    multiplier_rate: Weight = 0.1
    server: str = ""

    heads: ClassVar[bool] = False  # whether a head reads what is still to come
    grouped: ClassVar[bool] = False  # whether answers to the same prompt are compared

    def __post_init__(self) -> None:
        if self.kl and self.kl_in == "loss" and self.kl_kind.startswith("k1"):
            raise ConfigError(
                f"kl_kind {self.kl_kind} is for kl_in: reward; in the loss the gradient of k1 is 0 on average, whatever"
                " the KL is: take k2, k3 or full there"
            )
        if self.kl_target and not (self.kl and self.kl_in == "reward"):
            raise ConfigError("kl_target moves the weight of a KL in the reward: set kl above 0 and kl_in: reward")
        if self.grouped and self.samples < 2:
            raise ConfigError(
                f"{type(self).__name__.lower()} compares answers to the same prompt, so samples is at least 2 (got 1)"
            )

    @property
    def needs(self) -> Needs:
        """Prompts, and what is compared with the model before tuning."""
        wide = self.entropy > 0 or (self.kl > 0 and self.kl_kind == "full")
        return Needs(
            (PROMPTED,),
            rollouts=True,
            reference=frozenset(PROMPTED) if self.kl else frozenset(),
            look=Look(frozenset(PROMPTED), "answer", vocabulary=True) if wide else None,
            temperature=self.temperature,
            heads=(2 if self.costs else 1) if self.heads else 0,
        )

    @property
    def high(self) -> float:
        """How far above 1 the ratio counts."""
        return self.clip if self.clip_high is None else self.clip_high

    @property
    def updates(self) -> int:
        """Of one batch of answers."""
        return self.epochs * self.minibatches

    @property
    def idle(self) -> bool:
        """Whether tokens without an advantage get no gradient, so that they need not go through the model again."""
        return not (self.entropy or self.heads or (self.kl and self.kl_in == "loss"))

    def begin(self) -> dict[str, float]:
        """Numbers that change from step to step, and are kept with a checkpoint."""
        return {"kl_weight": self.kl, **({"multiplier": self.multiplier} if self.costs else {})}

    def carry(
        self, carried: Mapping[str, float], divergence: float | None, cost: float | None, answers: int
    ) -> dict[str, float]:
        """What they are after a step of so many answers, of this mean KL (nats per answer) and cost."""
        after = dict(carried)
        if self.kl_target and divergence is not None:
            error = min(0.2, max(-0.2, divergence / self.kl_target - 1))
            after["kl_weight"] *= 1 + error * answers / self.kl_horizon
        if self.costs and cost is not None:
            after["multiplier"] = max(0.0, carried["multiplier"] + self.multiplier_rate * (cost - self.limit))
        return after

    def credit(self, scores: Tensor, penalty: Tensor, drawn: Drawn, head: int) -> Credit:
        """Advantages of tokens from (E,) scores of answers and (N,) what is taken off at tokens."""
        raise NotImplementedError

    def credited(self, drawn: Drawn, multiplier: float) -> tuple[Tensor, Tensor | None]:
        """(N,) advantages and (N, H) returns of the step."""
        reward = self.credit(drawn.rewards, drawn.penalty, drawn, 0)
        if drawn.costs is None:
            return reward.advantages, None if reward.returns is None else reward.returns[:, None]
        cost = self.credit(drawn.costs, torch.zeros_like(drawn.penalty), drawn, 1)
        both = (
            None if reward.returns is None or cost.returns is None else torch.stack([reward.returns, cost.returns], 1)
        )
        return (reward.advantages - multiplier * cost.advantages) / (1 + multiplier), both

    def divergence(self, policy: Scored, reference: Scored | None) -> Tensor:
        """(N,) KL(pi || pi_0) at each token, as `kl_kind` has it."""
        if self.kl_kind == "full":
            return full_kl(policy.vocabulary, given(reference).vocabulary)
        before = policy.known.before
        if before is None:
            raise RuntimeError("this objective got no reference")
        return kl_estimate(policy.logps, before, self.kl_kind)

    def beside(
        self, policy: Scored, reference: Scored | None, mean: Callable[[Scored, Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """What is added to the loss, each term of tokens averaged as the objective averages."""
        parts: dict[str, Tensor] = {}
        if self.kl and self.kl_in == "loss":
            parts["kl"] = self.kl * mean(policy, self.divergence(policy, reference))
        if self.entropy:
            parts["entropy"] = -self.entropy * mean(policy, entropy(policy.vocabulary))
        return parts


@dataclass(frozen=True)
class ValuedPairs(Pairs):
    """Settings of objectives on pairs that train a head of one number: what it says at the end of either side."""

    @property
    def needs(self) -> Needs:
        """The head at the end of both sides, and log-probabilities only of what is learned beside it."""
        beside = {Role.SAFETY: self.sft, Role.RETAIN: self.alpha}
        return replace(
            super().needs,
            look=Look(frozenset({Role.SAFETY, Role.FORGET}), "end", valued=True),
            tokens=frozenset(role for role, weight in beside.items() if weight),
        )


def pair_sides(scored: Scored) -> tuple[Scored, Scored]:
    """The chosen and the rejected sides, pair by pair. Raises RuntimeError for half a pair."""
    chosen, rejected = scored.only(Role.SAFETY), scored.only(Role.FORGET)
    if len(chosen.roles) != len(rejected.roles):
        raise RuntimeError("a forward pass with half a pair: chosen and rejected sides go together")
    return chosen, rejected


def build(method: MethodConfig) -> Objective:
    """The objective a recipe names, with its Prompt Decouple term if it asks for one."""
    objective: Objective = objectives.build(method.name, method.settings)
    pd = method.prompt_decouple
    if pd is None:
        return objective
    if objective.needs.rollouts:
        raise ConfigError(
            f"method {method.name!r} learns from the model's own answers, and pd adds a term of given ones"
        )
    matched = pd.pairing == "matched"
    if matched and not objective.needs.roles.intersection(LEADERS):
        raise ConfigError(
            f"method {method.name!r} uses no forgotten or refused examples for decouple examples to be matched with;"
            " pd: {pairing: random} shows them beside any"
        )
    return Decoupled(objective, pd.weight or objective.needs.decouple, matched)


def innermost(objective: Objective) -> Objective:
    """The objective without the terms added to it."""
    return objective.base if isinstance(objective, Decoupled) else objective
