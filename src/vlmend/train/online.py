"""Learning from the model's own answers: sample, value, give credit, update, and count what came of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vlmend.data.batches import split_evenly
from vlmend.errors import ModelError
from vlmend.objectives import OnPolicy
from vlmend.ops.policy import Drawn, at_the_end, dead, full_kl, kl_estimate
from vlmend.ops.scored import Loss, Sampled, Scored, Totals, given
from vlmend.rewards import Composite, Rewarded
from vlmend.train.loop import COUNT, SUM, Tuning, Work, remaining, update
from vlmend.train.mask_report import check_mask
from vlmend.train.rollouts import Account, Sample, Sampler, Writer, by_prompt, spread
from vlmend.train.scoring import Micro
from vlmend.train.served import ServedSampler
from vlmend.train.watch import watch
from vlmend.types import Role


@dataclass(frozen=True)
class Then:
    """Of one answer's T tokens before the first update: log pi (T,), log pi_0 (T,), KL (T,), values (T, H)."""

    logps: Tensor
    before: Tensor | None
    divergence: Tensor | None
    values: Tensor | None


@dataclass
class Tally:
    """Sums and counts of what is logged."""

    values: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        """So much in all, of so many."""
        self.values[SUM + name] = self.values.get(SUM + name, 0.0) + total
        self.values[COUNT + name] = self.values.get(COUNT + name, 0.0) + count

    @classmethod
    def summed(cls, shares: Iterable[Mapping[str, float]]) -> Tally:
        """Of all processes together."""
        whole = cls()
        for share in shares:
            for name, value in share.items():
                whole.values[name] = whole.values.get(name, 0.0) + value
        return whole

    def mean(self, name: str) -> float | None:
        """Of what was added under a name."""
        count = self.values.get(COUNT + name)
        return self.values[SUM + name] / count if count else None


