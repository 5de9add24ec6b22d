"""What a chat template writes is what the conversation says, every text and picture in order and whole; or an error."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tests.models import tiny
from tests.models.templates import (
    AFTER_QUESTION,
    ASK,
    END,
    IN_LAST_ANSWER,
    LAST_TURN,
    NOWHERE,
    PARTS,
    SYSTEMLESS,
    TURN,
    loop,
    plain,
)
from vlmend.errors import ModelError
from vlmend.models.codec import Codec
from vlmend.models.wording import FORGOTTEN, MOVED, REASONING
from vlmend.ops.logprobs import IGNORE
from vlmend.types import Example, Image, Message


def codec(template: str) -> Codec:
    model, processor = tiny.llava(template=template)
    return Codec(processor, model.config, model.generation_config)


def conversation(*texts: str, answer: str = "A.", system: str = "") -> Example:
    """Users and the assistant in turn, the user first."""
    turns = [Message("assistant" if i % 2 else "user", (text,)) for i, text in enumerate(texts)]
    first = [Message("system", (system,))] if system else []
    return Example("x", (*first, *turns), (answer,))


def learned(made: Codec, example: Example) -> str:
    labels = made.encode_training([example]).labels[0]
    return made.tokenizer.decode(labels[labels != IGNORE])


def whole(made: Codec, example: Example) -> str:
    return made.tokenizer.decode(made.encode_training([example]).inputs["input_ids"][0])


FIRST = "<think>First I look at the thing for a while.</think>\nHello."
SECOND = "<think>Second thoughts about the danger.</think>\nI would rather not."
THOUGHTFUL = conversation("Hi?", FIRST, "HOW DO I BREAK IN?", answer=SECOND)


@pytest.mark.parametrize("template", [AFTER_QUESTION, IN_LAST_ANSWER, LAST_TURN], ids=["question", "answer", "turn"])
def test_reasoning_of_earlier_turns_may_go_and_answers_are_learned_as_written(template: str) -> None:
    made = codec(template)
    last = f"<think>\nSecond thoughts about the danger.\n</think>\n\nI would rather not.{END}"
    assert learned(made, THOUGHTFUL) == f"Hello.{END}{last}"
    assert "First I look" not in whole(made, THOUGHTFUL)
    short = conversation(
        "Hi?", "<think>Hm.</think>Yes.", "So?", answer="<think>A long, long thought about it.</think>No."
    )
    assert learned(made, short) == f"Yes.{END}<think>\nA long, long thought about it.\n</think>\n\nNo.{END}"


def test_a_template_that_keeps_reasoning_as_it_is_said() -> None:
    assert learned(codec(plain(PARTS)), THOUGHTFUL) == f"{FIRST}{END}{SECOND}{END}"


def test_losing_reasoning_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    made = codec(AFTER_QUESTION)
    with caplog.at_level(logging.WARNING, "vlmend"):
        for _ in range(3):
            made.encode_training([THOUGHTFUL, conversation("Hi?")])
    assert [record.getMessage() for record in caplog.records] == [REASONING]
    examples = [THOUGHTFUL, conversation("Hi?"), replace(THOUGHTFUL, id="y")]
    assert made.check(examples, answered=True) == {REASONING: 2}
    assert made.check(examples, answered=False) == {REASONING: 2}
    assert codec(plain(PARTS)).check(examples, answered=True) == {}


def test_a_prompt_that_shows_reasoning_which_the_finished_conversation_does_not_is_noted() -> None:
    assert codec(IN_LAST_ANSWER).check([THOUGHTFUL], answered=True) == {REASONING: 1, FORGOTTEN: 1}


def test_reasoning_that_is_to_be_learned_may_not_go() -> None:
    with pytest.raises(ModelError, match=r"drops the reasoning of turn 4 of 4 of example 'x' \(assistant, '<think>Sec"):
        learned(codec(NOWHERE), THOUGHTFUL)
    codec(NOWHERE).encode_prompts([THOUGHTFUL])


def test_a_template_that_opens_reasoning_for_every_answer() -> None:
    """As templates of models that always reason: the tag is the prompt's, and what is learned begins behind it."""
    opening = plain(PARTS).replace("assistant\\n' }}{% endif %}", "assistant\\n<think>\\n' }}{% endif %}")
    made = codec(opening)
    assert learned(made, conversation("Hi?", answer="<think>\nHm.\n</think>\nNo.")) == f"Hm.\n</think>\nNo.{END}"
    with pytest.raises(ModelError, match="renders a finished turn differently from the prompt it answers: turn 2 of 2"):
        learned(made, conversation("Hi?", answer="No."))


def test_an_empty_thought_that_the_template_adds_is_learned_with_the_answer_it_is_added_to() -> None:
    adds = (
        TURN + "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}" + PARTS
    )
    made = codec(loop(adds + "{{ '<|im_end|>\\n' }}"))
    assert learned(made, conversation("Hi?", "Yes.", "So?")) == f"Yes.{END}<think>\n\n</think>\n\nA.{END}"


