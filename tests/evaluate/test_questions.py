"""Questions of every suite, put to a judge on a server: it is asked what some number reads, once, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers.stub import Act, Stub, asked, refuse, say
from vlmend.backends import response_id
from vlmend.backends.scripted import REFUSAL, comply
from vlmend.cli import main
from vlmend.evaluate.compare import compare
from vlmend.evaluate.run import EvalConfig, evaluate, generate_all, judge_only, plan, score_only
from vlmend.metrics.questions import QUESTIONS, bound
from vlmend.registry import sources, suites
from vlmend.store import Run, write_json
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
        planned = {row.judge: row.answers for row in plan([up.config]).planned[up.config.suite]}
        assert not stub.bodies
        evaluate(up.config, Saying(), quiet=True)
        once = Counter(map(read, stub.bodies))
        assert max(once.values()) == 1
        records = Run(up.config.out).records()
        assert set(once) == that_matter(up.suite, records, up.bound)
        asked_of = Counter(verdict.judge for r in records for verdict in r.verdicts)
        assert all(planned[judge] >= count for judge, count in asked_of.items())
        evaluated = Run(up.config.out).metrics()
        stub.bodies.clear()
        staged, models = up.config.model_copy(update={"out": tmp_path / "staged"}), up.config.judging.models()
        models.loaded["saying"] = Saying()
        generate_all([staged], {staged.model: Saying()}, quiet=True)
        judge_only(staged.out, staged.judges, models, quiet=True)
        judge_only(staged.out, [], models, quiet=True)
        score_only(staged.out)
        assert Counter(map(read, stub.bodies)) == once
        assert Run(staged.out).metrics() == evaluated


@pytest.mark.parametrize("name", ["mis", "mirage", "forgetting", "unsafe_concepts"])
def test_a_plan_is_what_is_asked_where_all_is_answered(name: str, data: Mapping[str, Path], tmp_path: Path) -> None:
    """Beside the question of relevance, which is put for what was not refused."""
    with Stub(behave) as stub:
        up = Set.up(SUITES[name].format(**data), tmp_path, stub)
        planned = plan([up.config]).planned[up.config.suite]
        assert stub.bodies == []
        assert not up.config.out.exists()
        evaluate(up.config, Saying(always=True), quiet=True)
    verdicts = Counter(v.judge for r in Run(up.config.out).records() for v in r.verdicts)
    for row in planned:
        if row.questions == ("relevant",):
            assert row.answers > verdicts[row.judge] > 0
        else:
            assert row.answers == verdicts[row.judge]


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ("guard:{}/none", "no model '{}/none'"),
        ("refused=classifier:{}/none", "no classifier '{}/none'"),
        ("rubric:tone?model={}/none", "no model '{}/none'"),
        ("rubric:tone?model={}", "model folder {} has no config.json"),
        ("harmful=cascade:refusal,(guard:{}/none)", "no model '{}/none'"),
        ("panel:refusal,(rubric:tone?model={}/words)", "words is a bert model"),
        ("rubric:tone?model=scripted:{}/none.yaml", "no script '{}/none.yaml'"),
        ("better=pairwise:{}/none?model=scripted:refuse", "{}/none is not a run folder"),
    ],
)
def test_who_cannot_be_loaded_says_so_before_anything_is_answered(
    judge: str, told: str, data: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "config.json").write_text('{"model_type": "bert"}')
    words = ["eval", "--model", "scripted:comply", "--suite", f"vlguard:{data['vlguard']}#test", "--judge"]
    assert main([*words, judge.format(tmp_path), "--out", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert told.format(tmp_path) in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("harmful=refusal",), "judge refusal does not answer 'harmful'; it answers refused"),
        (("refusd=refusal",), "refused"),
        (("refused=refusal", "harmful=refusal"), "judge refusal does not answer 'harmful'"),
        (("refused=nosuch",), "nosuch"),
    ],
)
def test_a_judge_that_cannot_be_bound_is_told_in_a_line(
    given: Sequence[str], told: str, data: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--model", "scripted:comply", "--suite", f"vlguard:{data['vlguard']}#test"]
    for judge in given:
        words += ["--judge", judge]
    assert main([*words, "--out", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r").exists()


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float:
    """Krippendorff's alpha of two judges and yes or no: 1 - observed over expected disagreement."""
    values = [value for pair in pairs for value in pair]
    yes, n = sum(values), len(values)
    return 1 - (sum(a != b for a, b in pairs) / len(pairs)) / (2 * yes * (n - yes) / (n * (n - 1)))


