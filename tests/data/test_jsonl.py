from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import png, write_jsonl
from vlmend.data import load, read
from vlmend.errors import DataError
from vlmend.types import Example, Expected, Role

ANSWER = "A ring."
ROWS: dict[str, dict[str, Any]] = {
    "messages": {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": ANSWER},
        ],
        "images": ["a.png"],
    },
    "marked": {
        "messages": [
            {"role": "user", "content": "<image>What is it?"},
            {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
        ],
        "images": ["a.png"],
    },
    "prompt": {"prompt": "What is it?", "answer": ANSWER, "image": "a.png"},
    "completion": {"prompt": "What is it?", "completion": ANSWER, "images": ["a.png"]},
    "conversational": {
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}],
        "images": ["a.png"],
    },
    "llava": {
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": ANSWER}],
    },
    "openai": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "a.png"}},
                    {"type": "text", "text": "What is it?"},
                ],
            },
            {"role": "assistant", "content": ANSWER},
        ]
    },
}


def one(folder: Path, row: dict[str, Any], name: str = "rows.jsonl") -> Example:
    (folder / "a.png").write_bytes(png())
    (folder / "b.png").write_bytes(png((0, 0, 0)))
    (example,) = load(f"jsonl:{write_jsonl(folder / name, [row])}").examples
    return example


@pytest.mark.parametrize("shape", ROWS)
def test_the_same_conversation_in_every_format_is_the_same_example(tmp_path: Path, shape: str) -> None:
    labels = {"id": "x1", "expected": "refuse", "subset": "s", "category": "c", "source": "here", "note": "kept"}
    example = one(tmp_path, {**ROWS[shape], **labels})
    assert example == one(tmp_path, {**ROWS["prompt"], **labels}, "again.jsonl")
    assert example.question == "What is it?"
    assert example.answers == (ANSWER,)
    assert example.expected is Expected.REFUSE
    assert example.role is Role.SAFETY
    assert dict(example.meta) == {"note": "kept"}


def test_a_data_url_is_the_picture(tmp_path: Path) -> None:
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    row = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, "Hm?"]}]}
    assert one(tmp_path, row).images[0].read() == png()


def test_several_pictures_keep_their_places(tmp_path: Path) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "First <image>\nthen <image>\nwhat?"},
            {"from": "gpt", "value": "x"},
        ],
        "images": ["a.png", "b.png"],
    }
    example = one(tmp_path, row)
    names = [part if isinstance(part, str) else part.path and part.path.name for part in example.prompt[0].parts]
    assert names == ["First", "a.png", "then", "b.png", "what?"]


def test_earlier_turns_stay_in_the_prompt(tmp_path: Path) -> None:
    turns = [{"from": who, "value": f"{who}{i}"} for i in range(2) for who in ("human", "gpt")]
    example = one(tmp_path, {"conversations": turns, "image": "a.png"})
    assert [m.role for m in example.prompt] == ["user", "assistant", "user"]
    assert example.answers == ("gpt1",)
    assert len(example.prompt[0].images) == 1


def test_text_is_kept_to_the_letter(tmp_path: Path) -> None:
    assert one(tmp_path, {"prompt": "  What\n IS it? ", "answer": " a"}).question == "  What\n IS it? "


def test_rows_are_numbered_and_utility_by_default(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "q", "answer": "a", "id": "same"}] * 2)
    with pytest.raises(DataError, match=r"line 2: id 'same' was used in line 1.*ids=row"):
        read(f"jsonl:{file}")
    examples = read(f"jsonl:{file}?ids=row&role=retain")
    assert [e.id for e in examples] == ["rows/0", "rows/1"]
    assert {e.role for e in examples} == {Role.RETAIN}
    assert one(tmp_path, {"prompt": "q", "answer": "a"}).role is Role.UTILITY


def test_a_json_list_and_a_picture_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png())
    (tmp_path / "rows.json").write_text(json.dumps([ROWS["llava"]]))
    (example,) = load(f"jsonl:{tmp_path / 'rows.json'}?images={tmp_path / 'pictures'}").examples
    assert example.images[0].path == tmp_path / "pictures" / "a.png"
    assert example.cluster == "a.png"


GOOD = json.dumps({"prompt": "q", "answer": "a"})


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "q"', "line 2 is not valid JSON"),
        ("[1]", "line 2: should be an object"),
        ('{"text": "q"}', "line 2: a row needs 'messages', 'conversations' or 'prompt'"),
        ('{"prompt": "q", "anwser": "a"}', "unknown key 'anwser'. Did you mean 'answer'?"),
        ('{"prompt": "q", "answer": "a", "response": "b"}', "a row has one answer"),
        ('{"prompt": "q", "expected": "refus"}', "no expected 'refus'. Did you mean 'refuse'?"),
        ('{"prompt": "q", "image": "http://example.org/a.png"}', "is on the network"),
        ('{"prompt": "q", "image": "data:image/png,xx"}', "should be base64"),
        ('{"prompt": "<image>", "images": ["a.png", "b.png"]}', "has 1 places for pictures and the row names 2"),
        ('{"conversations": [{"from": "human", "value": "q"}]}', "this row has 'conversations', the rows before"),
        ('{"prompt": ""}', "'prompt' should be a text"),
        ('{"prompt": [{"role": "usr", "content": "q"}]}', "no speaker 'usr'. Did you mean 'user'?"),
        ('{"prompt": [{"role": "user", "content": []}]}', "not empty"),
        ('{"prompt": [{"role": "user", "content": [{"type": "video"}]}]}', "got 'video'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(DataError) as caught:
        read(f"jsonl:{file}")
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mark_without_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 1 places for pictures and the row names 0"):
        one(tmp_path, {"conversations": [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]})


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_a_file_that_is_not_there_empty_or_binary(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rows.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        read(f"jsonl:{file}")
