"""Rows of the field are read as what they mean, with the labels they carry; what is not understood is said."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import png, write_jsonl
from vlmend.config import DataConfig
from vlmend.data import export, read
from vlmend.data.dataset import read_any, read_pairs
from vlmend.data.mix import build
from vlmend.errors import DataError, UnknownName
from vlmend.types import Example, Image, Message, Pair, Role, digest

ASK: dict[str, Any] = {"role": "user", "content": "<image>What is it?"}
SAID: dict[str, Any] = {"role": "assistant", "content": "A ring."}
TEXT = base64.b64encode(png()).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png((0, 0, 0)))
    return tmp_path


def items(folder: Path, *rows: dict[str, Any], options: str = "") -> list[Example | Pair]:
    return list(read_any(f"jsonl:{write_jsonl(folder / 'rows.jsonl', list(rows))}{options}"))


def one(folder: Path, row: dict[str, Any], options: str = "") -> Example:
    (item,) = items(folder, row, options=options)
    assert isinstance(item, Example)
    return item


def parts(item: Example | Pair) -> list[list[str]]:
    return [
        [part if isinstance(part, str) else part.path.name if part.path else "made" for part in m.parts]
        for m in item.prompt
    ]


def refused(folder: Path, row: dict[str, Any] | str, options: str = "") -> str:
    file = folder / "rows.jsonl"
    file.write_text(row if isinstance(row, str) else json.dumps(row) + "\n")
    with pytest.raises((DataError, UnknownName)) as caught:
        list(read_any(f"jsonl:{file}{options}"))
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 700
    return told


# Feedback


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, SAID], "images": ["a.png"], "label": False},
        {"messages": [ASK, SAID], "images": ["a.png"], "kto_tag": False},
        {"prompt": "What is it?", "completion": "A ring.", "image": "a.png", "label": False},
        {"prompt": [ASK], "completion": [SAID], "images": ["a.png"], "label": False},
        {"instruction": "What is it?", "output": "A ring.", "images": ["a.png"], "kto_tag": "False"},
        {"query": "What is it?", "response": "A ring.", "images": ["a.png"], "desirable": 0},
    ],
)
def test_an_answer_that_was_not_wanted_is_no_reference(folder: Path, row: dict[str, Any]) -> None:
    example = one(folder, row)
    assert (example.answers, example.avoid) == ((), ("A ring.",))
    assert parts(example) == [["a.png", "What is it?"]]
    good = one(folder, {key: True if value in (False, "False") else value for key, value in row.items()})
    assert (good.answers, good.avoid) == (("A ring.",), ())


def test_a_label_that_may_be_a_class_is_asked_about(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prompt": "q", "answer": "a", "label": 0}
    assert "'label' 0 may be feedback on the answer, or a class" in refused(folder, row)
    assert one(folder, row, "?map=label:kto_tag").avoid == ("a",)
    assert dict(one(folder, row, "?map=label:label").meta) == {"label": "0"}
    assert "label" not in capsys.readouterr().err
    assert one(folder, {**row, "label": "violence"}).answers == ("a",)
    assert "'label' (1)" in capsys.readouterr().err


def test_answers_to_avoid_are_never_learned_by_chance(folder: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer": "a", "label": i > 0} for i in range(3)]
    part: dict[str, Any] = {"source": f"jsonl:{write_jsonl(folder / 'rows.jsonl', rows)}"}
    with pytest.raises(DataError, match=r"1 of 3 examples hold an answer to avoid .*label: false.*'rows/0'"):
        build(DataConfig.model_validate({"mix": [part]})).taught()
    forgotten = build(DataConfig.model_validate({"mix": [{**part, "role": "forget"}]})).taught()
    assert {(e.answers, e.avoid, e.role) for e in forgotten.examples} == {(("a",), (), Role.FORGET)}


def test_an_example_without_an_answer_is_found_before_a_step(folder: Path) -> None:
    rows = [{"prompt": "q", "answer": "a"}, {"prompt": "q", "answer": " "}]
    part = {"source": f"jsonl:{write_jsonl(folder / 'rows.jsonl', rows)}"}
    with pytest.raises(DataError, match=r"1 of 2 examples have no answer to learn from, such as 'rows/1'"):
        build(DataConfig.model_validate({"mix": [part]})).taught()


# What is learned


@pytest.mark.parametrize(("key", "no", "yes"), [("loss", False, True), ("weight", 0, 1), ("train", False, True)])
def test_a_turn_that_is_not_learned_is_marked(folder: Path, key: str, no: object, yes: object) -> None:
    turns = [{"role": "user", "content": "p"}, {**SAID, key: no}, {"role": "user", "content": "q"}, {**SAID, key: yes}]
    example = one(folder, {"messages": turns})
    assert [m.supervised for m in example.prompt] == [True, False, True]
    assert example.answers == ("A ring.",)


def test_what_follows_the_last_learned_turn_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": "user", "content": "p"}, SAID, {"role": "user", "content": "q"}, {**SAID, "weight": 0}]
    example = one(folder, {"messages": turns})
    assert (parts(example), example.answers) == ([["p"]], ("A ring.",))
    assert "turns behind the last one that is learned" in capsys.readouterr().err
    assert "no turn of it is to be learned" in refused(folder, {"messages": turns[2:]})
    turns[2]["loss"] = True
    assert "asks to learn a turn of the user" in refused(folder, {"messages": turns})
    assert "should be true or false, or 1 or 0, is 0.5" in refused(
        folder, {"messages": [turns[0], {**SAID, "weight": 0.5}]}
    )


def test_turns_in_a_prompt_are_shown_and_not_learned(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": "user", "content": "p"}, SAID, {"role": "user", "content": "q"}]
    asked = one(folder, {"prompt": turns, "completion": [SAID]})
    assert [m.supervised for m in asked.prompt] == [True, False, True]
    assert "shown and not learned" in capsys.readouterr().err
    assert all(m.supervised for m in one(folder, {"messages": [*turns, SAID]}).prompt)
    assert all(m.supervised for m in one(folder, {"query": "q", "response": "r", "history": [["p", "o"]]}).prompt)


# Formats


def test_alpacas_input_belongs_to_the_prompt(folder: Path) -> None:
    row = {"instruction": "Translate this.", "input": "Guten Tag", "output": "Good day."}
    for options in ("", "?map=instruction:prompt,output:answer"):
        example = one(folder, row, options)
        assert (example.question, example.answers) == ("Translate this.\nGuten Tag", ("Good day.",))
    assert one(folder, {**row, "input": ""}).question == "Translate this."
    history = one(folder, {**row, "history": [["Hi", "Hello"]], "system": "Be brief."})
    assert [m.role for m in history.prompt] == ["system", "user", "assistant", "user"]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, SAID], "rejected_response": "A cup.", "images": ["a.png"]},
        {"messages": [ASK, SAID], "rejected_messages": [ASK, {**SAID, "content": "A cup."}], "images": ["a.png"]},
        {"query": "<image>What is it?", "response": "A ring.", "rejected_response": ["A cup."], "images": ["a.png"]},
        {"instruction": "What is it?", "input": "", "chosen": "A ring.", "rejected": "A cup.", "images": ["a.png"]},
    ],
)
def test_a_rejected_answer_makes_a_pair(folder: Path, row: dict[str, Any]) -> None:
    (pair,) = items(folder, row)
    assert isinstance(pair, Pair)
    assert (parts(pair), pair.chosen, pair.rejected) == ([["a.png", "What is it?"]], "A ring.", "A cup.")


def test_a_rejected_conversation_has_to_be_the_same_but_for_its_end(folder: Path) -> None:
    other = [{"role": "user", "content": "Why?"}, SAID]
    row = {"messages": [ASK, SAID], "rejected_messages": other, "images": ["a.png"]}
    assert "one conversation but for its last answer" in refused(folder, row)
    assert "one answer; make a row of each" in refused(folder, {"query": "q", "response": "r", "rejected_response": []})


def test_pairs_and_examples_do_not_mix(folder: Path) -> None:
    pair, example = {"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "answer": "a"}
    for rows in ([pair, example], [example, pair]):
        assert "preference pairs or examples, never both" in refused(folder, "\n".join(map(json.dumps, rows)))


def test_vlmevalkits_tables(folder: Path) -> None:
    head = "index\timage\tquestion\thint\tA\tB\tC\tanswer\tcategory\n"
    (folder / "t.tsv").write_text(
        f"{head}7\t{TEXT}\tWhich?\tLook.\tred\tblue\t\tB\tcolor\n8\t7\tWhat?\t\tx\ty\t\tA\tz\n"
    )
    first, second = read(f"jsonl:{folder / 't.tsv'}")
    assert first.question.splitlines()[:4] == ["Look.", "Which?", "A. red", "B. blue"]
    assert (first.id, first.answers, first.category) == ("7", ("B", "B. blue", "blue"), "color")
    assert [e.images[0].read() for e in (first, second)] == [png(), png()]
    (folder / "u.tsv").write_text(f"index\timage\tquestion\tanswer\n1\t{TEXT}\tIs it?\tYes\n")
    assert read(f"jsonl:{folder / 'u.tsv'}")[0].answers == ("Yes",)
    (folder / "v.tsv").write_text(f"index\timage\tquestion\tanswer\n1\t{'A' * 300_000}\tIs it?\tYes\n")
    with pytest.raises(DataError, match=r"300,000 characters"):
        read(f"jsonl:{folder / 'v.tsv'}")


def test_a_dataset_info_beside_the_file_names_columns_and_tags(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "you"}
    entry = {"file_name": "rows.jsonl", "columns": {"messages": "talk", "images": "shots"}, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    row = {"talk": [{"who": "me", "says": "<image>q"}, {"who": "you", "says": "a"}], "shots": ["a.png"]}
    example = one(folder, row)
    assert (parts(example), example.answers) == ([["a.png", "q"]], ("a",))
    assert "'mine'" in capsys.readouterr().err


# Pictures


@pytest.mark.parametrize(
    "key",
    [
        *("image_path", "img", "img_path", "image_file", "picture", "pic", "photo", "file_name", "image_paths"),
        *("image_filename", "image_url", "image_name", "Image", "img-path", "images_path", "imageFile"),
    ],
)
def test_a_picture_is_found_under_its_plain_names(folder: Path, key: str) -> None:
    assert parts(one(folder, {"prompt": "<image>\nq", "answer": "a", key: "a.png"})) == [["a.png", "q"]]
    assert parts(one(folder, {"prompt": "q", "answer": "a", key: ["a.png"]})) == [["a.png", "q"]]


def test_a_picture_under_another_name_is_asked_about(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"prompt": "q", "answer": "a", "screenshot": "a.png"}
    assert "'screenshot' seems to name a picture ('a.png')" in refused(folder, row)
    assert capsys.readouterr().err == ""
    assert parts(one(folder, row, "?map=screenshot:image")) == [["a.png", "q"]]
    assert one(folder, row, "?map=screenshot:screenshot").images == ()
    assert one(folder, {**row, "screenshot": "none taken"}).images == ()


def test_several_pictures_are_in_the_order_of_their_numbers(folder: Path) -> None:
    row = {"prompt": "q", "answer": "a", "image_path2": "b.png", "image_path1": "a.png"}
    assert parts(one(folder, row)) == [["a.png", "b.png", "q"]]
    told = refused(folder, {"prompt": "q", "answer": "a", "image": "a.png", "image_2": "b.png"})
    assert "'image' and 'image_2' name different pictures" in told
    assert len(one(folder, {"prompt": "q", "image": "a.png", "image_path": "x/a.png"}).images) == 1
    assert "all seem to name pictures" in refused(folder, {"prompt": "q", "img": "a.png", "photo": "b.png"})
    assert "'videos' holds what models are not shown" in refused(folder, {"prompt": "q", "videos": ["a.mp4"]})


MARKS = (
    *("<image>", "<img>", "<|image|>", "<|image_1|>", "<image_1>", "<image 1>", "<image1>", "<ImageHere>", "[IMG]"),
    *("<|vision_start|><|image_pad|><|vision_end|>", "<Img><ImageHere></Img>", "<image_placeholder>", "<IMAGE>"),
)


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_is_a_place_or_an_error(folder: Path, mark: str) -> None:
    turns = [{"role": "user", "content": f"First {mark} then what?"}, SAID]
    assert parts(one(folder, {"messages": turns, "images": ["a.png"]})) == [["First", "a.png", "then what?"]]
    for row in (
        {"messages": turns},
        {"prompt": f"{mark}q", "answer": "a"},
        {"prompt": "q", "chosen": "a", "rejected": "<image>"},
    ):
        told = refused(folder, row)
        assert "line 1: the text has 1 places for pictures and the row names 0" in told
        assert "?placeholders=text" in told
    assert parts(one(folder, {"messages": turns}, "?placeholders=text")) == [[f"First {mark} then what?"]]


def test_numbered_marks_say_which_picture(folder: Path) -> None:
    row = {"prompt": "Is <image_2> like <image_1>?", "answer": "a", "images": ["a.png", "b.png"]}
    assert parts(one(folder, row)) == [["Is", "b.png", "like", "a.png", "?"]]
    assert "at several places" in refused(folder, {**row, "prompt": "<image_1> and <image_1>"})
    assert "shows picture 3 and the row names 2" in refused(folder, {**row, "prompt": "<image_1> and <image_3>"})


def test_marks_in_text_parts_are_places_where_no_part_is_a_picture(folder: Path) -> None:
    blocks = [{"type": "text", "text": "<image>\nq"}]
    assert parts(one(folder, {"messages": [{"role": "user", "content": blocks}, SAID], "images": ["a.png"]})) == [
        ["a.png", "q"]
    ]
    blocks = [{"type": "image"}, {"type": "text", "text": "What does <image> mean?"}]
    assert parts(one(folder, {"messages": [{"role": "user", "content": blocks}, SAID], "images": ["a.png"]})) == [
        ["a.png", "What does <image> mean?"]
    ]


@pytest.mark.parametrize("inline", ["a.png", f"data:image/png;base64,{TEXT}"])
@pytest.mark.parametrize("named", [{"images": ["a.png"]}, {"image": "a.png"}])
def test_a_picture_that_is_named_twice_is_shown_once(folder: Path, inline: str, named: dict[str, Any]) -> None:
    blocks = [{"type": "image", "image": inline}, {"type": "text", "text": "q"}]
    example = one(folder, {"messages": [{"role": "user", "content": blocks}, SAID], **named})
    assert [image.read() for image in example.images] == [png()]
    other = {"messages": [{"role": "user", "content": blocks}, SAID], "images": ["a.png", "b.png"]}
    assert "names 1, 1 more stand inside it" in refused(folder, other)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}", "detail": "low"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{TEXT}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": TEXT}},
        {"type": "image", "image": TEXT},
        {"type": "image", "base64": TEXT},
    ],
)
def test_a_picture_inside_a_turn_is_that_picture(folder: Path, block: dict[str, Any]) -> None:
    row = {"messages": [{"role": "user", "content": [block, {"type": "text", "text": "q"}]}, SAID]}
    assert one(folder, row).images[0].read() == png()


def test_base64_is_a_picture_and_no_path(folder: Path) -> None:
    assert one(folder, {"prompt": "q", "image": TEXT}).images[0].read() == png()
    assert one(folder, {"prompt": "q", "image": f"{TEXT[:70]}\n{TEXT[70:]}"}).images[0].read() == png()
    for value in ("A" * 5000, "x " * 5000, {"bytes": "A" * 5000}):
        assert "characters" in refused(folder, {"prompt": "q", "image": value})


# Texts


def test_two_system_texts_are_refused_and_one_said_twice_is_one(folder: Path) -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "q"}, SAID]
    assert "one system text under 'system' and another" in refused(folder, {"system": "Be brief.", "messages": turns})
    assert [m.role for m in one(folder, {"system": "Be kind.", "messages": turns}).prompt] == ["system", "user"]
    assert "one turn of the system" in refused(folder, {"messages": [turns[0], *turns]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"prompt": "p", "prompt": "q"}', "line 1: the key 'prompt' stands twice in one object"),
        ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}', "the key 'content' stands twice"),
        ('{"prompt": "Q \\ud83d?"}', "line 1: a text has half of a surrogate pair"),
        ('{"prompt": "q", "note": ["\\udc00"]}', "line 1: a text has half of a surrogate pair"),
        ('{"prompt": "q", "\\ud83d": 1}', "line 1: a text has half of a surrogate pair"),
        ('[{"prompt": "q"},\n {"prompt": "\\ud83d"}]', "a text has half of a surrogate pair"),
        (json.dumps({"prompt": "q", "role": "x " * 4000}), "no role 'x x x"),
        (json.dumps({"prompt": [{"role": "u" * 9000, "content": "q"}]}), "no speaker 'uuuu"),
    ],
)
def test_what_cannot_be_meant_is_one_line(folder: Path, text: str, says: str) -> None:
    assert says in refused(folder, text)


def test_a_whole_surrogate_pair_is_a_character_and_a_hash_takes_half_of_one(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "Q \\ud83d\\ude00?"}\n')
    assert read(f"jsonl:{folder / 'rows.jsonl'}")[0].question == "Q 😀?"
    assert digest("\ud83d") != digest("\ud83e")


def test_a_number_that_is_none_is_no_value(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"id": 7, "prompt": "q", "image": NaN}\n{"id": 8.0, "prompt": "q"}\n')
    examples = read(f"jsonl:{folder / 'rows.jsonl'}")
    assert [e.id for e in examples] == ["7", "8"]
    assert examples[0].images == ()


# Files


def test_lines_and_lists_are_known_by_how_they_begin(folder: Path) -> None:
    rows = [{"prompt": "q", "answer": "a"}, {"prompt": "r", "answer": "b"}]
    lines, whole = "\r\n\r\n".join(map(json.dumps, rows)), json.dumps(rows, indent=1)
    forms = {"a.json": f"\ufeff{lines}", "b.jsonl": whole, "c.json": whole, "d.jsonl": f"\ufeff{lines}\n", "e": lines}
    for name, text in forms.items():
        (folder / name).write_bytes(text.encode())
        assert [e.question for e in read(f"jsonl:{folder / name}")] == ["q", "r"], name
        (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        assert [e.question for e in read(f"jsonl:{folder / name}.gz")] == ["q", "r"], name
    (folder / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-20])
    with pytest.raises(DataError, match=r"x\.jsonl\.gz is damaged"):
        read(f"jsonl:{folder / 'x.jsonl.gz'}")


def test_what_is_not_understood_is_said_once_with_its_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": "user", "content": "q", "name": "Ann"}, SAID]
    rows = [{"messages": turns, "objects": {"bbox": [1]}, "topic": "x"}, {"messages": turns}]
    for _ in range(2):
        first, _second = items(folder, *rows)
    assert dict(first.meta) == {"objects": '{"bbox": [1]}', "topic": "x"}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "of 2 rows, these keys are not understood and change nothing: "
        "'name' of a message (2), 'objects' (1), 'topic' (1)"
    )
    items(folder, *rows, options="?map=objects:,topic:topic")
    assert "'objects'" not in capsys.readouterr().err


# Pairs


def test_what_rewards_and_cost_models_read_of_a_pair_is_kept_and_understood(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = {"expected": "refuse", "chosen_harmful": 0, "rejected_harmful": 1}
    source = f"jsonl:{write_jsonl(folder / 'rows.jsonl', [{'prompt': 'q', 'chosen': 'a', 'rejected': 'b', **noted}])}"
    [pair] = read_pairs(source)
    assert dict(pair.meta) == {key: str(value) for key, value in noted.items()}
    assert capsys.readouterr().err == ""


def test_pairs_without_a_difference_are_named_and_refused(folder: Path) -> None:
    rows = [
        {"id": f"p{i}", "prompt": "q", "chosen": "Same.", "rejected": said}
        for i, said in enumerate(("No.", " Same.\n"))
    ]
    source = f"jsonl:{write_jsonl(folder / 'rows.jsonl', rows)}"
    with pytest.raises(DataError, match=r"1 of the 2 pairs of .* have the same answer, but for blanks.*'p1'"):
        build(DataConfig.model_validate({"mix": [{"source": source}]}))


# And back


@pytest.mark.parametrize("form", ["trl", "llava", "sharegpt", "openai", "parquet"])
def test_what_rows_say_survives_an_export(folder: Path, form: str) -> None:
    user, ring = Message("user", ("p",)), ("A ring.",)
    turns = (
        Message("system", ("s",)),
        user,
        Message("assistant", ("x",), False),
        user,
        Message("assistant", ("y",)),
        user,
    )
    given = [
        Example("avoid", (user,), avoid=ring, role=Role.UTILITY, source="s"),
        Example("several", (user,), avoid=("A ring.", "A cup."), meta={"label": "z"}, source="s"),
        Example("wanted", (user,), ring, meta={"label": "true"}, source="s"),
        Example("turns", turns, ring, source="s"),
    ]
    assert list(read_any(export.write(given, form, folder / form).spec)) == given
    pairs = [Pair("p", turns, "a", "b", (Image(folder / "a.png"),), source="s")]
    (back,) = read_pairs(export.write(pairs, form, folder / f"{form}2").spec)
    assert [image.read() for image in back.rejected_images or ()] == [png()]
    assert replace(back, rejected_images=None) == replace(pairs[0], rejected_images=None)


@pytest.mark.parametrize("form", ["trl", "openai", "parquet"])
def test_a_text_that_speaks_of_marks_survives_an_export(folder: Path, form: str) -> None:
    given = [Example("x", (Message("user", ("What is <image>?",)),), ("A mark: <image>.",), source="s")]
    assert list(read_any(export.write(given, form, folder / form).spec)) == given
