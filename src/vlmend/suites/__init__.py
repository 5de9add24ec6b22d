"""Protocols, one per file: which examples, how to decode, what is asked of answers and counted; what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vlmend.errors import StoreError
from vlmend.metrics import views
from vlmend.metrics.outcomes import by_grade, by_refusal
from vlmend.metrics.questions import bound
from vlmend.metrics.rates import everything, scored, silence_as, subset
from vlmend.registry import Spec, sources, suites
from vlmend.store import Run
from vlmend.types import Decoding, Outcome, Record, Score, Suite


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


def with_options(spec: str, **given: Path | None) -> str:
    """The spec of a source with those options that are given."""
    options = "&".join(f"{key}={value}" for key, value in given.items() if value is not None)
    return f"{spec}?{options}" if options else spec


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


@dataclass(frozen=True)
class Annotated:
    """A suite whose answers are compared with those of several annotators, by VQA's soft accuracy.

    accuracy: its mean over what was said, as the official evaluation computes it with the answer made plain always.
    accuracy.na_wrong: silence counts as wrong, too. `as_coded`: where all annotators agree, the answer is compared
    letter by letter, as the published code does. `questions` names a file of LLaVA's, which says what is asked.
    """

    path: Path
    split: Literal["val", "train"] = "val"
    images: Path | None = None
    questions: Path | None = None
    protocol: Literal["default", "as_coded"] = "default"

    name: ClassVar[str] = ""
    kinds: ClassVar[Mapping[str, str]] = {}  # subsets that have a number of their own, by its name
    judges = ()
    decoding = Decoding(max_new_tokens=32)

    @property
    def sources(self) -> Sequence[str]:
        """The questions of one split."""
        return (with_options(f"{self.name}:{self.path}#{self.split}", images=self.images, questions=self.questions),)

    @property
    def asks(self) -> Mapping[str, str]:
        """A rule, no model."""
        return {"agrees": "soft_match:letters" if self.protocol == "as_coded" else "soft_match"}

    @property
    def metrics(self) -> Sequence[Score]:
        """Soft accuracy, overall and by type of answer."""
        grade = scored("agrees")
        return (
            Score("accuracy", "soft accuracy of what was said", everything, grade),
            Score("accuracy.na_wrong", "soft accuracy, silence is wrong", everything, silence_as(0.0, grade)),
            *(
                Score(f"accuracy_{short}", f"soft accuracy, {kind}", subset(kind), grade)
                for short, kind in self.kinds.items()
            ),
        )

    def outcome(self, record: Record) -> Outcome:
        """right where three annotators or more said the same, wrong where none did, else partly right."""
        return by_grade(record, "agrees", AGREED)


AGREED = 0.9  # what three annotators of ten make
