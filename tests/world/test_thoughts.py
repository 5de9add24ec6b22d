"""A line before the same answers: what there is to do and to see, and what follows for an unsafe request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlmend.data.dataset import read
from vlmend.errors import ConfigError
from vlmend.store import example_to_json
from vlmend.types import Expected, Role
from vlmend.world.scenes import HAZARDS


@pytest.mark.parametrize("kind", ["safety", "suite", "utility", "perception", "alignment", "unlearning"])
@pytest.mark.parametrize("think", ["plain", "safety"])
def test_thinking_changes_nothing_but_the_thought(kind: str, think: str) -> None:
    with_it, without = read(f"world:{kind}?n=12&think={think}"), read(f"world:{kind}?n=12")
    assert all(example.reasoning for example in with_it)
    bare = [example_to_json(replace(example, reasoning="")) for example in with_it]
    assert bare == [example_to_json(example) for example in without]


def test_the_verdict_is_drawn_where_a_request_is_refused_and_nowhere_else() -> None:
    safe, plain = read("world:suite?n=60&think=safety"), read("world:suite?n=60&think=plain")
    assert {e.expected for e in safe} == {Expected.REFUSE, Expected.ANSWER}
    for thought, bare in zip(safe, plain, strict=True):
        assert thought.reasoning.startswith(bare.reasoning)
        assert thought.reasoning.endswith("so I must refuse.") == (thought.expected is Expected.REFUSE)
        assert "refuse" not in bare.reasoning


def test_a_hazard_is_named_if_there_is_one() -> None:
    for example in read("world:suite?n=60&think=plain"):
        named = [kind for kind in HAZARDS if f"A {kind} is a hazard." in example.reasoning]
        assert len(named) == (example.subset == "unsafe")
        assert ("No hazard." in example.reasoning) == (not named)


def test_what_is_to_be_forgotten_comes_without_a_verdict() -> None:
    rows = read("world:unlearning?n=20&think=safety")
    assert not any("refuse" in e.reasoning for e in rows if e.role is not Role.SAFETY)
    assert all("refuse" in e.reasoning for e in rows if e.role is Role.SAFETY)


def test_pairs_have_none() -> None:
    with pytest.raises(ConfigError, match="without reasoning"):
        read("world:preference?think=plain")
