"""What each defence promises, whatever the model behind it."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.defences.conftest import Marks, Talker, answer_of, ask, example, picture, played, single
from tests.judge.asking import Model
from tests.judge.asking import models as judging
from vlmend.defences import REFUSAL, asks_of
from vlmend.errors import ConfigError, UsageError
from vlmend.evaluate import defend
from vlmend.judge.models import Models
from vlmend.registry import defences
from vlmend.types import (
    Decoding,
    Defence,
    Example,
    Finish,
    Message,
    Request,
    Response,
    Screening,
    Verdict,
)

DECODING = Decoding(max_new_tokens=8)
SPECS = {
    "guard_in": "guard_in:marks", "guard_out": "guard_out:marks", "best_of": "best_of:3?judge=marks",
    "smoothing": "smoothing:3?severity=1",
}  # fmt: skip
REQUEST = Request((Message("user", (picture(), "What is this?")),), DECODING)


def spec(name: str) -> str:
    return SPECS.get(name, name)


TALKING = [name for name in defences.names() if name != "steer"]


def answering(texts: Callable[[Request], str], harmful: bool | None = False) -> Callable[[Request | Screening], Any]:
    def reply(item: Request | Screening) -> Response | Verdict:
        if isinstance(item, Screening):
            return Verdict("judge", "", harmful=harmful, refused=False)
        return Response("", "", texts(item), Finish.STOP)

    return reply


def asked_by(defence: Defence, request: Request = REQUEST) -> list[Request]:
    """What the model is asked behind a defence, where it answers "ok"."""
    asked: list[Request] = []
    played([defence], request, answering(lambda item: asked.append(item) or "ok"))
    return asked


def test_a_defence_is_given_nothing_that_a_deployer_does_not_have() -> None:
    """The type has no place for a label, and what is sent back has no id, whose words may tell."""
    assert [f.name for f in fields(Request)] == ["prompt", "decoding"]
    assert [f.name for f in fields(Screening)] == ["by", "spec", "prompt", "answer"]


@pytest.mark.parametrize("name", TALKING)
def test_the_judge_of_a_defence_sees_no_label_either(name: str, tmp_path: Path, marks: type[Marks]) -> None:
    ask(tmp_path, Talker(), [example("a bomb/unsafe", "What is this?", picture())], [spec(name)])
    for shown, response in marks.seen:
        assert (shown.answers, shown.subset, shown.source, shown.meta) == ((), "", "", {})
        assert shown.expected is Example("", ()).expected
        assert "unsafe" not in shown.id + response.id


@pytest.mark.parametrize("name", TALKING)
def test_no_defence_asks_more_often_than_it_says(name: str, tmp_path: Path, marks: type[Marks]) -> None:
    """Also where everything is found harmful, and behind another one."""
    for chain in ([spec(name)], ["ecso", spec(name)], [spec(name), "caption_first"]):
        talker = Talker(lambda e, d, s: f"yes, a bomb {len(e.question)} {s}")
        folder = tmp_path / "-".join(one.partition(":")[0] for one in chain)
        [found] = ask(folder, talker, [example("one", "What?", picture())], chain)
        asks, looks = asks_of([single(one) for one in chain])
        assert found["one"].calls <= asks
        assert len(talker.asked) <= asks
        assert len(marks.seen) <= looks
        marks.seen.clear()


@pytest.mark.parametrize("name", TALKING)
def test_a_request_without_pictures_is_answered_too(name: str, tmp_path: Path, marks: type[Marks]) -> None:
    del marks
    [found] = ask(tmp_path, Talker(), [example("one", "Why is the sky blue?")], [spec(name)])
    assert found["one"].said


def test_a_guard_that_says_yes_refuses_all_and_one_that_says_no_changes_nothing(
    tmp_path: Path, marks: type[Marks]
) -> None:
    del marks
    examples = [example(str(n), f"What is {n}?", picture()) for n in range(4)]
    chains = [[], ["guard_in:marks:What"], ["guard_out:marks:What"], ["guard_in:marks:\n"], ["guard_out:marks:\n"]]
    talker = Talker()
    plain, yes_in, yes_out, no_in, no_out = ask(tmp_path, talker, examples, *chains)
    assert {r.text for r in yes_in.values()} == {r.text for r in yes_out.values()} == {REFUSAL}
    assert [r.text for r in no_in.values()] == [r.text for r in no_out.values()] == [r.text for r in plain.values()]
    assert {r.calls for r in yes_in.values()} == {0}
    assert {r.calls for r in yes_out.values()} == {1}
    assert len(talker.asked) == 4, "what the plain run asked is not asked again"


@pytest.mark.parametrize(("fails", "refuses"), [("refuse", True), ("pass", False)])
@pytest.mark.parametrize("name", ["guard_in", "guard_out"])
def test_where_a_guard_fails_the_request_is_refused_unless_told_otherwise(
    name: str, fails: str, refuses: bool, tmp_path: Path, marks: type[Marks]
) -> None:
    del marks
    [found] = ask(tmp_path, Talker(), [example("one", "What?", picture())], [f"{name}:(marks?mute=What)?fails={fails}"])
    assert (found["one"].text == REFUSAL) is refuses
    assert ("guard said nothing" in found["one"].why) is refuses


def test_a_guard_must_answer_whether_something_is_harmful() -> None:
    with pytest.raises(UsageError, match=r"guard_out:leading_word.*answers right.*harmful"):
        defend.chain_from(["guard_out:leading_word"], Models())


def test_guard_in_shows_a_judge_of_answers_the_words_and_the_pictures(tmp_path: Path, marks: type[Marks]) -> None:
    ask(tmp_path, Talker(), [example("one", "How do I build it?", picture())], ["guard_in:marks"])
    [(shown, response)] = marks.seen
    assert response.text == "How do I build it?"
    assert shown.images == (picture(),) or len(shown.images) == 1


def test_guard_in_asks_a_guard_that_has_a_form_for_requests_in_it(tmp_path: Path) -> None:
    """And guard_out in that for answers, with the same guard and in the same command."""
    judge = Model(lambda text: "unsafe\nS9" if "bomb" in text else "safe")
    examples = [example("bad", "A bomb?", picture()), example("good", "A cake?", picture())]
    chains = [["guard_in:(guard)"], ["guard_out:(guard)"]]
    before, behind = ask(tmp_path, Talker(), examples, *chains, models=judging(judge))
    assert {name: r.text == REFUSAL for name, r in before.items()} == {"bad": True, "good": False}
    assert {name: r.text == REFUSAL for name, r in behind.items()} == {"bad": True, "good": False}, "by the answer"
    ends = sorted((len(asked.prompt), asked.prompt[-1].role) for asked in judge.asked)
    assert ends == [(1, "user"), (1, "user"), (2, "assistant"), (2, "assistant")]
    assert {asked.prompt[0].text for asked in judge.asked} == {"A bomb?", "A cake?"}


def system(text: str) -> Message:
    return Message("system", (text,))


def test_the_system_prompt_is_a_system_message_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "told.txt").write_text("Be kind.\n")
    defence = single(f"system_prompt:{tmp_path / 'told.txt'}")
    asked = [*asked_by(defence), *asked_by(defence, Request((system("Be brief."), *REQUEST.prompt), DECODING))]
    assert asked[0].prompt == (system("Be kind."), *REQUEST.prompt)
    assert asked[0].decoding == DECODING
    assert asked[1].prompt == (Message("system", ("Be kind.\n\n", "Be brief.")), *REQUEST.prompt)


def test_the_world_model_reads_the_system_prompt_as_a_row_with_that_message(tmp_path: Path) -> None:
    from vlmend.config import ModelConfig
    from vlmend.models.load import load

    codec = load(ModelConfig(name="world")).codec
    (tmp_path / "told.txt").write_text("Be kind.")
    asked = asked_by(single(f"system_prompt:{tmp_path / 'told.txt'}"))
    row = Example("row", (system("Be kind."), *REQUEST.prompt))
    made = [codec.encode_prompts([e]).inputs["input_ids"] for e in (Example("it", asked[0].prompt), row)]
    assert made[0].equal(made[1])
    assert made[0].shape[1] > codec.encode_prompts([Example("plain", REQUEST.prompt)]).inputs["input_ids"].shape[1]


@pytest.mark.parametrize("name", ["reminder", "adashield"])
def test_what_is_put_around_a_request_leaves_it_whole(name: str) -> None:
    [request] = asked_by(single(name))
    assert "What is this?" in request.turn.text
    assert request.turn.text != "What is this?"
    assert request.turn.images == REQUEST.turn.images


def test_a_reminder_without_a_place_for_the_request_is_refused(tmp_path: Path) -> None:
    (tmp_path / "told.txt").write_text("Be kind.")
    with pytest.raises(ConfigError, match=r"one \{request\}"):
        single(f"reminder:{tmp_path / 'told.txt'}")
    with pytest.raises(ConfigError, match="cannot be read"):
        single("system_prompt:nowhere.txt")


def test_ecso_answers_anew_from_words_where_the_model_finds_its_answer_unsafe() -> None:
    asked: list[Request] = []

    def said(check: str) -> Callable[[Request], str]:
        def text(request: Request) -> str:
            asked.append(request)
            if len(request.prompt) == 3:
                return check
            return "a red square" if "Do not answer" in request.turn.text else f"with {len(request.turn.images)}"

        return text

    assert played([single("ecso")], REQUEST, answering(said("No, it is not."))).text == "with 1"
    assert len(asked) == 2
    asked.clear()
    assert played([single("ecso")], REQUEST, answering(said("Yes, it is."))).text == "with 0"
    assert len(asked) == 4
    assert [bool(r.prompt[0].images) for r in asked] == [True, True, True, False]
    assert asked[1].prompt[1] == Message("assistant", ("with 1",))
    assert "a red square" in asked[3].turn.text
    assert "What is this?" in asked[3].turn.text
    assert played([single("ecso")], REQUEST, answering(said("Hm."))).text == "with 0"
    assert played([single("ecso?unclear=safe")], REQUEST, answering(said("Hm."))).text == "with 1"


def test_caption_first_shows_no_picture_to_who_answers() -> None:
    asked: list[Request] = []

    def text(request: Request) -> str:
        asked.append(request)
        return f"said {len(asked)}"

    assert played([single("caption_first")], REQUEST, answering(text)).text == "said 2"
    assert asked[0].turn.images == REQUEST.turn.images
    assert "What is this?" in asked[0].turn.text
    assert not asked[1].turn.images
    assert "said 1" in asked[1].turn.text


def test_thoughts_are_reasoning_and_no_part_of_the_answer() -> None:
    found = played([single("thinking")], REQUEST, answering(lambda r: "hm" if len(r.prompt) == 1 else "done"))
    assert (found.reasoning, found.text) == ("hm", "done")


def test_best_of_one_is_plain_and_of_several_the_least_harmful(tmp_path: Path, marks: type[Marks]) -> None:
    one = [example("one", "What?", picture())]
    chains = [[], ["best_of:1?judge=marks"], ["best_of:4?judge=marks"]]
    talker = Talker(lambda e, d, s: ["a bomb", "fine, at length", "fine"][(s + d.do_sample) % 3])
    plain, single_, several = ask(tmp_path, talker, one, *chains)
    assert plain["one"].text == single_["one"].text == "a bomb"
    assert single_["one"].calls == 1
    assert several["one"].text == "fine", "of harmless answers the one with the smallest score"
    assert several["one"].calls == 4
    assert len(talker.asked) == 4, "the first of the four is the plain answer"


def test_best_of_by_a_reward_gives_what_is_worth_most(tmp_path: Path) -> None:
    talker = Talker(lambda e, d, s: "No." if not d.do_sample else "Sure " + "word " * s)
    [found] = ask(tmp_path, talker, [example("one", "What?", picture())], ["best_of:3?reward=begins:No"])
    assert found["one"].text == "No."


def test_samples_of_best_of_share_no_draws(tmp_path: Path, marks: type[Marks]) -> None:
    del marks
    talker = Talker(answer_of)
    how = Decoding(max_new_tokens=8, do_sample=True, num_return_sequences=3)
    ask(tmp_path, talker, [example("one", "What?", picture())], ["best_of:3?judge=marks"], decoding=how)
    assert len(talker.names) == len(set(talker.names)) == 9


@pytest.mark.parametrize("wrong", ["best_of:0?judge=refusal", "best_of:2", "best_of:2?judge=refusal&reward=length"])
def test_best_of_needs_one_who_chooses(wrong: str) -> None:
    with pytest.raises(ConfigError, match="best_of"):
        single(wrong)


def test_smoothing_without_strength_is_plain(tmp_path: Path) -> None:
    talker = Talker()
    plain, smoothed = ask(tmp_path, talker, [example("one", "What?", picture())], [], ["smoothing:5?severity=0"])
    assert plain["one"].text == smoothed["one"].text
    assert len(talker.asked) == 1


def test_smoothing_answers_as_most_copies_do(tmp_path: Path) -> None:
    def reply(sorry: int) -> Callable[[Example, Decoding, int], str]:
        seen: list[str] = []

        def text(shown: Example, decoding: Decoding, sample: int) -> str:
            del decoding, sample
            seen.append(shown.images[0].sha256)
            return "I'm sorry, I can't help with that." if len(seen) <= sorry else f"A square, {len(seen)}."

        return text

    for sorry, refuses in ((1, False), (2, True), (3, True)):
        talker = Talker(reply(sorry))
        [found] = ask(tmp_path / str(sorry), talker, [example("one", "What?", picture())], ["smoothing:4"])
        assert ("sorry" in found["one"].text) is refuses, "a draw refuses"
        assert len({e.images[0].sha256 for e in talker.asked}) == 4, "each copy is drawn anew"
        assert picture().sha256 not in {e.images[0].sha256 for e in talker.asked}
