"""Several answers to a prompt: each is a record of its own, none is asked for twice, and memory stays small."""

import json
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from tests.evaluate.conftest import write
from vlmend.backends import response_id
from vlmend.cli import main
from vlmend.errors import StoreError, UsageError
from vlmend.evaluate.compare import compare
from vlmend.evaluate.generate import Questions, generate
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.evaluate.score import EvalResult
from vlmend.store import Asked, Run, response_to_json
from vlmend.types import Decoding, Example, Finish, Message, Response


class Counting:
    """Answers with the example's id and the sample's number, and remembers what it was asked."""

    fingerprint = "counting"

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.asked: list[tuple[str, int]] = []
        self.failing = failing

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example, sample in product(examples, decoding.samples):
            self.asked.append((example.id, sample))
            name = response_id(self.fingerprint, example, decoding, sample)
            finish = Finish.FAILED if sample in self.failing else Finish.STOP
            yield Response(name, example.id, f"I'm sorry. {sample}", finish, sample=sample, why="")


def run(folder: Path, out: Path, backend: Counting, samples: int, **more: object) -> EvalResult:
    settings = {"model": "counting", "suite": f"vlguard:{folder}#test", "out": out, "do_sample": True, **more}
    config = EvalConfig.model_validate({**settings, "num_return_sequences": samples})
    return evaluate(config, backend, quiet=True)


def test_four_answers_become_eight(vlguard: Path, tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    few = run(vlguard, tmp_path / "r", first, 4)
    before = (tmp_path / "r" / "responses.jsonl").read_bytes()
    many = run(vlguard, tmp_path / "r", second, 8)
    assert {sample for _, sample in first.asked} == set(range(4))
    assert {sample for _, sample in second.asked} == set(range(4, 8))
    assert len(set(first.asked) | set(second.asked)) == len(first.asked) + len(second.asked) == 8 * 14
    assert (tmp_path / "r" / "responses.jsonl").read_bytes().startswith(before)
    assert many.generated.kept == few.generated.new == 4 * 14
    assert many.metrics["asr"].n == 2 * few.metrics["asr"].n == 8 * 10
    records = Run(tmp_path / "r").records()
    assert len({(r.example.id, r.response.sample) for r in records}) == len(records) == 8 * 14
    assert all(r.response.text.endswith(str(r.response.sample)) for r in records)
    assert len(Run(tmp_path / "r").examples()) == 14
    fresh = Counting()
    run(vlguard, tmp_path / "r", fresh, 8)
    assert fresh.asked == []


def test_only_what_is_missing_is_asked_for(vlguard: Path, tmp_path: Path) -> None:
    """Whatever holes a killed run left, and what failed."""
    run(vlguard, tmp_path / "r", Counting(failing=[1]), 4)
    file = tmp_path / "r" / "responses.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    kept = [row for i, row in enumerate(rows) if i % 3]
    file.write_text("".join(json.dumps(row) + "\n" for row in kept))
    again = Counting()
    run(vlguard, tmp_path / "r", again, 4)
    there = {(row["example_id"], row["sample"]) for row in kept if row["finish"] != "failed"}
    assert len(again.asked) == len(set(again.asked)) == len(rows) - len(there)
    assert not there & set(again.asked)


def test_other_sampling_is_another_run(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r", Counting(), 2)
    with pytest.raises(StoreError, match="decoding"):
        run(vlguard, tmp_path / "r", Counting(), 2, temperature=0.5)
    for settings in ({"temperature": 0.5}, {"top_p": 0.5}, {"num_return_sequences": 2}):
        config = {"model": "counting", "suite": f"vlguard:{vlguard}#test", "out": tmp_path / "x", **settings}
        with pytest.raises(UsageError, match="do_sample"):
            evaluate(EvalConfig.model_validate(config), Counting(), quiet=True)


def test_runs_are_compared_answer_by_answer(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "a", Counting(), 3)
    run(vlguard, tmp_path / "b", Counting(), 2)
    [found] = compare(tmp_path / "a", tmp_path / "b")
    assert len(found.pairing.pairs) == 2 * 14
    assert all(two.before.response.sample == two.after.response.sample for two in found.pairing.pairs)
    assert len(found.pairing.only_before) == 14
    assert found.pairing.only_after == ()


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "VLGuard", safe=1, unsafe=1)
    common = ["--model", "scripted:refuse", "--suite", f"vlguard:{folder}#test", "--out", str(tmp_path / "r"), "--json"]
    assert main(["generate", *common, "--do-sample", "--temperature", "0.7", "--num-return-sequences", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["generated"] == 9
    assert main(["eval", *common, "--do-sample", "--temperature", "0.7", "--num-return-sequences", "5"]) == 0
    [shown] = json.loads(capsys.readouterr().out)["runs"]
    assert (shown["generated"], shown["kept"]) == (6, 9)
    assert main(["eval", *common, "--num-return-sequences", "5"]) == 2
    assert "do_sample" in capsys.readouterr().err
    greedy = str(tmp_path / "greedy")
    assert main(["eval", *common[:4], "--out", greedy]) == 0
    assert main(["compare", greedy, str(tmp_path / "r")]) == 0
    said = capsys.readouterr().out
    assert "decoding.do_sample: False → True" in said
    assert "num_beams" not in said  # is the same in both


def test_answers_are_stored_not_held(tmp_path: Path) -> None:
    """1000 answers of 20 KB, asked for and then gone on with: a few hundred bytes of each stay in memory."""

    class Long(Counting):
        def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
            for response in super().generate(examples, decoding):
                yield replace(response, text=response.text + "x" * 20_000)

    backend, decoding = Long(), Decoding()
    examples = [Example(f"e{i}", (Message("user", (f"Question {i}?",)),)) for i in range(1000)]
    folder = Run(tmp_path)
    folder.claim({}, {})
    asked = [Asked(e, response_id(backend.fingerprint, e, decoding)) for e in examples]
    tracemalloc.start()
    try:
        folder.write_asked(asked)
        [first] = generate([Questions(folder, asked[:500], decoding)], backend, lambda *_: None)
        [second] = generate([Questions(folder, asked, decoding)], backend, lambda *_: None)
        assert first.new == second.kept == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "responses.jsonl").stat().st_size > 20_000_000
    assert peak < 3_000_000
    assert response_to_json(next(iter(folder.responses().values())))["text"].endswith("x")
