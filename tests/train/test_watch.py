"""What looks like a gamed reward, from a log alone: which way a part has to go depends on how it counts."""

from __future__ import annotations

import pytest

from vlmend.train.watch import warnings


def log(*rows: tuple[float, float]) -> list[dict[str, dict[str, float]]]:
    """Steps by their total and one of its parts, at the same length."""
    return [{"rollouts": {"reward": total, "reward/part": part, "length": 20.0}} for total, part in rows]


@pytest.mark.parametrize(
    ("rows", "taken_off", "told"),
    [
        ([(0.2, 0.9), (0.8, 0.3)], (), "its part part fell from 0.9 to 0.3"),
        ([(0.2, 0.3), (0.8, 0.9)], (), ""),
        ([(0.2, 0.3), (0.8, 0.9)], ("part",), "its part part rose from 0.3 to 0.9"),
        ([(0.2, 0.9), (0.8, 0.3)], ("part",), ""),  # less of what is taken off is what was asked for
        ([(0.8, 0.9), (0.2, 0.3)], (), ""),  # nothing was bought where the whole fell, too
        ([(0.2, 0.9), (0.8, 0.89)], (), ""),  # hardly
    ],
)
def test_a_part_that_was_paid_with_is_told(
    rows: list[tuple[float, float]], taken_off: tuple[str, ...], told: str
) -> None:
    found = warnings(log(*rows), taken_off)
    assert (told in "".join(found)) if told else not found
    assert len(found) == bool(told)
