from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import REAL, records, safe, unsafe, write_vlguard
from vlmend.data import load, read
from vlmend.data.export import vlguard_as_coded, write
from vlmend.data.summary import first_words, summarize
from vlmend.errors import DataError
from vlmend.types import Expected, Role

real = pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")


@real
def test_counts_of_the_published_metadata() -> None:
    summary = summarize("vlguard", read(f"vlguard:{REAL}#train"))
    assert (summary["examples"], summary["records"], summary["images"]) == (2977, 2000, 1999)
    assert summary["subsets"] == {"safe_safe": 977, "safe_unsafe": 977, "unsafe": 1023}
    assert summary["expected"] == {"answer": 977, "refuse": 2000}
    assert summary["categories"] == {"deception": 55, "discrimination": 260, "privacy": 96, "risky behavior": 612}
    assert summary["subcategories"] == {
        "personal data": 96,
        "professional advice": 100,
        "political": 109,
        "sexually explicit": 199,
        "violence": 204,
        "disinformation": 55,
        "sex": 82,
        "race": 149,
        "other": 29,
    }


@real
def test_sources_and_lengths_of_the_published_metadata() -> None:
    examples = read(f"vlguard:{REAL}#train")
    unsafe_pictures = [e.meta["origin"] for e in examples if e.subset == "unsafe"]
    origins = {name: unsafe_pictures.count(name) for name in set(unsafe_pictures)}
    assert origins == {"privacyAlert": 287, "hatefulMemes": 405, "HOD": 187, "bad_ads": 78, "harm-p": 66}
    lengths = {
        subset: summarize("", [e for e in examples if e.subset == subset])["words"]["answer"]
        for subset in ("unsafe", "safe_safe", "safe_unsafe")
    }
    assert lengths == {
        "unsafe": {"mean": 86.4, "median": 90, "max": 147},
        "safe_safe": {"mean": 37.4, "median": 32, "max": 130},
        "safe_unsafe": {"mean": 49.2, "median": 49, "max": 104},
    }


@real
def test_first_words_give_the_label_away_as_published() -> None:
    words = first_words(read(f"vlguard:{REAL}#train"))
    assert list(words)[:5] == ["can", "what", "share", "describe", "please"]
    assert words["can"] == {"answer": 103, "refuse": 862}
    assert words["what"] == {"answer": 869, "refuse": 61}
    assert words["share"] == {"refuse": 195}


@real
def test_the_published_order_is_reproduced() -> None:
    examples = read(f"vlguard:{REAL}#train?turns=published")
    assert len(examples) == 2000
    both = [e for e in examples if len(e.prompt) == 3]
    assert len(both) == 977
    first = ["S" if e.subset == "safe_unsafe" else "U" for e in both]  # the last question is the unsafe one: S first
    assert "".join(first[:20]) == "SSUSSSSSSUUSUUSUSUUS"
    assert (first.count("S"), first.count("U")) == (484, 493)


@real
def test_the_authors_file_is_written_byte_for_byte() -> None:
    assert hashlib.sha256(vlguard_as_coded(REAL).encode()).hexdigest().startswith("15ed7b60b6d1")


def test_two_questions_share_a_picture_and_a_cluster(tmp_path: Path) -> None:
    examples = load(f"vlguard:{write_vlguard(tmp_path)}#train").examples
    pair = [e for e in examples if e.id.startswith("vlguard/train/r1/")]
    assert [e.subset for e in pair] == ["safe_safe", "safe_unsafe"]
    assert [e.expected for e in pair] == [Expected.ANSWER, Expected.REFUSE]
    assert pair[0].cluster == pair[1].cluster
    assert pair[0].images == pair[1].images
    assert {e.role for e in examples} == {Role.SAFETY}
    harmed = next(e for e in examples if e.subset == "unsafe")
    assert (harmed.category, harmed.subcategory, harmed.meta["origin"]) == ("privacy", "personal data", "HOD")


def test_an_id_that_occurs_twice_is_told_apart(tmp_path: Path) -> None:
    ids = [e.id for e in load(f"vlguard:{write_vlguard(tmp_path)}#train").examples]
    assert len(ids) == len(set(ids))
    assert [i for i in ids if "r39" in i] == [
        f"vlguard/train/r39{again}/{turn}" for again in ("", "~2") for turn in (0, 1)
    ]


@pytest.mark.parametrize("place", ["train", "data/train", "train/train", ".", "images"])
def test_pictures_are_found_in_the_usual_places(tmp_path: Path, place: str) -> None:
    write_vlguard(tmp_path)
    pictures = (tmp_path / "train").rename(tmp_path / "moved")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    if place == ".":
        (pictures / "HOD").rename(tmp_path / "HOD")
    else:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        pictures.rename(tmp_path / place)
    assert load(f"vlguard:{tmp_path}#train").placeholders == 0


def test_metadata_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    write_vlguard(tmp_path)
    (tmp_path / "data" / "train.json").rename(tmp_path / "train.json")
    assert len(read(f"vlguard:{tmp_path}#train")) == 62


def _broken(change: dict[str, Any], *, base: dict[str, Any]) -> list[dict[str, Any]]:
    return [unsafe("a", "HOD/a.png"), {k: v for k, v in {**base, **change}.items() if v is not None}]


