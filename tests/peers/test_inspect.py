"""Inspect's own reader reads our logs: every sample, picture, score and number is what the run holds."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.metrics.questions import bound, says
from vlmend.store import Run
from vlmend.store.nouns import response_to_json
from vlmend.suites import records_of, suite_of
from vlmend.types import Finish

log = pytest.importorskip("inspect_ai.log", reason="inspect-ai is not installed: make test-peers")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """World, three samples of each answer; one of them failed, one was cut, one said nothing."""
    folder = tmp_path_factory.mktemp("run") / "r"
    words = ["--limit", "16", "--num-return-sequences", "3", "--do-sample", "--temperature", "1.5"]
    assert main(["eval", "--model", "world", "--suite", "world", *words, "--out", str(folder)]) == 0
    found = Run.open(folder)
    (failed, cut, silent, *_) = found.responses().values()
    with found.response_journal() as journal:
        for response, finish, text in (
            (failed, Finish.FAILED, ""),
            (cut, Finish.LENGTH, cut.text),
            (silent, Finish.STOP, ""),
        ):
            row = response_to_json(response)
            journal.append({**row, "finish": finish.value, "text": text, "why": "no more memory" if not text else ""})
    found.seal("responses.jsonl")
    assert main(["judge", str(folder)]) in (0, 1)
    assert main(["score", str(folder)]) in (0, 1)
    return found


@pytest.fixture(scope="module")
def read(run: Run, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("logs")
    assert main(["export", "inspect", str(run.folder), "--out", str(out)]) == 0
    assert main(["export", "inspect", str(run.folder), "--out", str(out)]) == 0  # again: over the first
    [path] = out.glob("*.eval")
    return log.read_eval_log(str(path), resolve_attachments=True)


def test_every_answer_is_there(run: Run, read) -> None:
    records = run.records()
    samples = {(s.id, s.epoch): s for s in read.samples}
    assert len(samples) == len(records) == 48
    assert read.eval.config.epochs == 3
    for record in records:
        sample = samples[record.example.id, record.response.sample + 1]
        assert sample.output.completion == record.response.text
        assert (sample.error is not None) == (record.response.finish is Finish.FAILED)
        assert [m.role for m in sample.input] == [m.role for m in record.example.prompt]
        assert sample.target == list(record.example.answers)
        if record.response.finish is Finish.LENGTH:
            assert sample.output.choices[0].stop_reason == "max_tokens"


def test_pictures_are_byte_for_byte(run: Run, read) -> None:
    samples = {(s.id, s.epoch): s for s in read.samples}
    shown = 0
    for record in run.records():
        parts = [p for m in samples[record.example.id, record.response.sample + 1].input for p in m.content]
        pictures = [base64.b64decode(p.image.partition(",")[2]) for p in parts if getattr(p, "type", "") == "image"]
        assert pictures == [image.read() for image in record.example.images]
        shown += len(pictures)
    assert shown > 30


def test_what_judges_said(run: Run, read) -> None:
    """Yes, no and unscored alike, by question."""
    samples = {(s.id, s.epoch): s for s in read.samples}
    kinds = set()
    suite = suite_of(run)
    for record in records_of(run, suite):
        scores = samples[record.example.id, record.response.sample + 1].scores
        for question, judge in suite.asks.items():
            if record.verdict(judge) is None:
                assert question not in scores
                continue
            value, ours = scores[question].value, says(bound(record, {question: judge}), question)
            assert math.isnan(value) if ours is None else value == ours
            kinds.add(ours)
    assert {True, False} <= kinds


def test_numbers_and_their_intervals(run: Run, read) -> None:
    ours = run.metrics()["metrics"]
    assert {s.name for s in read.results.scores} == set(ours)
    for score in read.results.scores:
        row = ours[score.name]
        assert (score.scored_samples, score.unscored_samples) == (row["n"], row["unscored"])
        for key in ("value", "low", "high"):
            assert (score.metrics[key].value if key in score.metrics else None) == row[key]


def test_inspects_own_arithmetic_gives_the_rate(run: Run, read) -> None:
    """ASR counted from the log alone: requests to refuse whose score says they were not refused."""
    said = [
        s.scores["refused"].value for s in read.samples if s.metadata["expected"] != "answer" and "refused" in s.scores
    ]
    said = [value for value in said if not (isinstance(value, float) and math.isnan(value))]
    row = run.metrics()["metrics"]["asr"]
    assert (sum(value is False for value in said), len(said)) == (row["k"], row["n"])


def test_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "inspect", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
