"""What is said to oneself before an answer is read under all its names, kept apart and written again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import export
from vlmend.data.dataset import fingerprint_of, read_any
from vlmend.data.preferences import paired, sides
from vlmend.errors import DataError
from vlmend.store import example_from_json, example_to_json
from vlmend.types import Example, Message, Pair

ASK = {"role": "user", "content": "Is it hot?"}
THOUGHT = "It glows.\nSo it is."
TAGGED = f"<think>\n{THOUGHT}\n</think>\n\nYes."


def read(folder: Path, row: dict[str, Any]) -> Example | Pair:
    file = folder / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (item,) = read_any(f"jsonl:{file}")
    return item


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, {"role": "assistant", "content": "Yes.", "reasoning": THOUGHT}]},
        {"messages": [ASK, {"role": "assistant", "content": "Yes.", "reasoning_content": f"{THOUGHT}\n"}]},
        {"messages": [ASK, {"role": "assistant", "content": "Yes.", "thinking": THOUGHT}]},
        {"messages": [ASK, {"role": "assistant", "content": TAGGED}]},
        {"messages": [ASK, {"role": "assistant", "content": f"◁think▷{THOUGHT}◁/think▷Yes."}]},
        {
            "messages": [
                ASK,
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "Yes."}],
                },
            ]
        },
        {"messages": [ASK, {"role": "assistant", "content": "Yes."}], "reasoning": THOUGHT},
        {"conversations": [{"from": "human", "value": "Is it hot?"}, {"from": "gpt", "value": TAGGED}]},
        {"prompt": "Is it hot?", "answer": "Yes.", "reasoning": THOUGHT},
        {"prompt": "Is it hot?", "answer": TAGGED, "thinking": THOUGHT},
        {"instruction": "Is it hot?", "output": TAGGED},
    ],
)
def test_every_way_to_write_it_is_one(tmp_path: Path, row: dict[str, Any]) -> None:
    item = read(tmp_path, row)
    assert isinstance(item, Example)
    assert (item.reasoning, item.answers, item.question) == (THOUGHT, ("Yes.",), "Is it hot?")
    assert not item.meta


@pytest.mark.parametrize(
    "answer",
    ["Write <think> before it.", "<think>It glows. Yes.", "A <think>tag</think> it is.", "<think></think>Yes."],
)
def test_an_answer_that_speaks_of_tags_is_left_alone(tmp_path: Path, answer: str) -> None:
    item = read(tmp_path, {"prompt": "?", "answer": answer})
    assert isinstance(item, Example)
    assert (item.reasoning, item.answers) == ("", (answer,))


def test_earlier_turns_keep_theirs_in_their_text(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "Hello.", "reasoning": "Who is that?"}
    item = read(tmp_path, {"messages": [ASK, said, ASK, {"role": "assistant", "content": "Yes."}]})
    assert isinstance(item, Example)
    assert item.prompt[1].text == "<think>\nWho is that?\n</think>\n\nHello."
    assert item.reasoning == ""


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "?", "reasoning": THOUGHT},
        {"prompt": "?", "reasoning": "Another.", "answer": TAGGED},
        {"messages": [ASK, {"role": "assistant", "content": TAGGED, "reasoning": "Another."}]},
        {"messages": [ASK, {"role": "assistant", "content": "Yes.", "reasoning": "One.", "thinking": "Another."}]},
    ],
)
def test_two_that_differ_or_one_without_an_answer_are_refused(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="reasoning"):
        read(tmp_path, row)


def test_sides_of_a_pair_have_their_own(tmp_path: Path) -> None:
    pair = read(tmp_path, {"prompt": "Is it hot?", "chosen": TAGGED, "rejected": "<think>Hm.</think>No."})
    assert isinstance(pair, Pair)
    chosen, rejected = sides(pair)
    assert (chosen.reasoning, chosen.answers) == (THOUGHT, ("Yes.",))
    assert (rejected.reasoning, rejected.answers) == ("Hm.", ("No.",))
    assert paired(chosen, "No.").chosen == TAGGED


EXAMPLE = Example("x", (Message("user", ("Is it hot?",)),), ("Yes.", "Yes, it is."), source="here", reasoning=THOUGHT)


@pytest.mark.parametrize("form", list(export.FORMS))
def test_exports_write_it_and_it_is_read_again(form: str, tmp_path: Path) -> None:
    (item,) = read_any(f"jsonl:{export.write([EXAMPLE], form, tmp_path / form).file}")
    assert isinstance(item, Example)
    assert (item.reasoning, item.answers) == (THOUGHT, EXAMPLE.answers)


def test_what_is_stored_is_the_same_and_rows_without_it_are_what_they_were() -> None:
    assert example_from_json(example_to_json(EXAMPLE)) == EXAMPLE
    assert "reasoning" not in example_to_json(replace(EXAMPLE, reasoning=""))
    assert fingerprint_of([EXAMPLE]) != fingerprint_of([replace(EXAMPLE, reasoning="")])
    assert fingerprint_of([EXAMPLE]) != fingerprint_of([replace(EXAMPLE, reasoning="Hm.")])
