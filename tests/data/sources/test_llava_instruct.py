from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import load, read
from vlmend.data.dataset import read_any
from vlmend.data.sources import llava_instruct
from vlmend.data.sources.llava_instruct import FILE, LlavaInstruct
from vlmend.errors import DataError
from vlmend.types import Expected, Image, Role


def said(*values: str, first: str = "human") -> list[dict[str, str]]:
    sides = ["human", "gpt"] if first == "human" else ["gpt", "human"]
    return [{"from": sides[i % 2], "value": value} for i, value in enumerate(values)]


ROW: dict[str, Any] = {"id": "1", "image": "coco/1.jpg", "conversations": said("<image>\nWhat?", "A cat.")}


def write(folder: Path, rows: object, name: str = FILE) -> Path:
    (folder / name).write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return folder


def test_the_sample_is_mostly_about_pictures(tmp_path: Path) -> None:
    LlavaInstruct.sample(tmp_path)
    examples = load(f"llava_instruct:{tmp_path}").examples
    assert [e.id for e in examples] == [f"llava_instruct/llava_v1_5_mix665k/{i}" for i in range(16)]
    assert [e.subset for e in examples].count("text") == 4
    assert {(e.expected, e.role, e.source) for e in examples} == {(Expected.ANSWER, Role.UTILITY, "llava_instruct")}
    assert all(e.answers and "<image>" not in e.question for e in examples)
    assert all(len(e.images) == (e.subset != "text") for e in examples)
    assert {len(e.prompt) for e in examples} == {1, 3}


@pytest.mark.parametrize("marked", ["<image>\nWhat?", "What?\n<image>", "What?"])
def test_the_picture_comes_first_wherever_it_is_marked(tmp_path: Path, marked: str) -> None:
    (example,) = read(f"llava_instruct:{write(tmp_path, [{**ROW, 'conversations': said(marked, 'A cat.')}])}")
    assert example.prompt[0].parts == (Image(tmp_path / "coco" / "1.jpg"), "What?")
    assert (example.answers, example.subset, example.cluster) == (("A cat.",), "coco", "llava_instruct/coco/1.jpg")


def test_the_last_answer_is_the_reference_and_the_others_are_history(tmp_path: Path) -> None:
    row = {**ROW, "conversations": said("one", "1", "<image>two", "2", "three", "3")}
    (example,) = read(f"llava_instruct:{write(tmp_path, [row])}")
    assert [m.role for m in example.prompt] == ["user", "assistant", "user", "assistant", "user"]
    assert [len(m.images) for m in example.prompt] == [0, 0, 1, 0, 0]
    assert (example.question, example.answers) == ("three", ("3",))


def test_a_conversation_without_a_last_answer_has_no_reference(tmp_path: Path) -> None:
    rows = [{**ROW, "conversations": said("one")}, {**ROW, "conversations": said("one", " ")}]
    assert [e.answers for e in read(f"llava_instruct:{write(tmp_path, rows)}")] == [(), ()]


def test_a_turn_of_the_model_in_front_is_left_out(tmp_path: Path) -> None:
    row = {"id": "ab_4", "model": "", "conversations": said("hello", "What?", "That.", first="gpt")}
    (example,) = read(f"llava_instruct:{write(tmp_path, [row])}")
    assert (example.question, example.answers, example.meta) == ("What?", ("That.",), {"id": "ab_4", "left_out": "1"})


def test_ids_may_repeat_and_pieces_of_a_text_belong_together(tmp_path: Path) -> None:
    text = {"id": "ab_0", "model": "", "conversations": said("<image> is a tag.", "Yes.")}
    rows = [ROW, ROW, text, {**text, "id": "ab_2"}, {**text, "id": "cd_0"}]
    examples = read(f"llava_instruct:{write(tmp_path, rows)}")
    assert len({e.id for e in examples}) == 5
    a, b, c, d, e = (example.cluster for example in examples)
    assert a == b
    assert c == d != e
    assert examples[2].question == "<image> is a tag."


def test_pictures_are_named_from_a_folder_and_files_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, [ROW], "mine.json") / "mine.json"
    (example,) = read(f"llava_instruct:{file}?images={tmp_path / 'pictures'}")
    assert example.id == "llava_instruct/mine/0"
    assert example.images[0].path == tmp_path / "pictures" / "coco" / "1.jpg"
    lines = write(tmp_path, json.dumps(ROW) + "\n", "mine.jsonl") / "mine.jsonl"
    assert [e.prompt for e in read(f"llava_instruct:{lines}")] == [
        e.prompt for e in read(f"llava_instruct:{tmp_path / 'mine.json'}")
    ]


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 examples need 1 pictures; 1 are missing, first .*coco/1\.jpg"):
        load(f"llava_instruct:{write(tmp_path, [ROW])}")


