"""Pixels change within the bound, toward the target, once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlmend.attacks.pgd import Aimed, Pgd
from vlmend.errors import UsageError
from vlmend.evaluate.attack import aimed, attacked
from vlmend.registry import attacks
from vlmend.types import Example


class Hill:
    """The loss is the mean distance to a grey of 255 * 0.6; knows how often it was asked."""

    fingerprint = "hill"

    def __init__(self) -> None:
        self.asked = 0

    def loss(self, example: Example, target: str) -> float:
        return float(np.mean([np.abs(np.asarray(i.open(), dtype=float) - 153).mean() for i in example.images]))

    def gradients(self, example: Example, target: str) -> tuple[float, list[np.ndarray]]:
        self.asked += 1
        pixels = [np.asarray(i.open(), dtype=float) for i in example.images]
        return self.loss(example, target), [np.sign(x - 153) for x in pixels]


def after(attack: Pgd, example: Example, folder: Path, hill: Hill | None = None) -> Example:
    [found] = attacked(aimed([attack], hill or Hill(), folder), [example])
    return found


@pytest.mark.parametrize("eps", [1, 5.5, 40])
def test_pixels_go_as_far_as_the_bound_and_no_farther(eps: float, pair: Example, tmp_path: Path) -> None:
    found = after(Pgd(eps=eps, steps=30), pair, tmp_path)
    assert found.question == pair.question
    for old, new in zip(pair.images, found.images, strict=True):
        x, y = (np.asarray(i.open(), dtype=float) for i in (old, new))
        assert np.abs(x - y).max() == int(eps)  # black and full channels are far from 153
        assert (np.abs(y - 153) <= np.abs(x - 153)).all()


def test_is_made_once_and_found_again(single: Example, tmp_path: Path) -> None:
    hill = Hill()
    first = after(Pgd(steps=3), single, tmp_path, hill)
    assert hill.asked == 3
    again = after(Pgd(steps=3), single, tmp_path, hill)
    assert hill.asked == 3
    assert [i.sha256 for i in again.images] == [i.sha256 for i in first.images]
    after(Pgd(steps=3, seed=1), single, tmp_path, hill)
    assert hill.asked == 6


def test_never_worse_than_nothing(single: Example, tmp_path: Path) -> None:
    class Trap(Hill):
        def gradients(self, example: Example, target: str) -> tuple[float, list[np.ndarray]]:
            loss, slopes = super().gradients(example, target)
            return loss, [-slope for slope in slopes]

    found = after(Pgd(steps=5, random_start=False), single, tmp_path, Trap())
    assert [i.sha256 for i in found.images] == [i.sha256 for i in single.images]


def test_a_larger_change_than_promised_is_caught(single: Example, tmp_path: Path) -> None:
    class Liar(Aimed):
        @property
        def linf(self) -> float:
            return 1.0

    with pytest.raises(UsageError, match=r"a pixel by \d+ of 255, more than its 1"):
        attacked([Liar(Pgd(eps=8, steps=8), Hill(), tmp_path)], [single])


def test_without_pictures_or_without_a_model(single: Example, tmp_path: Path) -> None:
    words = replace(single, prompt=single.prompt[:1])
    assert after(Pgd(), words, tmp_path).prompt == words.prompt
    with pytest.raises(UsageError, match="needs a model"):
        attacks.from_spec("pgd")(single)
