"""The seam: what an objective sees. Log-probabilities of supervised tokens, never logits, padding or packing.

The training loop makes one `Scored` per forward pass. All means are over the whole optimizer step (every
micro-batch of every process), which is why their denominators come in as `Totals` and are not counted here:
accumulating k micro-batches then gives the gradient of one batch k times as large, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from vlmend.ops.head import Head
from vlmend.types import Role

Places = Literal["end", "answer", "text", "no_bos", "no_pad", "all"]


@dataclass(frozen=True)
class Look:
    """What an objective wants to see beside log-probabilities, in examples of `roles` at the positions `places`.

    Each of `places` holds the one before it: the last answer token, which ends it; answer tokens; text, the prompt's
    too; pictures as well; the first token as well, an attention sink that says nothing; padding as well, as some
    published code counts it.
    `layer`: hidden states as that layer of the language model puts them out, by number or name. `vocabulary`: the whole
    distribution; with places `answer`, that which predicts each answer token.
    `valued`: what a head of one number, trained and saved with the run, makes of the last hidden states there.
    """

    roles: frozenset[Role]
    places: Places = "answer"
    layer: int | str | None = None
    vocabulary: bool = False
    valued: bool = False


@dataclass(frozen=True)
class Needs:
    """What an objective consumes; a run whose data or model cannot give it is refused before it starts.

    streams: a row of a batch takes one example from each stream, of one of the stream's roles. Examples of other roles
    are left out.
    links: follower to leader; a follower is shown in the row of the leader it shares `meta["pair"]` with. In a `strict`
    link every leader has exactly one follower.
    reference: roles that are scored with the model before tuning as well.
    tokens: roles whose log-probabilities are read; None for all. Others need not go through the whole model. Of the
    reference they are read unless `states_only`.
    decouple: the published weight of a Prompt Decouple term beside this objective.
    present: groups of roles of each of which the data must have an example, where a stream takes one of any.
    feedback: answers that people did not want (`Example.avoid`) are shown as examples of the role `forget`.
    picture_negatives: beside each preference pair one is shown that prefers the chosen answer to itself about another
    pair's pictures.
    survey: the loss takes numbers of the whole step, which its method `survey` gives.
    numbers: keys of meta whose numbers the loss reads, by role: every example of that role must have them.
    rollouts: it learns from answers that the model itself gives to the examples, not from theirs.
    temperature: log-probabilities and distributions are those of softmax(logits / temperature).
    heads: how many numbers a head of the method's reads off each state that predicts a token (`Scored.token_values`).
    """

    streams: tuple[tuple[Role, ...], ...]
    links: Mapping[Role, Role] = field(default_factory=dict[Role, Role])
    strict: bool = False
    reference: frozenset[Role] = frozenset()
    look: Look | None = None
    tokens: frozenset[Role] | None = None
    states_only: bool = False
    decouple: float = 1.0
    present: tuple[tuple[Role, ...], ...] = ()
    feedback: bool = False
    picture_negatives: bool = False
    survey: bool = False
    numbers: Mapping[Role, str] = field(default_factory=dict[Role, str])
    rollouts: bool = False
    temperature: float = 1.0
    heads: int = 0

    @property
    def roles(self) -> frozenset[Role]:
        """Every role that is used."""
        return frozenset(role for stream in self.streams for role in stream)


@dataclass(frozen=True)
class Totals:
    """Weighted counts per role over a whole optimizer step, all processes: the denominators of every mean.

    `surveyed` are further numbers of the step, where an objective's loss takes some and not all of the step is in one
    pass; else empty.
    """

    tokens: Mapping[Role, float]
    examples: Mapping[Role, float]
    spots: Mapping[Role, float] = field(default_factory=dict[Role, float])
    surveyed: Mapping[str, float] = field(default_factory=dict[str, float])

    @staticmethod
    def of(unit: Mapping[Role, float], roles: frozenset[Role] | None) -> float:
        """The count of some roles together, or of all."""
        return sum(count for role, count in unit.items() if roles is None or role in roles)


class Vocabulary:
    """Unnormalized log-probabilities of all V tokens at M positions, to be read a few positions at a time.

    Held as (M, V) logits, or as the hidden states (M, d) that `head` makes them of.
    """

    def __init__(self, held: Tensor, head: Head | None = None) -> None:
        self.held = held
        self.head = head

    def chunks(self, size: int) -> Iterator[Tensor]:
        """(at most `size`, V) logits of one position after the other, in the model's own precision."""
        yield from (piece if self.head is None else self.head.logits(piece) for piece in self.held.split(size))

    def at(self, index: Tensor) -> Vocabulary:
        """Those of some of the positions."""
        return Vocabulary(self.held[index], self.head)

    def now(self) -> Vocabulary:
        """Those of the model as it is at this moment, whatever is put in its weights' place before they are read."""
        return Vocabulary(self.held.detach(), self.head and self.head.now())


