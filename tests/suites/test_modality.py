"""Models that look at one side only are seen to do so."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.evaluate.conftest import write
from vlmend import data
from vlmend.judge.judges.refusal import Refusal
from vlmend.judge.models import Models
from vlmend.metrics import rates
from vlmend.suites.modality import ModalitySuite
from vlmend.types import Example, Finish, Mean, Record, Response


def measured(folder: Path, refuses: Callable[[Example], bool | None]) -> dict[str, Mean]:
    suite = ModalitySuite(f"vlguard:{folder}#test")
    records = list(answered(data.load(suite.sources[0]).examples, refuses))
    found = rates.score(records, suite.metrics)
    return {name: found[name] for name in ("by_question", "by_picture", "together")}  # pyright: ignore


def answered(examples: Iterable[Example], refuses: Callable[[Example], bool | None]) -> Iterable[Record]:
    for e in examples:
        no = refuses(e)
        text = "" if no is None else "I'm sorry, I can't help with that." if no else "It is a cube."
        response = Response(e.id, e.id, text, Finish.FAILED if no is None else Finish.STOP)
        yield Record(e, response, tuple(Refusal()([(e, response)], Models())))


def words_only(e: Example) -> bool:
    return e.subset in ("both", "question")


def picture_only(e: Example) -> bool:
    return e.subset in ("both", "picture")


def both_needed(e: Example) -> bool:
    return e.subset == "both"


@pytest.mark.parametrize(
    ("refuses", "question", "picture", "together"),
    [
        (words_only, 1.0, 0.0, 0.0),
        (picture_only, 0.0, 1.0, 0.0),
        (both_needed, 0.5, 0.5, 0.5),
        (lambda e: words_only(e) or picture_only(e), 0.5, 0.5, -0.5),
        (lambda e: True, 0.0, 0.0, 0.0),
        (lambda e: False, 0.0, 0.0, 0.0),
    ],
)
def test_effects_by_hand(
    tmp_path: Path, refuses: Callable[[Example], bool], question: float, picture: float, together: float
) -> None:
    found = measured(write(tmp_path / "VLGuard", safe=6, unsafe=6), refuses)
    assert [m.value for m in found.values()] == [question, picture, together]
    for mean in found.values():
        assert mean.low is not None
        assert mean.high is not None
        assert mean.low <= (mean.value or 0) <= mean.high


def test_a_pair_with_an_answer_missing_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "VLGuard", safe=6, unsafe=6)
    lost = next(iter(data.load(ModalitySuite(f"vlguard:{folder}#test").sources[0]).examples)).meta["pair"]

    def refuses(e: Example) -> bool | None:
        if e.meta["pair"] == lost:
            return None if e.subset == "neither" else e.subset == "picture"  # would pull the effects apart
        return words_only(e)

    found = measured(folder, refuses)
    assert found["by_question"].value == 1.0
    assert found["by_question"].unscored == 1
