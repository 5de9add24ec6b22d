"""Nouns keep their own promises: identity by content, and a picture that is none is refused by name."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from vlmend.errors import DataError
from vlmend.types import Example, Finish, Image, Message, Rate, Response, conversation_key, digest


def png(color: str = "red", size: tuple[int, int] = (4, 2)) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def test_an_image_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png())
    paths = Image(tmp_path / "a.png"), Image(tmp_path / "b.png")
    drawn = Image(make=png)
    assert paths[0].sha256 == paths[1].sha256 == drawn.sha256 == hashlib.sha256(png()).hexdigest()
    assert drawn.open().size == (4, 2)
    with pytest.raises(ValueError, match="either"):
        Image()


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "is empty"), (b"just text", "not a readable picture"), (png()[:40], "not a readable")]
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        Image(tmp_path / "x.png").open()
    assert "x.png" in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        Image(tmp_path / "absent.png").open()


def test_rotation_in_the_file_is_applied() -> None:
    file = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    Pillow.new("RGB", (4, 2)).save(file, "JPEG", exif=exif)
    assert Image(make=file.getvalue).open().size == (2, 4)


def test_a_decompression_bomb_is_refused_like_any_broken_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1)
    with pytest.raises(DataError, match="not a readable picture"):
        Image(make=png).open()


def test_replacing_text_keeps_pictures_and_their_place() -> None:
    a, b = Image(make=png), Image(make=lambda: png("blue"))
    message = Message("user", (a, "old", b, "more"))
    assert message.with_text("new").parts == (a, "new", b)
    assert Message("user", (a,)).with_text("new").parts == (a, "new")


def test_what_is_learned_of_a_conversation_is_no_part_of_what_is_shown() -> None:
    said = Message("assistant", ("Red.",), supervised=False)
    assert said.with_text("Blue.") == Message("assistant", ("Blue.",), supervised=False)
    assert conversation_key([said]) == conversation_key([Message("assistant", ("Red.",))])


def test_the_conversation_key_tells_pictures_texts_order_and_roles_apart() -> None:
    a, b = Image(make=png), Image(make=lambda: png("blue"))
    conversations = [
        [Message("user", (a, "x"))],
        [Message("user", (b, "x"))],
        [Message("user", ("x", a))],
        [Message("user", (a, "y"))],
        [Message("system", (a, "x"))],
        [Message("user", (a.sha256, "x"))],
        [Message("user", (a,)), Message("user", ("x",))],
    ]
    assert len({digest(conversation_key(c)) for c in conversations}) == len(conversations)
    assert digest(conversation_key(conversations[0])) == digest(
        conversation_key([Message("user", (Image(make=png), "x"))])
    )


def test_a_rate_over_nothing_has_no_value() -> None:
    empty = Rate(0, 0, 0, None, None)
    assert empty.value is None
    assert empty.worst is None
    failed = Rate(0, 0, 5, None, None)
    assert failed.value is None
    assert (failed.worst, failed.best) == (1.0, 0.0)
    some = Rate(1, 4, 4, 0.0, 1.0)
    assert (some.value, some.worst, some.best) == (0.25, 5 / 8, 1 / 8)


@pytest.mark.parametrize(
    ("finish", "text", "said"),
    [(Finish.STOP, "No.", True), (Finish.LENGTH, "No", True), (Finish.STOP, " \n", False), (Finish.FAILED, "x", False),
     (Finish.BLOCKED, "x", False)],
)  # fmt: skip
def test_only_what_was_said_can_be_judged(finish: Finish, text: str, said: bool) -> None:
    assert Response("r", "e", text, finish).said is said


def test_an_example_knows_its_last_question_and_all_pictures() -> None:
    a, b = Image(make=png), Image(make=lambda: png("blue"))
    example = Example(
        "e", (Message("user", (a, "first")), Message("assistant", ("ok",)), Message("user", ("second", b)))
    )
    assert example.question == "second"
    assert example.images == (a, b)
