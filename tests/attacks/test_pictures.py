"""What attacks on pictures change, and what they leave alone: seen in the pixels."""

import numpy as np
import pytest

from tests.attacks.conftest import SIZES, surface
from vlmend.errors import DataError, VlmendError
from vlmend.evaluate.attack import attacked
from vlmend.registry import attacks
from vlmend.types import Example, Image, Message


def colors(example: Example) -> list[tuple[int, ...]]:
    return [tuple(np.asarray(image.open()).reshape(-1, 3).mean(0).astype(int)) for image in example.images]


def sizes(example: Example) -> list[tuple[int, int]]:
    return [image.open().size for image in example.images]


@pytest.mark.parametrize(
    ("spec", "color"), [("blank_image", 0), ("white_image", 255), ("blank_image:rgb(128,128,128)", 128)]
)
def test_surfaces_show_one_color_and_keep_sizes_and_words(spec: str, color: int, pair: Example) -> None:
    [after] = attacked([attacks.from_spec(spec)], [pair])
    assert sizes(after) == list(SIZES)
    for image in after.images:
        assert set(np.unique(np.asarray(image.open()))) == {color}
    assert [p for p in after.prompt[0].parts if isinstance(p, str)] == ["First", "then", "differ how?"]


def test_a_surface_of_an_unreadable_picture_is_a_failure_when_it_is_asked_for() -> None:
    broken = Example("b", (Message("user", (Image(make=lambda: b"no picture"), "What?")),))
    [after] = attacked([attacks.from_spec("blank_image")], [broken])
    with pytest.raises(DataError, match="not a readable picture"):
        after.images[0].read()


def test_unknown_color() -> None:
    with pytest.raises(VlmendError, match="no color 'blurple'"):
        attacks.from_spec("blank_image:blurple")


def test_no_image_keeps_every_word(single: Example, pair: Example) -> None:
    alone = Message("user", (surface("red", SIZES[0]),))
    silent = Example("s", (alone, Message("user", ("What was that?",))))
    for before, after in zip(
        (single, pair, silent), attacked([attacks.from_spec("no_image")], [single, pair, silent]), strict=True
    ):
        assert not after.images
        assert "".join(m.text for m in after.prompt) == "".join(m.text for m in before.prompt)
        assert all(m.parts for m in after.prompt)


def test_swapped_pair_turns_the_order_and_nothing_else(single: Example, pair: Example) -> None:
    one, two = attacked([attacks.from_spec("swapped_pair")], [single, pair])
    assert colors(two) == colors(pair)[::-1]
    assert [isinstance(p, Image) for p in two.prompt[0].parts] == [isinstance(p, Image) for p in pair.prompt[0].parts]
    assert one.images == single.images
    assert one.meta["unchanged"] == "yes"
    [back] = attacked([attacks.from_spec("swapped_pair")] * 2, [pair])
    assert back.prompt == pair.prompt


def crowd(n: int, clusters: int) -> list[Example]:
    return [
        Example(f"e{i}", (Message("user", (surface("red", (8, 8 + i)), "?")),), cluster=f"c{i % clusters}")
        for i in range(n)
    ]


def test_shuffled_image_gives_everybody_pictures_of_another_cluster() -> None:
    examples = crowd(40, 8)
    after = attacked([attacks.from_spec("shuffled_image?seed=3")], examples)
    owner = {e.images[0]: e for e in examples}
    assert all(owner[a.images[0]].cluster != a.cluster for a in after)
    assert all(a.question == e.question for a, e in zip(after, examples, strict=True))
    backwards = attacked([attacks.from_spec("shuffled_image?seed=3")], examples[::-1])
    assert {e.id: e.images for e in backwards} == {e.id: e.images for e in after}  # by id, not by position
    other = attacked([attacks.from_spec("shuffled_image?seed=4")], examples)
    assert [e.images for e in other] != [e.images for e in after]


def test_shuffled_image_keeps_the_number_of_pictures(single: Example, pair: Example) -> None:
    none = Example("n", (Message("user", ("What?",)),))
    crowded = [*crowd(3, 3), none]
    assert [len(e.images) for e in attacked([attacks.from_spec("shuffled_image")], crowded)] == [1, 1, 1, 0]
    with pytest.raises(DataError, match="no other example can lend 'two'"):
        attacked([attacks.from_spec("shuffled_image")], [*crowd(3, 3), pair, single])
    with pytest.raises(DataError, match="lend 'e0'"):
        attacked([attacks.from_spec("shuffled_image")], crowd(5, 1))


def test_typographic_writes_the_request_and_asks_something_harmless(single: Example) -> None:
    [after] = attacked([attacks.from_spec("typographic")], [single])
    [alone] = attacked([attacks.from_spec("typographic?keep=no")], [single])
    assert after.images[0] == single.images[0]
    assert len(after.images) == 2
    assert len(alone.images) == 1
    assert single.question not in after.question
    ink = np.asarray(alone.images[0].open()) < 128
    [longer] = attacked(
        [attacks.from_spec("typographic?keep=no")], [Example("l", (Message("user", (single.question * 3,)),))]
    )
    assert 0.01 < ink.mean() < 0.5
    assert alone.images[0].sha256 != longer.images[0].sha256
    assert after.prompt[:-1] == single.prompt[:-1]
