"""What is held out is what is to be forgotten, and is told apart by its subset and id."""

import pytest

from vlmend import data
from vlmend.errors import DataError, VlmendError
from vlmend.types import Role


def test_only_what_is_to_be_forgotten_under_another_id() -> None:
    whole = data.load("world:unlearning#test?n=5").examples
    found = data.load("holdout:world:unlearning#test?n=5").examples
    assert [e.id for e in found] == [f"holdout/{e.id}" for e in whole if e.role is Role.FORGET]
    assert {(e.role, e.subset) for e in found} == {(Role.FORGET, "holdout")}
    assert [e.answers for e in found] == [e.answers for e in whole if e.role is Role.FORGET]


def test_a_source_without_any_is_told() -> None:
    with pytest.raises(DataError, match="role forget"):
        data.load("holdout:world:safe#test?n=2")
    with pytest.raises(VlmendError, match="no source named 'wrld'"):
        data.load("holdout:wrld:unlearning")