@dataclass
class Learner:
    """What a run on rollouts consists of beside the tuning itself."""

    run: Tuning
    objective: OnPolicy
    sampler: Sampler | ServedSampler
    rewards: Composite
    costs: Composite | None = None
    head: nn.Linear | None = None

    def __post_init__(self) -> None:
        self.said: list[dict[str, Any]] = []  # one answer of the last step for each kind of request, to be read
        self.writer = Writer(self.run.model, self.run.codec, self.run.ways, self.run.config.max_length)

    def steps(self) -> Iterator[Work]:
        """All remaining steps of the run."""
        if not self.run.progress.carried:
            self.run.progress.carried = self.objective.begin()
        without_dropout(self.run.model)
        for _ in remaining(self.run):
            yield self.step

    def step(self) -> dict[str, float]:
        """One batch of prompts: answers, what they are worth, and the updates made of them.

        Each process samples, values and learns from answers to its own prompts; credit is given for all together.
        """
        run, team, tally, clock = self.run, self.run.team, Tally(), _Clock()
        self.writer.begin()
        self.sampler.ready()
        samples = team.together(self._sampled)
        tally.add("seconds/rollouts", clock())
        worth, cost = team.together(partial(self._valued, samples))
        tally.add("seconds/rewards", clock())
        kept = [
            s for s in samples if worth[s.number].total is not None and (not cost or cost[s.number].total is not None)
        ]
        then = team.together(partial(self._look_back, kept, tally)) if self._looks_back else None
        told = team.collect((len(samples), self._accounts(kept, worth, cost, then, tally)))
        accounts = sorted((one for _, some in told for one in some), key=lambda one: one.number)
        if not accounts:
            raise ModelError(
                f"none of the {sum(n for n, _ in told)} answers sampled at step {run.progress.step + 1} could be"
                " valued; there is nothing to learn from them"
            )
        values = self._learn(kept, then, accounts, tally)
        tally.add("seconds/updates", clock())
        count(tally, samples, kept, worth, cost)
        tally.add("tokens/sampled", sum(len(s.ids) for s in samples), 1 / team.size)
        said = {
            str(s.rollout.example.expected): {
                "example": s.rollout.example.id, "text": s.rollout.text, "reward": worth[s.number].total
            }
            for s in reversed(samples)
        }  # fmt: skip
        shares = team.collect((tally.values, said))
        tally = Tally.summed([values for values, _ in shares])
        self.said = list({kind: one for _, some in reversed(shares) for kind, one in some.items()}.values())
        carried = self.objective.carry(run.progress.carried, tally.mean("kl_answer"), tally.mean("cost"), len(accounts))
        run.progress.carried = watch(run.progress.step, carried, accounts)
        return {**values, **tally.values}

    def _sampled(self) -> list[Sample]:
        """Answers to this process's share of the step's prompts, numbered through the step."""
        run = self.run
        places = {row: place for place, row in enumerate(run.plan.step(run.progress.step))}
        rows = run.plan.share(run.progress.step, run.team.rank)
        if not rows:
            return []
        indices = [index for (index,) in rows]
        examples, weights = [run.examples[i] for i in indices], [run.weights[i] for i in indices]
        return self.sampler(examples, weights, run.progress.step, [places[row] for row in rows])

    def _valued(self, samples: Sequence[Sample]) -> tuple[dict[int, Rewarded], dict[int, Rewarded]]:
        """What answers are worth and what they cost, by number; no costs where none are counted."""
        rollouts, numbers = [s.rollout for s in samples], [s.number for s in samples]
        worth = dict(zip(numbers, self.rewards(rollouts), strict=True))
        costs = [one.as_cost() for one in self.costs(rollouts)] if self.costs else []
        return worth, dict(zip(numbers, costs, strict=True)) if self.costs else {}

    def _accounts(
        self,
        kept: Sequence[Sample],
        worth: Mapping[int, Rewarded],
        cost: Mapping[int, Rewarded],
        then: Sequence[Then] | None,
        tally: Tally,
    ) -> list[Account]:
        """What the other processes are to know of this one's answers."""
        lengths = [len(s.ids) for s in kept]
        penalty = self._penalty(then, sum(lengths), tally) + self._unfinished(kept, spread(lengths))
        return [
            Account(
                sample.number,
                sample.group,
                sample.rollout.example.role,
                str(sample.rollout.example.expected),
                sample.weight,
                worth[sample.number].total or 0.0,
                (cost[sample.number].total or 0.0) if cost else None,
                taken,
                then[place].values if then else None,
            )
            for place, (sample, taken) in enumerate(zip(kept, penalty.split(lengths), strict=True))
        ]

    def _learn(
        self, kept: Sequence[Sample], then: Sequence[Then] | None, accounts: Sequence[Account], tally: Tally
    ) -> dict[str, float]:
        """Credit for every token, then the updates. Returns their numbers, means over updates but for tokens."""
        objective, carried = self.objective, self.run.progress.carried
        drawn = _drawn(accounts)
        advantages, returns = objective.credited(drawn, carried.get("multiplier", 0.0))
        spans = dict(zip([a.number for a in accounts], _spans([a.tokens for a in accounts]), strict=True))
        mine = _joined([spans[s.number] for s in kept])
        mine = torch.zeros(0, dtype=torch.long) if mine is None else mine
        known = Sampled(
            advantages[mine].float(),
            _joined([t.logps for t in then]) if then and objective.updates > 1 else None,
            _joined([t.before for t in then]) if then else None,
            None if drawn.values is None else drawn.values[mine].float(),
            None if returns is None else returns[mine].float(),
        )
        for name, value in carried.items():
            if name in ("multiplier", "kl_weight") and (name != "kl_weight" or objective.kl_target):
                tally.add(name, value)
        groups = dead(drawn.rewards, drawn.group)
        for sample in {s.group: s for s in kept}.values():
            tally.add("dead", float(groups[sample.group]))
            tally.add(f"dead@{sample.rollout.example.expected}", float(groups[sample.group]))
        return self._updates(kept, accounts, known, tally)

    # Before the updates

    @property
    def _looks_back(self) -> bool:
        """Whether a pass of all answers comes before the first update."""
        o = self.objective
        return o.updates > 1 or o.heads or o.kl > 0

    def _look_back(self, kept: Sequence[Sample], tally: Tally) -> list[Then]:
        """What model and reference say of every token, without gradient, answer by answer."""
        found: dict[int, Then] = {}
        compared, o = self.objective.kl > 0, self.objective
        with torch.no_grad():
            for part in by_prompt(kept, self.run.config.per_device_train_batch_size):
                at = 0
                for micro in self.writer(part, compared=compared):
                    check_mask(micro.batch)
                    policy, reference = self._score(micro, Totals({}, {}), compared=compared)
                    count_gap(tally, part[at : at + len(micro.weights)], policy.logps)
                    exact = (
                        full_kl(policy.vocabulary, given(reference).vocabulary)
                        if compared and o.kl_kind == "full"
                        else None
                    )
                    for row in range(len(micro.weights)):
                        mine = policy.owner == row
                        before = None if reference is None else reference.logps[mine].cpu()
                        logps = policy.logps[mine].cpu()
                        divergence = None
                        if exact is not None:
                            divergence = exact[mine].cpu()
                        elif before is not None and o.kl_kind != "full":
                            divergence = kl_estimate(logps, before, o.kl_kind)
                        values = policy.token_values
                        found[part[at + row].number] = Then(
                            logps, before, divergence, None if values is None else values[mine].cpu()
                        )
                    at += len(micro.weights)
        return [found[s.number] for s in kept]

    def _penalty(self, then: Sequence[Then] | None, tokens: int, tally: Tally) -> Tensor:
        """(N,) what the KL takes off the reward at each token; counts the KL and the entropy by the way."""
        nothing = torch.zeros(tokens, dtype=torch.float64)
        if then is None:
            return nothing
        tally.add("entropy", -sum(float(t.logps.sum()) for t in then), tokens)
        divergence = _joined([t.divergence for t in then])
        if divergence is None:
            return nothing
        tally.add("kl", float(divergence.sum()), tokens)
        tally.add("kl_answer", float(divergence.sum()), len(then))
        weight = self.run.progress.carried["kl_weight"] if self.objective.kl_in == "reward" else 0.0
        return weight * divergence.double()

    def _unfinished(self, kept: Sequence[Sample], owner: Tensor) -> Tensor:
        """(N,) what is taken off at the last token of an answer that was cut off."""
        cut = torch.tensor([not s.rollout.finished for s in kept], dtype=torch.float64)
        return self.objective.unfinished * at_the_end(cut, owner)

    def _score(self, micro: Micro, totals: Totals, *, compared: bool) -> tuple[Scored, Scored | None]:
        """Policy, and reference where it is asked for, on the run's device."""
        run = self.run
        micro = micro.to(run.team.device)
        reference = run.reference(micro, totals) if compared and run.reference else None
        policy = replace(run.forward(micro, totals), named=run.objective.needs.roles)
        if self.head is not None and policy.hidden is not None:
            hidden = policy.hidden.float()
            policy = replace(policy, token_values=self.head(hidden.detach() if self.objective_detaches else hidden))
        return policy, reference

    @property
    def objective_detaches(self) -> bool:
        """Whether what the head learns stays out of the model."""
        return bool(getattr(self.objective, "detach", False))

    # Updates

    def _updates(
        self, kept: Sequence[Sample], accounts: Sequence[Account], known: Sampled, tally: Tally
    ) -> dict[str, float]:
        run, o = self.run, self.objective
        where = dict(zip([s.number for s in kept], _spans([len(s.ids) for s in kept]), strict=True))
        moving = {s.group for s in kept if not o.idle or bool((known.advantages[where[s.number]] != 0).any())}
        sums: dict[str, float] = {}
        for epoch in range(o.epochs):
            groups = sorted({a.group for a in accounts})
            random.Random(f"{run.config.seed}/{run.progress.step}/{epoch}").shuffle(groups)
            parts = split_evenly([(g,) for g in groups], min(o.minibatches, len(groups)))
            for part in parts:
                chosen = {g for (g,) in part}
                totals = totals_of([a for a in accounts if a.group in chosen])
                live = [s for s in kept if s.group in chosen & moving]
                values = update(run, partial(self._share, live, totals, known, where, tally))
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value / (1 if name == "tokens" else o.epochs * len(parts))
        return sums

    def _share(
        self, live: Sequence[Sample], totals: Totals, known: Sampled, where: Mapping[int, Tensor], tally: Tally
    ) -> dict[str, float]:
        """This process's part of an update; its numbers have the names that any process's have."""
        team = self.run.team
        values = team.together(partial(self._accumulate, live, totals, known, where, tally))
        names = {name: 0.0 for some in team.collect(list(values)) for name in some}
        return {**names, **values}

    def _accumulate(
        self, live: Sequence[Sample], totals: Totals, known: Sampled, where: Mapping[int, Tensor], tally: Tally
    ) -> dict[str, float]:
        """Add up the gradients of one update."""
        run, o = self.run, self.objective
        wide = o.kl > 0 and o.kl_kind == "full" and o.kl_in == "loss"
        values: dict[str, float] = {"loss": 0.0, "tokens": 0.0, "parts/policy": 0.0}
        for part in by_prompt(live, run.config.per_device_train_batch_size):
            at = 0
            for micro in self.writer(part, compared=wide):
                check_mask(micro.batch)
                rows = part[at : at + len(micro.weights)]
                at += len(rows)
                policy, reference = self._score(micro, totals, compared=wide)
                index = torch.cat([where[s.number] for s in rows])
                policy = replace(policy, sampled=known.at(index).to(run.team.device))
                loss = run.objective(policy, reference)
                if not self._looks_back:
                    count_gap(tally, rows, policy.logps)
                (loss.total * run.progress.scale).backward()
                _note(values, loss)
                values["tokens"] += float(micro.batch.inputs["attention_mask"].sum())
                self._count_ratio(policy, tally)
        return values

    def _count_ratio(self, policy: Scored, tally: Tally) -> None:
        """How far the policy has gone from the one that sampled, by now."""
        with torch.no_grad():
            if policy.known.old is None:
                if not self._looks_back:
                    tally.add("entropy", -float(policy.logps.sum()), len(policy.logps))
                return
            ratio, o = policy.ratio, self.objective
            outside = (ratio < 1 - o.clip) | (ratio > 1 + o.high)
            tally.add("clipped", float(outside.sum()), len(ratio))
            tally.add("kl_old", float(kl_estimate(policy.known.old, policy.logps, "k3").sum()), len(ratio))


