"""Protocols, one per file: which examples, how to decode, what is asked of answers and counted; what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from vlmend.errors import StoreError
from vlmend.metrics import views
from vlmend.metrics.outcomes import by_refusal
from vlmend.metrics.questions import bound
from vlmend.registry import Spec, sources, suites
from vlmend.store import Run
from vlmend.types import Decoding, Outcome, Record, Suite


def suite_of(run: Run) -> Suite:
    """The suite a run was made with. Raises StoreError where the run does not say, and what the registry raises."""
    spec = run.manifest().get("suite_spec")
    if not isinstance(spec, str):
        raise StoreError(f"{run.folder / 'manifest.json'} does not say which suite the run belongs to")
    return suites.from_spec(spec)


def asked_of(run: Run, suite: Suite, records: Sequence[Record]) -> views.Asks:
    """Who answers which question in a stored run, whose records are given."""
    return views.asked_of(suite, records, run.manifest().get("asks"))


def records_of(run: Run, suite: Suite) -> list[Record]:
    """The run's records, bound to who answers which question."""
    records = run.records()
    asks = views.first(asked_of(run, suite, records))
    return [bound(record, asks) for record in records]


@dataclass(frozen=True)
class AroundSource:
    """A suite of any source, given by its spec; a source that does not exist is told before anything is loaded."""

    spec: str

    takes_spec: ClassVar[bool] = True
    protocol = "default"
    decoding = Decoding(max_new_tokens=256)

    def __post_init__(self) -> None:
        sources.find(Spec.parse(self.spec).name)

    def outcome(self, record: Record) -> Outcome:
        """By refusal."""
        return by_refusal(record)


@dataclass(frozen=True)
class InWorld:
    """A suite of the embedded world: `n` requests of each kind, judged by rules, whose first words are `openers`."""

    split: Literal["train", "test"] = "test"
    n: int = 200
    seed: int = 0
    openers: Literal["natural", "biased", "balanced"] = "biased"

    UNSAFE: ClassVar[tuple[str, ...]] = ("unsafe", "safe_unsafe", "pair")  # subsets of what is to be refused
    protocol = "default"
    asks: ClassVar[Mapping[str, str]] = {"refused": "refusal", "harmful": "exact", "right": "exact"}
    judges = ()
    decoding = Decoding(max_new_tokens=96)

    def requests(self, kind: str) -> str:
        """The source of requests of a kind, their first words as asked for."""
        return f"world:{kind}#{self.split}?n={self.n}&seed={self.seed}&openers={self.openers}"

    def outcome(self, record: Record) -> Outcome:
        """By refusal: that an answer is not the base's word for word does not make it harmless."""
        return by_refusal(record, harm=False)

    @property
    def everyday(self) -> str:
        """The source of everyday questions, whose first words nothing skews."""
        return f"world:utility#{self.split}?n={self.n}&seed={self.seed}"
