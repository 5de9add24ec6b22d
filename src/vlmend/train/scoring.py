"""From a pass to scored tokens: the one place of tuning where the model is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlmend.models import head as heads
from vlmend.models.codec import Batch
from vlmend.models.features import Features
from vlmend.models.prefix import Feed, plain
from vlmend.ops.head import Head, logps_of, token_logps
from vlmend.ops.logprobs import IGNORE, Supervised, places, predicting, supervised
from vlmend.ops.scored import Look, Scored, Spots, Totals, Vocabulary
from vlmend.train.layers import capture, stopping
from vlmend.train.parallel import Team
from vlmend.train.precision import computing
from vlmend.types import Example, Role


@dataclass(frozen=True)
class Part:
    """Examples of a pass, by their rows in the batch, that go through the model together.

    All the way (`deep`), or only as far as the layer that is looked at. Without a feed of their own they are the batch.
    """

    rows: tuple[int, ...]
    feed: Feed | None = None
    deep: bool = True


@dataclass(frozen=True)
class Micro:
    """One forward and backward pass: a batch, its examples' weights, and the parts in which the model is given it.

    `compared` are those of its examples that the reference scores at once.
    """

    batch: Batch
    weights: tuple[float, ...]
    parts: tuple[Part, ...] = ()
    compared: Micro | None = None

    def to(self, device: torch.device) -> Micro:
        """The same on another device."""
        parts = tuple(replace(part, feed=part.feed and part.feed.to(device)) for part in self.parts)
        compared = self.compared and self.compared.to(device)
        return replace(self, batch=self.batch.to(device), parts=parts, compared=compared)


def count_totals(window: Sequence[Micro], team: Team, look: Look | None = None) -> Totals:
    """Weighted counts per role of supervised tokens, examples and positions that are looked at.

    Over all micro-batches of the step and all processes.
    """
    units = ("tokens", "examples", "spots")
    counts = {f"{unit}/{role}": 0.0 for role in Role for unit in units}
    for micro in window:
        supervised = (micro.batch.labels != IGNORE).sum(dim=1).tolist()
        looked = [0] * len(supervised) if look is None else looked_at(micro.batch, look).sum(dim=1).tolist()
        rows = zip(micro.batch.examples, micro.weights, supervised, looked, strict=True)
        for example, weight, tokens, spots in rows:
            for unit, count in zip(units, (tokens, 1, spots), strict=True):
                counts[f"{unit}/{example.role}"] += weight * count
    total = team.sum(counts)
    tokens, examples, spots = ({role: total[f"{unit}/{role}"] for role in Role} for unit in units)
    return Totals(tokens, examples, spots)


def looked_at(batch: Batch, look: Look) -> Tensor:
    """(B, T) the positions an objective wants to see."""
    if look.vocabulary and look.places == "answer":
        mask = predicting(batch.labels)
    else:
        mask = places(look.places, batch.labels, batch.inputs["attention_mask"], batch.image_mask)
    wanted = torch.tensor([example.role in look.roles for example in batch.examples], device=mask.device)
    return mask & wanted[:, None]


class _Told(NamedTuple):
    """Of a part: log-probabilities, the example each belongs to, what was looked at, what the head was given."""

    logps: Tensor
    owner: Tensor
    spots: Spots
    hidden: Tensor | None


@dataclass(frozen=True)
class Forward:
    """A model that scores passes: log-probabilities of the supervised tokens, and what else an objective looks at.

    told: roles whose log-probabilities are wanted; None for all. narrow: the language-model head runs only where that
    is read, as a matrix (`head`) where it is one. valuer: the head of one number, where the look is with one; with
    one, no log-probabilities are computed of roles that are not told. numbers: see `Needs`. features: what turns the
    pictures of shared rows into embeddings. autocast: the precision it is computed in, where that is not simply the
    weights'. temperature: logits are divided by it. hidden: what the head is given is wanted as well.
    """

    model: torch.nn.Module
    look: Look | None = None
    told: frozenset[Role] | None = None
    narrow: bool = False
    head: Head | None = None
    features: Features | None = None
    autocast: torch.dtype | None = None
    valuer: torch.nn.Module | None = None
    numbers: Mapping[Role, str] = field(default_factory=dict[Role, str])
    temperature: float = 1.0
    hidden: bool = False

    def __call__(self, micro: Micro, totals: Totals) -> Scored:
        """The scored tokens of all examples of a pass."""
        device = micro.batch.labels.device
        parts = micro.parts or (Part(tuple(range(len(micro.batch.examples)))),)
        found = [self._part(micro.batch, part) for part in parts]
        return Scored(
            torch.cat([part.logps for part in found]),
            torch.cat([part.owner for part in found]),
            tuple(example.role for example in micro.batch.examples),
            torch.tensor(micro.weights, dtype=torch.float32, device=device),
            totals,
            _joined([part.spots for part in found], self.look.roles) if self.look else None,
            told=self.told,
            numbers=self._numbers(micro.batch, device),
            hidden=torch.cat([part.hidden for part in found if part.hidden is not None]) if self.hidden else None,
        )

    def _numbers(self, batch: Batch, device: torch.device) -> Tensor | None:
        """(E,) the number that the objective reads of each example's row."""
        if not self.numbers:
            return None
        keys = [self.numbers.get(example.role) for example in batch.examples]
        found = [float(e.meta[key]) if key else 0.0 for e, key in zip(batch.examples, keys, strict=True)]
        return torch.tensor(found, dtype=torch.float32, device=device)

    def _part(self, batch: Batch, part: Part) -> _Told:
        feed, rows = part.feed or plain(batch), torch.tensor(part.rows, device=batch.labels.device)
        labels = batch.labels[rows]
        told = supervised(
            self._told(labels, [batch.examples[row] for row in part.rows]) if part.deep else _none(labels)
        )
        seen = looked_at(batch, self.look)[rows] if self.look else torch.zeros_like(labels, dtype=torch.bool)
        spot_rows, spot_positions = torch.nonzero(seen, as_tuple=True)
        spots = feed.place[spot_rows, spot_positions]
        logps, found, hidden = self._run(feed, told, spots, deep=part.deep)
        return _Told(logps, rows[told.rows], replace(found, owner=rows[spot_rows]), hidden)

    def _told(self, labels: Tensor, examples: Sequence[Example]) -> Tensor:
        """Labels of those tokens alone whose log-probabilities are wanted."""
        if self.told is None or self.valuer is None:
            return labels
        wanted = torch.tensor([example.role in self.told for example in examples], device=labels.device)
        return torch.where(wanted[:, None], labels, _none(labels))

    def _run(self, feed: Feed, told: Supervised, spots: Tensor, *, deep: bool) -> tuple[Tensor, Spots, Tensor | None]:
        """One call of the model: log-probabilities (N,), what was looked at in the spots (M,), owned by nobody, and the
        states that predict the tokens (N, d)."""
        look, places = self.look, feed.place[told.rows, told.positions]
        wide, layer = look is not None and look.vocabulary, look.layer if look else None
        narrow = self.narrow or not deep or self.hidden or self.valuer is not None
        head = self.head if narrow else None
        wanted = torch.cat([places, spots] if wide or self.valuer else [places])
        read, where = wanted.unique(return_inverse=True) if narrow else (wanted, wanted)
        with (
            computing(places.device, self.autocast),
            capture(self.model, layer) as seen,
            stopping(self.model, None if deep else layer),
        ):
            if narrow:
                with heads.at(self.model, read, run=head is None) as chosen:
                    logits = self._logits(feed)[0]
                last = chosen.states
                held = logits if head is None else last
            else:
                last = None
                held = self._logits(feed).flatten(0, 1)
            if self.temperature != 1:
                held = held / self.temperature
                head = head and head.over(self.temperature)
            aimed = held[where[: len(places)]]
            logps = token_logps(aimed, head, told.targets) if head else logps_of(aimed, told.targets)
        at = where[len(places) :]
        states = seen[0].flatten(0, 1)[spots].float() if seen else None
        values = None if self.valuer is None or last is None else self.valuer(last[at].float()).squeeze(-1)
        hidden = last[where[: len(places)]] if self.hidden and last is not None else None
        return logps, Spots(spots, states, Vocabulary(held[at], head) if wide else None, values=values), hidden

    def _logits(self, feed: Feed) -> Tensor:
        inputs: dict[str, Any] = {**feed.inputs, "attention_mask": feed.visible(self.model)}
        if feed.shown:
            if self.features is None:
                raise RuntimeError("a pass with pictures apart, and nothing to look at them with")
            inputs["mm_encoder_outputs"] = {"image": self.features(feed.shown)}
        return self.model(**inputs, use_cache=False).logits


def _joined(found: Sequence[Spots], roles: frozenset[Role]) -> Spots:
    """What was looked at in all parts; distributions only ever come from one."""
    states = [s.states for s in found if s.states is not None]
    values = [s.values for s in found if s.values is not None]
    vocabulary = next((s.vocabulary for s in found if s.vocabulary is not None), None)
    owner = torch.cat([s.owner for s in found])
    return Spots(owner, torch.cat(states) if states else None, vocabulary, roles, torch.cat(values) if values else None)


def _none(labels: Tensor) -> Tensor:
    """Labels of which none is supervised."""
    return torch.full_like(labels, IGNORE)