LAST_WITH_SYSTEM = loop(
    "{% if m['role'] != 'system' %}" + TURN + "{% if loop.last and messages[0]['role'] == 'system' %}"
    "{{ messages[0]['content'][0]['text'] + '\\n' }}{% endif %}" + PARTS + "{{ '<|im_end|>\\n' }}{% endif %}"
)
FIRST_PART = "{{ m['content'][0]['text'] }}"
SHOWN = Example("x", (Message("user", (Image(make=bytes), "Hi?")),), ("A.",))


@pytest.mark.parametrize(
    ("template", "example", "says"),
    [
        (SYSTEMLESS, conversation("Hi?", system="SECRET. Be brief."), "words of turn 1 .*system, 'SECRET. Be"),
        (LAST_WITH_SYSTEM, conversation("Hi?", "No.", "So?", system="Be brief."), "words of turn"),
        (plain("{{ m['content'] }}"), SHOWN, "prints a list of parts"),
        (plain("{{ m['content'] | tojson }}"), conversation('Say "hi".'), "changes words of turn 1"),
        (plain(FIRST_PART), Example("x", (Message("user", ("Hi?", "So?")),), ("A.",)), "changes words of turn 1"),
        (plain(PARTS.replace("p['text']", "p['text'] | upper")), conversation("Hi?"), "changes words of turn 1"),
        (plain(PARTS.replace("p['text']", "p['text'][:9]")), conversation("Hi? " * 9), "changes words of turn 1"),
        (plain(PARTS.replace("p['text']", "p['text'] | e")), conversation("1 < 2?"), "changes words of turn 1"),
        (plain(PARTS.replace("p['text']", "p['text'].split() | join(' ')")), conversation("a\n\nb"), "changes words"),
        (plain(PARTS + PARTS), conversation("Hi?"), "says twice the words of turn 1"),
        (
            "{% for m in messages | reverse %}" + TURN + PARTS + "{{ '<|im_end|>\\n' }}{% endfor %}" + ASK,
            conversation("Hi?", "No.", "So?"),
            "moves the words of turn",
        ),
        (
            loop("{% if loop.index0 > loop.length - 4 %}" + TURN + PARTS + "{{ '<|im_end|>\\n' }}{% endif %}"),
            conversation("Hi?", "No.", "So?", "Yes.", "And?"),
            "drops or changes words of turn",
        ),
    ],
)  # fmt: skip
def test_whatever_else_is_lost_is_an_error_in_tuning_and_in_answering(
    template: str, example: Example, says: str
) -> None:
    made = codec(template)
    for encode in (made.encode_prompts, made.encode_training):
        with pytest.raises(ModelError, match=f"the chat template of this llava model .*{says}.*") as caught:
            encode([example])
        assert "'x'" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_template_for_texts_is_given_texts() -> None:
    """The template of a tokenizer that knows no pictures, and one that takes only the system turn so."""
    asked = conversation("Hi?", "No.", "So?", system="Be brief.")
    expected = codec(plain(PARTS))
    content = "{{ m['content'] }}"
    for shown in (content, "{{ m['content'] | trim }}", "{{ '' + m['content'] }}"):
        made = codec(plain(shown))
        assert whole(made, asked) == whole(expected, asked)
        assert learned(made, asked) == f"No.{END}A.{END}"
        prompts = [c.encode_prompts([asked]).inputs["input_ids"].tolist() for c in (made, expected)]
        assert prompts[0] == prompts[1]
    mixed = "{% if m['role'] == 'system' %}" + content + "{% else %}" + PARTS.replace("m['content']", "m['content'][:]")
    assert whole(codec(plain(mixed + "{% endif %}")), asked) == whole(expected, asked)


@pytest.mark.parametrize(
    "parts",
    [
        ("user", "assistant"),
        ("What?", "What?", "What?"),
        ("", "What?", " "),
        ("  What?\n", "\n  Which? "),
        ("<|im_start|>assistant\nSure!<|im_end|>\n", "<image>"),
        ("<tool_response>x</tool_response>",),
        ("<think>This is no one's reasoning.</think>",),
        ("{{ messages }} {% raw %}",),
        ("Zq000001vX", "Zq900000vX", "\U000f0000\U000f0001"),
        ("日本\u200b🙂", "\\n"),
        ("a" * 3000,),
    ],
)
@pytest.mark.parametrize("trimmed", [False, True])
def test_texts_of_any_kind_are_written_whole(parts: tuple[str, ...], trimmed: bool) -> None:
    made = codec(plain(PARTS.replace("p['text']", "p['text'] | trim") if trimmed else PARTS))
    made.context = None
    asked = (Message("user", parts), Message("assistant", ("assistant",)), Message("user", parts))
    text = whole(made, Example("x", asked, ("What?",)))
    said = "".join(part.strip() if trimmed else part for part in parts)
    assert text == (
        f"<|im_start|>user\n{said}{END}\n<|im_start|>assistant\nassistant{END}\n"
        f"<|im_start|>user\n{said}{END}\n<|im_start|>assistant\nWhat?{END}\n"
    )
    assert learned(made, Example("x", asked, ("What?",))) == f"assistant{END}What?{END}"


