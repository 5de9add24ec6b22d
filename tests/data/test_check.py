"""Every kind of defect is found where it was put, and nowhere else."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFile

from tests.data.files import REAL, records, write_jsonl, write_vlguard
from vlmend.data import read
from vlmend.data.check import Checked, check
from vlmend.data.checks.finding import KINDS, Finding
from vlmend.data.checks.sights import look, see
from vlmend.errors import DataError, UnknownName
from vlmend.types import Image
from vlmend.world.scenes import KINDS as ICONS
from vlmend.world.scenes import draw_scene, png

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data_check.md"


def declines(text: str) -> bool:
    return "cannot" in text


def scene(number: int) -> bytes:
    rng = np.random.default_rng(number)
    return png(draw_scene(rng, rng.choice(ICONS, 3).tolist(), "train"), number)


def row(number: int, **changes: Any) -> dict[str, Any]:
    said = {"id": f"r{number}", "prompt": f"Where is disc {number}?", "answer": f"It is in place {number}."}
    return {key: value for key, value in {**said, **changes}.items() if value is not None}


def refusal(number: int, **changes: Any) -> dict[str, Any]:
    return row(number, **{"answer": f"I cannot say that, for reason {number}.", "expected": "refuse", **changes})


def checked(folder: Path, rows: list[dict[str, Any]], options: str = "") -> Checked:
    return check(f"jsonl:{write_jsonl(folder / 'rows.jsonl', rows)}{options}", declines)


def found(folder: Path, rows: list[dict[str, Any]], options: str = "") -> dict[str, Finding]:
    return {finding.kind: finding for finding in checked(folder, rows, options).findings}


def shown(folder: Path, pictures: Mapping[str, bytes | None], **changes: Any) -> dict[str, Finding]:
    """What is found in a set with one row per picture (None: the file is not written) and five sound ones."""
    files = {**{f"ok{i}.png": scene(i) for i in range(5)}, **pictures}
    for name, data in files.items():
        if data is not None:
            (folder / name).write_bytes(data)
    return found(folder, [row(i, image=name, **changes) for i, name in enumerate(files)])


def encoded(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises more pixels than any memory holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_sound_set_has_no_findings(tmp_path: Path) -> None:
    rows = [row(i) for i in range(6)] + [refusal(i) for i in range(6, 12)]
    assert checked(tmp_path, rows).findings == ()
    assert shown(tmp_path, {}) == {}


def test_scenes_of_the_world_are_no_doubles_and_no_leak() -> None:
    kinds = {finding.kind for finding in check("world:safety?n=80", declines).findings}
    assert not kinds & {"similar_picture", "duplicate_picture", "blank_picture", "contradictory_labels"}
    assert not {kind for kind in kinds if KINDS[kind].severity == "error"}


# Pictures.


@pytest.mark.parametrize(
    ("kind", "data", "says"),
    [
        ("missing_picture", None, "bad.png is not there"),
        ("unreadable_picture", b"", "is empty (0 bytes)"),
        ("unreadable_picture", b"<html>404</html>", "is not a readable picture"),
        ("truncated_picture", encoded(Pillow.effect_noise((64, 64), 90))[:900], "ends early"),
        ("truncated_picture", encoded(Pillow.effect_noise((64, 64), 90), "JPEG")[:900], "ends early"),
        ("huge_picture", bomb(9000, 9000), "is 9,000 x 9,000 pixels"),
        ("huge_picture", bomb(100_000, 100_000), "has more than 67,108,864 pixels"),
    ],
)
def test_a_picture_that_cannot_be_used(tmp_path: Path, kind: str, data: bytes | None, says: str) -> None:
    findings = shown(tmp_path, {"bad.png": data})
    assert set(findings) == {kind}
    assert findings[kind].severity == "error"
    assert (findings[kind].count, findings[kind].ids) == (1, ("r5",))
    assert says in findings[kind].message
    assert "1 of 6 pictures" in findings[kind].message


@pytest.mark.parametrize(
    ("kind", "picture", "how", "says"),
    [
        ("transparent_picture", Pillow.effect_noise((64, 64), 90), {"transparency": 128}, "is laid on white"),
        (
            "deep_picture", Pillow.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)), {},
            "from 0 to 4,095, of which 12 are used",
        ),
        (
            "several_frames", Pillow.effect_noise((64, 64), 90),
            {"save_all": True, "append_images": [Pillow.new("L", (64, 64))]}, "the first is shown",
        ),
        ("narrow_picture", Pillow.effect_noise((1005, 5), 90), {}, "over 200 times as long as wide"),
    ],
)  # fmt: skip
def test_what_is_not_shown_as_it_is_stored_is_counted(
    tmp_path: Path, kind: str, picture: Pillow.Image, how: dict[str, Any], says: str
) -> None:
    data = encoded(picture, **how), encoded(picture.transpose(Pillow.Transpose.ROTATE_90), **how)
    findings = shown(tmp_path, dict(zip(("a.png", "b.png"), data, strict=True)))
    assert findings[kind].count == 2
    assert findings[kind].ids == ("r5", "r6")
    assert says in findings[kind].message
    assert "2 of 7 pictures" in findings[kind].message


def test_pictures_in_cmyk_are_counted(tmp_path: Path) -> None:
    data = encoded(Pillow.effect_noise((64, 64), 90).convert("CMYK"), "JPEG")
    assert shown(tmp_path, {"a.jpg": data})["other_colors"].count == 1


def test_an_opaque_alpha_channel_is_nothing_to_note(tmp_path: Path) -> None:
    assert "transparent_picture" not in shown(
        tmp_path, {"a.png": encoded(Pillow.open(io.BytesIO(scene(9))).convert("RGBA"))}
    )


def test_a_bomb_is_refused_from_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    for side in (8200, 12_000, 60_000):
        file = tmp_path / f"{side}.png"
        file.write_bytes(bomb(side, side))
        assert see(Image(file)).fault == "huge_picture"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_no_bytes_whatever_raise(kind: str) -> None:
    whole = encoded(Pillow.open(io.BytesIO(scene(1))).convert("RGB").resize((24, 24)), kind)
    rng = np.random.default_rng(0)
    assert not see(Image(make=lambda: whole)).fault
    for _ in range(150):
        torn = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(torn), 3):
            torn[place] = rng.integers(256)
        assert see(Image(make=lambda torn=torn: bytes(torn))).fault in (*KINDS, "")


def test_a_folder_in_place_of_a_picture_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bad.png").mkdir()
    assert set(shown(tmp_path, {"bad.png": None})) == {"missing_picture"}


def test_exif_rotation_is_noted_and_undone(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    upright = Pillow.open(io.BytesIO(scene(7)))
    turned = encoded(upright.transpose(Pillow.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    findings = shown(tmp_path, {"upright.png": scene(7), "turned.jpg": turned})
    assert findings["rotated_picture"].ids == ("r6",)
    assert findings["rotated_picture"].severity == "note"
    assert findings["similar_picture"].ids == ("r5", "r6")
    assert set(findings) == {"rotated_picture", "similar_picture"}


def test_doubles_by_bytes_and_by_looks(tmp_path: Path) -> None:
    again = encoded(Pillow.open(io.BytesIO(scene(0))).resize((150, 150)), "JPEG", quality=85)
    findings = shown(tmp_path, {"copy.png": scene(3), "again.jpg": again})
    assert findings["duplicate_picture"].ids == ("r3", "r5")
    assert findings["similar_picture"].ids == ("r0", "r6")
    assert [findings[kind].count for kind in ("duplicate_picture", "similar_picture")] == [1, 1]
    assert set(findings) == {"duplicate_picture", "similar_picture"}


def test_doubles_that_the_set_knows_of_are_none(tmp_path: Path) -> None:
    again = encoded(Pillow.open(io.BytesIO(scene(0))), "JPEG", quality=85)
    assert shown(tmp_path, {"copy.png": scene(3), "again.jpg": again}, cluster="all") == {}


def test_blank_pictures(tmp_path: Path) -> None:
    blank = encoded(Pillow.new("RGB", (30, 30), (255, 255, 255)), "JPEG")
    assert shown(tmp_path, {"blank.jpg": blank})["blank_picture"].ids == ("r5",)


def test_every_picture_is_looked_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(scene(1))
    spec = f"jsonl:{write_jsonl(tmp_path / 'rows.jsonl', [row(i, image='a.png') for i in range(4)])}"
    told: list[tuple[int, int]] = []
    assert len(look(read(spec), lambda done, total: told.append((done, total)))) == 1
    check("world:safe?n=3", declines, tell=lambda done, total: told.append((done, total)))
    assert told == [(1, 1), (1, 3), (2, 3), (3, 3)]


# Ids, repetitions, labels.


def test_a_record_that_repeats_an_id_and_its_picture(tmp_path: Path) -> None:
    findings = {f.kind: f for f in check(f"vlguard:{write_vlguard(tmp_path, records())}#train", declines).findings}
    again = ("vlguard/train/r39~2/0", "vlguard/train/r39~2/1")
    assert (findings["duplicate_id"].count, findings["duplicate_id"].ids) == (1, again)
    assert findings["picture_listed_twice"].count == 1
    assert findings["picture_listed_twice"].ids == ("vlguard/train/r39/0", "vlguard/train/r39/1", *again)
    assert findings["duplicate_example"].ids == again


def test_a_tilde_alone_repeats_nothing(tmp_path: Path) -> None:
    assert "duplicate_id" not in found(tmp_path, [row(0, id="a~2"), row(1, id="b"), row(2, id="ab~2/0")])
    assert found(tmp_path, [row(0, id="a/0"), row(1, id="a~2/0")])["duplicate_id"].ids == ("a~2/0",)


def test_ids_of_a_file_that_repeat_are_found_when_rows_are_numbered(tmp_path: Path) -> None:
    rows = [row(i, id="same" if i in (1, 3, 4) else f"r{i}") for i in range(6)]
    findings = found(tmp_path, rows, "?ids=row")
    assert (findings["duplicate_id"].count, findings["duplicate_id"].ids) == (2, ("rows/3", "rows/4"))
    with pytest.raises(DataError, match="'same' was used"):
        checked(tmp_path, rows)


def test_pictures_that_all_have_several_records_are_the_design(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(scene(1))
    assert found(tmp_path, [row(i, image="a.png") for i in range(4)]) == {}


def test_repetition_and_contradiction(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, prompt="where is  DISC 0", answer="It is in place 0!"),
        refusal(2, prompt="Where is disc 0?"),
    ]
    findings = found(tmp_path, [*rows, row(3, category="a", prompt="q"), row(4, category="b", prompt="Q?")])
    assert findings["duplicate_example"].ids == ("r1",)
    assert (findings["contradictory_labels"].count, findings["contradictory_labels"].ids) == (1, ("r0", "r1", "r2"))
    assert findings["contradictory_categories"].ids == ("r3", "r4")
    assert set(findings) == {"duplicate_example", "contradictory_labels", "contradictory_categories"}


def test_pictures_decide_whether_items_are_the_same(tmp_path: Path) -> None:
    for name, number in {"a": 1, "b": 2, "copy": 1}.items():
        (tmp_path / f"{name}.png").write_bytes(scene(number))
    same = {"prompt": "What is shown?"}
    other = [row(0, image="a.png", **same), refusal(1, image="b.png", **same)]
    assert found(tmp_path, other) == {}
    copy = found(tmp_path, [other[0], refusal(1, image="copy.png", **same)])
    assert copy["contradictory_labels"].ids == ("r0", "r1")
    (tmp_path / "b.png").unlink()
    (tmp_path / "a.png").unlink()
    assert set(found(tmp_path, other)) == {"missing_picture"}


# Texts.


@pytest.mark.parametrize(
    "token",
    [
        *("<image>", "<IMAGE>", "<|image_pad|>", "<|vision_start|>", "<|video_pad|>", "<image_soft_token>", "<img>"),
        *("<start_of_image>", "<end_of_image>", "<IMG_CONTEXT>", "</img>", "<|image_1|>", "<image_placeholder>"),
        *("<fake_token_around_image>", "<global-img>", "<row_1_col_2>", "[IMG]", "[IMG_BREAK]", "<|image|>", "<video>"),
        *("<Img><ImageHere></Img>", "<im_patch>", "<|begin_of_image|>", "<image1>"),
    ],
)
def test_tokens_that_stand_for_pictures(tmp_path: Path, token: str) -> None:
    findings = found(tmp_path, [row(0), row(1, prompt=f"What is {token} here?"), row(2, answer=f"A {token}.")])
    assert findings["image_token"].ids == ("r1", "r2")
    assert set(findings) == {"image_token"}


@pytest.mark.parametrize(
    "text",
    ["a <b>bold</b> image", "the <television> set", "<img src='a.png'>", "[image: a dog]", "5 < image > 3", "a <> b"],
)
def test_what_only_resembles_a_token(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, [row(0), row(1, prompt=text)]) == {}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("control_token", {"answer": "Yes.<|im_end|>"}),
        ("control_token", {"prompt": "[INST] What? [/INST]"}),
        ("placeholder_question", {"prompt": "N/A"}),
        ("placeholder_question", {"prompt": "na."}),
        ("placeholder_question", {"prompt": "Not applicable"}),
        ("placeholder_question", {"prompt": "..."}),
        ("placeholder_answer", {"answer": "n/a"}),
        ("placeholder_answer", {"answer": "TODO"}),
        ("empty_answer", {"answer": " "}),
        ("empty_answer", {"answer": None}),
        ("garbled_text", {"prompt": "Where is the cafÃ©?"}),
        ("garbled_text", {"answer": "Itâ€™s there."}),
        ("garbled_text", {"answer": "caf\ufffd"}),
        ("non_utf8", {"prompt": "half \ud83d of it"}),
        ("unexpected_refusal", {"answer": "I cannot say."}),
        ("missing_refusal", {"answer": "It is there.", "expected": "refuse"}),
    ],
)
def test_a_text_with_a_defect(tmp_path: Path, kind: str, change: dict[str, Any]) -> None:
    findings = found(tmp_path, [row(0), row(1, **change), refusal(2)])
    assert set(findings) == {kind}
    assert (findings[kind].count, findings[kind].ids) == (1, ("r1",))
    findings[kind].message.encode("utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "None"},
        {"answer": "Yes"},
        {"prompt": "¿Qué?"},
        {"prompt": "これは何？"},
        {"prompt": "A naïve château – Ångström, Ãustria"},
        {"answer": "It is there.", "expected": "reason"},
        {"answer": "It is there.", "expected": "refuse", "role": "forget"},
    ],
)
def test_a_text_without_a_defect(tmp_path: Path, change: dict[str, Any]) -> None:
    assert found(tmp_path, [row(0), row(1, **change), refusal(2)]) == {}


def test_a_set_without_answers_is_a_set_to_evaluate_on(tmp_path: Path) -> None:
    assert found(tmp_path, [row(i, answer=None) for i in range(3)]) == {}


def test_boilerplate_is_a_sentence_that_many_share(tmp_path: Path) -> None:
    shared = "There is nothing to see here."
    rows = [row(i, answer=shared) for i in range(9)] + [row(i) for i in range(9, 12)]
    assert found(tmp_path, rows) == {}
    rows = [*rows, row(12, answer="there is nothing to see  HERE")]
    finding = found(tmp_path, rows)["boilerplate_answer"]
    assert (finding.count, finding.ids[0], finding.ids[-1]) == (10, "r0", "r12")
    assert found(tmp_path, [row(i, answer="Yes.") for i in range(30)]) == {}


def test_missing_pictures_hide_nothing(tmp_path: Path) -> None:
    rows = [*records(), *(dict(r, id=f"n{i}") for i, r in enumerate(records(4)))]
    rows[0]["instr-resp"] = [{"instruction": "N/A", "response": "Sure."}]

    def texts(folder: Path, *, pictures: bool) -> list[tuple[str, int, tuple[str, ...]]]:
        spec = f"vlguard:{write_vlguard(folder, rows, pictures=pictures)}#train"
        return [(f.kind, f.count, f.ids) for f in check(spec, declines).findings if "picture" not in f.kind]

    there, absent = texts(tmp_path / "a", pictures=True), texts(tmp_path / "b", pictures=False)
    assert there == absent
    assert {"placeholder_question", "missing_refusal", "duplicate_id"} <= {kind for kind, *_ in there}


def test_the_order_of_rows_changes_no_count(tmp_path: Path) -> None:
    rows = [row(i, prompt="N/A" if i % 3 else "What?", answer="I cannot say this at all.") for i in range(12)]
    rows += [refusal(i, prompt="What?") for i in range(12, 20)]
    one, other = found(tmp_path, rows), found(tmp_path, rows[::-1])
    assert {kind: f.count for kind, f in one.items()} == {kind: f.count for kind, f in other.items()}
    assert len(one) > 4


def test_bytes_that_are_no_utf8_are_a_finding(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", [row(0)])
    file.write_bytes(file.read_bytes() + b'{"prompt": "caf\xe9", "answer": "yes"}\n')
    result = check(f"jsonl:{file}", declines)
    assert [(f.kind, f.count, f.ids) for f in result.findings] == [("non_utf8", 1, ())]
    assert "rows.jsonl" in result.findings[0].message
    assert result.count("error") == 1


def test_pairs_are_checked_as_well(tmp_path: Path) -> None:
    pair = {"prompt": "Where is it?", "chosen": "There.", "rejected": "Nowhere."}
    rows = [{"id": "a", **pair}, {"id": "b", **pair}, {"id": "c", **pair, "chosen": "<image>"}]
    findings = found(tmp_path, [*rows, {"id": "d", **pair, "rejected": "There."}])
    assert {kind: f.ids for kind, f in findings.items()} == {
        "image_token": ("c",),
        "duplicate_example": ("b",),
        "same_answers": ("d",),
    }


@pytest.mark.parametrize("spec", ["vlguard:nowhere#train", "jsonl:nowhere.jsonl", "nothing:x"])
def test_what_cannot_be_read_is_an_error_not_a_finding(spec: str) -> None:
    with pytest.raises((DataError, UnknownName)) as caught:
        check(spec, declines)
    assert "\n" not in str(caught.value)


def test_kinds_can_be_ignored(tmp_path: Path) -> None:
    result = checked(tmp_path, [row(0), row(1, answer="n/a"), row(2, image="none.png")])
    assert {f.kind for f in result.without(["missing_picture"]).findings} == {"placeholder_answer"}
    with pytest.raises(UnknownName, match="Did you mean 'missing_picture'"):
        result.without(["missing_pictures"])


def test_the_gravest_comes_first(tmp_path: Path) -> None:
    result = checked(tmp_path, [row(0), row(1, answer="n/a"), row(2, image="none.png")])
    assert [f.severity for f in result.findings] == ["error", "warning"]
    assert json.loads(json.dumps(result.to_json()))["problems"][0]["kind"] == "missing_picture"


def test_every_kind_is_documented_with_its_severity() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [kind for kind, about in KINDS.items() if f"| `{kind}` | {about.severity} |" not in text] == []


@pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")
def test_defects_of_the_published_metadata() -> None:
    findings = {f.kind: f for f in check(f"vlguard:{REAL}#train", declines).findings}
    counts = {kind: finding.count for kind, finding in findings.items()}
    assert (counts["duplicate_id"], counts["picture_listed_twice"]) == (1, 1)
    assert (counts["placeholder_question"], counts["boilerplate_answer"]) == (16, 69)
    assert findings["duplicate_id"].ids == ("vlguard/train/Ads_303871~2/0", "vlguard/train/Ads_303871~2/1")
    assert all(name.startswith("vlguard/train/PrivacyAlert_") for name in findings["boilerplate_answer"].ids)
    assert "contradictory_labels" not in findings
    assert "image_token" not in findings
    assert "missing_picture" in findings or (REAL / "train").is_dir()


def test_one_picture_at_two_places(tmp_path: Path) -> None:
    for name, number in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        (tmp_path / name).write_bytes(scene(number))
    rows = [row(0, images=["a.png", "a.png"]), row(1, images=["a.png", "b.png"]), row(2, images=["a.png", "c.png"])]
    assert found(tmp_path, rows)["repeated_picture"].ids == ("r0", "r1")


def test_an_option_that_stands_twice(tmp_path: Path) -> None:
    ask = "Which?\nA. red\nB. blue\nC. {}\nD. green"
    rows = [row(0, prompt=ask.format("red")), row(1, prompt=ask.format("black")), row(2, prompt="I said a. b.")]
    finding = found(tmp_path, rows)["repeated_option"]
    assert finding.ids == ("r0",)
    assert "'red'" in finding.message


def test_sides_that_differ_in_blanks_only_do_not_differ(tmp_path: Path) -> None:
    pairs = [
        {"id": name, "prompt": f"q{name}", "chosen": "Yes, it is.", "rejected": said}
        for name, said in (("a", "No."), ("b", "Yes,  it is.\n"), ("c", "Yes, it is."))
    ]
    assert found(tmp_path, pairs)["same_answers"].ids == ("b", "c")
