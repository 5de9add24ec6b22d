"""Preference pairs in a mix: both sides, tied together, never half of one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from vlmend.config import DataConfig
from vlmend.data.mix import build
from vlmend.data.preferences import picture_negatives, sides
from vlmend.errors import DataError
from vlmend.types import Example, Image, Message, Pair, Role

ONE, TWO = (Image(make=lambda n=n: bytes([n])) for n in range(2))


def test_a_pair_has_a_chosen_and_a_rejected_side() -> None:
    pair = Pair("p", (Message("user", (ONE, "What?")),), "No.", "Yes.", subset="s", cluster="c", source="x")
    chosen, rejected = sides(pair)
    assert (chosen.role, chosen.answers, rejected.role, rejected.answers) == (
        *(Role.SAFETY, ("No.",)),
        *(Role.FORGET, ("Yes.",)),
    )
    assert chosen.meta["pair"] == rejected.meta["pair"] == "p"
    assert chosen.prompt == rejected.prompt == pair.prompt
    assert chosen.id != rejected.id
    assert chosen.cluster == rejected.cluster == "c"


def test_a_rejected_side_may_have_seen_other_pictures() -> None:
    asked = (Message("user", ("First", ONE, "What?")),)
    _, rejected = sides(Pair("p", asked, "No.", "Yes.", rejected_images=(TWO,)))
    assert rejected.prompt == (Message("user", ("First", TWO, "What?")),)
    for wrong in ((), (TWO, TWO)):
        with pytest.raises(DataError, match="more or fewer rejected pictures"):
            sides(Pair("p", asked, "No.", "Yes.", rejected_images=wrong))


def test_a_mix_shows_pairs_as_both_sides_and_never_samples_half_of_one(tmp_path: Path) -> None:
    Pillow.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    rows = [{"id": f"p{i}", "prompt": "q", "chosen": "yes", "rejected": "no", "images": ["a.png"]} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"jsonl:{tmp_path / 'pairs.jsonl'}"

    def mixed(**part: object) -> list[Role]:
        config = DataConfig.model_validate({"mix": [{"source": source, **part}]})
        return sorted(example.role for example in build(config).examples)

    assert mixed() == [Role.FORGET] * 4 + [Role.SAFETY] * 4
    assert mixed(where={"role": "safety"}) == [Role.SAFETY] * 4
    for limit in ({"n": 2}, {"fraction": 0.5}, {"role": "retain"}):
        with pytest.raises(DataError, match="holds preference pairs"):
            mixed(**limit)


def test_roles_that_are_left_out_are_counted(tmp_path: Path) -> None:
    config = DataConfig.model_validate({"mix": [{"source": "world:unlearning?n=3"}]})
    mix = build(config).of_roles(frozenset({Role.FORGET}))
    assert [example.role for example in mix.examples] == [Role.FORGET] * 3
    assert len(mix.weights) == 3
    assert mix.report["left_out"] == {"decouple": 3, "retain": 3, "safety": 3}
    assert mix.report["examples"] == 3


def pictured(count: int, pictures: int) -> list[Example]:
    """Both sides of pairs that take turns with the pictures."""
    shown = [Image(make=lambda n=n: bytes([n])) for n in range(pictures)]
    pairs = [
        Pair(f"p{i}", (Message("user", ("First", shown[i % pictures], f"{i}?")),), f"No {i}.", f"Yes {i}.")
        for i in range(count)
    ]
    return [side for pair in pairs for side in sides(pair)]


def test_a_picture_negative_is_the_chosen_answer_about_another_picture() -> None:
    examples = pictured(30, 3)
    found = list(picture_negatives(examples, seed=0))
    assert len(found) == 30
    drawn = set[Image]()
    for (mine, other), chosen in zip(found, examples[::2], strict=True):
        assert (mine.role, other.role) == (Role.SAFETY, Role.FORGET)
        assert mine.answers == other.answers == chosen.answers
        assert mine.prompt == chosen.prompt
        assert mine.question == other.question
        assert mine.images != other.images
        assert other.prompt[0].parts[0::2] == chosen.prompt[0].parts[0::2]  # the picture stands where it stood
        assert mine.meta["pair"] == other.meta["pair"] != chosen.meta["pair"]
        drawn.update(other.images)
    assert len(drawn) == 3
    assert len({e.id for pair in found for e in pair} | {e.id for e in examples}) == 120


def test_which_picture_depends_on_pair_and_seed_alone() -> None:
    examples = pictured(30, 5)
    found = [other.images for _, other in picture_negatives(examples, seed=0)]
    assert [other.images for _, other in picture_negatives(examples, seed=0)] == found
    assert [other.images for _, other in picture_negatives(examples, seed=1)] != found


def test_where_there_is_no_other_picture_it_says_so() -> None:
    with pytest.raises(DataError, match=r"'p0/chosen' shows 1 picture, and no other"):
        list(picture_negatives(pictured(4, 1), seed=0))
    blind = [side for i in range(2) for side in sides(Pair(f"p{i}", (Message("user", ("What?",)),), "No.", "Yes."))]
    with pytest.raises(DataError, match="no preference pair of the mix shows a picture"):
        list(picture_negatives(blind, seed=0))
