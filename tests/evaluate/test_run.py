"""The loop generate → judge → score: nothing is asked twice, nothing is lost, and no failure reads as safety."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image as Pillow

from tests.evaluate.conftest import write
from tests.models import tiny
from tests.models.templates import AFTER_QUESTION
from vlmend.backends.scripted import Scripted
from vlmend.data import read
from vlmend.errors import DataError, StoreError, UsageError
from vlmend.evaluate.asking import Known, limited
from vlmend.evaluate.attack import attacked
from vlmend.evaluate.cells import cells
from vlmend.evaluate.compare import compare
from vlmend.evaluate.run import (
    EvalConfig,
    EvalResult,
    evaluate,
    evaluate_all,
    generate_all,
    judge_only,
    score_only,
)
from vlmend.judge.judges.refusal import Refusal
from vlmend.models.wording import REASONING
from vlmend.registry import backend_for
from vlmend.store import Run, read_rows
from vlmend.types import Decoding, Example, Finish, Message, Response, Verdict


def config(vlguard: Path, out: Path, model: str = "scripted:ideal", **more: object) -> EvalConfig:
    return EvalConfig.model_validate({"model": model, "suite": f"vlguard:{vlguard}#test", "out": out, **more})


def run(vlguard: Path, out: Path, model: str = "scripted:ideal", **more: object) -> EvalResult:
    return evaluate(config(vlguard, out, model, **more), quiet=True)


def counts(result: EvalResult) -> dict[str, tuple[int, int, int]]:
    return {name: (rate.k, rate.n, rate.unscored) for name, rate in result.metrics.items() if "." not in name}


def test_ideal_and_extremes(vlguard: Path, tmp_path: Path) -> None:
    found = {m: counts(run(vlguard, tmp_path / m, f"scripted:{m}")) for m in ("ideal", "refuse", "comply")}
    none = {"asr_unsafe": (0, 6, 0), "asr_safe_unsafe": (0, 4, 0), "asr": (0, 10, 0)}
    all_ = {"asr_unsafe": (6, 6, 0), "asr_safe_unsafe": (4, 4, 0), "asr": (10, 10, 0)}
    assert found["ideal"] == {**none, "over_refusal": (0, 4, 0)}
    assert found["refuse"] == {**none, "over_refusal": (4, 4, 0)}
    assert found["comply"] == {**all_, "over_refusal": (0, 4, 0)}


def test_second_call_asks_nothing(
    vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(vlguard, tmp_path / "r")
    files = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    monkeypatch.setattr(Scripted, "_answer", lambda *_: pytest.fail("asked again"))
    second = evaluate(config(vlguard, tmp_path / "r"))
    assert (first.generated.new, first.generated.kept) == (14, 0)
    assert (second.generated.new, second.generated.kept) == (0, 14)
    assert "nothing new" in capsys.readouterr().err
    manifest = files.pop(tmp_path / "r" / "manifest.json")
    assert {p: p.read_bytes() for p in files} == files
    was, is_ = json.loads(manifest), Run(tmp_path / "r").manifest()
    assert is_["sessions"][:-1] == was["sessions"], "a second session, and no word of the first is lost"
    assert {**is_, "environment": 0, "sessions": 0} == {**was, "environment": 0, "sessions": 0}
    assert second.metrics == first.metrics


def test_a_model_that_has_to_be_loaded_is_announced(
    vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(config(vlguard, tmp_path / "ready"))
    assert "loading" not in capsys.readouterr().err
    monkeypatch.setattr(Scripted, "ready", False, raising=False)
    evaluate(config(vlguard, tmp_path / "r"))
    assert capsys.readouterr().err.startswith("loading scripted:")


def missing(vlguard: Path, *numbers: int) -> None:
    for number in numbers:
        (vlguard / "test" / "HOD" / f"{number}.png").unlink()


def test_a_limit_limits_the_pictures_that_have_to_be_there(vlguard: Path, tmp_path: Path) -> None:
    missing(vlguard, *range(3, 10))
    few = run(vlguard, tmp_path / "few", suite=f"vlguard:{vlguard}#test", limit=2)
    assert few.generated.new == 2
    stand_ins = run(vlguard, tmp_path / "r", limit=8, missing_images="placeholder").run
    shown = {i for r in stand_ins.records() for i in r.example.images}
    assert stand_ins.manifest()["placeholders"] == sum(i.path is None for i in shown) < 7
    with pytest.raises(DataError, match="pictures"):
        run(vlguard, tmp_path / "all")


def test_stand_ins_are_said_once_a_command_and_counted_by_picture(
    vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing(vlguard, 0, 1, 5)
    source = f"vlguard:{vlguard}#test"
    asked = config(vlguard, tmp_path / "r", missing_images="placeholder")
    results = evaluate_all(cells(asked, suites=[source, f"source:{source}"]))
    assert capsys.readouterr().err.count("PLACEHOLDER") == 1
    for result in results:
        manifest = result.run.manifest()
        assert manifest["placeholders"] == 3
        assert "3 missing pictures were replaced" in manifest["warning"]
    known = Known()
    for name in ("a", "b", "c"):
        evaluate(config(vlguard, tmp_path / name, missing_images="placeholder"), known=known)
    assert capsys.readouterr().err.count("PLACEHOLDER") == 1


def test_one_bad_picture_costs_one_failed_response(vlguard: Path, tmp_path: Path) -> None:
    folder = vlguard / "test" / "HOD"
    (folder / "4.png").write_bytes(b"<html>not found</html>")
    whole = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(whole[:45])
    Pillow.new("RGBA", (8, 8), (1, 2, 3, 0)).save(folder / "6.png")
    Pillow.new("RGB", (90, 50)).save(folder / "7.png")
    result = run(vlguard, tmp_path / "r", "world", max_new_tokens=2, max_pixels=4000)
    bad = {r.example.id: r.response for r in result.run.records() if r.response.finish is Finish.FAILED}
    assert len(bad) == 3
    whys = " ".join(response.why for response in bad.values())
    assert all(name in whys for name in ("4.png", "5.png", "7.png", "max_pixels 4,000"))
    assert sum(rate.unscored for name, rate in result.metrics.items() if name == "asr") == 3
    about = result.run.manifest()
    assert about["max_pixels"] == 4000
    assert about["pictures"]["different"] == 10
    assert about["pictures"]["transparent"] == 1
    assert about["pictures"]["bad"] >= 2


def test_an_attack_that_must_look_leaves_a_bad_picture_to_fail(vlguard: Path, tmp_path: Path) -> None:
    class Looking:
        changes = frozenset({"pictures"})

        def __call__(self, example: Example) -> Example:
            for image in example.images:
                image.open()
            return example

    class Careless(Looking):
        def __call__(self, example: Example) -> Example:
            raise DataError("for another reason")

    (vlguard / "test" / "HOD" / "4.png").write_bytes(b"<html>not found</html>")
    examples = read(f"vlguard:{vlguard}#test")
    assert [e.id for e in attacked([Looking()], examples)] == [e.id for e in examples]
    with pytest.raises(DataError, match="another reason"):
        attacked([Careless()], examples[:1])


def test_an_attack_without_effect_is_no_secret(
    vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No request here has two pictures to be exchanged, and every picture can be made black."""
    evaluate(config(vlguard, tmp_path / "swapped", attack=("swapped_pair",)))
    assert "attack swapped_pair left 14 of 14 requests as they were" in capsys.readouterr().err
    evaluate(config(vlguard, tmp_path / "both", attack=("blank_image", "swapped_pair")))
    assert "as they were" not in capsys.readouterr().err


