from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import png, write_jsonl, write_vlguard
from vlmend.config import DataConfig
from vlmend.data.mix import Mix, build
from vlmend.errors import DataError
from vlmend.types import Role


def config(folder: Path, *, seed: int = 0, missing: str = "error", **second: Any) -> DataConfig:
    write_vlguard(folder / "guard", pictures=missing == "error")
    write_jsonl(folder / "help.jsonl", [{"prompt": f"q{i}", "answer": f"a{i}"} for i in range(50)])
    parts = [{"source": f"vlguard:{folder / 'guard'}#train"}, {"source": f"jsonl:{folder / 'help.jsonl'}", **second}]
    return DataConfig.model_validate({"mix": parts, "seed": seed, "missing_images": missing})


def taken(mix: Mix) -> list[str]:
    return [example.id for example in mix.examples]


def test_a_seed_gives_one_mix(tmp_path: Path) -> None:
    first, again, other = (build(config(tmp_path, seed=s, n=20)) for s in (1, 1, 2))
    assert taken(first) == taken(again)
    assert first.report == again.report
    assert taken(first) != taken(other)
    assert first.report["parts"][1]["rows"] != other.report["parts"][1]["rows"]


def test_the_report_accounts_for_every_row(tmp_path: Path) -> None:
    mix = build(config(tmp_path, fraction=0.5, weight=2.0, role="retain"))
    parts = mix.report["parts"]
    assert [part["taken"] for part in parts] == [62, 25]
    assert [part["available"] for part in parts] == [62, 50]
    assert sorted(row for part in parts for row in part["rows"]) == sorted(taken(mix))
    assert mix.report["roles"] == {"safety": 62, "retain": 25}
    weights = {e.id: weight for e, weight in zip(mix.examples, mix.weights, strict=True)}
    assert all(weight == (1.0 if name.startswith("vlguard/") else 2.0) for name, weight in weights.items())
    assert all((e.role is Role.RETAIN) != e.id.startswith("vlguard/") for e in mix.examples)
    assert json.loads(json.dumps(mix.report)) == mix.report


def test_the_mix_is_shuffled_and_nothing_is_lost(tmp_path: Path) -> None:
    mix = build(config(tmp_path))
    assert len(mix.examples) == len(set(taken(mix))) == 112
    assert len({name.startswith("vlguard/") for name in taken(mix)[:20]}) == 2


def test_more_than_there_is_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="asks for 51 examples and has 50"):
        build(config(tmp_path, n=51))
    with pytest.raises(DataError, match="both n and fraction"):
        build(config(tmp_path, n=5, fraction=0.1))


def test_the_same_rows_in_two_parts_are_refused(tmp_path: Path) -> None:
    once = config(tmp_path)
    twice = once.model_copy(update={"mix": (once.mix[0], once.mix[0])})
    with pytest.raises(DataError, match="the mix uses 62 ids more than once"):
        build(twice)


def test_placeholders_are_marked(tmp_path: Path) -> None:
    mix = build(config(tmp_path, missing="placeholder"))
    assert mix.placeholders == mix.report["placeholders"] == 40
    assert mix.warning == mix.report["warning"]
    assert "PLACEHOLDER PICTURES" in mix.warning
    assert not build(config(tmp_path, missing="error")).warning