@dataclass(frozen=True)
class Spots:
    """What was looked at: M positions, `owner[i]` is the example position i belongs to.

    `states` (M, d) are hidden states in fp32, `vocabulary` the distributions, `values` (M,) in fp32 what the head of
    one number says, each if the objective asked for it.
    `roles` are those whose examples were looked at; None for all.
    """

    owner: Tensor
    states: Tensor | None = None
    vocabulary: Vocabulary | None = None
    roles: frozenset[Role] | None = None
    values: Tensor | None = None


@dataclass(frozen=True)
class Sampled:
    """What is known of N sampled tokens from before the first update that was made of them, as `Scored` has them.

    advantages (N,); old (N,) log pi_old, None where there has been no update since; before (N,) log pi_0 where it is
    compared; values and returns (N, H) of the H heads, if there are any.
    """

    advantages: Tensor
    old: Tensor | None = None
    before: Tensor | None = None
    values: Tensor | None = None
    returns: Tensor | None = None

    def at(self, index: Tensor) -> Sampled:
        """What is known of some of the tokens."""
        parts = (self.advantages, self.old, self.before, self.values, self.returns)
        return Sampled(*(part if part is None else part[index] for part in parts))  # pyright: ignore[reportArgumentType]

    def to(self, device: torch.device) -> Sampled:
        """The same on another device."""
        parts = (self.advantages, self.old, self.before, self.values, self.returns)
        return Sampled(*(part if part is None else part.to(device) for part in parts))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Scored:
    """The supervised tokens of E examples, flat: N tokens, `owner[i]` is the example token i belongs to.

    `logps` (N,) are natural-log probabilities in fp32, each of the token given all before it and the pictures.
    `weights` (E,) multiply an example's tokens and the example itself in every mean. `within` are the roles that were
    selected by `only`: all means are over them. `told` are the roles whose log-probabilities are here, `named` those
    that may be asked for at all; None for all. What was not asked for raises RuntimeError where it is read: it is
    missing, and a mean over nothing would pass for 0. `numbers` (E,) are those of the examples' rows that the objective
    asked for, 0 where it asked for none.

    hidden (N, d): the states that predict the tokens, as the language-model head is given them, where heads read them;
    token_values (N, H): what these read. `sampled`: what is known of the tokens where the model itself said them.
    """

    logps: Tensor
    owner: Tensor
    roles: tuple[Role, ...]
    weights: Tensor
    totals: Totals
    spots: Spots | None = None
    within: frozenset[Role] | None = None
    told: frozenset[Role] | None = None
    named: frozenset[Role] | None = None
    numbers: Tensor | None = None
    hidden: Tensor | None = None
    token_values: Tensor | None = None
    sampled: Sampled | None = None

    def only(self, *roles: Role) -> Scored:
        """The examples of these roles alone, in their order, with means over them alone."""
        if self.named is not None and not set(roles) <= self.named:
            odd = ", ".join(sorted(set(roles) - self.named))
            raise RuntimeError(f"this objective reads examples of the role {odd}, which its needs do not name")
        kept = [index for index, role in enumerate(self.roles) if role in roles]
        place = torch.full((len(self.roles),), -1, device=self.owner.device)
        place[kept] = torch.arange(len(kept), device=place.device)
        owner = place[self.owner]
        spots = self.spots and _at(self.spots, place)
        return replace(
            self,
            logps=self.logps[owner >= 0],
            owner=owner[owner >= 0],
            roles=tuple(self.roles[index] for index in kept),
            weights=self.weights[kept],
            spots=spots,
            numbers=None if self.numbers is None else self.numbers[kept],
            within=frozenset(roles),
        )

    @property
    def known(self) -> Sampled:
        """What is known of tokens that the model said."""
        if self.sampled is None:
            raise RuntimeError("this objective gets no rollouts: its needs do not ask for them")
        return self.sampled

    @property
    def ratio(self) -> Tensor:
        """(N,) pi / pi_old."""
        old = self.known.old
        return (self.logps - (self.logps.detach() if old is None else old)).exp()

    def now(self) -> Scored:
        """The same of the model as it is at this moment: nothing in it is left to be made of weights later."""
        if self.spots is None or self.spots.vocabulary is None:
            return self
        return replace(self, spots=replace(self.spots, vocabulary=self.spots.vocabulary.now()))

    @property
    def states(self) -> Tensor:
        """(M, d) hidden states, in fp32, where the objective asked to look."""
        if self.spots is None or self.spots.states is None:
            raise RuntimeError("this objective sees no hidden states: its needs name no layer to look at")
        self._check_looked(self.spots)
        return self.spots.states

    @property
    def values(self) -> Tensor:
        """(E,) what the head of one number says of each example: the sum over what was looked at, which is one place
        where that is the end of the answer."""
        if self.spots is None or self.spots.values is None:
            raise RuntimeError("this objective sees no values: its needs do not look with a head of one number")
        self._check_looked(self.spots)
        values = self.spots.values
        return torch.zeros(len(self.roles), device=values.device).index_add(0, self.spots.owner, values)

    @property
    def vocabulary(self) -> Vocabulary:
        """Whole distributions where the objective asked to look."""
        if self.spots is None or self.spots.vocabulary is None:
            raise RuntimeError("this objective sees no distributions: its needs do not ask for the vocabulary")
        self._check_looked(self.spots)
        return self.spots.vocabulary

    def sums(self, values: Tensor) -> Tensor:
        """(N,) token values to (E,) sums."""
        self._check_told()
        return torch.zeros(len(self.roles), dtype=values.dtype, device=values.device).index_add(0, self.owner, values)

    @property
    def answer_logps(self) -> Tensor:
        """(E,) log-probability of each whole answer."""
        return self.sums(self.logps)

    @property
    def lengths(self) -> Tensor:
        """(E,) supervised tokens of each example."""
        return self.sums(torch.ones_like(self.logps))

    def token_mean(self, values: Tensor) -> Tensor:
        """Weighted mean of (N,) token values over the step's tokens; this call's share of it. 0 when there are none."""
        self._check_told()
        return self._share(values * self.weights[self.owner], self.totals.tokens)

    def example_mean(self, values: Tensor) -> Tensor:
        """Weighted mean of (E,) example values over the step's examples; this call's share of it."""
        return self._share(values * self.weights, self.totals.examples)

    def spot_mean(self, values: Tensor) -> Tensor:
        """Weighted mean of (M,) values over the step's positions that are looked at; this call's share of it."""
        if self.spots is None:
            raise RuntimeError("this objective looks at no positions: its needs have no look")
        self._check_looked(self.spots)
        return self._share(values * self.weights[self.spots.owner], self.totals.spots)

    def _check_told(self) -> None:
        if self.told is not None and not set(self.roles) <= self.told:
            raise RuntimeError("this objective reads log-probabilities of roles that its needs do not name in tokens")

    def _check_looked(self, spots: Spots) -> None:
        if spots.roles is not None and self.within is not None and not self.within <= spots.roles:
            raise RuntimeError("this objective looks at examples of roles that its needs do not name in look")

    def _share(self, weighted: Tensor, unit: Mapping[Role, float]) -> Tensor:
        total = self.totals.of(unit, self.within)
        return weighted.sum() / total if total else weighted.sum() * 0.0


def _at(spots: Spots, place: Tensor) -> Spots:
    """The spots of examples that have a new place, the others' being -1."""
    owner = place[spots.owner]
    kept = torch.nonzero(owner >= 0).squeeze(1)
    states = None if spots.states is None else spots.states[kept]
    values = None if spots.values is None else spots.values[kept]
    vocabulary = spots.vocabulary and spots.vocabulary.at(kept)
    return replace(spots, owner=owner[kept], states=states, vocabulary=vocabulary, values=values)


def given(reference: Scored | None) -> Scored:
    """The reference of an objective whose needs name roles to compare."""
    if reference is None:
        raise RuntimeError("this objective got no reference: its needs name no role to compare")
    return reference


@dataclass(frozen=True)
class Loss:
    """What to minimise, and its parts for the log (detached; shares that sum to the step's value)."""

    total: Tensor
    parts: Mapping[str, Tensor]

    @classmethod
    def of(cls, parts: Mapping[str, Tensor]) -> Loss:
        """The sum of named parts."""
        return cls(torch.stack(list(parts.values())).sum(), {name: part.detach() for name, part in parts.items()})
