"""A model that writes down what it is asked, and a judge that marks words, for defences to stand between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import pytest

from vlmend.backends import response_id
from vlmend.defences import defended
from vlmend.drawing import solid
from vlmend.errors import DataError
from vlmend.evaluate import defend
from vlmend.evaluate.generate import Questions, generate
from vlmend.judge.models import Models
from vlmend.registry import defences, judges
from vlmend.store import Asked, Run
from vlmend.types import (
    Decoding,
    Defence,
    Example,
    Expected,
    Finish,
    Image,
    Message,
    Request,
    Response,
    Screening,
    Talk,
    Verdict,
)

Reply = Callable[[Example, Decoding, int], str]


def answer_of(example: Example, decoding: Decoding, sample: int) -> str:
    """What tells prompts, decodings and samples apart."""
    return f"{example.question} | {len(example.images)} | {decoding.do_sample} | {sample}"


@dataclass
class Talker:
    """Answers by `reply`, and keeps what it was asked; it is killed before it answers for the `dies`-th time."""

    reply: Reply = answer_of
    dies: int = -1
    failing: str = ""
    asked: list[Example] = field(default_factory=list[Example])
    names: list[str] = field(default_factory=list[str])

    fingerprint = "talker"

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example, sample in product(examples, decoding.samples):
            if len(self.asked) == self.dies:
                raise KeyboardInterrupt
            self.asked.append(example)
            name = response_id(self.fingerprint, example, decoding, sample)
            self.names.append(name)
            text = self.reply(example, decoding, sample)
            try:
                _ = [image.open() for image in example.images]
                failed = bool(self.failing) and self.failing in example.question
            except DataError:
                failed = True
            finish = Finish.FAILED if failed else Finish.STOP
            yield Response(
                name, example.id, "" if failed else text, finish, tokens=len(text.split()), seconds=0.5, sample=sample,
                prompt_tokens=10, why="down" if failed else "",
            )  # fmt: skip


@dataclass(frozen=True)
class Marks:
    """Finds harmful what has `word` in it; says nothing of what has `mute` in it."""

    word: str = "bomb"
    mute: str = "\0"

    answers: ClassVar[tuple[str, ...]] = ("harmful", "refused")
    seen: ClassVar[list[tuple[Example, Response]]] = []

    @property
    def name(self) -> str:
        return f"marks:{self.word}"

    def __call__(self, pairs: Sequence[tuple[Example, Response]], models: Models) -> list[Verdict]:
        self.seen.extend(pairs)
        return [
            Verdict(self.name, response.id, why="mute")
            if self.mute in response.text
            else Verdict(
                self.name, response.id, harmful=self.word in response.text, refused="sorry" in response.text,
                score=float(len(response.text)),
            )
            for _, response in pairs
        ]  # fmt: skip


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> type[Marks]:
    """The judge `marks`, as another package would bring it."""
    Marks.seen.clear()
    entry = EntryPoint("marks", f"{__name__}:Marks", judges.group)
    monkeypatch.setitem(vars(judges), "_foreign", {"marks": entry})
    return Marks


def picture(color: str = "red", size: tuple[int, int] = (24, 16)) -> Image:
    return Image(make=partial(solid, color, size))


def example(name: str, text: str, *images: Image, expected: Expected = Expected.REFUSE) -> Example:
    parts = (*images, text)
    return Example(name, (Message("user", parts),), answers=("a label",), expected=expected, subset="labelled")


def single(spec: str) -> Defence:
    return defences.from_spec(spec)


def played(chain: Sequence[Defence], request: Request, reply: Callable[[Request | Screening], Any]) -> Response:
    """What comes of a talk when each of its questions is answered by `reply`."""
    talk: Talk[Response] = defended(chain, request)
    try:
        asked = next(talk)
        while True:
            asked = talk.send([reply(item) for item in asked])
    except StopIteration as ended:
        return ended.value


def ask(
    folder: Path,
    talker: Talker,
    examples: Sequence[Example],
    *chains: Sequence[str],
    decoding: Decoding | None = None,
    models: Models | None = None,
) -> list[Mapping[str, Response]]:
    """The answers of one command to all examples behind each chain, by example and sample, kept in `folder`."""
    decoding, models = decoding or Decoding(max_new_tokens=8), models or Models()
    together: list[Questions] = []
    for number, specs in enumerate(chains):
        chain = defend.chain_from(specs, models)
        run = Run(folder / str(number))
        name = talker.fingerprint + chain.made_of * bool(specs)
        asked = [
            Asked(e, response_id(name, e, decoding, sample), sample=sample)
            for e in examples
            for sample in decoding.samples
        ]
        if not run.exists():
            run.claim({"model": "talker", "defence": list(specs)}, {})
        run.write_asked(asked)
        together.append(Questions(run, asked, decoding, chain))
    generate(together, talker, lambda *_: None, models)
    return [
        {f"{r.example_id}/{r.sample}" if r.sample else r.example_id: r for r in one.run.responses().values()}
        for one in together
    ]
