"""The order of examples: nothing lost, nothing twice, the same for any number of processes."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import pytest

from vlmend.data.batches import Plan, Stream, picture_groups, split_evenly
from vlmend.types import Example, Image, Message


def single(count: int) -> tuple[Stream, ...]:
    """One stream of examples by themselves."""
    return (tuple((i,) for i in range(count)),)


@pytest.mark.parametrize(("count", "size", "accumulation", "processes"), [(11, 2, 2, 1), (11, 1, 2, 2), (3, 4, 1, 4)])
def test_an_epoch_shows_every_example_once(count: int, size: int, accumulation: int, processes: int) -> None:
    plan = Plan(single(count), size, accumulation, processes, seed=3)
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        shown = [i for s in steps for p in range(processes) for batch in plan.window(s, p) for i in batch]
        assert sorted(shown) == list(range(count))


def test_processes_share_the_order_of_one() -> None:
    one, two = Plan(single(11), 2, 2, 1, seed=1), Plan(single(11), 2, 1, 2, seed=1)
    assert one.total_steps(2) == two.total_steps(2)
    for step in range(one.total_steps(2)):
        together = sorted(i for p in range(2) for batch in two.window(step, p) for i in batch)
        assert together == sorted(i for batch in one.window(step, 0) for i in batch)
        assert together == sorted(i for (i,) in one.step(step))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def orders() -> list[object]:
        return [tuple(Plan(single(50), 50, seed=seed).step(epoch)) for seed in range(2) for epoch in range(2)]

    assert len(set(orders())) == 4
    assert orders() == orders()


def test_processes_make_equally_many_passes_none_above_the_size() -> None:
    for count, processes in itertools.product(range(1, 14), range(1, 5)):
        plan = Plan(single(count), 2, 3, processes)
        for step in range(plan.steps_per_epoch):
            windows = [plan.window(step, p) for p in range(processes)]
            assert len({len(window) for window in windows}) == 1
            assert all(len(batch) <= 2 for window in windows for batch in window)


def test_total_steps() -> None:
    plan = Plan(single(10), 2, 2)
    assert plan.steps_per_epoch == 3
    assert (plan.total_steps(1), plan.total_steps(1.5), plan.total_steps(0.01), plan.total_steps(1, 7)) == (3, 5, 1, 7)


def test_split_evenly() -> None:
    rows = [(i,) for i in range(5)]
    assert split_evenly(rows, 3) == [rows[:2], rows[2:4], rows[4:]]
    assert [len(part) for part in split_evenly(rows[:1], 3)] == [1, 0, 0]


@pytest.mark.parametrize(("size", "processes"), [(2, 1), (1, 2), (3, 2)])
def test_short_streams_come_around_again_and_never_run_dry(size: int, processes: int) -> None:
    """The dead retain iterator of a published trainer: every row of every epoch has one entry of each stream."""
    long, short = tuple((i,) for i in range(7)), tuple((10 + i,) for i in range(3))
    plan = Plan((short, long), size, processes=processes, seed=1)
    assert plan.rows_per_epoch == 7
    rows = [row for step in range(3 * plan.steps_per_epoch) for row in plan.step(step)]
    assert len(rows) == 21
    for epoch in range(3):
        assert sorted(row[1] for row in rows[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert [sum(row[0] == 10 + i for row in rows) for i in range(3)] == [7, 7, 7]
    for at in range(0, 21, 3):  # and evenly: each round is a shuffle of all
        assert {row[0] for row in rows[at : at + 3]} == {10, 11, 12}
    assert rows[:7] != rows[7:14]


def test_what_belongs_together_stays_together_on_any_process() -> None:
    pairs, singles = tuple((i, 100 + i) for i in range(5)), ((50,), (51,))
    plan = Plan((pairs, singles), 2, accumulation=2, processes=2)
    for step, process in itertools.product(range(2 * plan.steps_per_epoch), range(2)):
        for shown in plan.window(step, process):
            rows = list(zip(*[iter(shown)] * 3, strict=True))
            assert all(one + 100 == other and single >= 50 for one, other, single in rows)


def test_questions_about_one_picture_stay_together_in_all_streams() -> None:
    """Four forgotten and four retained questions about each of six pictures, and two retained without one."""
    groups = tuple(i // 4 for i in range(24)) * 2 + (6, 7)
    forget, retain = tuple((i,) for i in range(24)), tuple((i,) for i in range(24, 50))
    plan = Plan((forget, retain), 4, seed=1, groups=groups)
    for epoch in range(3):
        rows = [row for step in range(plan.steps_per_epoch) for row in plan.step(epoch * plan.steps_per_epoch + step)]
        kept = [row[1] for row in rows]
        assert sorted(kept) == list(range(24, 50))
        shown = [groups[i] for i in kept]
        assert len(list(itertools.groupby(shown))) == 8  # each picture in one run of rows
    equal = Plan((forget, tuple((i,) for i in range(24, 48))), 4, seed=1, groups=groups)
    first, second = ([row for step in range(6) for row in equal.step(6 * epoch + step)] for epoch in range(2))
    for rows in (first, second):
        assert all(groups[f] == groups[r] for f, r in rows)
        assert sorted(f for f, _ in rows) == list(range(24))
    assert first != second


def test_where_no_picture_is_shared_nothing_is_grouped() -> None:
    stream = single(20)
    assert [Plan(stream, 4, groups=tuple(range(20))).step(i) for i in range(9)] == [
        Plan(stream, 4).step(i) for i in range(9)
    ]


def test_pictures_are_told_apart_without_being_read() -> None:
    def shows(*images: Image) -> Example:
        return Example("x", (Message("user", (*images, "?")),), ("!",))

    path = Path("there-is-no-such.png")
    made = [Image(make=partial(bytes, b"a")), Image(make=partial(bytes, b"a")), Image(make=partial(bytes, b"b"))]
    examples = [shows(Image(path)), shows(Image(path)), shows(), shows(), *(shows(image) for image in made)]
    assert picture_groups(examples) == (0, 0, 1, 2, 3, 3, 4)