class _Clock:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self) -> float:
        before, self._at = self._at, time.monotonic()
        return self._at - before


def totals_of(accounts: Iterable[Account]) -> Totals:
    """Weighted counts of an update's answers, whether they go through the model or not."""
    tokens, examples = dict.fromkeys(Role, 0.0), dict.fromkeys(Role, 0.0)
    for account in accounts:
        tokens[account.role] += account.weight * account.tokens
        examples[account.role] += account.weight
    return Totals(tokens, examples, tokens)


def count(
    tally: Tally,
    samples: Sequence[Sample],
    kept: Sequence[Sample],
    worth: Mapping[int, Rewarded],
    cost: Mapping[int, Rewarded],
) -> None:
    """What is to be seen of a step's answers: what they are worth, in every term and kind, how long, how many cut."""
    tally.add("unscored", len(samples) - len(kept), len(samples))
    for sample in samples:
        kind = sample.rollout.example.expected
        for name in ("length", f"length@{kind}"):
            tally.add(name, len(sample.ids))
        tally.add("cut", float(not sample.rollout.finished))
        for found, what in ((worth, "reward"), (cost, "cost")):
            for term, value in (found[sample.number].terms if found else {}).items():
                if value is not None:
                    tally.add(f"{what}/{term}", value)
    for sample in kept:
        kind = sample.rollout.example.expected
        for found, what in ((worth, "reward"), (cost, "cost")):
            total = found[sample.number].total if found else None
            if total is not None:
                tally.add(what, total)
                tally.add(f"{what}@{kind}", total)


