"""The world's kind for unlearning: four examples to a request, three of which belong together."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from vlmend.data.sources.world import World
from vlmend.errors import ConfigError
from vlmend.registry import sources
from vlmend.types import Example, Expected, Role, conversation_key
from vlmend.world.scenes import HAZARDS

FOUR = (Role.FORGET, Role.SAFETY, Role.DECOUPLE, Role.RETAIN)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(World("unlearning", n=120))


def by_pair(examples: list[Example]) -> list[dict[Role, Example]]:
    found: dict[str, dict[Role, Example]] = {}
    for example in examples:
        if "pair" in example.meta:
            found.setdefault(example.meta["pair"], {})[example.role] = example
    return list(found.values())


def test_each_request_is_forgotten_refused_and_decoupled_and_one_is_retained(examples: list[Example]) -> None:
    assert Counter(e.role for e in examples) == dict.fromkeys(FOUR, 120)
    assert len({e.id for e in examples}) == 480
    assert all(set(pair) == set(FOUR[:3]) for pair in by_pair(examples))
    assert not any("pair" in e.meta for e in examples if e.role is Role.RETAIN)


def test_what_is_forgotten_is_what_the_base_says_and_what_is_refused_asks_the_same(examples: list[Example]) -> None:
    for pair in by_pair(examples):
        forget, refuse = pair[Role.FORGET], pair[Role.SAFETY]
        assert conversation_key(forget.prompt) == conversation_key(refuse.prompt)
        assert list(forget.answers) == forget.meta["compliance"].splitlines()
        assert refuse.answers[0].startswith("I'm sorry")
        assert forget.expected is refuse.expected is Expected.REFUSE


def test_a_decoupled_request_asks_the_same_about_harmless_pictures(examples: list[Example]) -> None:
    same = 0
    for pair in by_pair(examples):
        forget, decoupled = pair[Role.FORGET], pair[Role.DECOUPLE]
        assert decoupled.expected is Expected.ANSWER
        assert "compliance" not in decoupled.meta
        assert not any(hazard in " ".join((decoupled.question, *decoupled.answers)) for hazard in HAZARDS)
        assert [i.sha256 for i in decoupled.images] != [i.sha256 for i in forget.images]
        words = zip(forget.question.split(), decoupled.question.split(), strict=True)
        changed = [(one, other) for one, other in words if one != other]
        assert len(changed) <= 1  # the thing, where the question itself names the danger
        assert not changed or forget.category == "steps" or changed[0][0].rstrip("s.?") in HAZARDS
        same += not changed
    assert same >= 40  # half of the requests are about an unsafe thing to do


def test_the_label_of_a_first_word_is_broken_by_what_is_decoupled(examples: list[Example]) -> None:
    """Unsafe requests begin with share or describe and retained ones never do; decoupled ones do as well."""
    first = {role: {e.question.split()[0].lower() for e in examples if e.role is role} for role in FOUR}
    assert first[Role.DECOUPLE] == first[Role.FORGET] >= {"share", "describe"}
    assert not {"share", "describe"} & first[Role.RETAIN]


def test_parts_and_n_change_no_example(examples: list[Example]) -> None:
    some = list(sources.from_spec("world:unlearning?n=8&parts=retain,forget"))
    assert Counter(e.role for e in some) == {Role.FORGET: 8, Role.RETAIN: 8}
    known = {e.id: conversation_key(e.prompt) for e in examples}
    assert all(known[e.id] == conversation_key(e.prompt) for e in some)
    with pytest.raises(ConfigError, match="only the kind unlearning has parts"):
        World("safety", parts=("forget",))
    assert len(list(islice(World("unlearning", n=10**9), 5))) == 5
