"""Batches: everything once, within the budget, together what begins alike, little held at a time."""

import random
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import tiny
from tests.models.test_generate import about, picture
from vlmend.backends.hf import Hf
from vlmend.models import generate, pixels
from vlmend.models.plan import Budget, Line, batches, grouped, opening, order
from vlmend.models.prompts import Prompt, shared_length
from vlmend.types import Decoding, Example, Image, Message


def line(number: int, length: int, group: str) -> Line:
    ids = torch.arange(length)
    return Line(number, Prompt(ids, ids[None], {}, (), 0, 0, length - 1), group)


@pytest.mark.parametrize("seed", range(20))
def test_every_line_once_within_the_budget(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(30)]
    lines = [line(0, draw.randint(1, 60), f"g{g}") for g, size in enumerate(sizes) for _ in range(size)]
    lines = [each._replace(number=i) for i, each in enumerate(lines)]
    budget = Budget(rows=draw.randint(1, 20), tokens=draw.randint(50, 2000))
    made = list(batches(iter(lines), budget, new=10))
    assert [x.number for batch in made for x in batch] == list(range(len(lines)))
    for batch in made:
        cost = len(batch) * (max(len(x.prompt) for x in batch) + 10)
        assert len(batch) == 1 or (len(batch) <= budget.rows and cost <= budget.tokens)


def test_groups_are_cut_only_when_they_fill_half_a_batch() -> None:
    lines = [line(i, 10, f"g{i // 3}") for i in range(12)]
    made = [[x.number for x in batch] for batch in batches(lines, Budget(rows=7, tokens=10**6), new=0)]
    assert made == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    made = [len(batch) for batch in batches([line(i, 10, "g") for i in range(12)], Budget(5, 10**6), new=0)]
    assert made == [5, 5, 2]


def test_order_puts_together_what_begins_alike_and_long_ones_first() -> None:
    groups, lengths = ["a", "b", "a", "c", "b"], [5, 9, 7, 1, 2]
    assert [groups[i] for i in order(groups, lengths)] == ["b", "b", "a", "a", "c"]
    assert [lengths[i] for i in order(groups, lengths)] == [9, 2, 7, 5, 1]


def test_opening_is_all_up_to_the_last_picture() -> None:
    def shown(*parts: Any) -> str:
        return opening(Example("x", (Message("system", ("Be brief.",)), Message("user", parts))))

    assert shown(picture(1), "a") == shown(picture(1), "b", "c") == shown(Image(make=picture(1).read), "d")
    assert len({shown(picture(1), "a"), shown("b", picture(1)), shown(picture(2)), shown("a")}) == 4
    assert shown("a") == shown("b")


def test_shared_length_never_cuts_a_picture_or_takes_a_whole_prompt() -> None:
    def made(ids: list[int], pictured: int) -> Prompt:
        return Prompt(torch.tensor(ids), torch.zeros(1, len(ids)), {}, ("p",), pictured, pictured, len(ids) - 1)

    assert shared_length([made([1, 9, 9, 2, 3], 3), made([1, 9, 9, 2, 4], 3)]) == 4
    assert shared_length([made([1, 9, 9], 3), made([1, 9, 9], 3)]) == 0
    assert shared_length([made([1, 9, 9, 2], 3), made([5, 9, 9, 2], 3)]) == 0


def test_no_more_than_a_batch_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 prompts with a picture each, encoded ones and open pictures are alive for about one batch of four."""
    alive: dict[str, weakref.WeakSet[Any]] = {"prompts": weakref.WeakSet(), "pictures": weakref.WeakSet()}
    most = {"prompts": 0, "pictures": 0}
    encode, open_ = generate.prompt, pixels.LastPictures.opened

    def note(kind: str, made: Any) -> None:
        alive[kind].add(made)
        most[kind] = max(most[kind], len(alive[kind]))

    def watched(*given: Any) -> Prompt:
        made = encode(*given)
        note("prompts", made)
        return made

    def opened(self: pixels.LastPictures, example: Example) -> Example:
        shown = open_(self, example)
        note("pictures", shown.images[0])
        return shown

    monkeypatch.setattr(generate, "prompt", watched)
    monkeypatch.setattr(pixels.LastPictures, "opened", opened)
    backend = Hf(str(tiny.save("llava", tmp_path)), device="cpu", batch_size=4)
    examples = [e for seed in range(16) for e in about(seed)[:1]]
    assert len(list(backend.generate(examples, Decoding(max_new_tokens=1)))) == 16
    assert most["prompts"] <= 2 * 4 + 1
    assert most["pictures"] <= 2


def test_a_picture_is_decoded_once_for_all_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    usual = Image.open
    monkeypatch.setattr(Image, "open", lambda self: opened.append(self.sha256) or usual(self))
    backend = Hf(str(tiny.save("llava", tmp_path)), device="cpu")
    list(backend.generate([*about(1, 2)][::-1], Decoding(max_new_tokens=1)))
    assert len(opened) == len(set(opened)) == 2


def test_lines_of_a_group_stay_in_order() -> None:
    lines = [line(i, 5, g) for i, g in enumerate("aabba")]
    assert [[x.number for x in group] for group in grouped(lines)] == [[0, 1], [2, 3], [4]]