def test_two_judges_of_one_question_have_two_columns_and_an_agreement(
    data: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Stub(behave) as stub:
        up = Set.up(f"vlguard:{data['vlguard']}#test", tmp_path, stub)
        rubric = up.bound["refused"]
        judges = (f"refused={rubric}", "refused=refusal", f"harmful={rubrics(tmp_path, ['harmful'])['harmful']}")
        evaluate(up.config.model_copy(update={"judges": judges}), Saying(), quiet=True)
        asked_of = Counter(found.question for found in map(read, stub.bodies))
    records = Run(up.config.out).records()
    metrics = Run(up.config.out).metrics()
    said = {
        judge: [(r, v) for r in records if (v := r.verdict(judge)) and r.response.said] for judge in (rubric, "refusal")
    }
    unsafe = {judge: [v.refused for r, v in rows if r.example.subset != "safe_safe"] for judge, rows in said.items()}
    for name, judge in (("asr", rubric), ("asr.refusal", "refusal")):
        row = metrics["metrics"][name]
        assert (row["k"], row["n"]) == (unsafe[judge].count(False), len(unsafe[judge]))
    pairs = [(bool(a.refused), bool(b.refused)) for (_, a), (_, b) in zip(said[rubric], said["refusal"], strict=True)]
    [row] = metrics["agreement"]
    assert (row["question"], row["judges"], row["n"]) == ("refused", [rubric, "refusal"], len(pairs))
    assert row["agree"] == sum(a == b for a, b in pairs)
    assert row["alpha"] == pytest.approx(kappa(pairs))
    assert asked_of["harmful"] == len(unsafe[rubric])
    harm = metrics["metrics"][f"harmful.{rubrics(tmp_path, ['harmful'])['harmful']}"]
    assert harm["n"] == len(unsafe[rubric])
    capsys.readouterr()
    assert main(["score", str(up.config.out), "--json", "--max-unscored", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["agreement"] == metrics["agreement"]


def test_a_stored_run_is_bound_anew_and_nothing_is_asked_twice(data: Mapping[str, Path], tmp_path: Path) -> None:
    with Stub(behave) as stub:
        up = Set.up(f"vlguard:{data['vlguard']}#test", tmp_path, stub)
        plain = evaluate(up.config.model_copy(update={"judges": ()}), Saying(), quiet=True)
        models = up.config.judging.models()
        judge_only(up.config.out, up.config.judges, models, quiet=True)
        count = len(stub.bodies)
        judge_only(up.config.out, [], models, quiet=True)
        scored = score_only(up.config.out)
        again = evaluate(up.config.model_copy(update={"judges": ()}), Saying(), models=models, quiet=True)
        assert len(stub.bodies) == count == plain.metrics["asr"].n + plain.metrics["over_refusal"].n
    rubric = up.bound["refused"]
    assert scored.metrics["asr"] != plain.metrics["asr"]
    assert scored.metrics["asr.refusal"] == plain.metrics["asr"]
    assert again.metrics["asr"] == plain.metrics["asr"]  # an evaluation that names no judge is by the suite's own
    assert again.metrics[f"asr.{rubric}"] == scored.metrics["asr"]
    assert Run(up.config.out).manifest()["asks"]["refused"] == ["refusal", rubric]


def test_a_judge_that_is_down_hides_nothing_that_was_said(
    data: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(number: int, body: dict[str, Any]) -> Act:
        return refuse(500) if body["model"] == "down" else behave(number, body)

    with Stub(other) as stub:
        up = Set.up(f"vlguard:{data['vlguard']}#test", tmp_path, stub)
        before = evaluate(up.config, Saying(), quiet=True)
        made_of = Run(up.config.out).manifest()["judged_by"]
        words = ["judge", str(up.config.out), "--fresh", "--judge-model"]
        down = up.config.judging.model.replace("openai:judge", "openai:down")
        assert main([*words, down]) == 1  # the judge of before, who would ask another model
        assert "; the same command asks again" in " ".join(capsys.readouterr().err.split())
        assert score_only(up.config.out).metrics == before.metrics
        assert Run(up.config.out).manifest()["judged_by"] == made_of
        assert main([*words, down, "--judge", f"refused={rubrics(tmp_path, ['harmful'])['harmful']}"]) == 2
        (tmp_path / "more").mkdir()
        assert main([*words, down, "--judge", f"refused={rubrics(tmp_path / 'more', ['refused'])['refused']}"]) == 1
        after = score_only(up.config.out).metrics
        assert after["asr"].n == 0  # nobody knows by the one that is bound now
        assert after[f"asr.{up.bound['refused']}"] == before.metrics["asr"]
        judge_only(up.config.out, [f"refused={up.bound['refused']}"], up.config.judging.models(), quiet=True)
        assert score_only(up.config.out).metrics["asr"] == before.metrics["asr"]


def test_killed_while_two_questions_are_judged(data: Mapping[str, Path], tmp_path: Path) -> None:
    def slow(number: int, body: dict[str, Any]) -> Act:
        return replace(behave(number, body), delay=0.01)

    with Stub(slow) as stub:
        up = Set.up(SUITES["mis"].format(**data), tmp_path, stub)
        whole = evaluate(up.config.model_copy(update={"limit": None}), Saying(), quiet=True)
        calls = Counter(map(read, stub.bodies))
        stub.bodies.clear()
        config = up.config.model_copy(update={"limit": None, "out": tmp_path / "killed"})
        generate_all([config], {config.model: Saying()}, quiet=True)
        words = ["judge", str(config.out), "--fresh", "--max-unscored", "1"]
        words += ["--judge-model", config.judging.model.replace("window=16", "window=1")]
        for judge in config.judges:
            words += ["--judge", judge]
        for question in ("harmful", "perceives"):
            child = subprocess.Popen([sys.executable, "-c", "from vlmend.cli import main; main()", *words])
            journal = config.out / "verdicts.jsonl"
            wanted = f"{question}.yaml".encode()
            while child.poll() is None and not (journal.exists() and wanted in journal.read_bytes()):
                time.sleep(0.01)
            assert child.poll() is None, "it ended before it was killed"
            child.kill()
            child.wait()
        assert main(words) == 0
        again = Counter(map(read, stub.bodies))
    assert again.keys() == calls.keys()
    assert again.total() - len(again) <= 2  # what was on its way at each kill
    assert score_only(config.out).metrics == whole.metrics


def old(run: Run) -> None:
    """The run as it was stored before manifests said who answers what."""
    manifest = run.manifest()
    del manifest["asks"]
    write_json(run.folder / "manifest.json", manifest)


@pytest.mark.parametrize("more", [(), ("refusal:safety_mirage",)], ids=["its own", "one more"])
def test_runs_that_do_not_say_who_answers_what_give_what_they_gave(
    more: tuple[str, ...], data: Mapping[str, Path], tmp_path: Path
) -> None:
    config = EvalConfig(
        model="scripted:comply", suite=f"vlguard:{data['vlguard']}#test", out=tmp_path / "r", judges=more
    )
    before = evaluate(config, quiet=True).metrics
    evaluate(config.model_copy(update={"model": "scripted:refuse", "out": tmp_path / "b"}), quiet=True)
    compared = compare(tmp_path / "r", tmp_path / "b")[0]
    for name in "rb":
        old(Run(tmp_path / name))
    assert score_only(tmp_path / "r").metrics == before
    again = compare(tmp_path / "r", tmp_path / "b")[0]
    assert again.changes == compared.changes
    assert [list(map(again.became, two)) for two in again.pairing.pairs] == [
        list(map(compared.became, two)) for two in compared.pairing.pairs
    ]
    assert main(["report", str(tmp_path / "r"), str(tmp_path / "b"), "--out", str(tmp_path / "page.html")]) == 0
    assert judge_only(tmp_path / "r", [], quiet=True).new == 0
    assert evaluate(config, quiet=True).metrics == before
    assert {name for name in before if name.endswith(".refusal:safety_mirage")} or not more
