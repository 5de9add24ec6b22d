from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pictures

from tests.data.files import png, write_vlguard
from vlmend.data import export
from vlmend.data.dataset import read_any
from vlmend.errors import DataError, UsageError
from vlmend.types import Example, Expected, Image, Message, Pair, Role, conversation_key

FORMATS = list(export.FORMS)
PAIRED = [name for name, form in export.FORMS.items() if form.pairs]
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
    for given in (examples(tmp_path / "in"), pairs(tmp_path / "in") if form in PAIRED else []):
        if not given:
            continue
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
    for form in ("llava", "sharegpt", "llamafactory", "swift", "alpaca"):
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
    plain = {"role": "assistant", "content": "A ring."}
    assert row["messages"] == [{"role": "user", "content": [shown, text]}, plain]
    row = first_row(tmp_path, "sharegpt", pair)
    assert (row["conversations"], row["chosen"], row["images"]) == (turns[:1], turns[1], ["a.png"])
    row = first_row(tmp_path, "openai", pair)
    assert row["input"] == {"messages": [{"role": "user", "content": [shown, text]}]}
    assert (row["preferred_output"], row["non_preferred_output"][0]["role"]) == ([plain], "assistant")


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


@pytest.mark.parametrize(("form", "name"), [("llava", "x.parquet"), ("parquet", "x.jsonl"), ("alpacca", "x")])
def test_a_form_and_its_file_fit(tmp_path: Path, form: str, name: str) -> None:
    with pytest.raises(UsageError, match=r"is written to \.|no format named 'alpacca'.*Known: .*vlguard_as_coded"):
        export.write([], form, tmp_path / name)


def test_the_authors_file_is_reachable_by_spec(tmp_path: Path) -> None:
    folder = write_vlguard(tmp_path)
    written = export.as_coded(f"vlguard:{folder}#train", tmp_path / "out")
    assert written.file.read_text() == export.vlguard_as_coded(folder)
    assert written.examples == len(json.loads(written.file.read_text()))
    for spec in ("world", f"vlguard:{folder}#train[:5]", f"vlguard:{folder}?turns=single", "vlguard"):
        with pytest.raises(UsageError, match="a whole split of vlguard"):
            export.as_coded(spec, tmp_path / "out")


