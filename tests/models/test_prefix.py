"""Shared beginnings: every example finds its own tokens, in order, and no other, in the rows that all share."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from vlmend.models.prefix import ROW, Feed, feed, forest, visible
from vlmend.models.prompts import Prompt


def prompt(ids: Sequence[int], shown: str = "", pictured: int = 0) -> Prompt:
    return Prompt(
        ids=torch.tensor(ids),
        positions=torch.arange(len(ids))[None],
        pictures={"pixel_values": torch.zeros(1)} if shown else {},
        shown=(shown,) if shown else (),
        pieces=pictured,
        pictured=pictured,
        free=len(ids),
    )


def made(seed: int) -> list[Prompt]:
    """Prompts about up to three pictures, or none, that begin alike in all ways: also one within another, and twice."""
    chance = random.Random(seed)
    found: list[Prompt] = []
    for _ in range(chance.randint(1, 12)):
        shown = chance.choice(["", "a", "b", "c"])
        head = [1, *([9] * 5 if shown else [2] * 20)]
        tail = [chance.randint(3, 4) for _ in range(chance.randint(1, 6))]
        found.append(prompt(head + tail, shown, 6 if shown else 0))
    return [*found, found[0]]


def check(prompts: Sequence[Prompt], fed: Feed) -> None:
    """Each token of each example: the right id and position, seeing exactly what stands before it in the example."""
    ids, positions = fed.inputs["input_ids"].flatten(), fed.inputs["position_ids"].flatten()
    width = fed.inputs["input_ids"].shape[1]
    seen = None if fed.until is None else visible(fed.until, "sdpa", torch.float32)[:, 0]
    for number, found in enumerate(prompts):
        place = fed.place[number, : len(found)]
        assert torch.equal(ids[place], found.ids)
        assert torch.equal(positions[place], found.positions[0])
        assert len(set((place // width).tolist())) == 1
        if seen is None:
            continue
        row = int(place[0]) // width
        for t, at in enumerate((place % width).tolist()):
            assert sorted(seen[row, at].nonzero().flatten().tolist()) == (place[: t + 1] % width).tolist()


@pytest.mark.parametrize("seed", range(40))
def test_an_example_sees_itself_and_nothing_else(seed: int) -> None:
    prompts = made(seed)
    for share in (True, False):
        for pack in (True, False):
            fed = feed(prompts, 0, share=share, pack=pack)
            check(prompts, fed)
            assert len(fed.shown) <= sum(bool(p.pictures) for p in prompts)
            assert fed.tokens <= len(prompts) * max(map(len, prompts))


def test_a_picture_asked_about_eight_times_goes_through_once() -> None:
    prompts = [prompt([1, *[9] * 500, 20 + i, *range(60)], "a", 501) for i in range(8)]
    fed = feed(prompts, 0)
    assert fed.tokens == 501 + 8 * 61
    assert [p.shown for p in fed.shown] == [("a",)]


def test_pictures_of_one_row_come_in_the_order_of_its_tokens() -> None:
    prompts = [prompt([1, *[9] * n, 5, i], name, n + 1) for i, (name, n) in enumerate([("b", 4), ("a", 9), ("b", 4)])]
    fed = feed(prompts, 0)
    order: list[int] = []
    for number in range(3):
        order.append(int(fed.place[number, 1]))
    firsts = sorted({place: prompts[i].shown for i, place in enumerate(order)}.items())
    assert [shown for _, shown in firsts] == [p.shown for p in fed.shown]


def test_other_pictures_of_the_same_size_are_not_shared() -> None:
    prompts = [prompt([1, *[9] * 30, 5], name, 31) for name in ("a", "b")]
    assert len(list(forest(prompts, ROW))) == 2


def test_no_tree_cuts_a_picture_off_or_outgrows_its_limit() -> None:
    differ_before = [prompt([1, i, *[9] * 30, 5], "a", 32) for i in (2, 3)]
    assert len(list(forest(differ_before, ROW))) == 2
    many = [prompt([1, *[9] * 30, 100 + i, *[7] * 9], "a", 31) for i in range(50)]
    trees = list(forest(many, 100))
    assert len(trees) > 1
    assert all(len(tree) <= 100 for tree in trees)
    assert sorted(number for tree in trees for number in tree.places) == list(range(50))


def test_other_positions_are_not_shared() -> None:
    one, two = prompt([1, *[9] * 30, 5], "a", 31), prompt([1, *[9] * 30, 6], "a", 31)
    moved = Prompt(two.ids, two.positions + 1, two.pictures, two.shown, two.pieces, two.pictured, two.free)
    assert len(list(forest([one, two], ROW))) == 1
    assert len(list(forest([one, moved], ROW))) == 2


def test_every_kind_of_attention_gets_the_same_mask() -> None:
    fed = feed([prompt([1, *[9] * 50, 5 + i, 7], "a", 51) for i in range(5)], 0)
    assert fed.until is not None
    dense = visible(fed.until, "sdpa", torch.float32)
    added = visible(fed.until, "eager", torch.float32)
    assert torch.equal(added == 0, dense)
    assert bool((added[~dense] < -1e30).all())
    blocks = visible(fed.until, "flex_attention", torch.float32)
    width = fed.until.shape[1]
    at = torch.arange(width)
    row = torch.tensor(0)
    mask = torch.stack([torch.stack([blocks.mask_mod(row, row, q, k) for k in at]) for q in at])
    assert torch.equal(mask, dense[0, 0])
