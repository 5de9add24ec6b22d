"""LLaVA-Bench in both layouts, and its ratio."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from vlmend.data import load, read
from vlmend.data.sources.llava_bench import LlavaBench
from vlmend.errors import DataError
from vlmend.metrics.rates import score
from vlmend.registry import suites
from vlmend.types import Example, Finish, Mean, Message, Record, Response, Verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LlavaBench.sample(tmp_path)
    return tmp_path


def table(folder: Path) -> Path:
    """The same as VLMEvalKit has it: a picture in the first row about it, named by its index in others."""
    examples = load(f"llava_bench:{folder}").examples
    lines = ["index\tquestion\tcategory\tcaption\tgpt4_ans\timage"]
    lines += [
        "\t".join((e.id.rsplit("/")[-1], e.question, e.subset, "", e.answers[0],
                   base64.b64encode(e.images[0].read()).decode()))
        for e in examples
    ]  # fmt: skip
    file = folder / "LLaVABench.tsv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_both_layouts_say_the_same(folder: Path) -> None:
    def said(examples: tuple[Example, ...]) -> list[tuple[str, str, str, tuple[str, ...], str]]:
        return [(e.id, e.question, e.subset, e.answers, e.images[0].sha256) for e in examples]

    files = load(f"llava_bench:{folder}").examples
    assert [e.subset for e in files] == ["conv", "detail", "complex"] * 2
    assert said(read(f"llava_bench:{table(folder)}")) == said(files)
    assert said(read(f"llava_bench:{folder}")) == said(files)


def test_answers_are_joined_by_id(folder: Path) -> None:
    file = folder / "answers_gpt4.jsonl"
    before = read(f"llava_bench:{folder}")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    assert [e.answers for e in read(f"llava_bench:{folder}")] == [e.answers for e in before]
    file.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(DataError, match=r"questions.jsonl line 2: answers_gpt4.jsonl has no answer to 1"):
        read(f"llava_bench:{folder}")


def graded(name: str, given: int, reference: str = "8") -> Record:
    example = Example(name, (Message("user", ("q",)),), answers=("a",), subset="conv")
    labels = {"helpful": str(given / 10)} | ({"reference": reference} if reference else {})
    verdicts = (Verdict("j", f"r/{name}", labels=labels),)
    return Record(example, Response(f"r/{name}", name, "words", Finish.STOP), verdicts, judges={"helpful": "j"})


def test_the_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    metrics = suites.from_spec("llava_bench:data").metrics
    found = score([graded("a", 4, "10"), graded("b", 8, "5"), graded("c", 9, "")], metrics)
    ratio, helpful = found["ratio"], found["helpful"]
    assert isinstance(ratio, Mean)
    assert isinstance(helpful, Mean)
    assert (ratio.value, ratio.n, ratio.unscored) == (pytest.approx(12 / 15), 2, 1)
    assert (helpful.value, helpful.n) == (pytest.approx(0.7), 3)


def test_as_good_as_the_reference_is_a_ratio_of_one() -> None:
    metrics = suites.from_spec("llava_bench:data").metrics
    for grade in (1, 7, 10):
        assert score([graded("a", grade, str(grade)), graded("b", 5, "5")], metrics)["ratio"].value == 1.0
