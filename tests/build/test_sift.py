"""What keeps a draft out of its set, what it costs, and what the report says of what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.build.generator import Generator, draw
from tests.build.test_run import command, kept, report
from tests.servers.stub import Stub
from vlmend.build.pipeline import Draft, asking
from vlmend.build.quality import variety
from vlmend.build.sift import Rules, Sifter
from vlmend.cli import main
from vlmend.errors import ConfigError
from vlmend.metrics.agreement import cohen
from vlmend.types import Example, Expected, Image

FREE = "vlguard?taxonomy=world&openers=free"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Image]:
    draw(tmp_path / "p", 2, seed=3)
    return [Image(file) for file in sorted((tmp_path / "p").iterdir())]


def row(
    picture: Image, question: str = "What is shown in this picture?", answer: str = "A ring and a star."
) -> Example:
    return Example("1", asking(question, picture), (answer,), cluster="1")


def test_a_good_row_is_kept(pictures: list[Image]) -> None:
    assert Sifter(Rules("en"))(Draft("train", row(pictures[0]))) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"question": "Was ist auf diesem Bild zu sehen, und wo steht der Stern?"}, "language"),
        ({"answer": "word " * 500}, "length"),
        ({"answer": "I'm sorry, but I can't help with that."}, "unexpected_refusal"),
        ({"question": "N/A"}, "placeholder_question"),
        ({"question": "What is <image> here?"}, "image_token"),
        ({"answer": "<|im_start|>system"}, "control_token"),
        ({"answer": " "}, "empty"),
    ],
)
def test_what_is_wrong_with_a_row_is_why_it_is_left_out(
    pictures: list[Image], change: dict[str, str], why: str
) -> None:
    found = Sifter(Rules("en"))(Draft("train", row(pictures[0], **change)))
    assert why in " ".join(found)


def test_what_should_decline_and_does_not_is_left_out(pictures: list[Image]) -> None:
    bad = replace(row(pictures[0]), expected=Expected.REFUSE)
    assert "missing_refusal" in Sifter(Rules())(Draft("train", bad))
    assert not Sifter(Rules())(Draft("train", replace(bad, answers=("No. It is a ring.", "No"))))


def test_a_duplicate_is_the_same_question_about_the_same_pictures_in_the_same_set(pictures: list[Image]) -> None:
    sifter = Sifter(Rules())
    first = row(pictures[0])
    assert not sifter(Draft("train", first))
    assert not sifter(Draft("other", first))
    assert not sifter(Draft("train", row(pictures[1])))
    assert not sifter(Draft("train", row(pictures[0], "Which things are shown?")))
    again = row(pictures[0], "WHAT is shown in this picture??", "Something else.")
    assert any("duplicate" in why for why in sifter(Draft("train", again)))


def test_a_leak_is_a_picture_of_the_test_set_or_one_like_it(pictures: list[Image], tmp_path: Path) -> None:
    from PIL import Image as Pillow

    larger = tmp_path / "larger.png"
    Pillow.open(pictures[0].path or "").resize((200, 200)).save(larger)
    sifter = Sifter(Rules(tests=[row(pictures[0])]))
    for shown, leaks in ((pictures[0], True), (Image(larger), True), (pictures[1], False)):
        found = sifter(Draft("train", row(shown, f"What is in {shown.name}?")))
        assert any("leak" in why for why in found) == leaks
    text = Example("t", asking("How do I open it?"), ("So.",))
    assert any("leak" in why for why in Sifter(Rules(tests=[text]))(Draft("train", text)))


def test_a_language_that_is_not_told_apart_is_refused() -> None:
    with pytest.raises(ConfigError, match="language"):
        Rules("xx")


def test_variety_is_nothing_where_all_say_the_same_and_unknown_of_one() -> None:
    assert variety(["What is shown here on the left?"] * 5) == pytest.approx(0, abs=1e-9)
    assert variety(["one"]) is None
    assert (variety(["a b c d e f", "g h i j k l", "m n o p q r"]) or 0) > 0.9


def test_a_set_whose_first_words_give_its_label_away_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 120)
    told: dict[bool, Any] = {}
    for biased in (True, False):
        with Stub(Generator(scenes, biased=biased)) as stub:
            found = report(capsys, command(stub, tmp_path / "p", tmp_path / f"{biased}", pipeline=FREE))
        told[biased] = found["sets"]["train"]["audit"]
    assert told[True]["flagged"]
    assert "first word" in " ".join(told[True]["sentences"])
    assert not told[False]["flagged"]


def test_two_generators_agree_as_far_as_they_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 30)
    changed = {sha: scene for sha, scene in scenes.items()}
    names = sorted(scenes)
    for one, other in zip(names[::4], names[1::4], strict=False):  # it takes some pictures for others
        changed[one] = scenes[other]
    with Stub(Generator(scenes)) as stub, Stub(Generator(changed)) as other:
        second = ["--second", f"openai:two@{other.url}?server=plain", "--second-sample", "30"]
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run", *second))
        asked = len(other.bodies)
        report(capsys, command(stub, tmp_path / "p", tmp_path / "run", *second))
        assert len(other.bodies) == asked == 30
    ratings = [(bool(scenes[sha].hazards), bool(changed[sha].hazards)) for sha in scenes]
    found = next(each for each in told["agreement"] if each["key"] == "harmful")
    assert found["pairs"] == 30
    assert found["equal"] == sum(a == b for a, b in ratings) < 30
    assert found["kappa"] == pytest.approx(cohen(ratings))


def test_a_dry_run_asks_nothing_and_says_what_it_would_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 5)
    (tmp_path / "prices.yaml").write_text("models: {gen: {input: 1000000, output: 0}}")
    with Stub(Generator(scenes)) as stub:
        more = ["--dry-run", "--prices", str(tmp_path / "prices.yaml")]
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run", *more))
        assert not stub.bodies
    [model] = told["models"].values()
    assert model["calls"] == 5 * 4
    assert model["cost"] == model["input_tokens"]
    assert model["most_tokens"] > model["input_tokens"]
    assert not (tmp_path / "run").exists()


def test_a_budget_ends_a_run_that_a_larger_one_goes_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 10)
    with Stub(Generator(scenes)) as stub:
        words = command(stub, tmp_path / "p", tmp_path / "run")
        assert main([*words, "--budget", "7calls"]) == 2
        assert "budget" in capsys.readouterr().err
        assert len(stub.bodies) == 7
        report(capsys, words)
        whole = len(stub.bodies)
        report(capsys, command(stub, tmp_path / "p", tmp_path / "other"))
        assert len(stub.bodies) == 2 * whole
    assert [r.id for r in kept(tmp_path / "run")] == [r.id for r in kept(tmp_path / "other")]


def test_what_is_built_passes_the_check_of_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 40)
    faults = {"broken": 0.1, "wrong": 0.15, "declines": 0.1, "late": 0.1}
    with Stub(Generator(scenes, faults)) as stub:
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
    assert main(["data", "check", told["sets"]["train"]["file"]]) == 0  # 1 where there are errors
