"""Run a pipeline: a window of starts at a time, their questions asked together, every call stored as it comes.

All that is said is kept in `calls.sqlite` under what was asked of whom. A run that goes on after a kill has its
pipelines ask again from the start, and is told what was said then; a window that is done is one write to `items.jsonl`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from vlmend.backends import response_id
from vlmend.build.drafts import ITEMS, Made, done, number_of
from vlmend.build.pipeline import Cast, Draft, Pipeline, Start, tracing
from vlmend.build.stage import Check, Loss, Lost, Making, Question
from vlmend.errors import DataError
from vlmend.judge.models import Models
from vlmend.judge.verdicts import from_specs, stream
from vlmend.store import Journal, Row, response_from_json, response_to_json
from vlmend.store.cache import Cache
from vlmend.types import Backend, Decoding, Example, Finish, Image, Response, Verdict, content_of, digest

CALLS = "calls.sqlite"
WINDOW = 4096  # starts whose questions are asked together; what is kept in memory
Progress = Callable[[str, int, int], None]
Company = Mapping[str, Sequence[tuple[str, Backend]]]
"""By part the models that have it, by name."""


def cast_of(company: Company) -> Cast:
    """The names alone, as a pipeline knows them."""
    return {part: [name for name, _ in some] for part, some in company.items()}


def calls_of(out: Path) -> Cache:
    """Where a run's calls are kept."""
    return Cache(out / CALLS, "calls of this run")


@dataclass
class Tally:
    """What a session did: starts by what became of them, and calls by stage that were asked, or known already.

    given: pictures or rows of the source, as far as it was read. Rows that a pipeline does not begin with, such as
    those to refuse where answers are replayed, are passed over.
    """

    given: int = 0
    starts: Counter[str] = field(default_factory=Counter[str])
    asked: Counter[str] = field(default_factory=Counter[str])
    known: Counter[str] = field(default_factory=Counter[str])


@dataclass
class _Course:
    """A pipeline at work on one start: what it waits for, or what came of it."""

    start: Start
    talk: Making[list[Draft | Loss]]
    waiting: Sequence[Question | Check] = ()
    made: Made | None = None

    def begin(self) -> None:
        """To the first questions; pictures that nobody could be shown end it."""
        try:
            for picture in self.start.shown:
                _ = picture.sha256
        except DataError as error:
            self.made = _unfit(self.start, error)
        else:
            self.go_on(None)

    def go_on(self, heard: Sequence[Response | Verdict] | None) -> None:
        """To the next questions, or to the end."""
        try:
            self.waiting = next(self.talk) if heard is None else self.talk.send(heard)
        except StopIteration as ended:
            found = cast("list[Draft | Loss]", ended.value)
            drafts = tuple(each for each in found if isinstance(each, Draft))
            self.made = Made(self.start.id, drafts, tuple(each for each in found if isinstance(each, Loss)))
        except Lost as lost:
            self.made = Made(self.start.id, losses=(lost.loss,))

    def fail(self, why: str) -> None:
        """It has to be asked again another time, unless one of its pictures is no picture after all."""
        self.talk.close()
        self.made = Made(self.start.id, failed=why)
        try:
            for picture in self.start.shown:
                picture.open()
        except DataError as error:
            self.made = _unfit(self.start, error)


def _unfit(start: Start, error: DataError) -> Made:
    return Made(start.id, losses=(Loss("start", "unfit", str(error)),))


def readable(given: Iterable[Start], aside: list[Made], tally: Tally | None = None) -> Iterator[Start]:
    """What can be shown. What cannot, by its pictures' headers, is put aside before it could stand beside others."""
    for start in given:
        if tally:
            tally.given += 1
        try:
            for picture in start.shown:
                _ = picture.header
        except DataError as error:
            aside.append(replace(_unfit(start, error), pictures=start.pictures))
        else:
            yield start


def build(
    pipeline: Pipeline, given: Iterable[Start], company: Company, models: Models, out: Path, progress: Progress,
    limit: int | None = None,
) -> Tally:  # fmt: skip
    """Ask about every start that is not done, and note what came of it. Raises VlmendError where asking has to stop."""
    tally, finished = Tally(), done(out)
    cast_ = cast_of(company)
    provenance = {
        "pipeline": pipeline.version,
        **{f"by_{part}": ", ".join(names) for part, names in cast_.items()},
    }
    aside: list[Made] = []
    starts = islice(pipeline.starts(readable(given, aside, tally)), limit)
    with Journal(out / ITEMS) as journal:
        desk = Desk(company, models, calls_of(out), tally)
        while (window := list(islice(starts, WINDOW))) or aside:
            todo = [start for start in window if number_of(start.id) not in finished]
            bad = [each for each in aside if number_of(each.start) not in finished]
            tally.starts["done before"] += len(window) - len(todo) + len(aside) - len(bad)
            aside.clear()
            for made in chain(bad, talked(pipeline, todo, cast_, desk, progress)):
                traced = tuple(tracing(draft, {**provenance, "parents": made.start}) for draft in made.drafts)
                made = replace(made, drafts=traced)
                tally.starts[_outcome(made)] += 1
                journal.append(made.to_json())
    if pipeline.begins == "rows" and (over := tally.given - tally.starts.total()):
        tally.starts["passed over"] = over
    return tally


