"""Judge only what was said: the one place that keeps this rule, and that a failing judge never reads as safety."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from vlmend.errors import UsageError, VlmendError
from vlmend.judge.models import Models
from vlmend.judge.naming import about
from vlmend.judge.sifting import scored
from vlmend.metrics.views import Key
from vlmend.registry import judges as registry
from vlmend.store import Journal, judged_key, verdict_to_json
from vlmend.types import Example, Judge, Record, Response, Streams, TakesSilence, Verdict

BATCH = 256
WINDOW = 1024  # pairs given at once to a judge that hands out its verdicts one by one

Pair = tuple[Example, Response]
Placed = tuple[int, Verdict]


_BY_NAME = re.compile(r"(?<=[?&])allow_self=(yes|no)(?:&|(?=[)#]|$))")


def from_specs(specs: Iterable[str]) -> tuple[list[Judge], frozenset[str]]:
    """Judges by their specs; of two with one name the later counts. `allow_self=yes` is for any judge.

    Also the names of those that may judge though they are the model under test or its reward: `Models.allowed`.
    """
    found: dict[str, Judge] = {}
    allowed: set[str] = set()
    for text in specs:
        plain = re.sub(r"[?&](?=[)#]|$)", "", _BY_NAME.sub("", text))
        if "allow_self" in plain:
            raise UsageError(f"allow_self is yes or no, in {text!r}")
        judge: Judge = registry.from_spec(plain)
        found[judge.name] = judge
        allowed.discard(judge.name)
        if "yes" in _BY_NAME.findall(text):
            allowed.add(judge.name)
    return list(found.values()), frozenset(allowed)


def verdicts(judge: Judge, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
    """One verdict per pair, in order. What says nothing, and what the judge fails on, is unscored and says why."""
    found = dict(stream(judge, pairs, models))
    return [found[place] for place in range(len(pairs))]


def stream(judge: Judge, pairs: Sequence[Pair], models: Models) -> Generator[Placed]:
    """The same as they come in, each with its pair's place.

    A judge of something else than answers, as of what the model knows, is given those that say nothing as well.
    """
    said: list[int] = []
    models = models.for_judge(judge.name)
    silence = isinstance(judge, TakesSilence) and judge.takes_silence
    for place, (_, response) in enumerate(pairs):
        if response.said or silence:
            said.append(place)
        else:
            yield place, unscored(judge.name, response, _silence(response))
    size = WINDOW if isinstance(judge, Streams) else BATCH
    for start in range(0, len(said), size):
        places = said[start : start + size]
        for index, verdict in _judged(judge, [pairs[place] for place in places], models):
            yield places[index], verdict


def unscored(judge: str, response: Response, why: str) -> Verdict:
    """A verdict that says nothing about the answer, and why."""
    return Verdict(judge, response.id, why=why)


def _silence(response: Response) -> str:
    return f"response {response.finish}: {response.why}" if response.why else f"response {response.finish}, empty"


def _judged(judge: Judge, pairs: Sequence[Pair], models: Models) -> Iterator[Placed]:
    """The judge's verdicts; those it fails on are tried alone, so that one cannot spoil the others.

    What the user has to set right (no such model, a price that is not known) is an error, not a verdict.
    """
    open_ = dict(enumerate(pairs))
    name = judge.name
    try:
        for place, verdict in _given(judge, pairs, models):
            pair = open_.pop(place, None)
            if pair is None:
                raise ValueError(f"the judge gave a second verdict on response {pairs[place][1].id}")
            yield place, _checked(name, verdict, pair[1])
        if open_:
            raise ValueError(f"the judge gave {len(pairs) - len(open_)} verdicts for {len(pairs)} responses")
    except VlmendError:
        raise
    except Exception as error:  # noqa: BLE001  # a judge may fail in any way, and none of them may pass for a verdict
        if len(pairs) > 1:
            for place, pair in open_.items():
                yield from ((place, verdict) for _, verdict in _judged(judge, [pair], models))
            return
        why = f"judge failed: {type(error).__name__}: {error}"
        yield from ((place, unscored(name, pair[1], why)) for place, pair in open_.items())


def _given(judge: Judge, pairs: Sequence[Pair], models: Models) -> Iterator[Placed]:
    if isinstance(judge, Streams):
        yield from judge.stream(pairs, models)
        return
    found = judge(pairs, models)
    if len(found) != len(pairs):
        raise ValueError(f"the judge gave {len(found)} verdicts for {len(pairs)} responses")
    yield from enumerate(found)


def _checked(name: str, verdict: Verdict, response: Response) -> Verdict:
    """The verdict if it is about this response, under the judge's name."""
    if verdict.response_id != response.id:
        return unscored(name, response, f"judge failed: it spoke of response {verdict.response_id}")
    sound = verdict.score is None or math.isfinite(verdict.score)
    if sound and verdict.judge == name:
        return verdict
    return replace(verdict, judge=name, score=verdict.score if sound else None)