def test_a_picture_of_two_parts_is_one_stand_in(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer": "a", "image": f"{i % 3}.png"} for i in range(6)]
    files = [write_jsonl(tmp_path / f"{name}.jsonl", rows) for name in ("one", "two")]
    parts = [{"source": f"jsonl:{file}"} for file in files]
    mix = build(DataConfig.model_validate({"mix": parts, "missing_images": "placeholder"}))
    assert [part["placeholders"] for part in mix.report["parts"]] == [3, 3]
    assert mix.placeholders == 3
    assert mix.warning.startswith("PLACEHOLDER PICTURES: 3 missing pictures were")


def test_rows_are_left_out_with_the_other_side_of_their_pair(tmp_path: Path) -> None:
    pairs = [{"prompt": f"q{i}", "chosen": "yes", "rejected": "no"} for i in range(4)]
    file = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    whole = build(DataConfig.model_validate({"mix": [{"source": f"jsonl:{file}"}]}))
    assert whole.without([]) is whole
    gone = sorted(e.id for e in whole.examples if e.meta["pair"] == whole.examples[0].meta["pair"])
    left = whole.without([gone[0]])
    assert len(left.examples) == len(left.weights) == left.report["examples"] == 6
    assert left.report["skipped"] == {"count": 2, "rows": gone}
    assert left.report["parts"][0]["taken"] == 6
    assert not set(left.report["parts"][0]["rows"]) & set(gone)
    assert left.report["roles"] == {"forget": 3, "safety": 3}


def test_only_the_sample_needs_its_pictures(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer": "a", "image": f"{i}.png"} for i in range(30)]
    file = write_jsonl(tmp_path / "help.jsonl", rows)
    data = {"mix": [{"source": f"jsonl:{file}", "n": 5}], "missing_images": "placeholder"}
    mix = build(DataConfig.model_validate(data))
    assert mix.placeholders == 5
    for name in mix.report["parts"][0]["rows"]:
        (tmp_path / f"{name.partition('/')[2]}.png").write_bytes(png())
    assert build(DataConfig.model_validate({**data, "missing_images": "error"})).placeholders == 0


def test_a_replayed_mix_has_the_same_rows_whatever_the_seed(tmp_path: Path) -> None:
    first = build(config(tmp_path, seed=1, n=20))
    report = tmp_path / "mix.json"
    report.write_text(json.dumps(first.report))
    again = build(config(tmp_path, seed=2, n=20).model_copy(update={"replay": report}))
    assert sorted(taken(again)) == sorted(taken(first))
    assert [p["rows"] for p in again.report["parts"]] == [p["rows"] for p in first.report["parts"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda report: report["parts"][1]["rows"].append("gone"), "no longer has 1 of the 21 rows.*'gone'"),
        (lambda report: report["parts"].pop(), "the recipe names others"),
        (lambda report: report.pop("parts"), "is not a mix"),
    ],
)
def test_a_mix_that_cannot_be_replayed_says_why(tmp_path: Path, change: Any, says: str) -> None:
    settings = config(tmp_path, n=20)
    report = build(settings).report
    change(report)
    (tmp_path / "mix.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=says):
        build(settings.model_copy(update={"replay": tmp_path / "mix.json"}))
    with pytest.raises(DataError, match=r"nowhere\.json cannot be read"):
        build(settings.model_copy(update={"replay": tmp_path / "nowhere.json"}))


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.4])
def test_a_ratio_is_of_the_whole_mix(tmp_path: Path, ratio: float) -> None:
    mix = build(config(tmp_path, ratio=ratio))
    helpful = sum(name.startswith("help/") for name in taken(mix))
    assert helpful / len(mix.examples) == pytest.approx(ratio, abs=1 / len(mix.examples))


def test_ratios_must_leave_room(tmp_path: Path) -> None:
    once = config(tmp_path, ratio=0.5)
    full = once.model_copy(update={"mix": tuple(part.model_copy(update={"ratio": 0.5}) for part in once.mix)})
    with pytest.raises(DataError, match="add up to 1; they must leave room"):
        build(full)


def test_a_filter_comes_before_the_count(tmp_path: Path) -> None:
    settings = config(tmp_path)
    guard = settings.mix[0].model_dump() | {"where": {"subset": "safe_safe", "expected": ["answer"]}, "fraction": 0.5}
    mix = build(DataConfig.model_validate({"mix": [guard]}))
    assert {e.subset for e in mix.examples} == {"safe_safe"}
    assert mix.report["parts"][0]["available"] == 21
    assert len(mix.examples) == 10
    with pytest.raises(DataError, match="no example left after its filter"):
        build(DataConfig.model_validate({"mix": [guard | {"where": {"subset": "nothing"}}]}))