SYSTEM, HELLO, FINE = Message("system", ("Be brief.",)), Message("user", ("Hello.",)), Message("assistant", ("Fine.",))
ASK = Message("user", (made(RED), "What is it?"))
SHUT = replace(FINE, supervised=False)
KINDS: dict[str, Example | Pair] = {
    "single turn": Example("x", (ASK,), ("A ring.",)),
    "several turns": Example("x", (HELLO, FINE, ASK), ("A ring.",)),
    "a turn that is not learned": Example("x", (HELLO, SHUT, ASK), ("A ring.",)),
    "text only": Example("x", (HELLO,), ("Hi.",)),
    "two pictures": Example("x", (Message("user", ("First ", made(RED), " then ", made(BLUE), "?")),), ("No.",)),
    "system prompt": Example("x", (SYSTEM, HELLO, FINE, ASK), ("A ring.",)),
    "to avoid": Example("x", (ASK,), avoid=("A cup.",)),
    "wanted": Example("x", (ASK,), ("A ring.",), meta={"label": "true"}),
    "pair": Pair("x", (SYSTEM, ASK), "A ring.", "A cup."),
    "pair of several turns": Pair("x", (HELLO, SHUT, ASK), "A ring.", "A cup."),
    "pair in words": Pair("x", (HELLO,), "Hi.", "No."),
    "pair of two pictures": Pair("x", (ASK,), "A ring.", "A cup.", rejected_images=(made(BLUE),)),
}
TABLES = [name for name, form in export.FORMS.items() if form.tables and name != "parquet"]


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("how", [{}, {"absolute": True}, {"embed": True}], ids=["relative", "absolute", "embed"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_from_every_format(
    tmp_path: Path, kind: str, how: dict[str, bool], ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = replace(KINDS[kind], source="here", cluster="c")
    for form in TABLES if ending == ".parquet" else [name for name in FORMATS if name != "parquet"]:
        if isinstance(item, Pair) and form not in PAIRED:
            continue
        if how.get("embed") and ending != ".parquet" and not export.FORMS[form].urls:
            continue
        written = export.write([item], form, tmp_path / form / f"rows{ending}", **how)
        monkeypatch.chdir("/")
        same(list(read_any(written.spec)), [item])


def entry(form: str, items: Sequence[Example | Pair], folder: Path) -> dict[str, Any]:
    file = export.write(items, form, folder / form).file
    (found,) = json.loads((file.parent / "dataset_info.json").read_text()).values()
    return found


def test_llamafactory_is_told_what_the_columns_are(tmp_path: Path) -> None:
    plain, words, pair = KINDS["single turn"], KINDS["text only"], KINDS["pair"]
    said = {"messages": "conversations"}
    about = {"file_name": "data.json", "formatting": "sharegpt"}
    assert entry("llamafactory", [plain], tmp_path / "a") == {**about, "columns": {**said, "images": "images"}}
    assert entry("llamafactory", [words], tmp_path / "b") == {**about, "columns": said}  # it has no such column
    sides = {"chosen": "chosen", "rejected": "rejected", "images": "images"}
    assert entry("llamafactory", [pair], tmp_path / "c") == {**about, "columns": {**said, **sides}, "ranking": True}
    told = entry("llamafactory", [KINDS["to avoid"], KINDS["wanted"]], tmp_path / "d")
    assert told["columns"] == {**said, "images": "images", "kto_tag": "label"}
    told = entry("alpaca", [replace(KINDS["system prompt"], id="y"), plain], tmp_path / "e")
    asked = {"prompt": "instruction", "query": "input", "response": "output"}
    beside = {"images": "images", "system": "system", "history": "history"}
    assert (told["formatting"], told["columns"]) == ("alpaca", {**asked, **beside})


def test_a_dataset_info_that_is_there_is_added_to(tmp_path: Path) -> None:
    info = tmp_path / "dataset_info.json"
    info.write_text(json.dumps({"mine": {"file_name": "mine.json"}, "rows": {"file_name": "else.json"}}))
    for _ in range(2):  # written again, its entry is replaced
        written = export.write([KINDS["text only"]], "llamafactory", tmp_path / "rows.json")
        held = json.loads(info.read_text())
        assert [name for name, each in held.items() if each["file_name"] == "rows.json"] == ["rows_rows"]
        assert (held["mine"], held["rows"]) == ({"file_name": "mine.json"}, {"file_name": "else.json"})
        assert written.taken.endswith(f"stage: sft, dataset_dir: {tmp_path}, dataset: rows_rows")
    info.write_text("{broken")
    with pytest.raises(DataError, match=r"dataset_info\.json is not valid JSON"):
        export.write([KINDS["text only"]], "llamafactory", tmp_path / "more.json")
    assert not (tmp_path / "more.json").exists()


def test_marks_stand_where_templates_write_pictures(tmp_path: Path) -> None:
    given = replace(KINDS["two pictures"], prompt=(HELLO, SHUT, *KINDS["two pictures"].prompt))
    row = json.loads(export.write([given], "llamafactory", tmp_path / "l.jsonl").file.read_text())
    assert [turn["value"] for turn in row["conversations"]] == [
        "Hello.", "Fine.", "First <image> then <image>?", "No.",
    ]  # fmt: skip
    row = json.loads(export.write([given], "swift", tmp_path / "s.jsonl").file.read_text())
    assert [turn.get("loss") for turn in row["messages"]] == [None, False, None, None]
    assert row["messages"][2]["content"] == "First <image> then <image>?"
    row = json.loads(export.write([given], "alpaca", tmp_path / "a.jsonl").file.read_text())
    assert (row["instruction"], row["history"]) == ("First <image> then <image>?", [["Hello.", "Fine."]])
    row = json.loads(export.write([KINDS["pair of two pictures"]], "swift", tmp_path / "p.jsonl").file.read_text())
    assert (row["messages"][-1]["content"], row["rejected_response"]) == ("A ring.", "A cup.")
    assert len(row["images"]) == len(row["rejected_images"]) == 1
    row = json.loads(export.write([given], "trl_messages", tmp_path / "t.jsonl").file.read_text())
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant", "user", "assistant"]


def test_rows_of_words_have_no_pictures_in_a_file_that_has_some(tmp_path: Path) -> None:
    words, shown = replace(KINDS["text only"], id="w"), KINDS["single turn"]
    for name, given, wanted in (("m", [words, shown, replace(words, id="v")], [0, 1, 0]), ("w", [words], [None])):
        for ending in ("json", "jsonl"):
            file = export.write(given, "trl", tmp_path / f"{name}.{ending}").file
            text = file.read_text()
            rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
            assert [len(row["images"]) if "images" in row else None for row in rows] == wanted
            assert [item.id for item in read_any(f"jsonl:{file}")] == [item.id for item in given]


@pytest.mark.parametrize(
    ("form", "kinds", "note"),
    [
        ("trl", ["several turns", "single turn"], "1 of 2: earlier answers that are learned here; TRL learns the last"),
        ("trl_messages", ["a turn that is not learned"], "1 of 1: earlier answers that are not learned here; TRL lea"),
        ("llamafactory", ["a turn that is not learned"], r"LLaMA-Factory learns all \(mask_history: true: the last\)"),
        ("swift", ["pair of two pictures"], None),
        ("trl", ["pair of two pictures", "pair"], "1 of 2: the rejected side sees other pictures; TRL shows it those"),
        ("llava", ["two pictures", "single turn"], "1 of 2: several pictures, where LLaVA's own code has one"),
        ("swift", ["several turns", "a turn that is not learned"], None),
        ("openai", ["to avoid"], r"1 of 1: an answer to avoid \('label': false\), which only training on such"),
        ("trl", ["to avoid", "single turn"], r"1 of 2 have feedback \('label'\); KTO trainers need it in every row"),
    ],
)
def test_what_a_program_would_lose_is_counted(tmp_path: Path, form: str, kinds: list[str], note: str | None) -> None:
    given = [replace(KINDS[kind], id=kind) for kind in kinds]
    found = export.write(given, form, tmp_path).notes
    if note is None:
        assert found == ()
    else:
        assert [text for text in found if re.search(note, text)]
    silent = replace(KINDS["single turn"], answers=())
    assert export.write([silent], "trl", tmp_path).notes == ("1 of 1: no answer, so nothing that TRL could learn",)


def test_pictures_that_others_show_otherwise_are_counted(tmp_path: Path) -> None:
    clear = Pictures.new("RGBA", (8, 8), (255, 0, 0, 0))
    stream = io.BytesIO()
    clear.save(stream, "PNG")
    given = [
        replace(KINDS["single turn"], id="y"),
        Example("x", (Message("user", (made(stream.getvalue()),)),), ("A.",)),
    ]
    (note,) = export.write(given, "trl", tmp_path).notes
    assert note.startswith("1 of 2: pictures that are turned (EXIF), transparent or of 16 bits")


def test_json_lines_that_datasets_would_refuse_are_said(tmp_path: Path) -> None:
    long = [Example(f"{i}", (Message("user", ("x" * 100_000,)),), ("Hi.",)) for i in range(110)]
    given = [*long, replace(KINDS["single turn"], subset="s")]
    for ending, said in ((".jsonl", True), (".json", False)):
        notes = export.write(given, "trl", tmp_path / f"late{ending}").notes
        assert any("'images', 'subset' not in the first 10 MiB" in note for note in notes) is said
    assert export.write(given[::-1], "trl", tmp_path / "early.jsonl").notes == ()


@pytest.mark.parametrize(
    ("form", "prompt", "answer", "why"),
    [
        (
            "llamafactory",
            (HELLO, HELLO),
            "Hi.",
            "its turns are of user, user; here the user and the assistant take",
        ),
        ("swift", (FINE, HELLO), "Hi.", "take turns"),
        ("llamafactory", (Message("user", ("a <video> tag",)),), "Hi.", "holds <video>, which would be taken for one"),
        ("swift", (HELLO,), "<img>a</img>", "holds <img>, which ms-swift takes for the name of a picture"),
        ("alpaca", (Message("system", ("one", "two")), HELLO), "Hi.", "the system's turn is more than one text"),
        ("alpaca", (HELLO, FINE, HELLO, SHUT, HELLO), "Hi.", "some of its earlier answers are learned and some are"),
        ("openai", (Message("system", (made(RED),)), HELLO), "Hi.", "takes pictures in the turns of the user alone"),
    ],
)
def test_what_a_program_cannot_read_is_refused(
    tmp_path: Path, form: str, prompt: tuple[Message, ...], answer: str, why: str
) -> None:
    with pytest.raises(DataError, match=rf"'x' cannot be written as {form}: .*{why}"):
        export.write([Example("x", prompt, (answer,))], form, tmp_path)
    with pytest.raises(DataError, match="'x' is a preference pair, which trl_messages cannot say"):
        export.write([KINDS["pair"]], "trl_messages", tmp_path)


def test_pictures_open_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(RED)
    given = [Example("x", (Message("user", (Image(Path("a.png")), made(BLUE))),), ("A.",))]
    for form in ("trl", "llamafactory", "swift", "alpaca"):
        file = export.write(given, form, Path(form), absolute=True).file
        (row,) = json.loads(f"[{file.read_text().strip().removeprefix('[').removesuffix(']')}]")
        assert [Path(name).is_absolute() for name in row["images"]] == [True, True]
        assert [Path(name).read_bytes() for name in row["images"]] == [RED, BLUE]
    table = parquet.read_table(export.write(given, "swift", Path("s.parquet"), absolute=True).file)
    assert b'"_type": "Image"' in table.schema.metadata[b"huggingface"]
    names = parquet.read_table(export.write(given, "llamafactory", Path("l.parquet")).file).to_pylist()[0]["images"]
    assert names[0] == "a.png"  # LLaMA-Factory looks beside the file for names, and for nothing else
    assert export.write(given, "alpaca", Path("inside"), embed=True).file.name == "data.parquet"
    with pytest.raises(UsageError, match=r"llamafactory with pictures inside is written to \.parquet, not to x\.json"):
        export.write(given, "llamafactory", Path("x.json"), embed=True)
    with pytest.raises(UsageError, match="not both"):
        export.write(given, "trl", Path("x.json"), embed=True, absolute=True)


def test_its_program_is_told_what_kind_of_training_it_is(tmp_path: Path) -> None:
    for kind, swift, stage in (
        ("single turn", "swift sft", "sft"),
        ("pair", "swift rlhf --rlhf_type dpo", "dpo"),
        ("to avoid", "swift rlhf --rlhf_type kto", "kto"),
    ):
        folder = tmp_path / stage
        told = export.write([KINDS[kind]], "swift", folder).taken
        assert told == f"ROOT_IMAGE_DIR={folder} {swift} --dataset {folder / 'data.json'}"
        assert f"stage: {stage}, " in export.write([KINDS[kind]], "alpaca", folder / "a").taken


def test_bare_rows_have_only_what_programs_read(tmp_path: Path) -> None:
    given = [replace(KINDS["single turn"], subset="s", answers=("A.", "B."), meta={"k": "v"})]
    for form, keys in {
        "trl": {"prompt", "completion", "images"},
        "swift": {"messages", "images"},
        "llamafactory": {"conversations", "images"},
        "openai": {"messages"},
    }.items():
        file = export.write(given, form, tmp_path / f"{form}.jsonl", bare=True).file
        assert json.loads(file.read_text()).keys() == keys
