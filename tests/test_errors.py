"""No message holds more of a value than a reader can use."""

from __future__ import annotations

import pytest

from vlmend.errors import ConfigError, DataError, UnknownName, VlmendError, brief, nearest


@pytest.mark.parametrize(
    "value", ["a" * 100_000, "a b " * 100_000, b"\xff" * 100_000, ["a" * 1000] * 1000, {"k": "v" * 10**5}]
)
def test_a_value_is_quoted_in_about_a_line(value: object) -> None:
    assert len(brief(value)) < 500
    assert len(str(UnknownName("thing", str(value), ["a", "b"]))) < 500


def test_a_short_value_is_quoted_whole() -> None:
    assert brief("it's") == repr("it's")
    assert brief(["a", 1]) == repr(["a", 1])
    assert brief("x" * 101).endswith("(101 characters)")


@pytest.mark.parametrize("kind", [VlmendError, DataError, ConfigError])
def test_what_was_overlooked_is_cut(kind: type[VlmendError]) -> None:
    told = str(kind(f"picture {'iVBORw0KGgo' * 10_000} cannot be read: it is long"))
    assert len(told) < 300
    assert told.startswith("picture iVBOR")
    assert told.endswith("(110,000 characters) cannot be read: it is long")
    assert str(kind("/a/path" * 40)) == "/a/path" * 40


def test_nothing_far_off_is_called_near() -> None:
    assert nearest("response", ["question", "id"]) == ""
    assert nearest("qestion", ["question", "id"]) == " Did you mean 'question'?"
