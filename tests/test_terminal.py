"""Counts agree with what they count, and long names leave numbers their room."""

import pytest

from vlmend.terminal import counted, named, plural


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 records"), (1, "1 record"), (2, "2 records"), (1327, "1,327 records")]
)
def test_a_count_and_its_noun(count: int, text: str) -> None:
    assert plural(count, "record") == text
    assert plural(1, "entry", "entries") == "1 entry"
    assert plural(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("message", "one", "two"),
    [
        ("{n} records repeat an id", "1 record repeats an id", "2 records repeat an id"),
        ("{n} pictures are blank", "1 picture is blank", "2 pictures are blank"),
        ("{n} of 40 pictures are blank", "1 of 40 pictures is blank", "2 of 40 pictures are blank"),
        ("{n} examples have no answer, 3 have one", "1 example has no answer, 3 have one", "2 examples have no"),
    ],
)
def test_a_message_agrees_with_its_count(message: str, one: str, two: str) -> None:
    assert counted(1, message) == one
    assert counted(2, message).startswith(two)


def test_a_long_name_is_whole_and_narrow() -> None:
    name = "asr.rubric:harm?model=openai:a-model-with-a-very-long-name-8b-instruct@http://localhost:8000/v1"
    lines = named(name).plain.split("\n")
    assert "".join(lines) == name
    assert max(map(len, lines)) <= 40
    assert lines[0].startswith("asr.rubric:harm?model=")
    assert named("asr").plain == "asr"