def test_the_shots_of_one_request_count_once(vlguard: Path, tmp_path: Path) -> None:
    """The model gives in to "how", about picture 4 says nothing to it, and refuses all else."""

    def reply(example: Example) -> str:
        if not example.question.startswith("How"):
            return "I'm sorry, I can't help with that."
        return "" if "picture 4" in example.question else "It is a cube."

    asked = config(vlguard, tmp_path / "r", attack=("one_word:what,how",))
    found = evaluate(asked, Scripted("shots", reply), quiet=True).metrics
    rates = {name: (found[name].k, found[name].n, found[name].unscored) for name in ("asr_unsafe", "asr_unsafe.any")}
    assert rates == {"asr_unsafe": (5, 11, 1), "asr_unsafe.any": (5, 5, 1)}
    assert found["asr_unsafe.any"].worst == 1.0
    assert not any(name.endswith(".any") for name in run(vlguard, tmp_path / "one", attack=("one_word:how",)).metrics)


def test_stages_alone_give_the_same(vlguard: Path, tmp_path: Path) -> None:
    whole = run(vlguard, tmp_path / "whole")
    setup = config(vlguard, tmp_path / "parts")
    [(stored, done)] = generate_all([setup], quiet=True)
    assert done.new == 14
    with pytest.raises(StoreError, match="vlmend judge first"):
        score_only(stored.folder)
    assert judge_only(stored.folder, [], quiet=True).new == 28
    assert judge_only(stored.folder, [], quiet=True).new == 0
    assert score_only(stored.folder).metrics == whole.metrics


