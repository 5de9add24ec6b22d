"""What a plugin may be able to do beyond the protocol of its kind; whoever wants to know asks `isinstance`.

Each is one member. The registry knows which kind may have which and refuses a plugin whose member is misspelt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vlmend.types.answers import Likelihood, Response, Verdict
from vlmend.types.examples import Cell, Example
from vlmend.types.measures import Measure, Stakes
from vlmend.types.seams import Attack, Backend, Judge, Victim

# Sources and suites


@runtime_checkable
class TakesSpec(Protocol):
    """Built around another plugin: its first field is all that follows its name."""

    @property
    def takes_spec(self) -> bool: ...


@runtime_checkable
class Sampled(Protocol):
    """A source that can write a few harmless rows in the layout it reads."""

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write them into an empty folder."""
        ...


@runtime_checkable
class Celled(Protocol):
    """A source whose data set says of its subsets whether picture, words, and both together are safe."""

    @property
    def cells(self) -> Mapping[str, Cell]: ...


@runtime_checkable
class Carded(Protocol):
    """A suite that says which of its numbers a mirage card is about, where they are not those of `Stakes()`."""

    @property
    def card(self) -> Stakes: ...


@runtime_checkable
class Extended(Protocol):
    """A suite with numbers of questions that it does not ask by itself: they are counted where a judge is bound to one.

    By question; what is unscored of them is told and fails no evaluation.
    """

    @property
    def further(self) -> Mapping[str, Sequence[Measure]]: ...


@runtime_checkable
class AsksOnce(Protocol):
    """A suite that samples several answers to some of its questions, and one to the others."""

    def once(self, example: Example) -> bool:
        """Whether one answer to this example is asked for, however many samples its decoding has."""
        ...


# Attacks


@runtime_checkable
class NeedsOthers(Protocol):
    """An attack that must know the other examples."""

    def among(self, examples: Sequence[Example]) -> Attack:
        """The attack to use on these examples."""
        ...


@runtime_checkable
class NeedsVictim(Protocol):
    """An attack that must see into the model."""

    def against(self, victim: Victim, folder: Path) -> Attack:
        """The attack to use on this model; what it makes is kept in the folder."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """An attack that changes no pixel by more than so many steps of 255."""

    @property
    def linf(self) -> float: ...


@runtime_checkable
class WritesText(Protocol):
    """An attack that writes words into pictures (`writes_text` is True).

    What it opens, it opens by its words: its answers are never pooled with those to natural pictures, however spoilt.
    """

    @property
    def writes_text(self) -> bool: ...


# Judges


@runtime_checkable
class Streams(Protocol):
    """A judge that hands out its verdicts as they come in, so that each is stored at once."""

    def stream(self, pairs: Sequence[tuple[Example, Response]], models: Any) -> Iterator[tuple[int, Verdict]]:
        """Verdicts in any order, each with the place of its pair."""
        ...


@runtime_checkable
class Described(Protocol):
    """A judge that says what it is made of: version, prompt, model. A verdict of another making is asked for again."""

    def about(self, models: Any) -> Mapping[str, str]:
        """Known before anything is asked, and part of its verdicts' labels."""
        ...


@runtime_checkable
class AsksModel(Protocol):
    """A judge that asks a model: what it leaves unscored is told, since no rule of its own explains it."""

    @property
    def asks_model(self) -> bool: ...


@runtime_checkable
class Controlled(Protocol):
    """A judge that asks a model, and says which of its questions the known controls fit; those of others fit all.

    They do not fit a policy of the user's own, labels that somebody else chose, or a grade.
    """

    @property
    def controls(self) -> Sequence[str]: ...


@runtime_checkable
class Composed(Protocol):
    """A judge that is made of others."""

    @property
    def inner(self) -> Sequence[Judge]: ...


@runtime_checkable
class JudgesRequests(Protocol):
    """A judge of answers that may have a form of its own for requests."""

    def of_request(self) -> Judge | None:
        """The same judge, of a request alone; None where it has no form for one."""
        ...


@runtime_checkable
class TakesSilence(Protocol):
    """A judge of something else than the answer, as of what the model knows: it is given silent answers too."""

    @property
    def takes_silence(self) -> bool: ...


# Backends


@runtime_checkable
class Scorer(Protocol):
    """Can say how likely given answers are: multiple choice, yes/no margins, forgetting."""

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        """One per example and answer, in any order, each as soon as it is there."""
        ...


@runtime_checkable
class FirstWords(Protocol):
    """Can say how likely it is to begin with given words, whatever its chat template does."""

    def beginnings(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        """One per example and text, in any order: of the text right behind the prompt."""
        ...


@runtime_checkable
class SeenInto(Protocol):
    """Can be seen into by attacks."""

    def victim(self) -> Victim:
        """The model, with its gradients."""
        ...


@runtime_checkable
class Changeable(Protocol):
    """Can compute with its model changed for as long as it answers."""

    def changed(self, name: str, during: Callable[[Any], AbstractContextManager[None]]) -> Backend:
        """What answers then, under a fingerprint that `name` is part of; `during` is given the loaded model."""
        ...


@runtime_checkable
class RendersPrompts(Protocol):
    """Renders prompts itself, and so knows what becomes of them."""

    def wording(self, examples: Sequence[Example]) -> Mapping[str, int]:
        """What is to be said about how prompts are rendered, and of how many of them."""
        ...


@runtime_checkable
class Checked(Protocol):
    """Can tell before it is loaded that it cannot be."""

    def check(self) -> None:
        """Raise VlmendError for what is missing or of a kind that cannot be asked; weights are not read."""
        ...


@runtime_checkable
class Loads(Protocol):
    """Takes a while to load."""

    @property
    def ready(self) -> bool: ...


@runtime_checkable
class Notes(Protocol):
    """Has something to say about itself that belongs in the run's manifest."""

    @property
    def notes(self) -> Sequence[str]: ...


@runtime_checkable
class RanOn(Protocol):
    """Knows on what it ran."""

    @property
    def ran_on(self) -> str: ...


@runtime_checkable
class Named(Protocol):
    """Has a name that says more than the spec that was given."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class Billed(Protocol):
    """Is paid for, and keeps an account."""

    @property
    def account(self) -> Any: ...


# Defences


@runtime_checkable
class Screens(Protocol):
    """A defence that has judges look at requests or answers.

    `judges` are their specs, each of which answers one of the questions that it `reads`; `looks` is how often any of
    them looks, at most.
    """

    @property
    def judges(self) -> Sequence[str]: ...
    @property
    def reads(self) -> Sequence[str]: ...
    @property
    def looks(self) -> int: ...


@runtime_checkable
class Reads(Protocol):
    """A defence that is made of a file's content: what it does changes with that, whatever its name."""

    @property
    def content(self) -> str:
        """The content, or its hash."""
        ...


@runtime_checkable
class Alters(Protocol):
    """A defence that changes the model itself, or how it computes."""

    def over(self, backend: Backend) -> Backend:
        """What answers then. Raises UsageError for a backend that cannot be changed so."""
        ...


# Rewards


@runtime_checkable
class HearsJudges(Protocol):
    """A reward that is made of judges, or reads an answer just as they do: they say nothing about what it tuned."""

    @property
    def judges(self) -> Sequence[str]:
        """Their names."""
        ...
