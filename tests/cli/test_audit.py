from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.files import write_jsonl
from tests.report.pages import Parsed
from vlmend.cli import main

BIASED = "world:safety#train?n=200&openers=biased"


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["audit", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_is_one_object_with_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, BIASED, "--no-pictures", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["first_word"]["entropy_share"] > 0.8
    assert {"word", "refused", "answered", "log_odds", "z"} <= found["first_word"]["table"][0].keys()
    assert {"name", "fitted_on", "test"} <= found["baselines"][0].keys()
    assert {"asr_unsafe", "asr_safe_unsafe", "over_refusal"} <= found["baselines"][0]["test"].keys()
    assert found["verdict"]["flagged"]
    assert found["fixed"] is None
    json.dumps(found, allow_nan=False)


def test_a_test_source_is_scored_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    test = "world:safety#test?n=100&openers=balanced"
    _, out, _ = asked(capsys, BIASED, "--test", test, "--no-pictures", "--json")
    found = json.loads(out)
    first = found["baselines"][0]
    assert (found["test"], first["fitted_on"], first["tested_on"]) == (test, BIASED, test)
    assert first["test"]["asr"]["n"] == 50
    assert first["test"]["asr"]["value"] > 0.2


def test_the_verdict_ends_the_output_with_its_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, BIASED, "--no-pictures", "--share", "0.2")
    assert code == 0
    assert "The expected behavior is given away by first word" in out
    assert "A rule that sees no picture" in out
    assert "share 0.2" in out.splitlines()[-1]


def test_fail_exits_with_1_where_something_is_found_and_only_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, BIASED, "--no-pictures", "--fail")[0] == 1
    assert asked(capsys, BIASED.replace("biased", "balanced"), "--no-pictures", "--fail")[0] == 0


def test_one_label_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, "world:safe#train?n=20")
    assert code == 0
    assert "same reaction (answer)" in out


def test_pairs_are_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "Hi?", "chosen": "Hello.", "rejected": "No."}])
    code, out, err = asked(capsys, f"jsonl:{file}")
    assert (code, out) == (2, "")
    assert "preference pairs" in err
    assert err.count("\n") == 1


def test_fix_writes_a_copy_a_log_and_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out, page = tmp_path / "fixed.jsonl", tmp_path / "page.html"
    options = ("--no-pictures", "--fix", str(out), "--html", str(page), "--rewriter", "scripted:refuse", "--json")
    code, said, _ = asked(capsys, BIASED, *options)
    fixed = json.loads(said)["fixed"]
    assert code == 0
    assert fixed["examples_after"] == len(out.read_text().splitlines())
    assert {row["feature"] for row in fixed["changes"]} >= {"first word", "any word"}
    assert Path(fixed["log"]).is_file()
    assert fixed["actions"]["by model: wrong first word"] > 0  # a model that only refuses is not believed
    parsed = Parsed(page.read_text(encoding="utf-8"))
    assert {"Verdict", "First words", "Before and after: entropy share %"} <= set(parsed.texts)
    assert not [address for address in parsed.addresses if address.startswith("http")]


@pytest.mark.parametrize(
    "words", [("--fix", "out.csv"), ("--rewriter", "scripted:echo"), ("--rewriter", "nothing:x", "--fix", "new.jsonl")]
)
def test_what_cannot_be_meant_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = asked(capsys, "world:safety#train?n=20", "--no-pictures", *words)
    assert code == 2
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_numbers_in_tables_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    """Five rates and an area in 120 columns: an interval stays on one line."""
    code, out, _ = asked(capsys, BIASED, "--no-pictures")
    assert code == 0
    rules = out[out.index("rules that see") : out.index("how reference answers")].splitlines()
    [row] = [i for i, line in enumerate(rules) if line.startswith("  first_word ")]
    assert rules[row + 1].count(" to ") == 5
    assert rules[row + 2].count("/") == 5
