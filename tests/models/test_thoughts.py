"""What is said to oneself before an answer: written as the chat template has it, learned or only shown, never lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.models import tiny
from tests.models.templates import AFTER_QUESTION, ASK, END, NOWHERE, PARTS, SAID, TURN, loop, plain
from vlmend.errors import DataError, ModelError
from vlmend.models.codec import Codec
from vlmend.models.thoughts import KEYS, marks
from vlmend.models.wording import REASONING
from vlmend.ops.logprobs import IGNORE
from vlmend.types import Example, Message

# As that of Qwen3-VL's thinking models: a key of its own, thoughts behind the last question alone, and the tag opened.
THINKS = "m['role'] == 'assistant' and loop.index0 > at.last"
OPENED = ASK.replace("assistant\\n'", "assistant\\n<think>\\n'")


def keyed(key: str, ask: str = OPENED) -> str:
    """A template that takes reasoning under a key, and writes an empty thought where there is none."""
    last = "{% set at = namespace(last=-1) %}{% for m in messages %}{% if m['role'] == 'user' %}"
    last += "{% set at.last = loop.index0 %}{% endif %}{% endfor %}"
    thought = f"{{% if {THINKS} %}}{{{{ '<think>\\n' + (m['{key}'] or '') + '\\n</think>\\n\\n' }}}}{{% endif %}}"
    return loop(TURN + SAID + thought + "{{ ns.said }}{{ '<|im_end|>\\n' }}", last).replace(ASK, ask)


def codec(template: str) -> Codec:
    model, processor = tiny.llava(template=template)
    return Codec(processor, model.config, model.generation_config)


def learned(made: Codec, example: Example) -> str:
    labels = made.encode_training([example]).labels[0]
    return made.tokenizer.decode(labels[labels != IGNORE])


def whole(made: Codec, example: Example) -> str:
    return made.tokenizer.decode(made.encode_training([example]).inputs["input_ids"][0])


ASKED = Example("x", (Message("user", ("Is it hot?",)),), ("Yes.",), reasoning="It glows.")
BARE = replace(ASKED, reasoning="")
AGAIN = replace(
    ASKED,
    prompt=(
        Message("user", ("Hi?",)),
        Message("assistant", ("<think>\nWho is that?\n</think>\n\nHello.",), supervised=False),
        *ASKED.prompt,
    ),
)


@pytest.mark.parametrize("key", KEYS)
def test_a_template_with_a_place_for_it_decides_how_it_is_written(key: str) -> None:
    made = codec(keyed(key))
    assert learned(made, ASKED) == f"It glows.\n</think>\n\nYes.{END}"
    assert f"<|im_start|>assistant\n<think>\nIt glows.\n</think>\n\nYes.{END}" in whole(made, ASKED)
    assert learned(made, BARE) == f"</think>\n\nYes.{END}"  # the empty thought that such models collapse to
    assert made.thinks


def test_thoughts_of_earlier_turns_go_where_the_template_drops_them_and_it_is_counted() -> None:
    made = codec(keyed("reasoning_content"))
    assert "Who is that?" not in whole(made, AGAIN)
    assert f"assistant\nHello.{END}" in whole(made, AGAIN)
    assert learned(made, AGAIN) == learned(made, ASKED)
    assert made.check([AGAIN, ASKED], answered=True) == {REASONING: 1}


def test_without_a_place_it_stands_in_the_answer_between_tags() -> None:
    made = codec(plain(PARTS))
    assert learned(made, ASKED) == f"<think>\nIt glows.\n</think>\n\nYes.{END}"
    assert "Who is that?" in whole(made, AGAIN)
    assert learned(made, BARE) == f"Yes.{END}"
    assert not made.thinks


def test_a_template_that_takes_the_text_apart_itself_writes_the_same() -> None:
    assert learned(codec(AFTER_QUESTION), ASKED) == learned(codec(plain(PARTS)), ASKED)


def test_the_tags_are_those_of_the_model() -> None:
    model, processor = tiny.llava(template=plain(PARTS))
    assert marks(processor.tokenizer).opening == "<think>"
    processor.tokenizer.add_tokens(["◁think▷", "◁/think▷"])
    made = Codec(processor, model.config, model.generation_config)
    assert learned(made, ASKED) == f"◁think▷\nIt glows.\n◁/think▷\n\nYes.{END}"


@pytest.mark.parametrize("template", [keyed("reasoning_content"), plain(PARTS), AFTER_QUESTION])
def test_masked_it_is_shown_and_not_learned(template: str) -> None:
    made = codec(template)
    shown = whole(made, ASKED)
    made.learns_reasoning = False
    assert learned(made, ASKED) == f"Yes.{END}"
    assert whole(made, ASKED) == shown
    assert "It glows." in shown


def test_without_reasoning_masking_changes_nothing() -> None:
    for template in (plain(PARTS), AFTER_QUESTION):
        made = codec(template)
        supervised = learned(made, BARE)
        made.learns_reasoning = False
        assert learned(made, BARE) == supervised


def test_reasoning_that_the_template_would_lose_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"drops the reasoning of turn 2 of 2 of example 'x'"):
        learned(codec(NOWHERE), ASKED)


@pytest.mark.parametrize("more", [{"reasoning": "So </think> it is."}, {"answers": ("<think>Hm.</think>No.",)}])
def test_marks_of_reasoning_inside_it_are_refused(more: dict[str, object]) -> None:
    with pytest.raises(DataError, match="example 'x' holds marks of reasoning itself"):
        learned(codec(plain(PARTS)), replace(ASKED, **more))