def test_record_on_disk_says_how_it_came_about(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r", attack=("one_word:what",))
    [first, *_] = Run.open(tmp_path / "r").asked()
    assert (first.suite, first.protocol, first.attack) == ("vlguard", "default", "one_word:what")
    assert first.example.question == "What is in picture 0?"
    questions = {a.example.question.split()[0] for a in Run.open(tmp_path / "r").asked()}
    assert questions == {"What"}
    manifest = Run.open(tmp_path / "r").manifest()
    assert manifest["settings"]["decoding"]["max_new_tokens"] == 256
    assert manifest["environment"]["versions"]["vlmend"]
    assert manifest["data"][0]["examples"] == 14
    metrics = Run.open(tmp_path / "r").metrics()
    assert metrics["categories"]["asr"].keys() == {"privacy", "deception"}
    assert sum(r["n"] for r in metrics["subcategories"]["asr_unsafe"].values()) == 6


def test_attacks_chain_in_order(vlguard: Path, tmp_path: Path) -> None:
    chain = ("one_word:please?place=prefix", "one_word:kindly")
    run(vlguard, tmp_path / "r", attack=chain, limit=1)
    assert Run.open(tmp_path / "r").examples()[0].question == "Kindly what is in picture 0?"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "scripted:refuse"}, "model is"),
        ({"attack": ("one_word:what",)}, "attack is"),
        ({"max_new_tokens": 7}, "decoding is"),
        ({"seed": 7}, "decoding is"),
        ({"missing_images": "placeholder"}, "missing_images is"),
    ],
)
def test_folder_of_another_run_is_refused(vlguard: Path, tmp_path: Path, change: dict[str, object], named: str) -> None:
    run(vlguard, tmp_path / "r")
    with pytest.raises(StoreError, match=named):
        run(vlguard, tmp_path / "r", **change)


def test_a_smaller_run_grows(vlguard: Path, tmp_path: Path) -> None:
    assert run(vlguard, tmp_path / "r", limit=6).generated.new == 6
    grown = run(vlguard, tmp_path / "r")
    assert (grown.generated.new, grown.generated.kept) == (8, 6)
    assert grown.metrics == run(vlguard, tmp_path / "other").metrics


def test_limit_is_even_over_subsets(vlguard: Path) -> None:
    examples = [Example(str(i), (Message("user", ("q",)),), subset="ab"[i > 6]) for i in range(10)]
    assert [e.id for e in limited(examples, 4)] == ["0", "1", "7", "8"]
    assert [e.id for e in limited(examples, 9)] == ["0", "1", "2", "3", "4", "5", "7", "8", "9"]
    assert limited(examples, 99) == examples


# No silent safety


def planted(bad: str) -> Scripted:
    """A model that is safe wherever it does not fail; `bad` says how it fails on unsafe pictures."""

    def reply(example: Example) -> str:
        if example.subset == "unsafe" and bad == "raises":
            raise ConnectionError("[request failed: I'm sorry, I cannot]")
        return "" if example.subset == "unsafe" else "I'm sorry, I cannot."

    return Scripted(reply=reply)


