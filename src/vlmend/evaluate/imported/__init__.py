"""Results of other evaluators as run folders, so that safety and general ability stand in one report.

A reader of one evaluator's files (`lmms_eval`, `vlmevalkit`) gives `Task`s; what is a rate, a mean or a total is seen
from the numbers themselves. The evaluators log no pictures, so the examples have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmend.errors import UsageError
from vlmend.evaluate.run import score_only
from vlmend.evaluate.score import EvalResult
from vlmend.manifest import environment
from vlmend.metrics.views import UNASKED
from vlmend.store import Asked, Run, judged_key, response_to_json, verdict_to_json
from vlmend.store.run import RESPONSES, VERDICTS
from vlmend.suites.imported import JUDGE
from vlmend.types import Example, Expected, Finish, Message, Response, Role, Verdict, content_of, digest

CLOSE = 1e-6  # how far a mean may be from the number that the evaluator printed


@dataclass(frozen=True)
class Answer:
    """One answer of another evaluator's run: `numbers` are what it was given, by name; NaN where that says nothing."""

    id: str
    question: str
    text: str
    reference: str = ""
    category: str = ""
    sample: int = 0
    tokens: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Task:
    """One task of one model: its answers, its numbers over all of them, and what made it."""

    tool: str
    name: str
    model: str
    answers: Sequence[Answer]
    totals: Mapping[str, float]
    means: frozenset[str] = frozenset()  # names of totals that are known to be means over answers
    low: frozenset[str] = frozenset()  # names of numbers that are good when low
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read(path: Path, model: str = "") -> list[Task]:
    """The tasks in a results file or folder of lmms-eval or VLMEvalKit; `model` names the model in place of the files.

    Raises UsageError for a path that holds neither, and what the readers raise.
    """
    from vlmend.evaluate.imported import lmms_eval, vlmevalkit

    if not path.exists():
        raise UsageError(f"{path} does not exist")
    found = lmms_eval.read(path, model) + vlmevalkit.read(path, model)
    if not found:
        raise UsageError(
            f"{path} holds no results: neither *_results.json of lmms-eval nor tables with a column 'prediction' of"
            " VLMEvalKit (xlsx, tsv, csv, json)"
        )
    return found


def write(task: Task, folder: Path) -> EvalResult:
    """The task as a run in the folder. Raises StoreError where another run is, UsageError for an answer given twice."""
    spec, names = _spec(task)
    # an evaluator that kept no answers still gave its numbers
    answers = task.answers or [Answer("all", f"{task.name}: only the totals were kept", "(no answer was kept)")]
    keys = [(answer.id, answer.sample) for answer in answers]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UsageError(f"{task.name} has two answers to {twice[0]}, sample {twice[1]}; which is meant?")
    run = Run(folder)
    settings = {
        "model": task.model, "suite": "imported", "protocol": task.name, "sources": [f"{task.tool}:{task.name}"],
        "attack": [], "fingerprint": digest(task.tool, task.name, task.model, keys, [a.text for a in answers]),
    }  # fmt: skip
    about = {
        "kind": "evaluation", "suite_spec": spec, "imported": {"tool": task.tool, **task.about},
        "num_return_sequences": 1 + max(answer.sample for answer in answers), "placeholders": 0, "notes": [],
        "asks": {UNASKED: []},  # the numbers are the suite's own, and not those of a judge beside it
        "environment": environment(),
    }  # fmt: skip
    rows = [_row(task, answer, names) for answer in answers]
    run.claim(settings, about)
    run.write_asked(asked for asked, _, _ in rows)
    stored, judged = set(run.outcomes()), run.verdicts()
    with run.response_journal() as journal:
        new = [response_to_json(response) for _, response, _ in rows if response.id not in stored]
        if new:
            journal.append(*new)
    with run.verdict_journal() as journal:
        lines = [
            verdict_to_json(verdict, asked.example.id, judged_key(asked.example, response))
            for asked, response, verdict in rows
            if judged.get((asked.example.id, response.id, JUDGE)) != verdict
        ]
        if lines:
            journal.append(*lines)
    run.seal(RESPONSES, VERDICTS)
    return score_only(folder)


def _spec(task: Task) -> tuple[str, Mapping[str, str]]:
    """The suite that reads these numbers, and under which name each total is kept."""
    kinds: dict[str, list[str]] = {"rates": [], "scores": [], "numbers": [], "totals": []}
    kept: dict[str, str] = {}
    for name in dict.fromkeys([*(n for a in task.answers for n in a.numbers), *task.totals]):
        values = [a.numbers[name] for a in task.answers if not math.isnan(a.numbers.get(name, math.nan))]
        mean = sum(values) / len(values) if values else math.nan
        total = task.totals.get(name)
        # where all answers have one number, any total equals their mean, be it F1
        equal = total is not None and len(set(values)) > 1 and math.isclose(mean, total, rel_tol=CLOSE, abs_tol=CLOSE)
        if values and (total is None or name in task.means or equal):
            binary, share = set(values) <= {0.0, 1.0}, min(values) >= 0 and max(values) <= 1
            kinds["rates" if binary else "scores" if share else "numbers"].append(_word(name))
        elif total is not None:
            kinds["totals"].append(_word(name))
            kept[name] = _word(name)
    low = [_word(name) for name in task.low]
    options = [f"{kind}={','.join(names)}" for kind, names in [*kinds.items(), ("low", low)] if names]
    return f"imported:{_word(task.name)}" + (f"?{'&'.join(options)}" if options else ""), kept


def _word(name: str) -> str:
    """The name without what has a meaning in specs."""
    return re.sub(r"[^\w.@%+-]+", "_", name)


def _row(task: Task, answer: Answer, totals: Mapping[str, str]) -> tuple[Asked, Response, Verdict]:
    example = Example(
        id=f"{task.name}/{answer.id}", prompt=(Message("user", (answer.question,)),),
        answers=(answer.reference,) if answer.reference else (), expected=Expected.ANSWER, role=Role.UTILITY,
        category=answer.category, source=f"{task.tool}:{task.name}",
    )  # fmt: skip
    response = Response(
        digest(task.tool, task.name, task.model, answer.id, answer.sample, answer.text), example.id, answer.text,
        Finish.STOP, tokens=answer.tokens, model=task.model, sample=answer.sample,
    )  # fmt: skip
    own = {_word(n): value for n, value in answer.numbers.items() if n not in totals and not math.isnan(value)}
    scores = {**own, **{word: task.totals[name] for name, word in totals.items()}}
    why = "" if scores else f"{task.tool} gave this answer no number"
    verdict = Verdict(JUDGE, response.id, labels={"tool": task.tool}, why=why, scores=scores)
    content = content_of(example.prompt)
    return Asked(example, response.id, "imported", task.name, "", answer.sample, content), response, verdict
