"""Do two generators say the same? A sample of the questions that a pipeline compares, put to a second model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmend.build.drafts import done, number_of
from vlmend.build.pipeline import Pipeline, Start
from vlmend.build.run import Company, Desk, Progress, Tally, calls_of, cast_of
from vlmend.build.stage import GENERATOR, Lost, Question, Stage
from vlmend.judge.models import Models
from vlmend.metrics.agreement import cohen
from vlmend.types import Backend, Finish, Response


@dataclass(frozen=True)
class Agreed:
    """Of one key of a stage's answers: pairs that both generators gave, how many are equal, and Cohen's kappa.

    asked: how many questions were put; where an answer is missing or does not fit, there is no pair. kappa is None
    where there are no pairs, or chance alone would agree.
    """

    stage: str
    key: str
    asked: int
    pairs: int
    equal: int
    kappa: float | None


def agreement(
    pipeline: Pipeline, starts: Iterable[Start], company: Company, second: tuple[str, Backend], models: Models,
    out: Path, progress: Progress,
) -> list[Agreed]:  # fmt: skip
    """Put the compared questions of these starts to a second generator; its calls are stored as others are.

    Starts that are not done are passed over: of the first generator nothing is asked here.
    """
    both: Company = {**company, "second": (second,)}
    desk = Desk(both, models, calls_of(out), Tally())
    stages = {stage.name: stage for stage in pipeline.stages if stage.compared}
    finished = done(out)
    starts = [start for start in starts if number_of(start.id) in finished]
    asked = [item for start in starts for item in _compared(pipeline, start, company, desk, stages)]
    again = [Question(item.stage, item.prompt, item.decoding, "second") for item in asked]
    said = desk.hear([*asked, *again], progress)
    ratings: dict[tuple[str, str], list[tuple[Any, Any]]] = {
        (stage.name, key): [] for stage in stages.values() for key in stage.compared
    }
    for item, one, other in zip(asked, said, said[len(asked) :], strict=False):
        stage = stages[item.stage]
        first, then = _read(stage, one), _read(stage, other)
        if first is not None and then is not None:
            for key in stage.compared:
                ratings[stage.name, key].append((getattr(first, key), getattr(then, key)))
    return [
        Agreed(
            stage,
            key,
            sum(item.stage == stage for item in asked),
            len(pairs),
            sum(a == b for a, b in pairs),
            cohen(pairs),
        )
        for (stage, key), pairs in ratings.items()
    ]


def _compared(
    pipeline: Pipeline, start: Start, company: Company, desk: Desk, stages: dict[str, Stage[Any]]
) -> list[Question]:
    """The questions of the stages that are compared, as they were first put about a start that is done."""
    talk = pipeline.build(start, cast_of(company))
    found: dict[str, Question] = {}
    try:
        waiting = next(talk)
        while True:
            said = desk.hear(waiting, lambda *_: None)
            if any(isinstance(each, Response) and each.finish is Finish.FAILED for each in said):
                return []
            for item in waiting:
                if isinstance(item, Question) and item.stage in stages and item.who == GENERATOR:
                    found.setdefault(item.stage, item)
            waiting = talk.send(said)
    except (StopIteration, Lost):
        return list(found.values())


def _read(stage: Stage[Any], said: object) -> Any:
    if not isinstance(said, Response) or said.finish is Finish.FAILED:
        return None
    try:
        return stage.read(said)[1]
    except Lost:
        return None