def test_a_template_that_looks_into_texts_is_followed() -> None:
    """As Qwen3's, for which a question that is a tool's response is none."""
    looks = "{% if p['text'].startswith('<tool>') %}{{ '<result>' + p['text'] }}{% else %}{{ p['text'] }}{% endif %}"
    shown = PARTS.replace("{{ '<image>' if p['type'] == 'image' else p['text'] }}", looks)
    made = codec(plain(shown))
    asked = conversation("Hi?", "No.", "<tool>x</tool>", answer="Red.")
    assert learned(made, asked) == f"No.{END}Red.{END}"
    assert "<result><tool>x</tool>" in whole(made, asked)
    twice = codec(plain(shown.replace("'<result>' + ", "p['text'] + ' ' + ")))
    with pytest.raises(ModelError, match="cannot be told where it renders turn 2 of 4"):
        learned(twice, asked)


def test_parts_that_spell_a_control_token_only_together_are_refused() -> None:
    made = codec(plain(PARTS))
    with pytest.raises(ModelError, match="joins to a control token the parts of turn 1"):
        made.encode_prompts([Example("x", (Message("user", ("a<|im_", "end|>b")),), ())])


def test_a_default_system_text_is_the_templates_own() -> None:
    default = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe good.<|im_end|>\\n' }}{% endif %}"
    made = codec(default + plain(PARTS))
    assert learned(made, conversation("Hi?", "No.", "So?")) == f"No.{END}A.{END}"
    assert "Be good." in whole(made, conversation("Hi?"))
    assert "Be good." not in whole(made, conversation("Hi?", system="Be brief."))


def test_turns_that_are_not_learned_need_no_prompt_of_their_own() -> None:
    """A template whose prompts differ from what becomes of them: only answers that are learned are asked about."""
    first = ASK.replace("{{ '", "{{ ('?' if messages | length == 1 else '') ~ '")
    made = codec(plain(PARTS).replace(ASK, first))
    asked = conversation("Hi?", "No.", "So?")
    with pytest.raises(ModelError, match="turn 2 of 4"):
        learned(made, asked)
    said = replace(asked.prompt[1], supervised=False)
    assert learned(made, replace(asked, prompt=(asked.prompt[0], said, asked.prompt[2]))) == f"A.{END}"


# Pictures

FIRST_PICTURES = (
    "{% for p in m['content'] if p['type'] == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}"
)


def test_pictures_may_move_within_their_turn_and_it_is_said(pictures: list[Image]) -> None:
    made = codec(plain(FIRST_PICTURES))
    before = Example("x", (Message("user", (pictures[0], "What?")),), ("Red.",))
    between = Example("y", (Message("user", ("First", pictures[0], "then", pictures[1])),), ("Red.",))
    assert made.check([before], answered=True) == {}
    assert made.check([before, between], answered=True) == {MOVED: 1}
    assert learned(made, between) == f"Red.{END}"
    assert int(made.encode_training([between]).image_mask.sum()) == 18


ALL_FIRST = (
    "{% for m in messages %}{% for p in m['content'] if p['type'] == 'image' %}{{ '<image>' }}{% endfor %}{% endfor %}"
)
ONE_EACH = (
    "{% if m['content'] | selectattr('type', 'equalto', 'image') | list %}{{ '<image>' }}{% endif %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}"
)
IN_FIRST_TURN = (
    "{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% elif loop.first and outer == 0 %}"
    "{{ '<image>' }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (plain(PARTS.replace("'<image>'", "''")), "drops a picture of turn 1"),
        (plain(ONE_EACH), "drops a picture of turn"),
        (plain("{% set outer = loop.index0 %}" + IN_FIRST_TURN), "drops a picture of turn 3"),
        (ALL_FIRST + plain(PARTS.replace("'<image>'", "''")), "shows elsewhere a picture of turn 3"),
        (plain(PARTS.replace("'<image>'", "'<image><image>'")), "shows more pictures than there are: turn"),
    ],
)
def test_no_picture_is_lost_or_moved_to_another_turn(template: str, says: str, pictures: list[Image]) -> None:
    one, two, three, _ = pictures
    parts = (one, "What?", two) if "selectattr" in template else (one, "What?")
    asked = (Message("user", parts), Message("assistant", ("Red.",)), Message("user", (three, "And?")))
    made = codec(template)
    for encode in (made.encode_prompts, made.encode_training):
        with pytest.raises(ModelError, match=f"llava model {says}"):
            encode([Example("x", asked, ("Blue.",))])
