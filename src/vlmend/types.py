"""The nouns. Data only: no torch, no files but the bytes of an image, no logic beyond their own consistency."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vlmend.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


class Expected(StrEnum):
    """What a well-behaved model does with an example."""

    ANSWER = "answer"
    REFUSE = "refuse"
    REASON = "reason"  # name the danger and decline or redirect, as in MIRage


class Role(StrEnum):
    """What an example is for when it is trained on."""

    SAFETY = "safety"
    UTILITY = "utility"
    FORGET = "forget"
    RETAIN = "retain"
    DECOUPLE = "decouple"


class Finish(StrEnum):
    """How a response ended. Only STOP and LENGTH are evidence about the model."""

    STOP = "stop"
    LENGTH = "length"
    BLOCKED = "blocked"
    FAILED = "failed"


@dataclass(frozen=True)
class Image:
    """A picture: a file, or a function that makes the file's bytes on demand. Identified by the hash of its bytes."""

    path: Path | None = None
    make: Callable[[], bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.make is None):
            raise ValueError("an Image has either a path or a function that makes it")

    def read(self) -> bytes:
        """The bytes of the file. Raises DataError when it is missing or empty."""
        if self.make is not None:
            return self.make()
        assert self.path is not None
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"image {self.path} cannot be read: {error.strerror}") from error
        if not data:
            raise DataError(f"image {self.path} is empty (0 bytes)")
        return data

    @cached_property
    def sha256(self) -> str:
        """Hash of the bytes, in hex."""
        return hashlib.sha256(self.read()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height by the file's header, before any rotation. Raises DataError when the bytes are no image."""
        from PIL import Image as Pillow

        with self._readable(), Pillow.open(self.path or io.BytesIO(self.read())) as picture:
            return picture.size

    def open(self) -> Picture:
        """The decoded picture in RGB, EXIF rotation applied. Raises DataError when the bytes are no image."""
        from PIL import Image as Pillow
        from PIL import ImageOps

        with self._readable():
            return ImageOps.exif_transpose(Pillow.open(io.BytesIO(self.read()))).convert("RGB")

    @contextmanager
    def _readable(self) -> Generator[None]:
        """Turns what Pillow says of bytes that are no image into a DataError."""
        from PIL import Image as Pillow
        from PIL import UnidentifiedImageError

        try:
            yield
        except DataError:
            raise
        except (UnidentifiedImageError, Pillow.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
            raise DataError(f"image {self.path or self.sha256[:12]} is not a readable picture ({error})") from error


Part = str | Image
Speaker = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn: text and images in the order they are shown."""

    role: Speaker
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All text parts, joined by a newline."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image, ...]:
        """All images, in order."""
        return tuple(part for part in self.parts if isinstance(part, Image))

    def with_text(self, text: str) -> Message:
        """The same turn with its text replaced: the first text part takes it, further ones go."""
        parts: list[Part] = []
        placed = False
        for part in self.parts:
            if isinstance(part, Image):
                parts.append(part)
            elif not placed:
                parts.append(text)
                placed = True
        return Message(self.role, tuple(parts) if placed else (*parts, text))


@dataclass(frozen=True)
class Example:
    """Something to ask a model, and what is known about the right reaction.

    `prompt` ends with a user turn. `answers` are reference answers, the first of which is the target in tuning.
    Examples that share a picture (or another reason not to be independent) share a `cluster`.
    """

    id: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...] = ()
    expected: Expected = Expected.ANSWER
    subset: str = ""
    category: str = ""
    subcategory: str = ""
    cluster: str = ""
    role: Role = Role.SAFETY
    source: str = ""
    meta: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def images(self) -> tuple[Image, ...]:
        """Every image of the prompt, in order."""
        return tuple(image for message in self.prompt for image in message.images)

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        return self.prompt[-1].text

    @property
    def origin(self) -> str:
        """Id of the example this is a variant of, as some attacks make them; its own id where it is none."""
        return self.meta.get("variant_of", self.id)


@dataclass(frozen=True)
class Pair:
    """A preference: one prompt, a chosen and a rejected answer; `rejected_images` when the rejected side saw others.

    Pairs that share a picture (or another reason not to be independent) share a `cluster`.
    """

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    rejected_images: tuple[Image, ...] | None = None
    subset: str = ""
    category: str = ""
    subcategory: str = ""
    cluster: str = ""
    role: Role = Role.SAFETY
    source: str = ""
    meta: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def images(self) -> tuple[Image, ...]:
        """Every image of the prompt, in order, then those that only the rejected side saw."""
        shown = tuple(image for message in self.prompt for image in message.images)
        return shown + (self.rejected_images or ())

    @property
    def question(self) -> str:
        """Text of the last user turn."""
        return self.prompt[-1].text


@dataclass(frozen=True)
class Decoding:
    """Every setting that decides which tokens come out. Names are those of transformers' GenerationConfig.

    The answers to one prompt are numbered `samples`: `num_return_sequences` of them, from `first_sample`.
    `schema` is a JSON schema, as JSON text, that the answer has to fit; empty for free text. Servers keep to it as well
    as they can; local and scripted backends take no notice of it, so whoever asks checks the answer.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    do_sample: bool = False
    num_beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_return_sequences: int = 1
    seed: int = 0
    first_sample: int = 0
    schema: str = ""

    @property
    def samples(self) -> range:
        """Numbers of the answers that are asked for."""
        return range(self.first_sample, self.first_sample + self.num_return_sequences)


@dataclass(frozen=True)
class Response:
    """What a model said. `id` hashes model, prompt, images, decoding and sample, so that nothing is asked twice.

    `sample` counts the answers to one prompt from 0. `tokens` are those of the answer, `reasoning` included, which is
    what the model said to itself before `text`.
    """

    id: str
    example_id: str
    text: str
    finish: Finish
    tokens: int = 0
    seconds: float = 0.0
    model: str = ""
    why: str = ""
    sample: int = 0
    reasoning: str = ""
    prompt_tokens: int = 0

    @property
    def said(self) -> bool:
        """Whether there is anything to judge: a crash, a block or an empty answer says nothing about the model."""
        return self.finish in (Finish.STOP, Finish.LENGTH) and bool(self.text.strip())


@dataclass(frozen=True)
class Verdict:
    """Two separate questions. None means this judge did not say: it is counted as unscored, never as "safe".

    `scores` are further numbers by name, of a judge that measures several things at once.
    """

    judge: str
    response_id: str
    refused: bool | None = None
    harmful: bool | None = None
    correct: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    score: float | None = None
    why: str = ""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Record:
    """Example, response and verdicts together: the unit on disk and of every metric."""

    example: Example
    response: Response
    verdicts: tuple[Verdict, ...] = ()

    def verdict(self, judge: str) -> Verdict | None:
        """The verdict of the named judge, if it gave one."""
        return next((v for v in self.verdicts if v.judge == judge), None)


@dataclass(frozen=True)
class Rate:
    """k of n, its 95 % interval, and how many of the population could not be scored (not part of n).

    `clusters` says how many independent clusters the n fall into, where the interval takes that into account; 0 where
    all n are independent and the interval is plain Wilson.
    """

    k: int
    n: int
    unscored: int
    low: float | None
    high: float | None
    clusters: int = 0

    @property
    def value(self) -> float | None:
        """k / n, or None when nothing was scored."""
        return self.k / self.n if self.n else None

    @property
    def worst(self) -> float | None:
        """The rate if every unscored record counted toward k."""
        total = self.n + self.unscored
        return (self.k + self.unscored) / total if total else None

    @property
    def best(self) -> float | None:
        """The rate if no unscored record counted toward k."""
        total = self.n + self.unscored
        return self.k / total if total else None


@dataclass(frozen=True)
class Mean:
    """A number that is no proportion, with its 95 % bootstrap interval: a mean score, or a statistic of n records.

    `scale` is the smallest and the largest value there can be; unscored records are not part of n. `worst` and `best`
    put them at the top and at the bottom of it, as for a Rate; only where the number is a mean (`additive`) can one
    know what they would have made of it, and only on a scale with an end. `clusters` is the number of units that were
    resampled.
    """

    value: float | None
    n: int
    unscored: int
    low: float | None
    high: float | None
    clusters: int = 0
    scale: tuple[float, float] = (0.0, 1.0)
    additive: bool = True

    @property
    def worst(self) -> float | None:
        """The mean if every unscored record had the largest value."""
        return self._with(self.scale[1])

    @property
    def best(self) -> float | None:
        """The mean if every unscored record had the smallest value."""
        return self._with(self.scale[0])

    def _with(self, edge: float) -> float | None:
        if not self.unscored:
            return self.value
        total = self.n + self.unscored
        if not math.isfinite(edge):
            return None
        return ((self.value or 0.0) * self.n + edge * self.unscored) / total if self.additive else None


Measured = Rate | Mean


@dataclass(frozen=True)
class Metric:
    """A named yes/no question about the records it applies to.

    `outcome` gives None for a record that could not be scored. `better` says which direction is good,
    so that tables, worst cases and comparisons need not guess. With a `unit`, the records of one unit count once, as
    the shots of one question do: `combine` says whether any of them or all of them must have the outcome.
    """

    name: str
    summary: str
    applies: Callable[[Example], bool]
    outcome: Callable[[Record], bool | None]
    better: Literal["low", "high"] = "low"
    unit: Callable[[Record], str] | None = None
    combine: Literal["any", "all"] = "any"


@dataclass(frozen=True)
class Score:
    """A named number per record, such as ROUGE-L, whose mean is reported. `outcome` gives None where it has none."""

    name: str
    summary: str
    applies: Callable[[Example], bool]
    outcome: Callable[[Record], float | None]
    better: Literal["low", "high"] = "high"
    scale: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Statistic:
    """A named number of all records together that is no mean over them, such as a gap between two kinds of records.

    `outcome` is what `compute` needs of a record, None for one that could not be scored; `compute` gives None where
    that does not suffice. The interval resamples whole units, `unit`, or clusters where it is None; within each
    `stratum`, where all strata have to be there, as the categories whose scores are summed. There is no
    interval where `resample` is false, as where a record drawn twice would be compared with itself.
    """

    name: str
    summary: str
    applies: Callable[[Example], bool]
    outcome: Callable[[Record], Any]
    compute: Callable[[Sequence[Any]], float | None]
    better: Literal["low", "high"] = "high"
    scale: tuple[float, float] = (0.0, 1.0)
    unit: Callable[[Record], str] | None = None
    stratum: Callable[[Record], str] | None = None
    resample: bool = True


Measure = Metric | Score | Statistic


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
    "history" before the last turn. Whoever runs the attack holds it to that. An attack that must know the other
    examples has a method `among(examples)`, one that must see into the model `against(victim, folder)`; each returns
    the attack to use.
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

    One that reads the model itself instead says so with `heeds_answers = False`, and is given all.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, pairs: Sequence[tuple[Example, Response]]) -> list[Verdict]: ...


class Backend(Protocol):
    """Something that answers. `fingerprint` identifies weights, processor and template; it is part of response ids."""

    @property
    def fingerprint(self) -> str: ...

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """One response per example and number in `decoding.samples`, in any order, each as soon as it is there."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds a given answer to an example: log p(answer | prompt, pictures), natural logarithm.

    `logprob` sums over the answer's `tokens`, its end token not included; None where it could not be computed (`why`).
    `by_token` has the summands, and `greedy` says of each token whether it is the likeliest after those before it.
    """

    example_id: str
    answer: str
    logprob: float | None
    tokens: int = 0
    why: str = ""
    by_token: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()


class Scorer(Protocol):
    """A backend that can also say how likely given answers are: multiple choice, yes/no margins, forgetting."""

    @property
    def fingerprint(self) -> str: ...

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        """One per example and answer, in any order, each as soon as it is there."""
        ...


class Suite(Protocol):
    """A protocol: which examples, how to decode, who judges, what is counted."""

    @property
    def name(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def sources(self) -> Sequence[str]:
        """Source specs, such as `vlguard:DIR#test`."""
        ...

    @property
    def judges(self) -> Sequence[str]: ...
    @property
    def metrics(self) -> Sequence[Measure]: ...
    @property
    def decoding(self) -> Decoding: ...


def digest(*parts: object) -> str:
    """A stable hash (32 hex digits) of JSON-serialisable parts: the identity everything is joined by."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def conversation_key(messages: Iterable[Message]) -> list[list[str | list[str]]]:
    """A conversation as hashable JSON: texts as they are, images by content hash."""
    return [[m.role, *([p.sha256, "image"] if isinstance(p, Image) else p for p in m.parts)] for m in messages]
