"""Examples whose labels and words are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlmend.audit.measures import Labeled
from vlmend.audit.rows import Rows
from vlmend.types import Example, Expected, Image, Message


def example(
    name: str, question: str, refuse: bool, *, cluster: str = "", subset: str = "", answer: str = "", image: str = ""
) -> Example:
    """One example; `image` is a path."""
    parts = (*([Image(Path(image))] if image else []), question)
    expected = Expected.REFUSE if refuse else Expected.ANSWER
    reply = answer or ("I'm sorry, but I can't help." if refuse else f"It is {name}.")
    return Example(name, (Message("user", parts),), (reply,), expected, subset=subset, cluster=cluster or name)


def rows(*asked: tuple[str, bool]) -> Rows:
    """Rows from (question, refuse) pairs, each a cluster of its own."""
    return Rows("made", tuple(example(f"e{i}", text, refuse) for i, (text, refuse) in enumerate(asked)))


def labeled(refused: Sequence[int], cluster: Sequence[int] | None = None) -> Labeled:
    """Labels; clusters are the examples' places unless given, folds go round."""
    own = np.arange(len(refused)) if cluster is None else np.array(cluster)
    return Labeled(np.array(refused, dtype=bool), own, own % 5)
