"""Questions of every suite, put to a judge on a server: it is asked what some number reads, once, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers.stub import Act, Stub, asked, say
from vlmend.backends import response_id
from vlmend.backends.scripted import REFUSAL, comply
from vlmend.evaluate.run import EvalConfig, evaluate, generate_all, judge_only, score_only
from vlmend.metrics.questions import QUESTIONS, bound
from vlmend.registry import sources, suites
from vlmend.store import Run
from vlmend.types import Decoding, Example, Finish, Record, Response, Suite, Verdict, digest

SUITES = {
    "vlguard": "vlguard:{vlguard}#test",
    "vlguard, published": "vlguard:{vlguard}#test?protocol=published",
    "mis": "mis:{mis}",
    "safeeraser": "safeeraser:{safeeraser}",
    "safeeraser, as coded": "safeeraser:{safeeraser}?protocol=as_coded",
    "unsafe_concepts": "unsafe_concepts:{unsafe_concepts}#all",
    "mirage": "mirage:{vlguard}",
    "mirage, as coded": "mirage:{vlguard}?protocol=as_coded",
    "pope": "pope:{pope}",
    "mme": "mme:{mme}",
    "scienceqa": "scienceqa:{scienceqa}",
    "over_refusal": "over_refusal?xstest={xstest}",
    "source": "source:vlguard:{vlguard}#test",
    "modality": "modality:(vlguard:{vlguard}#test)",
    "forgetting": "forgetting:(safeeraser:{safeeraser})",
    "world": "world?n=4",
    "world_unlearning": "world_unlearning?n=4",
}
LIMIT = 16  # examples, of all subsets
EACH = pytest.mark.parametrize("name", SUITES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for name in ("vlguard", "mis", "safeeraser", "unsafe_concepts", "pope", "mme", "scienceqa", "xstest"):
        found[name] = tmp_path_factory.mktemp(name)
        sources.find(name).sample(found[name])
    return found


class Saying:
    """Answers in words of its own, that name the example; some answers say nothing, and some fail."""

    fingerprint = "saying"

    def __init__(self, *, always: bool = False) -> None:
        self.always = always

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example in examples:
            for sample in decoding.samples:
                turn = int(digest(example.id, sample)[:8], 16) % 8
                text, finish = f"{REFUSAL if turn % 2 else comply(example)} §{example.id} {sample}§", Finish.STOP
                if turn in (2, 5) and not self.always:
                    text, finish = "", Finish.STOP if turn == 2 else Finish.FAILED
                name = response_id(self.fingerprint, example, decoding, sample)
                yield Response(name, example.id, text, finish, sample=sample, why="down" if turn == 5 else "")


def values(question: str) -> tuple[str, ...]:
    return QUESTIONS[question].values or ("0", "0.5", "1")


class Asked(NamedTuple):
    """What a request asked about which answer."""

    question: str
    answer: str


def read(body: dict[str, Any]) -> Asked:
    text = asked(body)
    question = next(line for line in text.splitlines() if line.startswith("Question ")).removeprefix("Question ")
    return Asked(question, mark(text))


def mark(text: str) -> str:
    return text.split("§")[1]


def behave(number: int, body: dict[str, Any]) -> Act:
    """Any value that the question has, by the answer."""
    del number
    found = read(body)
    turn = int(digest(found)[:8], 16)
    return say(json.dumps({found.question: values(found.question)[turn % len(values(found.question))]}))


def rubrics(folder: Path, questions: Sequence[str]) -> dict[str, str]:
    """A judge for each question, in a file of the user's."""
    made: dict[str, str] = {}
    for question in questions:
        file = folder / f"{question}.yaml"
        menu = {question: dict.fromkeys(QUESTIONS[question].values, "so")}
        rubric = {"version": 1, "summary": "s", "task": f"Question {question}", "shows": ["answer"], "menu": menu}
        file.write_text(json.dumps(rubric))
        made[question] = f"rubric:{file}"
    return made


class Set(NamedTuple):
    """A suite of sample data, its questions answered by a server: all of them but those about likelihoods."""

    suite: Suite
    config: EvalConfig
    bound: Mapping[str, str]

    @classmethod
    def up(cls, spec: str, folder: Path, stub: Stub) -> Set:
        suite = suites.from_spec(spec)
        given = rubrics(folder, [question for question in suite.asks if question != "remembers"])
        config = EvalConfig.model_validate({
            "model": "saying", "suite": spec, "limit": LIMIT, "out": folder / "eval",
            "judges": [f"{question}={judge}" for question, judge in given.items()],
            "judging": {
                "model": f"openai:judge@{stub.url}?server=plain&window=16&backoff=0.01&retries=0", "cache": False,
            },
        })  # fmt: skip
        return cls(suite, config, given)


def said(question: str, value: str, judge: str, response: str) -> Verdict:
    return Verdict(judge, response, labels={question: value})


def replaced(record: Record, judge: str, verdict: Verdict | None) -> Record:
    others = tuple(v for v in record.verdicts if v.judge != judge)
    return replace(record, verdicts=(*others, verdict) if verdict else others)


def that_matter(suite: Suite, records: Sequence[Record], judges: Mapping[str, str]) -> set[Asked]:
    """The questions and answers of which it matters to some number what is said, if anything is."""
    found: set[Asked] = set()
    for record in (bound(record, judges) for record in records):
        measures = [m for m in suite.metrics if m.applies(record.example)]
        for question, judge in judges.items():
            verdicts = [None, *(said(question, value, judge, record.response.id) for value in values(question))]
            first, *others = ([m.outcome(replaced(record, judge, v)) for m in measures] for v in verdicts)
            if any(other != first for other in others):
                found.add(Asked(question, mark(record.response.text)))
    return found


@EACH
def test_the_server_is_asked_what_matters_to_some_number(name: str, data: Mapping[str, Path], tmp_path: Path) -> None:
    with Stub(behave) as stub:
        up = Set.up(SUITES[name].format(**data), tmp_path, stub)
        evaluate(up.config, Saying(), quiet=True)
        once = Counter(map(read, stub.bodies))
        assert max(once.values()) == 1
        records = Run(up.config.out).records()
        assert set(once) == that_matter(up.suite, records, up.bound)
        evaluated = Run(up.config.out).metrics()
        stub.bodies.clear()
        staged, models = up.config.model_copy(update={"out": tmp_path / "staged"}), up.config.judging.models()
        models.loaded["saying"] = Saying()
        generate_all(staged, [staged.suite], Saying(), quiet=True)
        judge_only(staged.out, staged.judges, models, quiet=True)
        judge_only(staged.out, [], models, quiet=True)
        score_only(staged.out)
        assert Counter(map(read, stub.bodies)) == once
        assert Run(staged.out).metrics() == evaluated