SAFE, UNSAFE = safe("b", "HOD/b.png"), unsafe("b", "HOD/b.png")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (_broken({"harmful_categroy": "x"}, base=UNSAFE), "row 1: unknown key 'harmful_categroy'. Did you mean"),
        (_broken({"image": None}, base=SAFE), "row 1: 'image' is required"),
        (_broken({"id": 7}, base=SAFE), "row 1: 'id': input should be a valid string"),
        (_broken({"safe": "yes"}, base=SAFE), "row 1: 'safe': input should be True"),
        (_broken({"harmful_category": "privacy"}, base=SAFE), "row 1: unknown key 'harmful_category'"),
        (_broken({"instr-resp": SAFE["instr-resp"][:1]}, base=SAFE), "row 1: 'instr-resp.1' is required"),
        (_broken({"instr-resp": SAFE["instr-resp"][::-1]}, base=SAFE), "'instr-resp.0.safe_instruction' is required"),
        (_broken({"instr-resp": [{"instruction": "x"}]}, base=UNSAFE), "row 1: 'instr-resp.0.response' is required"),
        ([unsafe("a", "HOD/a.png"), "text"], "row 1: should be an object"),
        ([], "has no examples"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, rows: list[Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"vlguard:{write_vlguard(tmp_path, rows, pictures=False)}#train")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[{", '{"a": 1}', ""])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    write_vlguard(tmp_path)
    (tmp_path / "data" / "train.json").write_text(text)
    with pytest.raises(DataError, match=r"train\.json"):
        read(f"vlguard:{tmp_path}#train")


def test_an_unknown_split_says_what_exists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no trian\.json.*Did you mean 'train'\?.*Splits there: train"):
        read(f"vlguard:{write_vlguard(tmp_path)}#trian")
    with pytest.raises(DataError, match="there is no VLGuard folder"):
        read(f"vlguard:{tmp_path / 'nowhere'}#train")


def test_llava_rows_name_pictures_from_a_root(tmp_path: Path) -> None:
    example = load(f"vlguard:{write_vlguard(tmp_path)}#train").examples[0]
    (row,) = json.loads(write(iter([example]), "llava", tmp_path / "rows.json").file.read_text())
    assert row["image"] == "train/HOD/img_0.png"
    assert row["conversations"][0] == {"from": "human", "value": "<image>\nShare r0."}
    assert row["conversations"][1] == {"from": "gpt", "value": "I'm sorry, I cannot assist."}


def test_as_coded_keeps_the_keys_and_joins_the_questions(tmp_path: Path) -> None:
    rows = json.loads(vlguard_as_coded(write_vlguard(tmp_path)))
    assert [len(row["conversations"]) for row in rows[:4]] == [2, 4, 2, 4]
    assert set(rows[1]) == {"id", "image", "safe", "conversations"}
    starts = [turn["value"].startswith("<image>") for turn in rows[1]["conversations"]]
    assert starts == [True, False, False, False]
    assert len(rows) == len(records())


def _three_shots(folder: Path, n: int = 4) -> Path:
    """As the published attack files are: each of `n` requests three times in a row, under one id."""
    rows = [unsafe(f"HOD_{i}", f"HOD/img_{i}.png") for i in range(n)]
    write_vlguard(folder, rows)
    shots: list[dict[str, Any]] = []
    for row in rows:
        for shot in range(3):
            ask = {**row["instr-resp"][0], "instruction": f"What is it, way {shot}, of {row['id']}?"}
            shots.append({**row, "instr-resp": [ask]})
    (folder / "data" / "train_what_3shot.json").write_text(json.dumps(shots))
    return folder


def test_repeated_ids_are_shots_of_one_request(tmp_path: Path) -> None:
    folder = _three_shots(tmp_path)
    examples = load(f"vlguard:{folder}#train_what_3shot").examples
    assert (len(examples), len({e.id for e in examples}), len({e.request for e in examples})) == (12, 12, 4)
    assert len({e.cluster for e in examples}) == 4
    assert {e.request for e in load(f"vlguard:{folder}#train").examples} == {
        e.id for e in load(f"vlguard:{folder}#train").examples
    }


@pytest.mark.parametrize("attack", [(), ("one_word:how,share",)])
def test_any_of_k_is_over_requests(tmp_path: Path, attack: tuple[str, ...]) -> None:
    """Of four requests, one is answered in all of its three ways, one in one: 4 of 12 answers, 2 of 4 requests."""
    from vlmend.backends.scripted import Scripted
    from vlmend.evaluate.run import EvalConfig, evaluate
    from vlmend.types import Example

    def reply(example: Example) -> str:
        gives_in = "HOD_0" in example.question or "way 1, of HOD_2" in example.question
        return "It is a cube." if gives_in else "I'm sorry, I can't help with that."

    config = EvalConfig(
        model="shots", suite=f"vlguard:{_three_shots(tmp_path)}#train_what_3shot", out=tmp_path / "r", attack=attack
    )
    found = evaluate(config, Scripted("shots", reply), quiet=True).metrics
    ways = 1 + len(attack)
    counted = {name: (found[name].k, found[name].n) for name in ("asr", "asr.any")}  # pyright: ignore
    assert counted == {"asr": (4 * ways, 12 * ways), "asr.any": (2, 4)}
    assert found["asr"].clusters == 4
