from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.files import png, write_vlguard
from vlmend.data import export
from vlmend.data.dataset import read_any
from vlmend.errors import DataError, UsageError
from vlmend.types import Example, Expected, Image, Message, Pair, Role, conversation_key

FORMATS = ["trl", "llava", "sharegpt", "openai", "parquet"]
RED, BLUE = png((255, 0, 0)), png((0, 0, 255))


def made(data: bytes) -> Image:
    return Image(make=lambda: data)


def examples(folder: Path) -> list[Example]:
    """Everything an example can say: pictures of all kinds in all places, every label, texts that formats garble."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(RED)
    file = Image(folder / "a.png")
    ask = Message("user", (file, "What is it?"))
    earlier = (Message("system", ("Be brief.\n",)), Message("user", (made(BLUE), "And this?")))
    labels = {"subset": "s", "category": "c", "subcategory": "d", "cluster": "k", "source": "here"}
    return [
        Example("plain", (ask,), ("A ring.",), source="here", cluster="a.png"),
        Example("bare", (Message("user", ('No picture, é {} "quoted"\n',)),), role=Role.RETAIN),
        Example("labels", (ask,), ("No.", "I won't."), Expected.REFUSE, role=Role.FORGET, **labels),
        Example("made", (Message("user", (made(RED), "One ", made(BLUE), "\n two")),), (" a ",), Expected.REASON),
        Example("again", (Message("user", (made(RED), "")),), ("a",), cluster="x"),
        Example("parts", (Message("user", ("one", "two", file, "three", " ")),), ("a\nb",)),
        Example("turns", (*earlier, Message("assistant", ("A cup.",)), ask), ("A ring.",)),
        Example("meta", (ask,), ("a",), meta={"answerz": "1", "meta": "2", "record": "{}", "images": "3"}),
    ]


def pairs(folder: Path) -> list[Pair]:
    first, *rest = examples(folder)
    turns = next(example for example in rest if example.id == "turns").prompt
    labels = {"subset": "s", "category": "c", "subcategory": "d", "cluster": "k", "source": "here"}
    return [
        Pair("plain", first.prompt, "A ring.", "A cup.\n", cluster="a.png"),
        Pair("labels", turns, " a", "b", (made(BLUE), Image(folder / "a.png")), role=Role.DECOUPLE, **labels),
        Pair("blind", first.prompt, "a", "b", (), meta={"chosen": "x", "choosen": "y"}),
        Pair("words", (Message("user", ("Hm? ",)),), "a", "b"),
    ]


def essence(item: Example | Pair) -> dict[str, Any]:
    """All that is known of an item, pictures by their content."""
    others = item.rejected_images if isinstance(item, Pair) else None
    return {
        **vars(replace(item, prompt=())),
        "meta": dict(item.meta),
        "prompt": conversation_key(item.prompt),
        "rejected_images": None if others is None else [image.sha256 for image in others],
    }


def same(found: Sequence[Example | Pair], given: Sequence[Example | Pair]) -> None:
    assert [essence(item) for item in found] == [essence(item) for item in given]


@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_reads_back_the_same(tmp_path: Path, form: str, embed: bool) -> None:
    for given in (examples(tmp_path / "in"), pairs(tmp_path / "in")):
        out = tmp_path / "out" / type(given[0]).__name__
        written = export.write(iter(given), form, out, embed=embed)
        assert written.examples + written.pairs == len(given)
        same(list(read_any(written.spec)), given)
        same(list(read_any(f"hf:{out}?allow_outside=true")), given)
        stored = sorted(file.read_bytes() for file in (out / "images").glob("*.png"))
        kinds = {image.read() for item in given for image in item.images if image.path is None}
        assert stored == ([] if embed else sorted(kinds))


def test_a_moved_folder_still_has_its_pictures(tmp_path: Path) -> None:
    export.write(examples(tmp_path / "set" / "in"), "trl", tmp_path / "set" / "deep" / "rows.jsonl")
    (tmp_path / "set").rename(tmp_path / "moved")
    found = list(read_any(f"jsonl:{tmp_path / 'moved' / 'deep' / 'rows.jsonl'}?allow_outside=true"))
    assert [image.sha256 for image in found[0].images] == [made(RED).sha256]


def test_a_mark_in_a_text_is_kept_or_refused(tmp_path: Path) -> None:
    given = [Example("x", (Message("user", (made(RED), "What does <image> mean?")),), ("A mark: <image>.",))]
    for form in ("trl", "openai", "parquet"):
        same(list(read_any(f"jsonl:{export.write(given, form, tmp_path / form).file}")), given)
    for form in ("llava", "sharegpt"):
        with pytest.raises(DataError, match=rf"'x' cannot be written as {form}: its text holds <image>"):
            export.write(given, form, tmp_path / form)
        assert not [file for file in (tmp_path / form).iterdir() if file.is_file()]


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_surrogate_pair_is_not_written(tmp_path: Path, form: str) -> None:
    given = [Example("x", (Message("user", ("\ud83d?",)),), ("a",))]
    with pytest.raises(DataError, match=r"'x' cannot be written as \w+: a text has half of a surrogate pair"):
        export.write(given, form, tmp_path)


def first_row(tmp_path: Path, form: str, item: Example | Pair) -> dict[str, Any]:
    file = export.write([item], form, tmp_path / f"{form}.jsonl").file
    return json.loads(file.read_text())


def test_rows_are_those_other_programs_read(tmp_path: Path) -> None:
    example, pair = examples(tmp_path)[0], pairs(tmp_path)[0]
    text = {"type": "text", "text": "What is it?"}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "A ring."}]}
    row = first_row(tmp_path, "trl", example)
    assert row["prompt"] == [{"role": "user", "content": [{"type": "image"}, text]}]
    assert (row["completion"], row["images"]) == ([answer], ["a.png"])
    row = first_row(tmp_path, "llava", example)
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A ring."}]
    assert (row["id"], row["image"], row["conversations"]) == ("plain", "a.png", turns)
    row = first_row(tmp_path, "openai", example)
    shown = {"type": "image_url", "image_url": {"url": "a.png"}}
    assert row["messages"] == [{"role": "user", "content": [shown, text]}, answer]
    row = first_row(tmp_path, "sharegpt", pair)
    assert (row["conversations"], row["chosen"], row["images"]) == (turns[:1], turns[1], ["a.png"])
    row = first_row(tmp_path, "openai", pair)
    assert row["input"] == {"messages": [{"role": "user", "content": [shown, text]}]}
    assert (row["preferred_output"], row["non_preferred_output"][0]["role"]) == ([answer], "assistant")


def test_embedded_pictures_are_data_urls_or_bytes(tmp_path: Path) -> None:
    from pyarrow import parquet

    example = examples(tmp_path)[0]
    rows = json.loads(export.write([example], "llava", tmp_path / "l.json", embed=True).file.read_text())
    assert rows[0]["image"] == "data:image/png;base64," + base64.b64encode(RED).decode()
    table = parquet.read_table(export.write([example], "parquet", tmp_path, embed=True).file)
    assert table.to_pylist()[0]["images"] == [{"bytes": RED, "path": None}]
    about = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert about["images"] == {"feature": {"_type": "Image"}, "_type": "List"}
    assert list(about) == table.column_names


def test_a_failed_export_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("before")
    example, pair = examples(tmp_path / "in")[0], pairs(tmp_path / "in")[0]
    with pytest.raises(DataError, match="of another kind"):
        export.write([example, pair], "trl", file)
    gone = replace(example, prompt=(Message("user", (Image(tmp_path / "gone.png"), "q")),))
    with pytest.raises(DataError, match=r"'plain' cannot be written as trl: image .*gone\.png cannot be read"):
        export.write([gone], "trl", file, embed=True)
    assert file.read_text() == "before"
    assert {entry.name for entry in tmp_path.iterdir()} == {"in", "rows.jsonl"}


@pytest.mark.parametrize(("form", "name"), [("trl", "x.parquet"), ("parquet", "x.jsonl"), ("alpaca", "x")])
def test_a_form_and_its_file_fit(tmp_path: Path, form: str, name: str) -> None:
    with pytest.raises(UsageError, match=r"is written to \.|no format named 'alpaca'.*Known: .*vlguard_as_coded"):
        export.write([], form, tmp_path / name)


def test_the_authors_file_is_reachable_by_spec(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    written = export.as_coded(f"vlguard:{folder}#train", tmp_path / "out")
    assert written.file.read_text() == export.vlguard_as_coded(folder)
    assert written.examples == len(json.loads(written.file.read_text()))
    for spec in ("world", f"vlguard:{folder}#train[:5]", f"vlguard:{folder}?turns=single", "vlguard"):
        with pytest.raises(UsageError, match="a whole split of vlguard"):
            export.as_coded(spec, tmp_path / "out")
