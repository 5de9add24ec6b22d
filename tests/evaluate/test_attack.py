"""Laws of whoever runs attacks: budgets are kept, variants named by id, nothing counted twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from PIL import Image as Pillow

from vlmend.drawing import png, solid
from vlmend.errors import UsageError
from vlmend.evaluate.attack import attacked
from vlmend.registry import attacks
from vlmend.types import Example, Expected, Image, Message, Touched

GREY = Image(make=partial(solid, "#646464", (4, 4)))
BEFORE = Example(
    "e",
    (Message("user", ("Hello",)), Message("assistant", ("Hi.",)), Message("user", (GREY, "Describe this."))),
    expected=Expected.REFUSE,
    cluster="c",
)


@dataclass(frozen=True)
class Any_:
    """An attack that does what it is told, and says what it is told."""

    do: Callable[[Example], Example | Sequence[Example]]
    changes: frozenset[Touched] = field(default_factory=frozenset[Touched])

    def __call__(self, example: Example) -> Example | Sequence[Example]:
        return self.do(example)


@dataclass(frozen=True)
class Bounded(Any_):
    linf: float = 2


def last(*parts: str | Image) -> Callable[[Example], Example]:
    return lambda e: replace(e, prompt=(*e.prompt[:-1], Message("user", parts)))


def shade(value: int, size: tuple[int, int] = (4, 4)) -> Image:
    pixels = np.full((size[1], size[0], 3), 100, dtype=np.uint8)
    pixels[1, 2, 0] = value
    return Image(make=lambda: png(Pillow.fromarray(pixels)))


def test_an_attack_that_changes_nothing_changes_nothing() -> None:
    [after] = attacked([Any_(lambda e: e)], [BEFORE])
    assert replace(after, meta={}) == BEFORE
    assert after.meta == {"unchanged": "yes"}
    assert attacked([], [BEFORE]) == [BEFORE]


CHEATS: dict[str, Callable[[Example], Example]] = {
    "the text": last(GREY, "Something else."),
    "the pictures": last(Image(make=partial(solid, "red", (4, 4))), "Describe this."),
    "how many pictures": last("Describe this."),
    "the turns before": lambda e: replace(e, prompt=(Message("user", ("Bye",)), *e.prompt[1:])),
    "expected": lambda e: replace(e, expected=Expected.ANSWER),
    "cluster": lambda e: replace(e, cluster="x"),
    "answers": lambda e: replace(e, answers=("Sure.",)),
    "id": lambda e: replace(e, id="other"),
}
ALL: frozenset[Touched] = frozenset({"text", "pictures", "places", "history"})
SAYS: dict[str, Touched] = {
    "the text": "text", "the pictures": "pictures", "how many pictures": "places", "the turns before": "history",
}  # fmt: skip


@pytest.mark.parametrize("what", CHEATS)
def test_a_cheating_attack_is_caught(what: str) -> None:
    forbidden = ALL - {SAYS[what]} if what in SAYS else ALL
    with pytest.raises(UsageError, match=f"changed {what}.*'e', which it says it does not"):
        attacked([Any_(CHEATS[what], forbidden)], [BEFORE])


@pytest.mark.parametrize("what", SAYS)
def test_what_an_attack_says_it_changes_it_may_change(what: str) -> None:
    changes: frozenset[Touched] = frozenset({SAYS[what], "pictures"} if what == "how many pictures" else {SAYS[what]})
    [after] = attacked([Any_(CHEATS[what], changes)], [BEFORE])
    assert after.prompt != BEFORE.prompt


@pytest.mark.parametrize(("value", "fits"), [(100, True), (102, True), (98, True), (103, False), (97, False)])
def test_a_bound_on_pixels_is_checked_in_the_pixels(value: int, fits: bool) -> None:
    attack = Bounded(last(shade(value), "Describe this."), frozenset({"pictures"}), linf=2)
    if fits:
        assert len(attacked([attack], [BEFORE])) == 1
    else:
        with pytest.raises(UsageError, match="a pixel by 3 of 255, more than its 2"):
            attacked([attack], [BEFORE])


def test_a_bound_on_pixels_needs_the_same_size() -> None:
    attack = Bounded(last(shade(100, (4, 5)), "Describe this."), frozenset({"pictures"}))
    with pytest.raises(UsageError, match="the size of a picture"):
        attacked([attack], [BEFORE])


def variant(name: str, text: str) -> Example:
    return replace(last(GREY, text)(BEFORE), meta={"variant": name})


def test_variants_are_named_by_id_and_know_where_they_come_from() -> None:
    made = [variant("a", "One?"), variant("b", "Two?")]
    found = attacked([Any_(lambda _: made, frozenset({"text"}))], [BEFORE])
    assert [(e.id, e.origin, e.meta["variant"]) for e in found] == [("e@a", "e", "a"), ("e@b", "e", "b")]
    assert BEFORE.origin == "e"


def test_an_example_may_say_where_its_picture_comes_from() -> None:
    labeled = replace(BEFORE, meta={"origin": "bad_ads"})  # as VLGuard's do
    made = [replace(variant("a", "One?"), meta={**labeled.meta, "variant": "a"})]
    [found] = attacked([Any_(lambda _: made, frozenset({"text"}))], [labeled])
    assert (labeled.origin, found.origin, found.meta["origin"]) == ("e", "e", "bad_ads")


def test_variants_of_variants_keep_their_origin() -> None:
    chain = [attacks.from_spec("one_word:what,share"), attacks.from_spec("role_play?n=2")]
    found = attacked(chain, [BEFORE])
    assert [e.id for e in found] == [f"e@{a}@{b}" for a in ("what", "share") for b in ("novelist", "archive")]
    assert {e.origin for e in found} == {"e"}
    assert found[1].meta["variant"] == "what+archive"


def test_variants_that_ask_the_same_are_one() -> None:
    made = [variant("a", "One?"), variant("b", "One?"), variant("c", "Describe this.")]
    found = attacked([Any_(lambda _: made, frozenset({"text"}))], [BEFORE])
    assert [e.id for e in found] == ["e@a", "e@c"]
    assert [e.meta.get("unchanged") for e in found] == [None, "yes"]


def test_variants_need_names() -> None:
    for made in ([replace(BEFORE, meta={})], []):
        with pytest.raises(UsageError, match=r"without a name|made nothing"):
            attacked([Any_(lambda _, made=made: made)], [BEFORE])
