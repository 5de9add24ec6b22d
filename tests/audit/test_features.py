import io
from functools import partial

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.audit.made import example, rows
from tests.data.files import png
from vlmend.audit.features import answer_features, binned, cuts, folders, picture_features, question_features, ranges
from vlmend.audit.looks import NUMBERS, look, numbers, see
from vlmend.types import Image


def values(made: object, name: str) -> list[str]:
    feature = next(f for f in made if f.name == name)  # type: ignore[attr-defined]
    return [feature.values[code] for code in feature.codes]


def test_questions_by_their_form() -> None:
    made = list(question_features(rows(("What is it?", True), ("share it", False), ("", False)), 2))
    assert values(made, "first word") == ["what", "share", "(none)"]
    assert values(made, "first 2 words") == ["what is", "share it", "(none)"]
    assert values(made, "last character") == ["?", "letter", "(none)"]
    assert values(made, "first letter") == ["upper case", "lower case", "no letter"]


def test_bins_hold_every_number_and_do_not_see_the_label() -> None:
    given = np.random.default_rng(0).exponential(size=1000)
    feature = binned("length", "question", given.tolist())
    assert len(feature.values) == 10
    assert np.bincount(feature.codes).tolist() == [100] * 10
    assert ranges(cuts(np.array([5.0, 5.0]))) == ["all"]
    assert ranges(np.array([5.0, 8.0])) == ["≤ 5", "5 … 8", "> 8"]
    few = binned("length", "question", [1, 1, 1, 2])
    assert [few.values[code] for code in few.codes] == ["≤ 1", "≤ 1", "≤ 1", "> 1"]


def test_folders_need_no_file() -> None:
    assert folders([example("a", "What?", True, image="train/hateful/1.png"), example("b", "What?", False)]) == [
        "hateful",
        "",
    ]


def test_answers_begin_somehow() -> None:
    made = list(answer_features(rows(("What?", True), ("Who?", False))))
    assert values(made, "response prefix") == ["i'm sorry", "it is"]


def test_a_red_picture_is_red() -> None:
    found = see(Image(make=partial(png, (200, 10, 20))))
    assert not isinstance(found, str)
    seen = dict(zip(NUMBERS, found.numbers, strict=True))
    assert (found.width, found.height, found.format) == (8, 8, "PNG")
    assert [seen[f"{what} red"] for what in ("mean", "spread of", "border")] == pytest.approx([200, 0, 200])
    assert seen["saturation"] == pytest.approx(190)
    assert seen["horizontal edges"] == seen["vertical edges"] == seen["bright share"] == 0


def test_edges_have_a_direction() -> None:
    stripes = np.zeros((32, 32, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    seen = dict(zip(NUMBERS, numbers(Pillow.fromarray(stripes)), strict=True))
    assert seen["horizontal edges"] == pytest.approx(255)
    assert seen["vertical edges"] == 0
    assert seen["bright share"] == seen["dark share"] == pytest.approx(0.5)


def test_what_cannot_be_seen_is_counted_and_never_guessed() -> None:
    broken = Image(make=partial(bytes, 5))
    assert see(broken) == "broken"
    buffer = io.BytesIO(png())
    cut = buffer.getvalue()[:40]
    assert see(Image(make=lambda: cut)) == "broken"
    looks = look([example("a", "What?", True, image="none.png"), example("b", "Why?", False)], lambda *_: None)
    assert (looks.missing, looks.broken, looks.none) == (1, 0, 1)
    assert not looks.seen.any()
    names = [f.name for f in picture_features(rows(("What?", True), ("Why?", False)), looks)]
    assert names == ["number of pictures", "picture folder", "picture file type"]
    assert "1 missing, 1 not there" in looks.note
