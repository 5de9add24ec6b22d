"""A run as a log of Inspect's, so that `inspect view` shows its samples: pictures, answers, and what each judge said.

Inspect writes the file itself, through its own classes (`pip install 'vlmend[inspect]'`).
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from vlmend.errors import DataError, ModelError
from vlmend.metrics.questions import find
from vlmend.metrics.views import UNASKED, Asks
from vlmend.report.runs import Told
from vlmend.store import Run
from vlmend.suites import asked_of
from vlmend.types import UNSCORED, Example, Finish, Image, Message, Record, Verdict, digest

STOPPED = {Finish.STOP: "stop", Finish.LENGTH: "max_tokens", Finish.BLOCKED: "content_filter", Finish.FAILED: "unknown"}
OUTCOME = "outcome"  # the score that says what the suite calls it


@dataclass
class Written:
    """The file of one run, how many samples it has, and which pictures could not be read."""

    path: Path
    samples: int
    lost: list[str] = field(default_factory=list[str])


def write(run: Run, folder: Path) -> Written:
    """Write the log of a run into the folder, over the one it wrote there before.

    A sample's scores are the questions that were asked of the answer, each by the judge that is bound to it; a further
    judge of the same question follows as `QUESTION.JUDGE`. What nobody could say is Inspect's own "unscored".
    Raises ModelError where Inspect is not installed, and StoreError for a run that has no numbers yet.
    """
    try:
        log = import_module("inspect_ai.log")
    except ImportError as error:
        raise ModelError(
            f"writing Inspect's logs needs its own package: pip install 'vlmend[inspect]' ({error})"
        ) from error
    told = Told(run)
    numbers = run.metrics()["metrics"]
    records = told.records
    asks: Asks = told.manifest.get("asks", {})
    if not isinstance(told.protocol, Exception):
        asks = asked_of(run, told.protocol, records)
    pictures = _Pictures()
    samples = [_sample(told, record, asks, pictures) for record in records]
    made = told.manifest.get("environment", {})
    identity = digest(repr(sorted(told.manifest["settings"].items())))
    created = made.get("time") or "1970-01-01T00:00:00+00:00"
    task = f"{told.suite} {told.condition}" if told.condition != "plain" else told.suite
    filled = log.EvalLog(
        status="success",
        eval=log.EvalSpec(
            eval_id=identity, run_id=identity, task_id=identity, created=created, task=task, model=told.model,
            dataset=log.EvalDataset(
                name=" + ".join(told.manifest["settings"].get("sources", [])) or told.suite, samples=len(records),
                sample_ids=list(dict.fromkeys(record.example.id for record in records)),
            ),
            config=log.EvalConfig(epochs=told.manifest.get("num_return_sequences", 1)),
            task_args={"attack": list(told.manifest["settings"].get("attack") or [])},
            packages=dict(made.get("versions", {})),
            metadata={"vlmend": dict(told.manifest["settings"]), "warning": told.manifest.get("warning", "")},
        ),
        results=log.EvalResults(
            total_samples=len(records),
            completed_samples=sum(record.response.finish is not Finish.FAILED for record in records),
            scores=[_result(log, name, row) for name, row in numbers.items()],
        ),
        stats=log.EvalStats(started_at=created, completed_at=created),
        samples=samples,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    at = re.sub(r"[^0-9T-]", "-", created)
    path = folder / f"{at}_{re.sub(r'[^A-Za-z0-9-]+', '-', f'{task}-{told.model}').strip('-')}_{identity[:22]}.eval"
    unfinished = path.with_name(f"unfinished-{path.name}")
    try:
        log.write_eval_log(filled, str(unfinished))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return Written(path, len(samples), pictures.lost)


class _Pictures:
    """Pictures as data URLs, each made once."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self._made: dict[str, str] = {}

    def content(self, image: Image) -> Any:
        """What Inspect shows of the picture; words in its place where it cannot be read."""
        model = import_module("inspect_ai.model")
        try:
            key = image.sha256
            if key not in self._made:
                kind = (image.header.format or "png").lower()
                self._made[key] = f"data:image/{kind};base64,{base64.b64encode(image.read()).decode()}"
        except DataError as error:
            self.lost.append(str(error))
            return model.ContentText(text=f"[{error}]")
        return model.ContentImage(image=self._made[key])