BROKEN = [
    ([ROW, {**ROW, "conversation": []}], "row 1: unknown key 'conversation'. Did you mean 'conversations'?"),
    ([ROW, {"id": "1"}], "row 1: 'conversations' is required"),
    ([{**ROW, "conversations": []}], "row 0: 'conversations': tuple should have at least 1 item"),
    ([{**ROW, "image": 5}], "row 0: 'image': input should be a valid string"),
    ([{**ROW, "conversations": [{"from": "gtp", "value": "x"}]}], "row 0: 'conversations.0.from'"),
    (
        [{**ROW, "conversations": [{"form": "gpt", "value": "x"}]}],
        "unknown key 'conversations.0.form'. Did you mean 'f",
    ),
    ([{**ROW, "conversations": [*said("a"), *said("b")]}], "row 0: the sides should take turns; 'human' speaks where"),
    ([{**ROW, "conversations": said("a", first="gpt")}], "row 0: a conversation needs a turn from 'human'"),
    ([{**ROW, "conversations": said("<image><image>", "a")}], "row 0: the text has 2 places for pictures"),
    ([ROW, 5], "row 1: should be an object, is a number"),
    ([], "has no examples"),
    ("", "is empty (0 bytes)"),
    (" \n", "is empty (0 bytes)"),
    ("{}", "should hold a list of rows, it begins with '{'"),
    ("[", "row 0: is not valid JSON"),
    ('[{"id": "1}]', "row 0: is not valid JSON: Unterminated string"),
    (json.dumps([ROW])[:-1], "row 0: is not valid JSON: a comma or the end"),
    (json.dumps([ROW])[:-1] + " {}]", "row 0: is not valid JSON: a comma or the end"),
    (json.dumps([ROW])[:-1] + ",]", "row 1: is not valid JSON"),
    (json.dumps([ROW]) + "]", "something follows the list"),
    ("[" * 100_000, "row 0: is not valid JSON"),
]


@pytest.mark.parametrize(("rows", "says"), BROKEN)
def test_a_broken_file_is_named_by_row(tmp_path: Path, rows: object, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"llava_instruct:{write(tmp_path, rows)}")
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_encoding_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'[{"id": "\xff"}]')
    with pytest.raises(DataError, match=rf"{FILE}: is not UTF-8"):
        read(f"llava_instruct:{tmp_path}")
    (tmp_path / FILE).write_bytes(b'[{"id": "\xc3')
    with pytest.raises(DataError, match=rf"{FILE}: is not UTF-8"):
        read(f"llava_instruct:{tmp_path}")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(f"llava_instruct:{tmp_path / 'nothing.json'}")


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("indent", [None, 1])
def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None) -> None:
    rows = [{**ROW, "id": f"é{i}", "conversations": said('a "b" \\ ]},', "ü\u2028€" * i)} for i in range(9)]
    text = json.dumps(rows, ensure_ascii=False, indent=indent)
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    whole = read(f"llava_instruct:{tmp_path}")
    monkeypatch.setattr(llava_instruct, "CHUNK", chunk)
    assert read(f"llava_instruct:{tmp_path}") == whole
    assert [e.meta["id"] for e in whole] == [row["id"] for row in rows]


def test_rows_are_given_before_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava_instruct, "CHUNK", 64)
    write(tmp_path, json.dumps([ROW] * 9)[:-1] + ", broken")
    stream = read_any(f"llava_instruct:{tmp_path}")
    assert [next(stream).id.rpartition("/")[2] for _ in range(9)] == [str(i) for i in range(9)]
    with pytest.raises(DataError, match="row 9"):
        next(stream)


def test_a_row_without_an_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava_instruct, "CHUNK", 8)
    monkeypatch.setattr(llava_instruct, "LONGEST", 100)
    write(tmp_path, '[{"id": "' + "a" * 10_000)
    reads: list[int] = []
    monkeypatch.setattr(llava_instruct._Reader, "more", _counted(llava_instruct._Reader.more, reads))
    with pytest.raises(DataError, match="row 0: is not valid JSON"):
        read(f"llava_instruct:{tmp_path}")
    assert sum(reads) < 1000


def _counted(more: Any, reads: list[int]) -> Any:
    def counted(self: Any, count: int) -> bool:
        reads.append(count)
        return more(self, count)

    return counted


def test_lines_that_are_called_json_are_read_and_what_stands_twice_is_not(tmp_path: Path) -> None:
    before = read(f"llava_instruct:{write(tmp_path, [ROW, ROW])}")
    lines = f"{json.dumps(ROW)}\n" * 2
    assert read(f"llava_instruct:{write(tmp_path, lines)}") == before
    twice = '[{"id": "1", "id": "2", "conversations": []}]'
    with pytest.raises(DataError, match="row 0: the key 'id' stands twice"):
        read(f"llava_instruct:{write(tmp_path, twice)}")
    half = json.dumps([{**ROW, "id": "\ud83d"}])
    with pytest.raises(DataError, match="row 0: a text has half of a surrogate pair"):
        read(f"llava_instruct:{write(tmp_path, half)}")


def test_a_mark_in_a_row_that_is_neither_about_a_picture_nor_text_only(tmp_path: Path) -> None:
    row = {"id": "1", "conversations": said("<image>\nWhat?", "A cat.")}
    with pytest.raises(DataError, match="row 0: the text has 1 places for pictures and the row names 0"):
        read(f"llava_instruct:{write(tmp_path, [row])}")