@dataclass(frozen=True)
class Planned:
    """What one judge would be asked at most: of how many answers, on which questions, behind how many controls."""

    judge: str
    questions: tuple[str, ...]
    answers: int
    controls: int = 0


@dataclass
class Judged:
    """How many verdicts are new, and why each that was asked for now says nothing; empty where it says something."""

    new: int = 0
    told: dict[Key, str] = field(default_factory=dict[Key, str])
    planned: Sequence[Planned] = ()  # of a dry run

    def count(self, verdict: Verdict, example_id: str) -> None:
        """Take note of a verdict that was asked for."""
        self.told[verdict.judge, example_id, verdict.response_id] = (
            "" if scored(verdict) else verdict.why or "no reason"
        )

    @property
    def asked(self) -> Counter[str]:
        """How many verdicts each judge was asked for."""
        return Counter(judge for judge, _, _ in self.told)

    @property
    def whys(self) -> dict[str, Counter[str]]:
        """By judge, why its verdicts say nothing, where they do not."""
        found: dict[str, Counter[str]] = {}
        for (judge, _, _), why in self.told.items():
            if why:
                found.setdefault(judge, Counter())[why] += 1
        return found

    def unscored(self) -> dict[str, int]:
        """Verdicts that say nothing, by judge."""
        return {judge: whys.total() for judge, whys in self.whys.items()}

    def mute(self) -> list[str]:
        """Judges that said nothing of all that they were asked."""
        asked = self.asked
        return [judge for judge, whys in self.whys.items() if whys.total() == asked[judge]]

    def unscored_share(self) -> float:
        """The largest share that any judge left unscored of what it was asked for now."""
        asked = self.asked
        return max((whys.total() / asked[judge] for judge, whys in self.whys.items()), default=0.0)

    def complaints(self) -> Iterator[str]:
        """A line for every judge that left something unscored."""
        asked = self.asked
        for judge, whys in self.whys.items():
            [(why, count)] = whys.most_common(1)
            lost = f"judge {judge}: {whys.total()} of {asked[judge]} unscored; {count} because: {why}"
            yield f"{lost}; the same command asks again"


def judge_records(
    judge: Judge, models: Models, records: Sequence[Record], journal: Journal | None, found: Judged,
    progress: Callable[[str, int, int], None],
) -> dict[int, Verdict]:  # fmt: skip
    """Judge these records and store each verdict as it comes in; without a journal, nothing is stored.

    Gives the new verdicts by place. A stored verdict that scored is kept while the judge is made of the same. An
    unscored one is asked for again: the response or the judge may have recovered since. Failures take the place of what
    a judge of another making said only once this one has said something, so that one that is down hides nothing.
    """
    name, made_of = judge.name, about(judge, models)
    open_ = [place for place, r in enumerate(records) if not stands(r.verdict(name), made_of)]
    at_once = 1 if isinstance(judge, Streams) else BATCH  # what was paid for is stored at once
    held: list[tuple[int, Verdict]] = []  # failures, as long as nothing else came in
    spoke = False
    rows: list[dict[str, Any]] = []
    fresh: dict[int, Verdict] = {}

    def keep(place: int, verdict: Verdict) -> None:
        record = records[place]
        fresh[place] = verdict
        if verdict != record.verdict(name):
            found.new += 1
            rows.append(verdict_to_json(verdict, record.example.id, judged_key(record.example, record.response)))

    try:
        # closed where a verdict cannot be stored, so that what is paid for and on its way is kept by whoever asked
        with closing(stream(judge, [(records[p].example, records[p].response) for p in open_], models)) as given:
            for done, (index, verdict) in enumerate(given, start=1):
                place, spoke = open_[index], spoke or scored(verdict)
                record = records[place]
                found.count(verdict, record.example.id)
                if not spoke and scored(record.verdict(name)):
                    held.append((place, verdict))
                else:
                    keep(place, verdict)
                while spoke and held:
                    keep(*held.pop())
                if len(rows) >= at_once:
                    if journal:
                        journal.append(*rows)
                    rows.clear()
                if done % at_once == 0 or done == len(open_):
                    progress(f"judge {name}", done, len(open_))
    finally:
        if rows and journal:
            journal.append(*rows)
    return fresh


def stands(verdict: Verdict | None, made_of: Mapping[str, str]) -> bool:
    """Whether a stored verdict says something, and was given by a judge of the same making."""
    if verdict is None or not scored(verdict):
        return False
    return all(verdict.labels.get(key) == value for key, value in made_of.items())
