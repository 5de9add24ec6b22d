"""Planted shortcuts are found by name and nothing else is; the published metadata give the published numbers."""

import time

import pytest

from tests.audit.made import example
from tests.data.files import REAL
from vlmend.audit.audit import Audit, Settings, audit
from vlmend.audit.rows import Rows, read
from vlmend.audit.verdict import Thresholds

real = pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")
TEXT = Settings(pictures=False)


def world(options: str, n: int = 1600, *, pictures: bool = False) -> Audit:
    return audit(read(f"world:safety#train?n={n}&{options}"), settings=Settings(pictures=pictures))


def flags(found: Audit) -> list[str]:
    return [shortcut.feature for shortcut in found.verdict.shortcuts]


def test_planted_first_words_are_found() -> None:
    found = world("openers=biased")
    assert found.verdict.flagged
    assert flags(found)[0] == "first word"
    assert {value.value for value in found.verdict.shortcuts[0].values[:3]} == {"share", "what", "describe"}
    assert "first_word" in found.verdict.rules


def test_a_balanced_set_is_not_flagged() -> None:
    found = world("openers=balanced", pictures=True)
    assert not found.verdict.flagged
    assert not flags(found)
    assert not found.verdict.rules


def test_a_planted_middle_word_is_found() -> None:
    found = world("openers=balanced&plant=middle:kindly")
    assert flags(found)[0] == "any word"
    assert found.verdict.shortcuts[0].values[0].value == "kindly"
    assert "first word" not in flags(found)


def test_a_planted_background_is_found_where_it_is() -> None:
    found = world("openers=balanced&plant=background", 800, pictures=True)
    assert flags(found)
    assert all(name.startswith("picture ") for name in flags(found))
    assert "picture border red" in flags(found)[:3]
    assert found.verdict.rules == ("image_only",)


def test_thresholds_decide_and_are_told() -> None:
    rows = read("world:safety#train?n=400&openers=biased")
    strict = Settings(pictures=False, thresholds=Thresholds(share=0.999, rule=0.999))
    assert not audit(rows, settings=strict).verdict.flagged
    assert audit(rows, settings=strict).to_json()["verdict"]["thresholds"]["share"] == 0.999


@pytest.mark.parametrize("kind", ["safe", "unsafe"])
def test_one_label_is_said_and_nothing_is_measured(kind: str) -> None:
    found = audit(read(f"world:{kind}#train?n=30"), settings=TEXT)
    assert not found.verdict.flagged
    assert "no label to give away" in found.verdict.headline
    assert not found.features
    assert found.to_json()["first_word"] == {"entropy_share": None, "table": []}


def test_a_tiny_set_is_audited_and_not_flagged_on_chance() -> None:
    rows = Rows("made", (example("a", "What?", True), example("b", "Who?", False), example("c", "", False)))
    found = audit(rows, settings=TEXT)
    assert not found.verdict.shortcuts
    assert found.to_json()["examples"] == 3


def test_questions_without_words_can_be_audited() -> None:
    rows = Rows("made", tuple(example(f"e{i}", "…", i % 2 == 0) for i in range(20)))
    found = audit(rows, settings=TEXT)
    assert not found.verdict.flagged
    assert "bag_of_words_logistic" not in [rule.name for rule in found.baselines]


def test_templates_of_answers_are_named_and_flag_nothing() -> None:
    found = world("openers=balanced", 200)
    assert any("begin “i'm sorry”" in sentence for sentence in found.verdict.sentences)
    refused = next(side for side in found.answers if side.side == "refused")
    assert refused.commonest is not None
    assert refused.commonest[1].k == refused.n == 100


@pytest.fixture(scope="module")
def vlguard() -> Audit:
    if not (REAL / "train.json").exists():
        pytest.skip("the published metadata are not here")
    return audit(read(f"vlguard:{REAL}#train"))


@real
def test_first_words_of_vlguard_are_those_published(vlguard: Audit) -> None:
    first = vlguard.to_json()["first_word"]
    assert first["entropy_share"] == pytest.approx(0.70, abs=0.005)
    table = {row["word"]: row for row in first["table"]}
    counts = {word: (table[word]["refused"], table[word]["answered"]) for word in table}
    expected = {"can": (862, 103), "what": (61, 869), "share": (195, 0), "describe": (162, 0), "please": (124, 1)}
    expected |= {"identify": (107, 0), "n": (14, 0), "based": (7, 1), "how": (4, 2), "why": (0, 1)}
    assert {word: counts[word] for word in expected} == expected
    assert [row["word"] for row in first["table"][:4]] == ["can", "what", "share", "describe"]
    told = {word: (round(table[word]["log_odds"], 2), round(table[word]["z"], 1)) for word in ("can", "what", "share")}
    assert told == {"can": (1.86, 16.4), "what": (-5.53, -33.6), "share": (5.36, 3.8)}
    assert table["what"]["pmi_refused"] == pytest.approx(-3.36, abs=0.005)


@real
def test_contrasts_of_vlguard_are_those_published(vlguard: Audit) -> None:
    same, unsafe = (contrast.to_json() for contrast in vlguard.contrasts)
    assert (same["refused"], same["answered"]) == (977, 977)
    assert (unsafe["refused"], unsafe["answered"]) == (1023, 977)
    assert unsafe["first_word"]["entropy_share"] == pytest.approx(0.87, abs=0.005)

    def ranked(contrast: dict, side: str) -> list[tuple[str, int, int]]:  # type: ignore[type-arg]
        return [(row["word"], row["refused"], row["answered"]) for row in contrast[side][:3]]

    assert ranked(same, "toward_refusal") == [("personal", 529, 0), ("provide", 622, 2), ("information", 276, 2)]
    assert ranked(same, "toward_answer") == [("describe", 0, 103), ("what", 51, 879), ("style", 0, 64)]
    assert ranked(unsafe, "toward_refusal") == [("share", 224, 0), ("discuss", 149, 0), ("awareness", 61, 0)]
    assert ranked(unsafe, "toward_answer")[0] == ("what", 47, 879)


@real
def test_rules_on_vlguard_see_no_picture_and_know_the_label(vlguard: Audit) -> None:
    rules = {rule.name: rule.to_json()["test"] for rule in vlguard.baselines}
    assert rules["first_word"]["accuracy"]["value"] == pytest.approx(0.944, abs=0.003)
    assert rules["first_word"]["asr_unsafe"]["n"] == 1023
    assert rules["bag_of_words_logistic"]["asr_safe_unsafe"]["value"] < 0.05
    assert "image_only" not in rules
    assert "2,977 missing" in vlguard.picture_note


@real
def test_a_word_counts_once_per_question(vlguard: Audit) -> None:
    words = {word.value: (word.refused, word.answered) for word in vlguard.words}
    expected = {"personal": (569, 0), "what": (98, 879), "provide": (692, 2), "style": (0, 64), "can": (886, 168)}
    assert {word: words[word] for word in expected} == expected


def test_twenty_thousand_rows_take_seconds() -> None:
    told = ("what is the", "share a", "describe some", "can you tell me the", "please name a")
    rows = Rows(
        "large",
        tuple(
            example(f"e{i}", f"{told[(i + i // 3) % 5]} thing {i % 997} of {i % 13}", i % 3 == 0, cluster=f"c{i // 2}")
            for i in range(20_000)
        ),
    )
    started = time.process_time()
    audit(rows, settings=TEXT)
    assert time.process_time() - started < 12
