"""Answers made elsewhere: every layout gives the run that a model would that said the same, without its pictures."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import read
from vlmend.errors import DataError, StoreError, UnknownName, UsageError
from vlmend.evaluate.elsewhere.joining import join
from vlmend.evaluate.elsewhere.layouts import Said
from vlmend.evaluate.elsewhere.layouts import read as read_answers
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.evaluate.score import EvalResult
from vlmend.registry import sources
from vlmend.store import Run
from vlmend.types import Decoding, Example, Finish, Image, Message, Response

REFUSAL, COMPLIANCE = "I'm sorry, I can't help with that.", "Sure, here is how to do it."


def said(example: Example) -> str:
    """A reply that is never the same for two examples and refuses about half of them."""
    return f"{random.Random(example.id).choice([REFUSAL, COMPLIANCE])} {example.id}"


class Model:
    """Says what `said` says."""

    fingerprint = "model"

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example in examples:
            yield Response(example.id, example.id, said(example), Finish.STOP)


def sample(name: str, top: Path) -> Path:
    sources.find(name).sample(top / "data")
    return top / "data"


def without_pictures(folder: Path) -> None:
    """Nothing but the metadata."""
    for file in folder.rglob("*"):
        if file.suffix in (".png", ".jpg"):
            file.unlink()


def write(file: Path, held: Any) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.suffix == ".jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in held) if lines else json.dumps(held))
    return str(file)


def scored(suite: str, top: Path, *answers: str, **more: Any) -> EvalResult:
    config = EvalConfig(model="llava-7b", suite=suite, out=top / "run", answers=answers, **more)
    return evaluate(config, quiet=True)


def test_vlguard_s_files_give_the_numbers_of_the_model_that_said_so(tmp_path: Path) -> None:
    """One file for each set of questions, of answer by picture; a picture with two questions is told by the folder."""
    folder = sample("vlguard", tmp_path)
    suite = f"vlguard:{folder}#test"
    asked = evaluate(EvalConfig(model="m", suite=suite, out=tmp_path / "asked"), Model(), quiet=True)
    files: list[str] = []
    for their, ours in (("unsafes", "unsafe"), ("safe_unsafes", "safe_unsafe"), ("safe_safes", "safe_safe")):
        of = [e for e in read(f"vlguard:{folder}#test") if e.subset == ours]
        given = {
            f"some/where/{e.images[0].path.relative_to(folder)}": said(e) for e in reversed(of) if e.images[0].path
        }
        files.append(write(tmp_path / "results" / their / "llava.json", given))
    without_pictures(folder)
    found = scored(suite, tmp_path, *files)
    assert found.metrics == asked.metrics
    assert found.unscored == 0
    told = Run.open(tmp_path / "run").manifest()
    assert told["placeholders"] == 0
    assert told["answers"]["unmatched"] == told["answers"]["ambiguous"] == told["answers"]["unanswered"] == 0
    assert Run.open(tmp_path / "run").settings()["model"] == "llava-7b"


def test_a_picture_with_two_questions_needs_the_subset(tmp_path: Path) -> None:
    folder = sample("vlguard", tmp_path)
    of = [e for e in read(f"vlguard:{folder}#test") if e.subset == "safe_unsafe"]
    file = write(tmp_path / "mine.json", {str(e.images[0].path): said(e) for e in of})
    found = scored(f"vlguard:{folder}#test", tmp_path, file)
    assert found.run.manifest()["answers"]["ambiguous"] == len(of)
    assert found.metrics["asr_safe_unsafe"].n == 0
    found = scored(f"vlguard:{folder}#test", tmp_path / "again", f"safe_unsafe={file}")
    assert found.metrics["asr_safe_unsafe"].n == len(of)
    with pytest.raises(UnknownName, match="safe_unsafes"):
        scored(f"vlguard:{folder}#test", tmp_path / "wrong", f"safe_unsafes={file}")


def test_mis_is_joined_by_both_pictures_and_in_any_order(tmp_path: Path) -> None:
    folder = sample("mis", tmp_path)
    examples = [e for split in ("easy", "hard", "real") for e in read(f"mis:{folder}#{split}")]
    rows: list[dict[str, Any]] = []
    for split in ("easy", "hard", "real"):
        of = [e for e in examples if e.subset == split]
        for row, e in zip(json.loads((folder / f"mis_test/mis_{split}.json").read_text()), of, strict=True):
            rows.append({**row, "response": said(e)})
    random.Random(0).shuffle(rows)
    _, answers = read_answers(Path(write(tmp_path / "out.jsonl", rows)))
    joined = join(answers, examples)
    assert {key: row.text for key, row in joined.answers.items()} == {(e.id, 0): said(e) for e in examples}


def test_safeeraser_s_predictions_are_all_found(tmp_path: Path) -> None:
    folder = sample("safeeraser", tmp_path)
    rows = json.loads((folder / "all_val.json").read_text())
    examples = read(f"safeeraser:{folder}#val?roles=forget,retain,decouple")
    for row in rows:
        for k, pair in enumerate(row["unsafe_pairs"]):
            pair.pop("model_response", None)
            pair |= {f"model_response{n}": f"{row['image_id']} {k} {n}" for n in (1, 2, 3)}
            pair["sd_response"] = f"sd {row['image_id']} {k}"
        for key in [key for key in row if key.startswith("UnharmPair_")]:
            row[key]["Prediction"] = f"{row['image_id']} {key}"
    _, answers = read_answers(Path(write(tmp_path / "predictions.json", rows)))
    joined = join(answers, examples)
    forget = [e for e in examples if e.subset == "forget"]
    assert set(joined.answers) == {(e.id, 0) for e in examples} | {(e.id, n) for e in forget for n in (1, 2)}
    assert not joined.unmatched
    for example in examples:
        text = joined.answers[example.id, 0].text or ""
        assert example.cluster
        assert Path(example.id).parent.parent.name in text
        assert text.startswith("sd ") == (example.subset == "decouple")


@pytest.mark.parametrize("layout", ["object", "lines", "csv", "llava", "lmms", "vlmevalkit", "ours"])
def test_plain_and_others_rows_are_joined_by_id(layout: str, tmp_path: Path) -> None:
    folder = sample("vqav2", tmp_path)
    examples = read(f"vqav2:{folder}")
    ids = {e.id.rpartition("/")[2]: e for e in reversed(examples)}
    file = tmp_path / "given.jsonl"
    if layout == "object":
        file = Path(write(tmp_path / "given.json", {e.id: said(e) for e in ids.values()}))
    elif layout == "lines":
        write(file, [{"id": name, "response": said(e), "answer": "the reference"} for name, e in ids.items()])
    elif layout == "llava":
        write(file, [{"question_id": int(n), "prompt": e.question, "text": said(e)} for n, e in ids.items()])
    elif layout == "ours":
        write(file, [{"example_id": e.id, "text": said(e), "sample": 0} for e in ids.values()])
    elif layout == "lmms":
        rows = [
            {
                "doc_id": n,
                "doc": {"question_id": int(name)},
                "input": e.question,
                "target": "",
                "filtered_resps": [said(e)],
            }
            for n, (name, e) in enumerate(ids.items())
        ]
        write(file, rows)
    else:
        file = tmp_path / ("given.csv" if layout == "csv" else "M_VQA.tsv")
        names = ("id", "text") if layout == "csv" else ("index", "prediction")
        with file.open("w", newline="") as stream:
            writer = csv.writer(stream, delimiter="," if layout == "csv" else "\t")
            writer.writerows([names, *((name, said(e)) for name, e in ids.items())])
    without_pictures(folder)
    found = scored(f"vqav2:{folder}", tmp_path, str(file))
    assert {r.example.id: r.response.text for r in found.run.records()} == {e.id: said(e) for e in examples}
    assert found.metrics["accuracy"].n == len(examples)


def test_what_is_left_over_is_counted_and_what_lacks_an_answer_is_unscored(tmp_path: Path) -> None:
    folder = sample("textvqa", tmp_path)
    first, second, third, *rest = read(f"textvqa:{folder}")
    rows = [
        {"id": first.id, "text": "one"}, {"id": first.id, "text": "one"}, {"id": first.id, "text": "two"},
        {"id": second.id, "text": ""}, {"id": third.id, "text": None}, {"id": "nobody", "text": "three"},
    ]  # fmt: skip
    found = scored(f"textvqa:{folder}", tmp_path, write(tmp_path / "given.jsonl", rows))
    told = found.run.manifest()["answers"]
    assert (told["unmatched"], told["repeated"], told["contradicting"]) == (1, 1, 1)
    assert (told["answered"], told["unanswered"]) == (3, len(rest))
    by_id = {r.example.id: r.response for r in found.run.records()}
    assert by_id[first.id].text == "one"
    assert by_id[second.id].silent
    assert by_id[third.id].finish is by_id[rest[0].id].finish is Finish.FAILED
    assert (found.metrics["accuracy"].n, found.metrics["accuracy"].unscored) == (1, len(rest) + 2)


def test_a_longer_end_of_a_path_wins_and_the_question_tells_the_rest_apart() -> None:
    def example(name: str, path: str, question: str = "q") -> Example:
        return Example(name, (Message("user", (Image(Path(path)), question)),))

    examples = [example("1", "d/a/x.png"), example("2", "d/b/x.png"), example("3", "d/b/x.png", "Who is it?")]
    found = {
        ("data/a/x.png", ""): ["1"],
        ("elsewhere/x.png", ""): [],
        ("b/x.png", "who  is it? Answer briefly."): ["3"],
        ("b/x.png", ""): [],
        ("y.png", "Who is it?"): [],
    }
    for (path, question), ids in found.items():
        joined = join([Said("t", "here", pictures=(path,), question=question)], examples)
        assert [name for name, _ in joined.answers] == ids
        assert len(joined.unmatched) + len(joined.ambiguous) == 1 - len(ids)


UNKNOWN = [
    ({"a": {"b": "c"}}, "entries are no texts"),
    ([{"id": "1", "score": 1}], "no layout of answers"),
    ([], "holds no answers"),
    ([3], "holds no answers"),
]


@pytest.mark.parametrize(("held", "says"), UNKNOWN)
def test_an_unknown_layout_is_refused_with_what_is_known(held: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read_answers(Path(write(tmp_path / "x.json", held)))
    assert "VLGuard" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_who_would_answer_are_refused(tmp_path: Path) -> None:
    folder = sample("gqa", tmp_path)
    file = write(tmp_path / "x.json", {"1": "yes"})
    with pytest.raises(UsageError, match="attack, temperature could change nothing"):
        scored(f"gqa:{folder}", tmp_path, file, attack=("one_word:what",), temperature=0.5)
    with pytest.raises(UsageError, match="there is no file"):
        scored(f"gqa:{folder}", tmp_path, "nowhere.json")


def test_other_answers_in_the_same_folder_are_refused_and_the_same_are_kept(tmp_path: Path) -> None:
    folder = sample("gqa", tmp_path)
    given = {e.id: said(e) for e in read(f"gqa:{folder}")}
    file = write(tmp_path / "x.json", given)
    first = scored(f"gqa:{folder}", tmp_path, file)
    again = scored(f"gqa:{folder}", tmp_path, file)
    assert again.generated.new == 0
    assert again.metrics == first.metrics
    shutil.copy(write(tmp_path / "y.json", {**given, "gqa/none": "no"}), tmp_path / "x.json")
    with pytest.raises(StoreError):
        scored(f"gqa:{folder}", tmp_path, file)
