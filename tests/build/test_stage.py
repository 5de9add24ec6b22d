"""What becomes of an answer: read, sent back, or lost, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmend.build import prompts
from vlmend.build.openers import WORDS, begins_with, opener_for
from vlmend.build.stage import Given, Lost, Making, Said, Stage, form_of, parsed, together
from vlmend.errors import ConfigError, DataError
from vlmend.registry import pipelines
from vlmend.types import Finish, Response


class Answer(Given):
    """A number and why."""

    number: int
    why: str


STAGE = Stage("stage", Answer)
TEXTS = {"stage": "How many {things}?"}
GOOD = '{"number": 2, "why": "I see two."}'


def said(text: str, finish: Finish = Finish.STOP) -> Response:
    return Response("", "", text, finish)


def course(talk: Making[Any], *answers: Response) -> tuple[Any, int]:
    """What comes of a talk that hears these answers, and how often it asked."""
    waiting = next(talk)
    for number, answer in enumerate(answers, start=1):
        try:
            waiting = talk.send([answer])
        except StopIteration as ended:
            return ended.value, number
    raise AssertionError(f"it asks for more: {waiting}")


@pytest.mark.parametrize(
    "text", [GOOD, f"```json\n{GOOD}\n```", f"Of course!\n{GOOD}\nIs that all?", f"```\n{GOOD}```", f"\n  {GOOD}"]
)
def test_an_object_is_read_wherever_it_stands(text: str) -> None:
    assert parsed(text, Answer) == Answer(number=2, why="I see two.")


@pytest.mark.parametrize(
    "text",
    ["two", "", '{"number": 2}', '{"number": "2", "why": 3}', '{"number": 2, "why": "x", "more": 1}', '{"number": 2,',
     '{"number": 2, "number": 3, "why": "x"}', "[1]", "}{"],
)  # fmt: skip
def test_what_is_no_such_object_is_said_to_be_none(text: str) -> None:
    with pytest.raises(DataError):
        parsed(text, Answer)


def test_an_unfit_answer_is_sent_back_with_what_is_wrong_a_few_times_at_most() -> None:
    talk = STAGE.ask(TEXTS, fields={"things": "things"})
    [first] = next(talk)
    assert first.prompt[-1].text.startswith("How many things?")
    [second] = talk.send([said('{"number": 2}')])
    assert [turn.role for turn in second.prompt] == ["user", "assistant", "user"]
    assert second.prompt[1].text == '{"number": 2}'
    assert "why" in second.prompt[2].text
    with pytest.raises(StopIteration) as ended:
        talk.send([said(GOOD)])
    assert ended.value.value.number == 2
    with pytest.raises(Lost) as lost:
        course(STAGE.ask(TEXTS, fields={"things": "x"}), *[said("no")] * 9)
    assert lost.value.loss.kind == "unfit"
    assert lost.value.loss.said == "no"


def test_a_check_of_the_pipeline_is_what_an_answer_has_to_pass_too() -> None:
    def check(answer: Answer) -> str:
        return "" if answer.number < 2 else "too many"

    one = said('{"number": 1, "why": "x"}')
    assert course(STAGE.ask(TEXTS, fields={"things": "x"}, check=check), said(GOOD), one)[1] == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(said("I'm sorry, but I can't help with that."), "refused"), (said("", Finish.BLOCKED), "blocked")],
)
def test_what_asking_again_would_not_change_is_lost_at_once(answer: Response, kind: str) -> None:
    with pytest.raises(Lost) as lost:
        course(STAGE.ask(TEXTS, fields={"things": "x"}), answer)
    assert lost.value.loss.kind == kind


def test_an_answer_that_was_cut_off_is_none() -> None:
    with pytest.raises(Lost) as lost:
        course(STAGE.ask(TEXTS, fields={"things": "x"}), *[said(GOOD, Finish.LENGTH)] * 3)
    assert "cut off" in lost.value.loss.why


def test_a_refusal_is_an_answer_where_one_is_asked_for() -> None:
    refusal = said("I'm sorry, but I can't help with that.")
    found, _ = course(Stage("stage", Said, declines=True).ask(TEXTS, fields={"things": "x"}), refusal)
    assert found.text == refusal.text
    with pytest.raises(Lost):
        course(Stage("stage", Said).ask(TEXTS, fields={"things": "x"}), refusal)


def test_questions_that_are_asked_together_are_answered_in_their_places() -> None:
    asked = [STAGE.ask(TEXTS, fields={"things": thing}) for thing in ("a", "b", "c")]
    talk = together(*asked)
    waiting = next(talk)
    assert len(waiting) == 3
    numbered = [said(json.dumps({"number": n, "why": "x"})) for n in range(3)]
    [again] = talk.send([numbered[0], said("what?"), numbered[2]])
    assert "many b?" in again.prompt[0].text
    with pytest.raises(StopIteration) as ended:
        talk.send([numbered[1]])
    assert [answer.number for answer in ended.value.value] == [0, 1, 2]


def test_the_form_names_every_key() -> None:
    assert all(f'"{name}"' in form_of(Answer) for name in Answer.model_fields)


def test_a_schema_is_asked_for_unless_text_is() -> None:
    assert json.loads(STAGE.decoding().schema)["required"] == ["number", "why"]
    assert Stage("stage", Said).decoding().schema == ""
    asked = STAGE.ask(TEXTS, fields={"things": "x"}, options={"why": ("a", "b")})
    [question] = next(asked)
    assert json.loads(question.decoding.schema)["properties"]["why"]["enum"] == ["a", "b"]


@pytest.mark.parametrize("name", [n for n in pipelines.names() if n not in ("harmful_answers", "replay")])
def test_prompts_of_ones_own_have_the_keys_and_places_of_ours(name: str, tmp_path: Path) -> None:
    ours = prompts.load(name)
    file = tmp_path / "mine.yaml"
    rows = {key: f"In short: {text}" for key, text in ours.items()}
    file.write_text(json.dumps({"version": 7, **rows}))
    mine = prompts.load(name, file)
    assert mine.version.startswith("7-")
    assert dict(mine) == rows
    key = next(iter(rows))
    for wrong, word in (
        ({**rows, key: "Look {here}."}, "here"),
        ({**rows, "loook": "x"}, "loook"),
        ({k: v for k, v in rows.items() if k != key}, key if len(rows) > 1 else "a text for each stage"),
        ({**rows, key: "{"}, key),
    ):
        file.write_text(json.dumps({"version": 7, **wrong}))
        with pytest.raises(ConfigError, match=word):
            prompts.load(name, file)


def test_first_words_are_drawn_from_what_is_asked_about_and_from_nothing_else() -> None:
    drawn = [opener_for(f"picture {n}", "balanced") for n in range(3200)]
    assert drawn == [opener_for(f"picture {n}", "balanced") for n in range(3200)]
    counts = [sum(opener.word == word for opener in drawn) for word in WORDS]
    assert min(counts) > 0.6 * 3200 / len(WORDS)
    opener = drawn[0]
    fits, other = (type("G", (), {"instruction": f"{word} is it?"})() for word in (opener.word, "Zzz"))
    assert begins_with(opener, fits) == ""
    assert opener.word in begins_with(opener, other)
    assert begins_with(opener_for("x", "free"), other) == ""
