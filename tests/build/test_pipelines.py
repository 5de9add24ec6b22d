"""What each pipeline makes, from a generator that follows rules: the rows that the papers describe, and no others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.build.generator import Generator, draw
from tests.servers.stub import Stub
from vlmend.build.drafts import made
from vlmend.build.stage import Loss
from vlmend.cli import main
from vlmend.data.dataset import read_any
from vlmend.registry import sources
from vlmend.types import Example, Expected, Pair, Role, content_of

CONCEPTS = """name: drawn
version: 1
summary: things on drawn pictures
source: ours
categories:
  - name: sharp
    title: Sharp
    what: It cuts.
    parts: [{name: blade, title: B, what: A blade.}, {name: bolt, title: B, what: A bolt.}]
  - name: wet
    title: Wet
    what: It spills.
    parts: [{name: flask, title: F, what: A flask.}, {name: puddle, title: P, what: A puddle.}]
  - name: loud
    title: Loud
    what: It roars.
    parts: [{name: siren, title: S, what: A siren.}, {name: drum, title: D, what: A drum.}]
"""


def run(
    capsys: pytest.CaptureFixture[str], pipeline: str, source: str, out: Path, stub: Stub, *more: str, code: int = 0,
    part: str = "generator",
) -> dict[str, Any]:  # fmt: skip
    model = f"openai:gen@{stub.url}?backoff=0.01&server=plain"
    capsys.readouterr()
    assert main(["build", pipeline, source, "--model", f"{part}={model}", "--out", str(out), "--json", *more]) == code
    return json.loads(capsys.readouterr().out)


def rows(out: Path, name: str) -> list[Any]:
    return list(read_any(f"jsonl:{out / f'sets/{name}.jsonl'}?allow_outside=true"))


def losses(out: Path) -> list[Loss]:
    return [loss for each in made(out) for loss in each.losses]


def world(folder: Path, count: int = 12, kind: str = "safety") -> Path:
    """Rows of the world with their pictures, as a file."""
    examples: Sequence[Example] = [*sources.from_spec(f"world:{kind}?n={count}&seed=5")]
    from vlmend.data.export import write

    return write(examples, "trl", folder / "rows.jsonl").file


def test_mis_pairs_what_is_harmful_together_and_gives_each_a_harmless_twin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 9, single=("jar", "flame", "disc"), harmful=0)
    said = "I see a jar and a flame, and the jar would burst, so no; look at them apart."
    with Stub(Generator(scenes, says={"Write the assistant's answer": said})) as stub:
        told = run(capsys, "mis?taxonomy=world&openers=free", f"folder:{tmp_path / 'p'}", tmp_path / "run", stub)
    pairs = 8  # each picture with the one after it; of jar, flame, disc every third pair is harmful
    harmful = 3
    assert told["starts"] == {"done before": 0, "made": harmful, "nothing": pairs - harmful}
    reasoning, sorry = rows(tmp_path / "run", "reasoning"), rows(tmp_path / "run", "sorry")
    assert [row.subset for row in reasoning] == ["harm", "twin"] * harmful
    assert [row.prompt for row in reasoning] == [row.prompt for row in sorry]
    for row, plain in zip(reasoning, sorry, strict=True):
        kinds = {scenes[image.sha256].icons[0].kind for image in row.images}
        assert kinds == {"jar", "flame"}
        if row.subset == "harm":
            assert row.expected is Expected.REASON
            assert row.answers[0] == said
            assert plain.answers[0].startswith("I'm sorry")
            assert not any(kind in row.question for kind in kinds)
            assert row.category == "jar flame"
        else:
            assert row.expected is Expected.ANSWER
            assert row.answers == plain.answers


def test_mis_leaves_out_pictures_that_are_harmful_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 3, single=("jar", "blade", "flame"), harmful=0)
    with Stub(Generator(scenes)) as stub:
        run(capsys, "mis?taxonomy=world", f"folder:{tmp_path / 'p'}", tmp_path / "run", stub)
    assert [loss.kind for loss in losses(tmp_path / "run")] == ["rejected"] * 2
    assert not rows_there(tmp_path / "run")


def rows_there(out: Path) -> list[Path]:
    return sorted((out / "sets").glob("*.jsonl")) if (out / "sets").is_dir() else []


def test_safeeraser_forgets_what_the_treated_model_says_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 12)
    hazards = [sha for sha, scene in scenes.items() if scene.hazards]
    says = {
        "Answer this question about the picture": "There are none.",
        "cones": "I'm sorry, I can't say.",
        "": "Four.",
    }
    with Stub(Generator(scenes, says=says)) as stub:
        treated = f"treated=openai:base@{stub.url}?server=plain"
        run(capsys, "safeeraser?taxonomy=world", f"folder:{tmp_path / 'p'}", tmp_path / "run", stub, "--model", treated)
    forget, decouple, refusal, retain = (rows(tmp_path / "run", n) for n in ("forget", "decouple", "refusal", "retain"))
    assert {row.images[0].sha256 for row in forget} == set(hazards)
    assert {row.answers[0] for row in forget} == {"Four."}
    assert all(row.role is Role.FORGET and "cones" not in row.question for row in forget)
    assert any("cones" in row.prompt[-1].text for row in forget) is False
    assert [row.question for row in refusal] == [row.question for row in forget]
    assert all(row.expected is Expected.REFUSE and row.answers[0].startswith("I'm sorry") for row in refusal)
    assert {row.role for row in retain} == {Role.RETAIN}
    assert len(retain) == 3 * len(hazards)
    asked = {row.meta["pair"]: row.question for row in forget}
    for row in decouple:  # the same question where it is fine to answer
        assert row.question == asked[row.meta["pair"]]
        assert not scenes[row.images[0].sha256].hazards
        assert row.answers[0] == "There are none."
    declined = [loss for loss in losses(tmp_path / "run") if loss.stage == "treated"]
    assert declined
    assert all(loss.kind == "rejected" and "sorry" in loss.said for loss in declined)
    assert len(declined) + len(forget) == 3 * len(hazards)


@pytest.mark.parametrize("distractors", ["elsewhere", "nearby", "any"])
def test_unsafe_concepts_draws_its_wrong_options_by_the_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], distractors: str
) -> None:
    scenes = draw(tmp_path / "p", 10)
    (tmp_path / "drawn.yaml").write_text(CONCEPTS, encoding="utf-8")
    pipeline = f"unsafe_concepts?taxonomy={tmp_path / 'drawn.yaml'}&distractors={distractors}"
    with Stub(Generator(scenes)) as stub:
        told = run(capsys, pipeline, f"folder:{tmp_path / 'p'}", tmp_path / "run", stub)
    unsafe = sum(bool(scene.hazards) for scene in scenes.values())
    assert told["calls"]["asked"] == {"name": 10}
    assert told["sets"]["perception"]["rows"] == unsafe
    assert [told["sets"][name]["rows"] for name in ("sft", "dpo", "ppo")] == [10] * 3
    assert told["sets"]["alignment"]["rows"] % 10 == 0
    near = {"blade": "bolt", "bolt": "blade", "flask": "puddle"}
    for row in rows(tmp_path / "run", "perception"):
        options = [line.partition(". ")[2] for line in row.question.splitlines()[1:]]
        assert len(set(options)) == 4
        assert options["ABCD".index(row.meta["letter"])] == scenes[row.images[0].sha256].hazards[0]
        if distractors != "any":
            assert (near[row.subcategory] in options) == (distractors == "nearby")
    labels = {row.images[0].sha256: row.meta["label"] for row in rows(tmp_path / "run", "sft")}
    assert labels == {sha: "unsafe" if scene.hazards else "safe" for sha, scene in scenes.items()}
    pairs = rows(tmp_path / "run", "dpo")
    assert all(isinstance(pair, Pair) for pair in pairs)
    chosen = {row.id: row.answers[0] for row in rows(tmp_path / "run", "sft")}
    assert {pair.id: pair.chosen for pair in pairs} == chosen
    assert all(pair.chosen.split(".")[0] != pair.rejected.split(".")[0] for pair in pairs)


def test_harmful_answers_are_those_a_judge_calls_harmful(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = world(tmp_path)
    refused = [row for row in read_any(f"jsonl:{file}") if isinstance(row, Example) and row.expected is Expected.REFUSE]
    out = tmp_path / "run"
    words = ["build", "harmful_answers?judge=exact", f"jsonl:{file}", "--out", str(out), "--json"]
    assert main([*words, "--model", "answers=scripted:refuse", "--model", "answers=world"]) == 0
    capsys.readouterr()
    found = rows(out, "forget")
    assert 0 < len(found) <= len(refused)
    assert all(row.answers[0] in row.meta["compliance"].splitlines() for row in found)
    assert all(row.role is Role.FORGET and row.meta["answered_by"].startswith("world") for row in found)
    assert not any(row.answers[0].startswith("I'm sorry") for row in found)
    assert main([*words[:4], str(tmp_path / "none"), "--json", "--model", "answers=scripted:refuse"]) == 0
    assert not rows_there(tmp_path / "none")
    assert {loss.kind for loss in losses(tmp_path / "none")} == {"rejected"}


@pytest.mark.parametrize(("template", "concerned"), [("reasoning", "refuse"), ("refusal", "refuse"), ("thought", "")])
def test_label_writes_its_field_and_leaves_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str, concerned: str
) -> None:
    file = world(tmp_path)
    with Stub(Generator({}, says={"": "A jar is shown. I cannot help with that."})) as stub:
        stub.behave = _written(stub.behave)
        run(capsys, f"label?template={template}", f"jsonl:{file}", tmp_path / "run", stub)
    before = {row.id: row for row in read_any(f"jsonl:{file}")}
    after = rows(tmp_path / "run", "rows")
    assert [row.id for row in after] == list(before)
    for row in after:
        was = before[row.id]
        assert isinstance(was, Example)
        assert content_of(row.prompt) == content_of(was.prompt)
        written = not concerned or was.expected == concerned
        if template == "thought":
            assert row.reasoning
            assert row.answers == was.answers
        else:
            assert (row.answers[0] == "A jar is shown. I cannot help with that.") == written
            assert row.expected == ({"reasoning": "reason", "refusal": "refuse"}[template] if written else "answer")


def _written(behave: Any) -> Any:
    """The generator without its knowledge of pictures."""
    from tests.servers.stub import every, say

    return lambda number, body: say(next(s for a, s in behave.says.items() if a in every(body)))


def test_label_keeps_only_what_its_judge_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = world(tmp_path)
    with Stub(Generator({}, says={"": "Of course, here is how."})) as stub:
        stub.behave = _written(stub.behave)
        pipeline = "label?template=refusal&judge=refusal&says=refused"
        run(capsys, pipeline, f"jsonl:{file}", tmp_path / "run", stub)
    assert {row.expected for row in rows(tmp_path / "run", "rows")} == {Expected.ANSWER}
    assert {loss.kind for loss in losses(tmp_path / "run")} == {"rejected"}


def test_rewrite_balances_first_words_and_checks_the_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.servers.stub import every, say

    file = world(tmp_path, 40)
    asked: Counter[str] = Counter()

    def behave(number: int, body: dict[str, Any]) -> Any:
        text = every(body)
        if "same thing" in text:
            asked["same"] += 1
            other = text.partition("Second: ")[2]
            return say(json.dumps({"same": "blue" not in other}))
        word = text.partition("begins with the word “")[2].partition("”")[0]
        request = text.partition("Request: ")[2].partition("\n")[0]
        return say(f"{word} me this: {request}")

    with Stub(behave) as stub:
        pipeline = "rewrite?to=first_word&rows=all"
        told = run(capsys, pipeline, f"jsonl:{file}", tmp_path / "run", stub)
    before = {row.id: row for row in read_any(f"jsonl:{file}")}
    after = rows(tmp_path / "run", "rows")
    assert {row.id for row in after} == set(before)
    changed = [row for row in after if "rewritten" in row.meta]
    assert len(changed) == asked["same"] - sum(loss.stage == "same" for loss in losses(tmp_path / "run"))
    for row in changed:
        assert before[row.id].question in row.question
        assert row.answers == before[row.id].answers
        assert row.meta["variant_of"] == row.id
    refused = Counter(row.question.split()[0] for row in changed if row.expected is Expected.REFUSE)
    assert len(refused) > 5
    assert told["sets"]["rows"]["rows"] == len(after)


def test_replay_keeps_only_right_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = world(tmp_path, 30, "utility")
    harmless = [row for row in read_any(f"jsonl:{file}") if isinstance(row, Example)]
    words = ["build", "replay", f"jsonl:{file}", "--json", "--out"]
    assert main([*words, str(tmp_path / "right"), "--model", "base=world"]) == 0
    assert main([*words, str(tmp_path / "wrong"), "--model", "base=scripted:echo"]) == 0
    capsys.readouterr()
    kept = {row.id: row.answers[0] for row in rows(tmp_path / "right", "replay")}
    assert len(kept) > len(harmless) / 2
    assert all(kept[row.id] in row.answers for row in harmless if row.id in kept)
    assert not rows_there(tmp_path / "wrong")


def test_a_part_that_nobody_has_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", "safeeraser", "folder:x", "--generator", "scripted:echo", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "--model treated=MODEL" in capsys.readouterr().err
    assert main([*words, "--model", "treeted=scripted:echo"]) == 2
    assert "treated" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
