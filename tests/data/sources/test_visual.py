"""VQAv2, TextVQA, VizWiz, GQA, MMBench, MM-Vet: published layouts, and what LLaVA's files of questions ask of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import write_jsonl
from vlmend.data import load, read
from vlmend.errors import DataError
from vlmend.registry import sources
from vlmend.types import Example


def sample(name: str, folder: Path) -> Path:
    sources.find(name).sample(folder)
    return folder


def edit(file: Path, change: Any) -> None:
    held = json.loads(file.read_text())
    change(held)
    file.write_text(json.dumps(held))


def ask(folder: Path, *lines: dict[str, Any]) -> Path:
    write_jsonl(folder / "llava.jsonl", [{"category": "default", **line} for line in lines])
    return folder / "llava.jsonl"


@pytest.mark.parametrize("name", ["vqav2", "textvqa", "vizwiz"])
def test_all_annotators_answers_are_kept_and_the_commonest_is_first(name: str, tmp_path: Path) -> None:
    for split in ("val", "train"):
        for example in load(f"{name}:{sample(name, tmp_path)}#{split}").examples:
            counts = Counter(example.answers)
            assert len(example.answers) == 10
            assert counts[example.answers[0]] == max(counts.values()) == 8


def test_vqa_joins_by_id_and_names_coco_s_files(tmp_path: Path) -> None:
    folder = sample("vqav2", tmp_path)
    before = read(f"vqav2:{folder}")
    edit(folder / "v2_mscoco_val2014_annotations.json", lambda held: held["annotations"].reverse())
    assert read(f"vqav2:{folder}") == before
    first = before[0]
    assert first.id == "vqav2/val/1000"
    assert first.images[0].path == folder / "val2014" / "COCO_val2014_000000000001.jpg"
    assert {e.subset for e in before} == {"yes/no", "number", "other"}
    edit(folder / "v2_mscoco_val2014_annotations.json", lambda held: held["annotations"].pop())
    with pytest.raises(DataError, match="has no answers to question 1000"):
        read(f"vqav2:{folder}")


def test_official_folders_of_vqa_are_found(tmp_path: Path) -> None:
    folder = sample("vqav2", tmp_path)
    before = [e.id for e in read(f"vqav2:{folder}")]
    for place, name in (
        ("Questions", "v2_OpenEnded_mscoco_val2014_questions"),
        ("Annotations", "v2_mscoco_val2014_annotations"),
    ):
        (folder / place).mkdir()
        (folder / f"{name}.json").rename(folder / place / f"{name}.json")
    assert [e.id for e in read(f"vqav2:{folder}")] == before


@pytest.mark.parametrize("name", ["vqav2", "gqa", "mmvet", "vizwiz"])
def test_a_file_of_llava_says_what_is_asked_in_which_words(name: str, tmp_path: Path) -> None:
    whole = read(f"{name}:{sample(name, tmp_path)}")
    lines = [{"question_id": e.id.rpartition("/")[2], "image": "x.jpg", "text": f"{e.id}?\nOne word."} for e in whole]
    file = ask(tmp_path, *reversed(lines[:5]))
    asked = read(f"{name}:{tmp_path}?questions={file}")
    assert [e.id for e in asked] == [e.id for e in reversed(whole[:5])]
    for example in asked:
        [same] = [e for e in whole if e.id == example.id]
        assert example.question == f"{example.id}?\nOne word."
        assert (example.answers, example.images, example.subset) == (same.answers, same.images, same.subset)
    with pytest.raises(DataError, match=r"llava\.jsonl line 1: the set has no question 'v9'"):
        read(f"{name}:{tmp_path}?questions={ask(tmp_path, {**lines[0], 'question_id': 'v9'})}")


def test_questions_about_one_picture_are_told_apart_by_their_words(tmp_path: Path) -> None:
    folder = sample("textvqa", tmp_path)

    def twice(held: Any) -> None:
        held["data"][1] |= {"image_id": held["data"][0]["image_id"], "question": "What is the brand?"}

    edit(folder / "TextVQA_0.5.1_val.json", twice)
    first, second, *_ = read(f"textvqa:{folder}")
    text = "what is the brand?\nReference OCR token: ACME\nOne word."
    file = ask(folder, {"question_id": first.meta["known_as"], "image": "x.jpg", "text": text})
    [asked] = read(f"textvqa:{folder}?questions={file}")
    assert (asked.id, asked.question) == (second.id, text)


def test_gqa_says_which_splits_are_there(tmp_path: Path) -> None:
    folder = sample("gqa", tmp_path)
    with pytest.raises(DataError, match=r"no val_balanced_questions\.json.*testdev_balanced_questions"):
        read(f"gqa:{folder}#val_balanced")


def choices(example: Example) -> list[str]:
    return [line.partition(". ")[2] for line in example.meta["options"].splitlines()]


def test_rotations_turn_the_choices_and_the_answer_with_them(tmp_path: Path) -> None:
    table = sample("mmbench", tmp_path) / "MMBench_DEV_EN.tsv"
    groups: dict[str, list[Example]] = {}
    for example in load(f"mmbench:{table}").examples:
        groups.setdefault(example.request, []).append(example)
    assert len(groups) == 8
    for rounds in groups.values():
        first = choices(rounds[0])
        assert len(rounds) == len(first)
        assert [choices(e) for e in rounds] == [first[k:] + first[:k] for k in range(len(first))]
        assert len({choices(e)["ABCD".index(e.meta["letter"])] for e in rounds}) == 1
        assert len({e.meta["letter"] for e in rounds}) == len(first)
        assert [e.subset for e in rounds] == ["as_listed"] + ["rotated"] * (len(first) - 1)
        assert len({e.images[0].sha256 for e in rounds}) == 1
    listed = read(f"mmbench:{table}?rotations=false")
    assert [e.id for e in listed] == [rounds[0].id for rounds in groups.values()]
    assert listed[0].images[0].sha256 == listed[1].images[0].sha256  # the second row names the first one's picture


def test_a_table_that_lists_its_rotations_is_asked_as_it_is(tmp_path: Path) -> None:
    table = sample("mmbench", tmp_path) / "MMBench_DEV_EN.tsv"
    made = read(f"mmbench:{table}")
    head, first, *_ = table.read_text().splitlines()
    names = head.split("\t")
    row = dict(zip(names, first.split("\t"), strict=True))
    there = [name for name in "ABCD" if row[name]]
    turned = dict(zip(there, [row[name] for name in (*there[1:], there[0])], strict=True))
    letter = there[(there.index(row["answer"]) - 1) % len(there)]
    second = {**row, **turned, "answer": letter, "index": "1000001", "image": "1"}
    table.write_text("\n".join([head, first, "\t".join(second[name] for name in names)]) + "\n")
    listed = read(f"mmbench:{table}")
    assert [(e.id, e.question, e.answers, e.request, e.subset) for e in listed] == [
        (e.id, e.question, e.answers, e.request, e.subset) for e in made[:2]
    ]
    assert [e.id for e in read(f"mmbench:{table}?rotations=false")] == ["mmbench/1/0"]


def test_mm_vet_has_both_right_answers_and_what_a_question_takes(tmp_path: Path) -> None:
    first, second, *_ = read(f"mmvet:{sample('mmvet', tmp_path)}")
    assert first.answers[0].endswith(" or nothing")
    assert second.meta["capabilities"] == "ocr,rec"
