"""Ask a backend what was not asked before, and store every answer as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from vlmend.errors import UsageError
from vlmend.evaluate import defend
from vlmend.judge.models import Models
from vlmend.reasoning import told_apart
from vlmend.store import Asked, Journal, Run, response_to_json
from vlmend.store.run import RESPONSES
from vlmend.types import Backend, Decoding, Example, Finish, Response


@dataclass(frozen=True)
class Generated:
    """To how many questions the responses are new and to how many they were there; `silent` of the new say nothing.

    Two examples that ask the same share one response, and are two here as everywhere.
    """

    new: int
    kept: int
    silent: int


class Questions(NamedTuple):
    """What one run asks, how the answers are decoded, and the defences that they are given behind."""

    run: Run
    asked: Sequence[Asked]
    decoding: Decoding
    chain: defend.Chain = defend.NONE


def generate(
    together: Sequence[Questions],
    backend: Backend,
    progress: Callable[[str, int, int], None],
    models: Models | None = None,
) -> list[Generated]:
    """Answer what has no stored response, the questions of all runs at once, and store each response as it comes.

    What several runs ask alike is asked once, and an answer that one of them holds serves the others. Failed ones are
    tried again: they are no evidence about the model. What is decoded alike goes to the backend in one call, so that
    it can share what prompts begin with. What is asked behind a defence comes last, and takes over what was said
    before it. `models` are for judges of defences.
    """
    with ExitStack() as stack:
        for each in together:
            stack.callback(each.run.seal, RESPONSES)
        books = [_Book(each, stack.enter_context(each.run.response_journal())) for each in together]
        for book in books:
            book.copy_from(books)
        todo: dict[Decoding, dict[str, Asked]] = {}
        for book in books:
            for item in book.open(defended=False):
                todo.setdefault(book.questions.decoding, {}).setdefault(item.response_id, item)
        total = sum(map(len, todo.values()))
        progress("generate", 0, total)
        answers = (response for decoding, items in todo.items() for response in answers_to(backend, items, decoding))
        for done, response in enumerate(answers, start=1):
            for book in books:
                book.take(response)
            progress("generate", done, total)
        for response in _defended(books, backend, progress, models or Models()):
            for book in books:
                book.take(response)
    return [book.generated() for book in books]


def _defended(
    books: Sequence[_Book], backend: Backend, progress: Callable[[str, int, int], None], models: Models
) -> Iterator[Response]:
    """Answers to what is asked behind defences; what was said without one is known to them."""
    wanted: dict[str, defend.Wanted] = {}
    for book in books:
        run, _, decoding, chain = book.questions
        for item in book.open(defended=True):
            wanted.setdefault(item.response_id, defend.Wanted(item, decoding, chain, run.folder))
    if not wanted:
        return
    known: dict[str, Response] = {}
    for book in books:
        if not book.questions.chain.defences:
            known |= {name: r for name, r in book.questions.run.responses().items() if book.answered(name)}
    yield from defend.answers(list(wanted.values()), backend, answers_to, models, known, progress)


class _Book:
    """The questions of one run, and which of them are answered."""

    def __init__(self, questions: Questions, journal: Journal) -> None:
        self.questions = questions
        self._journal = journal
        self._stored = questions.run.outcomes()
        self._sharing = Counter(item.response_id for item in questions.asked)
        self._kept = sum(count for name, count in self._sharing.items() if self.answered(name))
        self._new = self._silent = 0

    def answered(self, name: str) -> bool:
        """Whether a response of this name is stored that did not fail."""
        return self._stored.get(name, (Finish.FAILED, ""))[0] is not Finish.FAILED

    def open(self, *, defended: bool) -> list[Asked]:
        """What is not answered yet, where it is asked behind defences or where it is not."""
        mine = bool(self.questions.chain.defences) is defended
        return [item for item in self.questions.asked if mine and not self.answered(item.response_id)]

    def copy_from(self, others: Sequence[_Book]) -> None:
        """Take over the answers that other runs hold and this one lacks."""
        for other in others:
            there = [name for name in self._sharing if other.answered(name) and not self.answered(name)]
            responses = other.questions.run.responses() if there else {}
            for name in there:
                self._store(responses[name])
                self._kept += self._sharing[name]

    def take(self, response: Response) -> None:
        """Store a new response, where this run asks for it; the same failure is not stored again."""
        if response.id not in self._sharing:
            return
        self._silent += self._sharing[response.id] * (not response.said)
        failed_as_before = self._stored.get(response.id) == (response.finish, response.why)
        if not self.answered(response.id) and not (response.finish is Finish.FAILED and failed_as_before):
            self._store(response)
            self._new += self._sharing[response.id]

    def _store(self, response: Response) -> None:
        self._journal.append(response_to_json(response))
        self._stored[response.id] = response.finish, response.why

    def generated(self) -> Generated:
        """How much was new, and how much was there."""
        return Generated(self._new, self._kept, self._silent)


def answers_to(backend: Backend, todo: Mapping[str, Asked], decoding: Decoding) -> Iterator[Response]:
    """Ask for exactly these answers, by their names: examples that lack the same samples in one call."""
    lacking: dict[int, list[Asked]] = {}
    for item in todo.values():
        lacking.setdefault(id(item.example), []).append(item)
    together: dict[range, list[Example]] = {}
    for items in lacking.values():
        for samples in _spans(sorted(item.sample for item in items)):
            together.setdefault(samples, []).append(items[0].example)
    for samples, examples in together.items():
        how = replace(decoding, first_sample=samples.start, num_return_sequences=len(samples))
        for response in backend.generate(examples, how):
            name = response.id if response.id in todo else _name(response, todo)
            yield replace(response if response.reasoning else told_apart(response), id=name)


def _name(response: Response, todo: Mapping[str, Asked]) -> str:
    """Which answer this is, of a backend that names its answers in another way. Raises UsageError where it is none.

    Two examples of one id may ask different things: one is attacked, the other is not.
    """
    place = response.example_id, response.sample
    names = [name for name, item in todo.items() if (item.example.id, item.sample) == place]
    if len(names) != 1:
        why = "does not tell from another of that id" if names else "was not asked for"
        raise UsageError(f"the backend gave answer {response.sample + 1} to {response.example_id!r}, which it {why}")
    return names[0]


def _spans(numbers: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as unbroken ranges."""
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield range(numbers[start], numbers[i - 1] + 1)
            start = i