def count_gap(tally: Tally, samples: Sequence[Sample], logps: Tensor) -> None:
    """How far a server's log-probabilities (nats per token) are from those here, (N,) of the samples' tokens."""
    for sample, ours in zip(samples, logps.detach().cpu().split([len(s.ids) for s in samples]), strict=True):
        if len(sample.told) == len(ours):
            tally.add("server_gap", float((ours - torch.tensor(sample.told)).abs().sum()), len(ours))


def _note(values: dict[str, float], loss: Loss) -> None:
    for name, share in {"loss": loss.total, **{f"parts/{n}": part for n, part in loss.parts.items()}}.items():
        values[name] = values.get(name, 0.0) + float(share.detach())


def _drawn(accounts: Sequence[Account]) -> Drawn:
    """A step's answers, of all processes."""
    costs = [a.cost for a in accounts if a.cost is not None]
    return Drawn(
        rewards=torch.tensor([a.reward for a in accounts], dtype=torch.float64),
        group=torch.tensor([a.group for a in accounts]),
        owner=spread([a.tokens for a in accounts]),
        penalty=torch.cat([a.penalty for a in accounts]),
        costs=torch.tensor(costs, dtype=torch.float64) if costs else None,
        values=_joined([a.values for a in accounts]),
    )


def _spans(lengths: Sequence[int]) -> list[Tensor]:
    """Where the tokens of each answer stand, one after the other."""
    return list(torch.arange(sum(lengths)).split(list(lengths)))


def _joined(parts: Sequence[Any]) -> Tensor | None:
    """End to end; None where there are none, or not of all."""
    return torch.cat(list(parts)) if parts and all(part is not None for part in parts) else None


def without_dropout(model: nn.Module) -> None:
    """A ratio compares the policy with itself; noise of its own in either would be taken for a difference."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # which, other than being in evaluation, outlasts what is done in between
