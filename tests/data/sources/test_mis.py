from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import hub, load, read
from vlmend.data.sources.mis import TEST, TRAIN, Mis
from vlmend.errors import DataError, UsageError
from vlmend.types import Expected, Image, Role

SIZES = {"train": 8, "easy": 6, "hard": 4, "real": 2}
COMMIT = "0123456789" * 4
Row = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mis")
    Mis.sample(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "data")


def file(folder: Path, split: str) -> Path:
    return folder / ("mis_train" if split == "train" else "mis_test") / f"mis_{split}.json"


def rows(folder: Path, split: str) -> list[Row]:
    return json.loads(file(folder, split).read_text())


def rewrite(folder: Path, split: str, change: Callable[[Row], object]) -> Path:
    """Change record 1 of a split."""
    table = rows(folder, split)
    change(table[1])
    file(folder, split).write_text(json.dumps(table))
    return folder


def say(row: Row, *turns: str) -> None:
    """Give a training record other turns, people first."""
    row["conversations"] = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)]


@pytest.mark.parametrize("split", SIZES)
def test_two_pictures_in_order_before_the_question(folder: Path, split: str) -> None:
    examples = load(f"mis:{folder}#{split}").examples
    assert len(examples) == SIZES[split]
    for example, row in zip(examples, rows(folder, split), strict=True):
        names = row["image"] if split == "train" else [row["image_path1"], row["image_path2"]]
        place = file(folder, split).parent
        assert example.prompt[0].parts[:2] == tuple(Image(place / name) for name in names)
        assert example.prompt[0].parts[2:] == (example.question,)
        assert (example.expected, example.role, example.subset) == (Expected.REASON, Role.SAFETY, split)
        assert (example.category, example.subcategory, example.source) == ("hazard", "jar flame", "mis")
    assert len({e.cluster for e in examples}) == len(examples)


def test_only_train_has_answers(folder: Path) -> None:
    train = read(f"mis:{folder}#train")
    assert [e.answers for e in train] == [(row["conversations"][1]["value"],) for row in rows(folder, "train")]
    assert all("<image>" not in e.question for e in train)
    assert not any(e.answers for split in ("easy", "hard", "real") for e in read(f"mis:{folder}#{split}"))


def test_ids_are_those_of_the_file(folder: Path) -> None:
    assert [e.id for e in read(f"mis:{folder}#real")] == ["mis/real/1", "mis/real/2"]
    assert [e.id for e in read(f"mis:{folder}#train")][:2] == ["mis/train/0", "mis/train/1"]
    rewrite(folder, "real", lambda row: row.update(id=1))
    assert [e.id for e in read(f"mis:{folder}#real")] == ["mis/real/1", "mis/real/1~2"]


def test_records_that_share_a_picture_share_a_cluster(folder: Path) -> None:
    rewrite(folder, "easy", lambda row: row.update(image_path2="easy_image/1/object1.png"))
    first, second, third, *_ = (e.cluster for e in read(f"mis:{folder}#easy"))
    assert first == second != third


@pytest.mark.parametrize(
    ("turns", "parts"),
    [
        (("How?", "No."), (1, 2, "How?")),
        (("<image>\n<image>\nHow?", "No."), (1, 2, "How?")),
        (("<image><image>How?", "No."), (1, 2, "How?")),
        (("Image-1: <image>\nImage-2: <image>\nHow?", "No."), ("Image-1:", 1, "Image-2:", 2, "How?")),
        (("How? <image> <image>", "No."), ("How?", 1, 2)),
    ],
)
def test_pictures_stand_where_the_text_marks_them(folder: Path, turns: tuple[str, ...], parts: tuple[Any, ...]) -> None:
    example = read(f"mis:{rewrite(folder, 'train', lambda row: say(row, *turns))}#train")[1]
    first, second = example.images
    assert (first.path, second.path) == tuple(folder / f"mis_train/images/2/object{i}.png" for i in (1, 2))
    assert example.prompt[0].parts == tuple({1: first, 2: second}.get(part, part) for part in parts)
    assert example.answers == ("No.",)


def test_earlier_turns_are_kept_and_have_the_pictures(folder: Path) -> None:
    say_it = rewrite(folder, "train", lambda row: say(row, "What?", "A jar.", "And then?", "Keep off."))
    example = read(f"mis:{say_it}#train")[1]
    assert [m.role for m in example.prompt] == ["user", "assistant", "user"]
    assert [len(m.images) for m in example.prompt] == [2, 0, 0]
    assert (example.question, example.answers) == ("And then?", ("Keep off.",))


def test_one_folder_or_the_one_around_both(folder: Path) -> None:
    assert read(f"mis:{folder}#easy") == read(f"mis:{folder / 'mis_test'}#easy")
    assert read(f"mis:{folder}#train") == read(f"mis:{folder / 'mis_train'}#train")
    with pytest.raises(DataError, match=r"no mis_haed\.json.*Did you mean 'hard'\? Splits there: easy, hard, real$"):
        read(f"mis:{folder / 'mis_test'}#haed")
    with pytest.raises(DataError, match="there is no MIS folder"):
        read(f"mis:{folder / 'nowhere'}#easy")


