"""What plugs in: the protocols of sources, attacks, victims, judges, backends, defences, suites and rewards.

What a plugin of a kind may have beside these stands in `abilities`; anything else that is public and looks like one of
them is refused when the plugin is found.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from vlmend.types.answers import Decoding, Record, Request, Response, Rollout, Screening, Verdict
from vlmend.types.examples import Example, Pair
from vlmend.types.measures import Measure, Outcome


class Source(Protocol):
    """A data set. Iterating reads it; images are named, not opened."""

    def __iter__(self) -> Iterator[Example]: ...


class PairSource(Protocol):
    """A data set of preferences. Iterating reads it; images are named, not opened."""

    def __iter__(self) -> Iterator[Pair]: ...


Touched = Literal["text", "pictures", "places", "history"]


class Attack(Protocol):
    """In goes an example, out comes what is asked instead: an example, or several variants. It cannot see the judge.

    `changes` names all it may touch: the last turn's "text", what the "pictures" show, their number and "places", the
    "history" before the last turn. Whoever runs the attack holds it to that.
    """

    @property
    def changes(self) -> frozenset[Touched]: ...

    def __call__(self, example: Example) -> Example | Sequence[Example]: ...


class Victim(Protocol):
    """A model an attack may see into."""

    @property
    def fingerprint(self) -> str: ...

    def loss(self, example: Example, target: str) -> float:
        """-log p(target | prompt, pictures) per token of the target."""
        ...

    def gradients(self, example: Example, target: str) -> tuple[float, list[Any]]:
        """The loss, and its gradient by the pixels of every picture, (height, width, 3), per step of 1 in 255."""
        ...


class Judge(Protocol):
    """Batch first: one verdict per pair, in order. Only responses that said something reach a judge.

    `name` is the spec it is asked for by, `answers` are the questions it answers (`vlmend.metrics.questions`). `models`
    is its access to models (`vlmend.judge.models.Models`).
    """

    @property
    def name(self) -> str: ...
    @property
    def answers(self) -> Sequence[str]: ...

    def __call__(self, pairs: Sequence[tuple[Example, Response]], models: Any) -> list[Verdict]: ...


class Backend(Protocol):
    """Something that answers. `fingerprint` identifies weights, processor and template; it is part of response ids."""

    @property
    def fingerprint(self) -> str: ...

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """One response per example and number in `decoding.samples`, in any order, each as soon as it is there."""
        ...


T = TypeVar("T")
Talk = Generator[Sequence[Request | Screening], Sequence[Response | Verdict], T]
"""Yields what is to be asked at once, is sent what was said to each, in order, and returns what comes of it."""


class Defence(Protocol):
    """Stands between a request and its answer. It sees what whoever deploys the model sees, and never the label.

    `asks` is how often it has the model answer, at most. Whoever runs it stores all that is said, so that nothing is
    asked twice: asked again, it must ask the same.
    """

    @property
    def asks(self) -> int: ...

    def answer(self, request: Request) -> Talk[Response]:
        """Ask as often as it takes; what is returned counts by its text, and by `why` where something went wrong."""
        ...


class Suite(Protocol):
    """A protocol: which examples, how to decode, what is asked of the answers, what is counted.

    `asks` has the questions that its numbers read, each with the spec of the judge that answers it unless the user
    binds another. `judges` are those that a number reads by name, such as a published list of refusals.
    """

    @property
    def name(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def sources(self) -> Sequence[str]:
        """Source specs, such as `vlguard:DIR#test`."""
        ...

    @property
    def asks(self) -> Mapping[str, str]: ...
    @property
    def judges(self) -> Sequence[str]: ...
    @property
    def metrics(self) -> Sequence[Measure]: ...
    @property
    def decoding(self) -> Decoding: ...

    def outcome(self, record: Record) -> Outcome:
        """What became of the request, `UNSCORED` where nobody can say; it reads no more than the metrics do."""
        ...


class Reward(Protocol):
    """Batch first: a number for each rollout, in order, high for what is wanted. None is unscored, and never 0."""

    def __call__(self, rollouts: Sequence[Rollout]) -> Sequence[float | None]: ...
