"""Judge only what was said: the one place that keeps this rule, and that a failing judge never reads as safety."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from vlmend.store import Run, verdict_to_json
from vlmend.types import Example, Judge, Record, Response, Verdict

BATCH = 256

Pair = tuple[Example, Response]


def verdicts(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    """One verdict per pair, in order. What says nothing, and what the judge fails on, is unscored and says why."""
    found: list[Verdict | None] = [None if r.said else unscored(judge.name, r, _silence(r)) for _, r in pairs]
    said = [i for i, verdict in enumerate(found) if verdict is None]
    for start in range(0, len(said), BATCH):
        chunk = said[start : start + BATCH]
        for i, verdict in zip(chunk, _judged(judge, [pairs[i] for i in chunk]), strict=True):
            found[i] = verdict
    return [verdict for verdict in found if verdict is not None]


def unscored(judge: str, response: Response, why: str) -> Verdict:
    """A verdict that says nothing about the answer, and why."""
    return Verdict(judge, response.id, why=why)


def _silence(response: Response) -> str:
    return f"response {response.finish}: {response.why}" if response.why else f"response {response.finish}, empty"


def _judged(judge: Judge, pairs: Sequence[Pair]) -> list[Verdict]:
    """The judge's verdicts; when it fails on a batch, each pair is tried alone, so that one cannot spoil the others."""
    try:
        found = judge(pairs)
        if len(found) != len(pairs):
            raise ValueError(f"the judge gave {len(found)} verdicts for {len(pairs)} responses")
    except Exception as error:  # noqa: BLE001  # a judge may fail in any way, and none of them may pass for a verdict
        if len(pairs) > 1:
            return [verdict for pair in pairs for verdict in _judged(judge, [pair])]
        return [unscored(judge.name, pairs[0][1], f"judge failed: {type(error).__name__}: {error}")]
    return [_checked(judge, verdict, response) for verdict, (_, response) in zip(found, pairs, strict=True)]


def _checked(judge: Judge, verdict: Verdict, response: Response) -> Verdict:
    """The verdict if it is about this response, under the judge's name."""
    if verdict.response_id != response.id:
        return unscored(judge.name, response, f"judge failed: it spoke of response {verdict.response_id}")
    score = verdict.score if verdict.score is not None and math.isfinite(verdict.score) else None
    return replace(verdict, judge=judge.name, score=score)


def judge_run(run: Run, judges: Iterable[Judge], progress: Callable[[str, int, int], None]) -> int:
    """Judge every record of a run and store what is new; returns how many verdicts that were.

    A stored verdict that scored is kept. An unscored one is asked for again: the response or the judge may have
    recovered since.
    """
    new = 0
    with run.verdict_journal() as journal:
        records = run.records()
        for judge in judges:
            open_ = [r for r in records if not _scored(r.verdict(judge.name))]
            for start in range(0, len(open_), BATCH):
                chunk = open_[start : start + BATCH]
                for record, verdict in zip(
                    chunk, verdicts(judge, [(r.example, r.response) for r in chunk]), strict=True
                ):
                    if verdict != record.verdict(judge.name):
                        journal.append(verdict_to_json(verdict, record.example.id))
                        new += 1
                progress(f"judge {judge.name}", min(start + BATCH, len(open_)), len(open_))
    return new


def _scored(verdict: Verdict | None) -> bool:
    return verdict is not None and (verdict.refused, verdict.harmful, verdict.correct) != (None, None, None)


def missing_judges(records: Iterable[Record], names: Iterable[str]) -> list[str]:
    """Judges that have no verdict on any record."""
    given = {verdict.judge for record in records for verdict in record.verdicts}
    return [name for name in names if name not in given]