@pytest.mark.parametrize("place", ["mis_train/images", "."])
def test_pictures_are_found_where_archives_are_unpacked(folder: Path, place: str) -> None:
    table = rows(folder, "train")
    for row in table:
        row["image"] = [name.replace("images/", "made/") for name in row["image"]]
    file(folder, "train").write_text(json.dumps(table))
    pictures = (folder / "mis_train" / "images").rename(folder / "made")
    if place != ".":
        (folder / place).mkdir()
        pictures.rename(folder / place / "made")
    assert len(load(f"mis:{folder}#train").examples) == 8


def test_metadata_read_without_pictures(folder: Path) -> None:
    (folder / "mis_test" / "easy_image").rename(folder / "elsewhere")
    assert len(read(f"mis:{folder}#easy")) == 6
    with pytest.raises(DataError, match=r"12 are missing, first .*easy_image/1/object1\.png"):
        load(f"mis:{folder}#easy")
    (folder / "elsewhere").rename(folder / "easy_image")
    assert len(load(f"mis:{folder / 'mis_test'}#easy?pictures={folder}").examples) == 6


def test_the_hub_gives_the_same_texts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[hub.Repository, str]] = []

    def given(repository: hub.Repository, split: str, revision: str) -> Iterator[Row]:
        assert revision == COMMIT
        asked.append((repository, split))
        yield from rows(folder, split)

    monkeypatch.setattr(hub, "_rows", given)
    for split in SIZES:
        place = file(folder, split).parent
        assert load(f"mis:hub#{split}?revision={COMMIT}&pictures={place}").examples == read(f"mis:{folder}#{split}")
    assert asked == [(TRAIN, "train"), (TEST, "easy"), (TEST, "hard"), (TEST, "real")]


def test_the_hub_refuses_what_it_cannot_give(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_rows", lambda *_: iter(rows(folder, "train")))
    with pytest.raises(DataError, match=r"Tuwhy/MIS_Test@01234567 easy row 0: 'question' is required"):
        read(f"mis:hub#easy?revision={COMMIT}")
    with pytest.raises(UsageError, match="fixed commit"):
        read("mis:hub#easy")
    with pytest.raises(DataError, match=r"no split 'esay'\. Did you mean 'easy'\?"):
        read(f"mis:hub#esay?revision={COMMIT}")
    rewrite(folder, "train", lambda row: say(row, "How?"))
    with pytest.raises(DataError, match=r"MIS_Train.* row 1: 'conversations'"):
        read(f"mis:hub#train?revision={COMMIT}")


BROKEN: list[tuple[str, Callable[[Row], object], str]] = [
    ("easy", lambda row: row.pop("question"), "row 1: 'question' is required"),
    ("easy", lambda row: row.pop("image_path2"), "row 1: 'image_path2' is required"),
    ("easy", lambda row: row.update(question=""), "row 1: 'question': string should have at least 1 character"),
    ("easy", lambda row: row.update(category=3), "row 1: 'category': input should be a valid string (got 3)"),
    ("easy", lambda row: row.update(image_path3="x"), "row 1: unknown key 'image_path3'. Did you mean 'image_path"),
    ("easy", lambda row: row.update(id=[1]), "row 1: 'id"),
    ("train", lambda row: row.pop("image"), "row 1: 'image' is required"),
    ("train", lambda row: row["image"].pop(), "row 1: 'image.1' is required"),
    ("train", lambda row: row["image"].append("x"), "row 1: 'image'"),
    ("train", lambda row: row.update(image="a.png"), "row 1: 'image': input should be a valid tuple"),
    ("train", lambda row: row["conversations"][0].pop("value"), "row 1: 'conversations.0.value' is required"),
    ("train", lambda row: row["conversations"][1].update(value=""), "row 1: 'conversations.1.value': string"),
    ("train", lambda row: row["conversations"][0].update({"from": "user"}), "'conversations.0.from': input should be"),
    ("train", lambda row: row["conversations"].reverse(), "row 1: 'conversations' should alternate"),
    ("train", lambda row: say(row, "a", "b", "c"), "row 1: 'conversations' should alternate"),
    ("train", lambda row: say(row, "<image> How?", "b"), "row 1: 'conversations' marks 1 places for 2 pictures"),
    ("train", lambda row: say(row, "<image><image>", "b"), "row 1: 'conversations.0.value' asks nothing"),
    ("train", lambda row: row.update(sub_categry="x"), "unknown key 'sub_categry'. Did you mean 'sub_category'?"),
]


@pytest.mark.parametrize(("split", "change", "says"), BROKEN)
def test_a_broken_record_is_named(folder: Path, split: str, change: Callable[[Row], object], says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"mis:{rewrite(folder, split, change)}#{split}")
    assert says in str(caught.value)
    assert str(file(folder, split)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["easy", "train"])
@pytest.mark.parametrize("text", [b"[{", b'{"a": 1}', b"", b'["\xff"]', b"[5]"])
def test_a_broken_file_is_named(folder: Path, split: str, text: bytes) -> None:
    file(folder, split).write_bytes(text)
    with pytest.raises(DataError, match=rf"mis_{split}\.json"):
        read(f"mis:{folder}#{split}")


def test_answers_of_the_sample_reason_and_do_not_just_refuse(tmp_path: Path) -> None:
    Mis.sample(tmp_path)
    answers = [example.answers[0] for example in read(f"mis:{tmp_path}#train")]
    assert answers
    assert not any("sorry" in answer.lower() for answer in answers)
    assert all("not safe together" in answer for answer in answers)