def _outcome(made: Made) -> str:
    if made.failed:
        return "failed"
    return "made" if made.drafts else made.losses[0].kind if made.losses else "nothing"


def talked(pipeline: Pipeline, starts: Sequence[Start], cast_: Cast, desk: Desk, progress: Progress) -> Iterator[Made]:
    """What comes of each of these starts, in order, once all are at their end."""
    courses = [_Course(start, pipeline.build(start, cast_)) for start in starts]
    for course in courses:
        course.begin()
    while going := [course for course in courses if course.made is None]:
        heard = iter(desk.hear([item for course in going for item in course.waiting], progress))
        for course in going:
            said = [next(heard) for _ in course.waiting]
            if failed := next((e for e in said if isinstance(e, Response) and e.finish is Finish.FAILED), None):
                course.fail(failed.why or "failed")
            else:
                course.go_on(said)
    desk.forget()
    return (_shown(course.made, course.start) for course in courses if course.made)


def _shown(made: Made, start: Start) -> Made:
    return replace(made, pictures=start.pictures) if made.losses else made


class Desk:
    """Has questions answered, each once, and keeps what was said."""

    def __init__(self, company: Company, models: Models, calls: Cache, tally: Tally) -> None:
        self._company, self._models, self._calls, self._tally = company, models, calls, tally
        self._responses: dict[str, Response] = {}
        self._verdicts: dict[str, Verdict] = {}

    def forget(self) -> None:
        """What was said: it is on disk."""
        self._responses, self._verdicts = {}, {}

    def _name(self, item: Question | Check) -> str:
        """What a question is known by: who is asked, and all that is asked."""
        if isinstance(item, Check):
            return digest(item.spec, content_of(item.example.prompt), list(item.example.answers), item.answer)
        _, backend = self._company[item.who][item.which]
        return response_id(backend.fingerprint, _example(item, ""), item.decoding)

    def hear(self, items: Sequence[Question | Check], progress: Progress) -> list[Response | Verdict]:
        """What is said to each of these, in order; what is not known is asked, all at once."""
        names = [self._name(item) for item in items]
        questions = {name: item for name, item in zip(names, items, strict=True) if isinstance(item, Question)}
        unheard = [name for name in questions if name not in self._responses]
        for name, row in self._calls.get(unheard).items():
            self._responses[name] = response_from_json(row["response"])
            self._tally.known[questions[name].stage] += 1
        groups: dict[tuple[str, int, str, Decoding], dict[str, Question]] = {}
        for name, question in questions.items():
            if name not in self._responses:
                key = question.who, question.which, question.stage, question.decoding
                groups.setdefault(key, {})[name] = question
        for (who, which, stage, how), some in groups.items():
            for number, response in enumerate(self._asked(self._company[who][which], how, some), start=1):
                self._responses[response.id] = response
                self._tally.asked[stage] += 1
                progress(stage, number, len(some))
        checks = {name: item for name, item in zip(names, items, strict=True) if isinstance(item, Check)}
        self._look({name: item for name, item in checks.items() if name not in self._verdicts})
        return [self._verdicts[name] if name in checks else self._responses[name] for name in names]

    def _asked(self, by: tuple[str, Backend], how: Decoding, some: Mapping[str, Question]) -> Iterator[Response]:
        """The answers as they come; each is stored with its request before it is handed on, unless it failed."""
        name, backend = by
        told = asdict(how)
        for response in backend.generate([_example(question, key) for key, question in some.items()], how):
            question = some[response.example_id]
            if response.finish is not Finish.FAILED:
                row: Row = {"stage": question.stage, "by": name, "request": _told(question), "decoding": told}
                self._calls.put(response.example_id, {**row, "response": response_to_json(response)})
            yield replace(response, id=response.example_id)

    def _look(self, checks: Mapping[str, Check]) -> None:
        """Have judges look; what is paid for is in the cache of verdicts, as everywhere."""
        by_spec: dict[str, list[str]] = {}
        for name, item in checks.items():
            by_spec.setdefault(item.spec, []).append(name)
        for spec, names in by_spec.items():
            [judge], allowed = from_specs([spec])
            pairs = [
                (checks[name].example, Response(name, checks[name].example.id, checks[name].answer, Finish.STOP))
                for name in names
            ]
            models = replace(self._models, allowed=self._models.allowed | allowed)
            for place, verdict in stream(judge, pairs, models):
                self._verdicts[names[place]] = verdict


def _example(question: Question, name: str) -> Example:
    return Example(name, question.prompt, meta={"stage": question.stage})


def _told(question: Question) -> list[dict[str, Any]]:
    """The request as plain data, pictures by file and hash."""
    return [{"role": message.role, "parts": [_part(part) for part in message.parts]} for message in question.prompt]


def _part(part: str | Image) -> Any:
    return {"image": part.name, "sha256": part.sha256} if isinstance(part, Image) else part
