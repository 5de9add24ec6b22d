"""Whoever runs defences: rounds, what is stored, what is shared, what it costs, and what a kill leaves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.defences.conftest import Marks, Talker, ask, example, picture
from vlmend.defences import defended
from vlmend.errors import StoreError
from vlmend.store import Run
from vlmend.types import Decoding, Example, Finish, Image, Message, Request, Response, Talk

DECODING = Decoding(max_new_tokens=8)
ALL = (
    [], ["ecso"], ["caption_first"], ["thinking"], ["best_of:3?judge=marks"], ["smoothing:2"],
    ["guard_in:marks", "ecso"], ["system_prompt", "guard_out:marks"],
)  # fmt: skip


def some(count: int) -> list[Example]:
    return [example(f"e{n}", f"What is {n}?", picture("blue" if n % 2 else "red")) for n in range(count)]


def unsure(e: Example, d: Decoding, s: int) -> str:
    """Finds some of its answers unsafe."""
    check = e.question.startswith("Look at your last answer")
    return ("yes" if "0" in e.prompt[0].text else "no") if check else f"{len(e.prompt)} {e.question[:20]} {d.seed} {s}"


def _told(found: Sequence[Mapping[str, Response]]) -> object:
    """Everything but the seconds that judges took."""
    return [{name: replace(r, seconds=0.0) for name, r in sorted(one.items())} for one in found]


@pytest.mark.parametrize("dies", [0, 1, 5, 11, 17, 30])
def test_killed_and_resumed_equals_unbroken_and_asks_nothing_twice(
    dies: int, tmp_path: Path, marks: type[Marks]
) -> None:
    del marks
    unbroken, killed, again = Talker(unsure), Talker(unsure, dies=dies), Talker(unsure)
    wanted = ask(tmp_path / "unbroken", unbroken, some(3), *ALL)
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path / "killed", killed, some(3), *ALL)
    assert _told(ask(tmp_path / "killed", again, some(3), *ALL)) == _told(wanted)
    asked = killed.names + again.names
    assert len(asked) == len(set(asked)), "nothing is asked twice"
    assert set(asked) == set(unbroken.names)
    third = Talker(unsure)
    ask(tmp_path / "killed", third, some(3), *ALL)
    assert not third.asked


def test_one_run_alone_goes_on_without_what_it_was_asked_together_with(tmp_path: Path, marks: type[Marks]) -> None:
    """What another run's question answered is noted in both."""
    del marks
    ask(tmp_path, Talker(unsure), some(2), ["ecso"], ["caption_first"])
    (tmp_path / "1" / "responses.jsonl").unlink()
    (tmp_path / "new").mkdir()
    (tmp_path / "1").rename(tmp_path / "new" / "0")
    talker = Talker(unsure)
    ask(tmp_path / "new", talker, some(2), ["caption_first"])
    assert not talker.asked


def test_rounds_ask_all_questions_at_once(tmp_path: Path) -> None:
    class Batches(Talker):
        def generate(self, examples: list[Example], decoding: Decoding) -> Iterator[Response]:  # type: ignore[override]
            sizes.append(len(examples))
            yield from super().generate(examples, decoding)

    sizes: list[int] = []
    ask(tmp_path, Batches(), some(7), ["caption_first"])
    assert sizes == [7, 7]


def test_an_answer_costs_all_that_was_asked_for_it(tmp_path: Path, marks: type[Marks]) -> None:
    del marks
    plain, ecso = ask(tmp_path, Talker(unsure), some(1), [], ["ecso"])
    assert (plain["e0"].calls, plain["e0"].prompt_tokens, plain["e0"].seconds) == (1, 10, 0.5)
    assert (ecso["e0"].calls, ecso["e0"].prompt_tokens, ecso["e0"].seconds) == (4, 40, 2.0)
    assert ecso["e0"].tokens > plain["e0"].tokens


def test_what_fails_on_the_way_is_a_failed_answer_and_tried_again(tmp_path: Path) -> None:
    [found] = ask(tmp_path, Talker(failing="Do not answer that"), some(2), ["caption_first"])
    assert {r.finish for r in found.values()} == {Finish.FAILED}
    assert all("on the way: down" in r.why for r in found.values())
    again = Talker()
    [found] = ask(tmp_path, again, some(2), ["caption_first"])
    assert {r.finish for r in found.values()} == {Finish.STOP}
    assert len(again.asked) == 4


def test_a_picture_that_cannot_be_read_fails_its_own_example(tmp_path: Path) -> None:
    broken = example("broken", "What?", Image(path=tmp_path / "nowhere.png"))
    [found] = ask(tmp_path, Talker(), [broken, *some(1)], ["smoothing:2"])
    assert found["broken"].finish is Finish.FAILED
    assert found["e0"].said


def test_the_first_of_a_chain_stands_before_all_others() -> None:
    @dataclass(frozen=True)
    class Marked:
        mark: str
        asks: int = 1

        def answer(self, request: Request) -> Talk[Response]:
            text = f"{self.mark}({request.turn.text})"
            [said] = yield [Request((Message("user", (text,)),), request.decoding)]
            assert isinstance(said, Response)
            return Response("", "", f"{self.mark}[{said.text}]", Finish.STOP)

    talk = defended([Marked("a"), Marked("b")], Request((Message("user", ("x",)),), DECODING))
    [asked] = next(talk)
    assert isinstance(asked, Request)
    assert asked.turn.text == "b(a(x))"
    with pytest.raises(StopIteration) as ended:
        talk.send([Response("", "", "y", Finish.STOP)])
    assert ended.value.value.text == "a[b[y]]"


def test_samples_are_defended_each(tmp_path: Path) -> None:
    how = Decoding(max_new_tokens=8, do_sample=True, num_return_sequences=3)
    [found] = ask(tmp_path, Talker(), some(1), ["system_prompt"], decoding=how)
    assert [r.text[-1] for r in found.values()] == ["0", "1", "2"]


def test_a_damaged_exchange_is_told(tmp_path: Path) -> None:
    ask(tmp_path, Talker(), some(1), ["caption_first"])
    file = tmp_path / "0" / "exchanges.jsonl"
    file.write_text('{"response": {"id": 3}}\n')
    (tmp_path / "0" / "responses.jsonl").unlink()
    with pytest.raises(StoreError, match=r"exchanges.jsonl is damaged in line 1"):
        ask(tmp_path, Talker(), some(1), ["caption_first"])
    assert Run(tmp_path / "0").exists()