@pytest.mark.parametrize("bad", ["raises", "empty"])
def test_silence_is_unscored_never_safe(vlguard: Path, tmp_path: Path, bad: str) -> None:
    result = evaluate(config(vlguard, tmp_path / "r", "scripted:planted"), planted(bad), quiet=True)
    assert counts(result)["asr_unsafe"] == (0, 0, 6)
    assert result.metrics["asr_unsafe"].value is None
    assert result.to_json()["metrics"]["asr_unsafe"]["worst"] == 1.0
    assert counts(result)["asr"] == (0, 4, 6)
    assert result.unscored == 1.0
    records = Run.open(tmp_path / "r").records()
    assert len(records) == 14
    whys = {v.why for r in records if r.example.subset == "unsafe" for v in r.verdicts}
    failed = "response failed: ConnectionError: [request failed: I'm sorry, I cannot]"
    assert whys == {failed if bad == "raises" else "response stop, empty"}


def test_failed_responses_are_asked_again_and_others_are_not(vlguard: Path, tmp_path: Path) -> None:
    setup = config(vlguard, tmp_path / "r", "scripted:planted")
    evaluate(setup, planted("raises"), quiet=True)
    again = evaluate(setup, planted("raises"), quiet=True)
    assert (again.generated.new, again.generated.kept, again.generated.silent) == (0, 8, 6)
    healed = evaluate(setup, Scripted(reply=lambda _: "I cannot."), quiet=True)
    assert (healed.generated.new, healed.generated.kept) == (6, 8)
    assert counts(healed)["asr_unsafe"] == (0, 6, 0)


def test_backend_that_stops_early_leaves_records(vlguard: Path, tmp_path: Path) -> None:
    class Short(Scripted):
        def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
            yield from super().generate(examples[:9], decoding)

    result = evaluate(config(vlguard, tmp_path / "r", "scripted:short"), Short("refuse"), quiet=True)
    assert len(Run.open(tmp_path / "r").records()) == 14
    assert sum(r.unscored for r in (result.metrics["asr"], result.metrics["over_refusal"])) == 5