def _sample(told: Told, record: Record, asks: Asks, pictures: _Pictures) -> Any:
    log, model = import_module("inspect_ai.log"), import_module("inspect_ai.model")
    example, response = record.example, record.response
    prompt = [_turn(message, pictures) for message in example.prompt]
    said: list[Any] = [model.ContentText(text=response.text)]
    if response.reasoning:
        said.insert(0, model.ContentReasoning(reasoning=response.reasoning))
    answer = model.ChatMessageAssistant(content=said if response.reasoning else response.text, source="generate")
    failed = response.finish is Finish.FAILED
    output = model.ModelOutput(
        model=response.model or told.model,
        choices=[] if failed else [model.ChatCompletionChoice(message=answer, stop_reason=STOPPED[response.finish])],
        usage=model.ModelUsage(
            input_tokens=response.prompt_tokens, output_tokens=response.tokens,
            total_tokens=response.prompt_tokens + response.tokens,
        ),
        time=response.seconds or None, error=response.why or None,
    )  # fmt: skip
    return log.EvalSample(
        id=example.id, epoch=response.sample + 1, input=prompt, target=list(example.answers),
        messages=prompt if failed else [*prompt, answer], output=output, scores=_scores(told, record, asks),
        metadata=_about(example), total_time=response.seconds or None,
        error=log.EvalError(message=response.why, traceback="", traceback_ansi="") if failed else None,
    )  # fmt: skip


def _turn(message: Message, pictures: _Pictures) -> Any:
    model = import_module("inspect_ai.model")
    kinds = {
        "system": model.ChatMessageSystem, "user": model.ChatMessageUser, "assistant": model.ChatMessageAssistant,
    }  # fmt: skip
    parts = [
        pictures.content(part) if isinstance(part, Image) else model.ContentText(text=part) for part in message.parts
    ]
    return kinds[message.role](content=parts if message.images or len(parts) > 1 else message.text)


def _about(example: Example) -> dict[str, Any]:
    """What is known of the question."""
    known = {
        "expected": example.expected.value, "role": example.role.value, "subset": example.subset,
        "category": example.category, "subcategory": example.subcategory, "cluster": example.cluster,
        "source": example.source,
    }  # fmt: skip
    return {**dict(example.meta), **{name: value for name, value in known.items() if value}}


def _scores(told: Told, record: Record, asks: Asks) -> dict[str, Any]:
    """Each question by each of its judges, and what the suite makes of it."""
    Score = import_module("inspect_ai.scorer").Score
    became = told.became(record)
    if became == UNSCORED:
        found = {OUTCOME: Score.unscored(reason=record.response.why or "no verdict says it")}
    else:
        found = {OUTCOME: Score(value=became.name, metadata={"tone": became.tone})}
    for question, judges in asks.items():
        for place, judge in enumerate(judges):
            verdict = record.verdict(judge)
            if verdict is None:
                continue  # it was not asked about this answer
            if question == UNASKED:
                found[judge] = _score(verdict, dict(verdict.scores) or verdict.score)
                continue
            value = find(question).said(verdict, record.example) if record.response.said else None
            found[question if place == 0 else f"{question}.{judge}"] = _score(verdict, value)
    return found


def _score(verdict: Verdict, value: Any) -> Any:
    Score = import_module("inspect_ai.scorer").Score
    about = {"judge": verdict.judge, **dict(verdict.labels), **dict(verdict.scores)}
    explained = verdict.labels.get("reason") or verdict.why or None
    if value is None:
        return Score.unscored(reason=verdict.why or "it does not say", explanation=explained, metadata=about)
    return Score(value=value, explanation=explained, metadata=about)


def _result(log: Any, name: str, row: Mapping[str, Any]) -> Any:
    """One of the run's numbers, with its interval, n and how many could not be scored."""
    numbers = {key: row.get(key) for key in ("value", "low", "high", "worst")}
    return log.EvalScore(
        name=name, scorer=", ".join(row.get("judges", ())) or name, scored_samples=row["n"],
        unscored_samples=row["unscored"],
        metrics={
            key: log.EvalMetric(name=key, value=value)
            for key, value in numbers.items() if isinstance(value, int | float) and math.isfinite(value)
        },
        metadata={"summary": row.get("summary", ""), "better": row.get("better")},
    )  # fmt: skip