def test_failing_judge_is_unscored(vlguard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Refusal._verdict

    def moody(self: Refusal, response: Response) -> Verdict:
        if "HOD_0/" in response.example_id:
            raise TimeoutError("no answer")
        return whole(self, response)

    monkeypatch.setattr(Refusal, "_verdict", moody)
    result = run(vlguard, tmp_path / "r", "scripted:refuse")
    assert counts(result)["asr_safe_unsafe"] == (0, 3, 1)
    assert counts(result)["over_refusal"] == (3, 3, 1)
    monkeypatch.undo()
    healed = run(vlguard, tmp_path / "r", "scripted:refuse")
    assert counts(healed)["over_refusal"] == (4, 4, 0)


def test_extra_judge_gives_extra_rates(vlguard: Path, tmp_path: Path) -> None:
    result = run(vlguard, tmp_path / "r", judges=("exact",))
    extra = {m.name: result.metrics[m.name] for m in result.measured if m.name.endswith(".exact")}
    assert (extra["accuracy.exact"].k, extra["accuracy.exact"].n) == (4, 4)
    assert "harmful.exact" not in extra


# Damage, kills, several suites


def test_broken_inputs(vlguard: Path, tmp_path: Path) -> None:
    (vlguard / "test" / "HOD" / "3.png").unlink()
    with pytest.raises(DataError, match="1"):
        run(vlguard, tmp_path / "r")
    drawn = run(vlguard, tmp_path / "r", missing_images="placeholder")
    assert drawn.to_json()["placeholders"] == 1
    assert Run.open(tmp_path / "r").manifest()["warning"]
    kept = list((tmp_path / "r" / "images").iterdir())
    assert len(kept) == 1
    (vlguard / "test" / "HOD" / "3.png").write_bytes(b"")
    empty = run(vlguard, tmp_path / "e")
    assert len(empty.lost) == 2
    assert all(record.response.why.endswith("3.png is empty (0 bytes)") for record in empty.lost)


def test_damaged_journal_is_an_error(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r")
    journal = tmp_path / "r" / "responses.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], lines[4][:20] + b"\n", *lines[5:]]))
    with pytest.raises(StoreError, match=r"responses\.jsonl is damaged in line 5"):
        run(vlguard, tmp_path / "r")


def test_killed_anywhere_and_resumed(tmp_path: Path) -> None:
    """kill -9 again and again: the records are those of a run never killed, and no answer is stored twice."""
    folder = write(tmp_path / "VLGuard", safe=20, unsafe=20)
    model = "scripted:ideal?seconds=0.01"
    whole = run(folder, tmp_path / "whole", model)
    journal = tmp_path / "r" / "responses.jsonl"
    words = ["eval", "--model", model, "--suite", f"vlguard:{folder}#test", "--out", str(tmp_path / "r")]
    for stop in sorted(random.Random(0).sample(range(200, 8000), 3)):
        child = subprocess.Popen([sys.executable, "-c", "from vlmend.cli import main; main()", *words])
        while child.poll() is None and (not journal.exists() or journal.stat().st_size < stop):
            time.sleep(0.002)
        assert child.poll() is None, "it ended before it was killed"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    resumed = run(folder, tmp_path / "r", model)
    assert resumed.generated.kept > 0
    assert resumed.metrics == whole.metrics
    ids = [row["id"] for row in read_rows(tmp_path / "r" / "responses.jsonl")]
    assert len(ids) == len(set(ids)) == 60
    said = [
        [(r.example.id, r.response.id, r.response.text) for r in Run(tmp_path / n).records()] for n in ("whole", "r")
    ]
    assert said[0] == said[1]


def test_several_suites_have_a_folder_each(vlguard: Path, tmp_path: Path) -> None:
    specs = [f"vlguard:{vlguard}#test", f"vlguard:{vlguard}#test[:50%]", f"vlguard:{vlguard}?protocol=published"]
    results = evaluate_all(cells(config(vlguard, tmp_path / "r"), suites=specs), quiet=True)
    assert len({r.run.folder for r in results}) == 3
    assert all(r.run.folder.parent == tmp_path / "r" for r in results)
    [one] = evaluate_all(cells(config(vlguard, tmp_path / "one"), suites=specs[:1]), quiet=True)
    assert one.run.folder == tmp_path / "one"
    with pytest.raises(UsageError, match="twice"):
        cells(config(vlguard, tmp_path / "x"), suites=specs[:1] * 2)


def test_a_second_judge_counts_the_same_examples_as_the_first(tmp_path: Path) -> None:
    """The world's everyday questions are to be answered, too, but are no part of its over-refusal."""
    setup = EvalConfig(model="scripted:refuse", suite="world?n=6", out=tmp_path, judges=("refusal:vlguard",))
    found = evaluate(setup, quiet=True).metrics
    for name in ("asr", "over_refusal"):
        assert found[f"{name}.refusal:vlguard"].n == found[name].n == 6


def test_a_number_that_names_its_judge_is_not_given_again_by_another(vlguard: Path, tmp_path: Path) -> None:
    found = run(vlguard, tmp_path / "r", judges=("refusal:vlguard",)).metrics
    assert [name for name in found if name.startswith("asr.")] == ["asr.published", "asr.refusal:vlguard"]


def test_compare(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "a", "scripted:comply")
    run(vlguard, tmp_path / "b", "scripted:refuse", attack=("one_word:share",))
    [found] = compare(tmp_path / "a", tmp_path / "b")
    data = json.loads(json.dumps(found.to_json()))
    assert {(t["before"], t["after"]): t["n"] for t in data["transitions"]} == {
        ("unsafe", "safe"): 10,
        ("helpful", "over-refused"): 4,
    }
    assert data["metrics"]["asr"]["difference"] == -1.0
    assert data["metrics"]["asr"]["p"] == pytest.approx(2 / 2**10)
    assert len(data["flipped"]) == 14
    assert data["flipped"][0]["question_before"] == "What is in picture 0?"
    assert data["flipped"][0]["question_after"] == "Share is in picture 0?"
    assert {"model", "attack", "fingerprint"} == data["differing"].keys()


def test_compare_refuses_strangers(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "a")
    other = write(tmp_path / "other", safe=1, unsafe=1)
    (other / "test.json").write_text((other / "test.json").read_text().replace("HOD_", "XYZ_"))
    run(other, tmp_path / "b")
    with pytest.raises(UsageError, match="no example in common"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(StoreError, match="not a folder"):
        compare(tmp_path / "a", tmp_path / "gone")


@pytest.mark.parametrize("model", ["opnai:gpt@http://x", "srcipted:refuse", "hf:", ""])
def test_models_that_are_not_there(model: str) -> None:
    with pytest.raises(UsageError):
        backend_for(model)


def test_fourth_word_of_finish_is_kept(vlguard: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    ids = [f"vlguard/test/HOD_{i}/0" for i in range(4)]
    rows = [{"id": i, "text": "Blocked: I cannot.", "finish": "blocked"} for i in ids]
    answers.write_text("\n".join(map(json.dumps, rows)))
    run(vlguard, tmp_path / "r", f"scripted:{answers}")
    finishes = [r.response.finish for r in Run(tmp_path / "r").records()]
    assert finishes.count(Finish.BLOCKED) == 4
    assert finishes.count(Finish.FAILED) == 10


# What a run folder says it is.


def test_a_smaller_limit_never_stands_for_all(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r")
    before = (tmp_path / "r" / "metrics.json").read_bytes()
    with pytest.raises(UsageError, match=r"holds 14 answers, and 3 of them are asked for now.*leave out --limit"):
        run(vlguard, tmp_path / "r", limit=3)
    assert (tmp_path / "r" / "metrics.json").read_bytes() == before
    assert counts(score_only(tmp_path / "r"))["asr"] == (0, 10, 0)


def test_a_limit_can_grow_and_the_manifest_says_what_is_there(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r", limit=3)
    assert run(vlguard, tmp_path / "r").generated.kept == 3
    about = Run(tmp_path / "r").manifest()
    assert (about["limit"], [session["limit"] for session in about["sessions"]]) == (None, [3, None])
    assert about["environment"] == about["sessions"][-1]["environment"]


def test_fewer_samples_never_stand_for_all(vlguard: Path, tmp_path: Path) -> None:
    more = {"do_sample": True, "num_return_sequences": 3}
    run(vlguard, tmp_path / "r", **more)
    with pytest.raises(UsageError, match="holds 42 answers, and 14 of them"):
        run(vlguard, tmp_path / "r", do_sample=True)


def _rows(path: Path, questions: Sequence[str]) -> str:
    rows = [{"prompt": q, "answer": "A.", "expected": "refuse" if "harm" in q else "answer"} for q in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"source:jsonl:{path}"


def test_a_data_set_that_has_changed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [f"What is thing {i}?" for i in range(5)]
    asked = {"model": "scripted:ideal", "suite": _rows(tmp_path / "d.jsonl", questions), "out": tmp_path / "r"}
    evaluate(EvalConfig.model_validate(asked))
    first = Run(tmp_path / "r").manifest()["data"][0]["fingerprint"]
    _rows(tmp_path / "d.jsonl", questions[:1] + questions[2:])
    capsys.readouterr()
    found = evaluate(EvalConfig.model_validate(asked))
    said = " ".join(capsys.readouterr().err.split())
    assert "the data have changed; of 5 answers of before, 4 are to what is asked no longer, or differently" in said
    assert found.metrics["over_refusal"].n == 4
    about = Run(tmp_path / "r").manifest()
    assert about["sessions"][0]["data"][0]["fingerprint"] == first
    assert about["data"][0]["fingerprint"] != first


def test_what_is_not_the_same_question_is_not_compared(tmp_path: Path) -> None:
    """One row is taken out of a file: ids are row numbers, so that all rows behind it have other ones."""
    questions = [f"What is thing {i}?" for i in range(6)]
    for name, kept in (("a", questions), ("b", questions[:2] + questions[3:])):
        spec = _rows(tmp_path / "d.jsonl", kept)
        evaluate(EvalConfig(model="scripted:ideal", suite=spec, out=tmp_path / name), quiet=True)
    [found] = compare(tmp_path / "a", tmp_path / "b")
    assert [two.before.example.question for two in found.pairing.pairs] == questions[:2]
    assert all(two.before.example.question == two.after.example.question for two in found.pairing.pairs)
    told = found.to_json()
    assert (len(told["other_question"]), len(told["only_before"]), told["only_after"]) == (3, 1, [])
    assert "data" in told["differing"]


def test_the_same_question_about_another_picture_is_another_question(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "a")
    from PIL import Image as Pillow

    Pillow.new("RGB", (8, 8), (250, 0, 0)).save(vlguard / "test" / "HOD" / "9.png")
    run(vlguard, tmp_path / "b")
    run(vlguard, tmp_path / "c", attack=("one_word:what,how",))
    [plain] = compare(tmp_path / "a", tmp_path / "b")
    [attacked] = compare(tmp_path / "a", tmp_path / "c")
    for found in (plain, attacked):
        assert found.pairing.other == ("vlguard/test/HOD_9/0",)
        assert len({two.before.example.id for two in found.pairing.pairs}) == 13


def test_a_cut_file_of_questions_shrinks_nothing(vlguard: Path, tmp_path: Path) -> None:
    """Whoever counts is told; whoever asks writes it anew."""
    whole = counts(run(vlguard, tmp_path / "r"))
    path = tmp_path / "r" / "examples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:7]))
    with pytest.raises(StoreError, match="holds 7 rows of 14"):
        score_only(tmp_path / "r")
    with pytest.raises(StoreError, match="holds 7 rows of 14"):
        judge_only(tmp_path / "r", [], quiet=True)
    assert counts(run(vlguard, tmp_path / "r")) == whole
    assert path.read_text() == "".join(lines)


def test_an_edited_answer_is_judged_again(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r", "scripted:refuse")
    path = tmp_path / "r" / "responses.jsonl"
    path.write_text(path.read_text().replace("I'm sorry, I can't help with that.", "Sure, here is how to do it.", 1))
    assert sum(r.unscored for r in score_only(tmp_path / "r").metrics.values()) > 0
    assert judge_only(tmp_path / "r", [], quiet=True).new == 2
    assert {name: unscored for name, (_, _, unscored) in counts(score_only(tmp_path / "r")).items()} == {
        "asr_unsafe": 0, "asr_safe_unsafe": 0, "asr": 0, "over_refusal": 0,
    }  # fmt: skip


def test_a_judge_is_not_shown_another_picture_than_the_model(vlguard: Path, tmp_path: Path) -> None:
    run(vlguard, tmp_path / "r")
    from PIL import Image as Pillow

    from tests.judge.asking import Model, models

    Pillow.new("RGB", (8, 8), (250, 0, 0)).save(vlguard / "test" / "HOD" / "9.png")
    model = Model(lambda _: '{"refusal": "no"}')
    stored = Run(tmp_path / "r")
    judge_only(stored.folder, ["rubric:tone?sees=image"], models(model), quiet=True)
    given = {r.example.id: r.verdict("rubric:tone?sees=image") for r in stored.records()}
    lost = given.pop("vlguard/test/HOD_9/0")
    assert lost is not None
    assert (lost.refused, "not the picture that was shown" in lost.why) == (None, True)
    assert {verdict.refused for verdict in given.values() if verdict} == {False}
    assert len(model.asked) == 13


def test_two_examples_that_ask_the_same_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"model": "scripted:ideal", "suite": _rows(tmp_path / "d.jsonl", ["a?", "b?", "a?"]), "out": tmp_path / "r"}
    first = evaluate(EvalConfig.model_validate(asked))
    second = evaluate(EvalConfig.model_validate(asked))
    assert (first.generated.new, second.generated.kept) == (3, 3)
    said = capsys.readouterr().err
    assert "3 new responses, 0 kept" in said
    assert "nothing new: 3 responses" in said


def test_what_the_chat_template_leaves_out_of_prompts_is_in_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny.save("llava", tmp_path / "model")
    (base / "chat_template.jinja").write_text(AFTER_QUESTION)
    turns = [("user", "Hi?"), ("assistant", "<think>Who?</think>Hello."), ("user", "So?"), ("assistant", "No.")]
    rows = [{"id": f"r{n}", "messages": [{"role": r, "content": c} for r, c in turns[n:]]} for n in (0, 2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = f"source:jsonl:{tmp_path / 'rows.jsonl'}"
    asked = {"model": str(base), "suite": suite, "out": tmp_path / "r", "max_new_tokens": 2, "device": "cpu"}
    evaluate(EvalConfig.model_validate(asked))
    assert Run.open(tmp_path / "r").manifest()["wording"] == {REASONING: 1}
    assert capsys.readouterr().err.count(REASONING) == 1
