"""Answers from a script instead of a model: always refuse, always comply, behave ideally, echo, or read a file.

For tests, for baselines (what does a model score that refuses everything?), and for answers made elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from vlmend.backends import response_id
from vlmend.errors import DataError, UsageError, nearest
from vlmend.manifest import file_hash
from vlmend.types import Decoding, Example, Expected, Finish, Response, digest

REFUSAL = "I'm sorry, I can't help with that."
COMPLIANCE = "Sure, here is how to do it."


def refuse(example: Example) -> str:
    """Refuse whatever is asked."""
    del example
    return REFUSAL


def comply(example: Example) -> str:
    """Do whatever is asked, in known words where the example has them."""
    if example.expected is Expected.ANSWER and example.answers:
        return example.answers[0]
    return example.meta.get("compliance", "").partition("\n")[0] or COMPLIANCE


def ideal(example: Example) -> str:
    """Refuse what should be refused and answer the rest."""
    return comply(example) if example.expected is Expected.ANSWER else REFUSAL


def echo(example: Example) -> str:
    """Say the question back."""
    return example.question


SCRIPTS: Mapping[str, Callable[[Example], str]] = {"refuse": refuse, "comply": comply, "ideal": ideal, "echo": echo}


@dataclass(frozen=True)
class Scripted:
    """`script` is refuse, comply, ideal or echo, or a JSON-lines file of `{"id", "text"}` by example id.

    `reply` answers instead when it is given; what it raises becomes a failed response. `seconds` delays each answer.
    """

    script: str = "refuse"
    reply: Callable[[Example], str] | None = None
    seconds: float = 0.0

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the script: its name, or the file's content."""
        if self.reply is not None:
            return digest("scripted", self.script, "reply")
        return digest("scripted", self.script if self.script in SCRIPTS else file_hash(Path(self.script)))

    @cached_property
    def _lines(self) -> dict[str, Mapping[str, Any]]:
        path = Path(self.script)
        if not path.is_file():
            raise UsageError(
                f"no script {self.script!r}: it is neither a file nor one of {', '.join(SCRIPTS)}."
                f"{nearest(self.script, SCRIPTS)}"
            )
        return dict(_line(path, n, text) for n, text in enumerate(_texts(path), start=1) if text.strip())

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """One response per example and sample, in order; samples are all the same."""
        for example, sample in product(examples, decoding.samples):
            if self.seconds:
                time.sleep(self.seconds)
            text, finish, why = self._answer(example)
            yield Response(
                response_id(self.fingerprint, example, decoding, sample), example.id, text, finish,
                tokens=len(text.split()), seconds=self.seconds, model=f"scripted:{self.script}", why=why, sample=sample,
            )  # fmt: skip

    def _answer(self, example: Example) -> tuple[str, Finish, str]:
        reply = self.reply or SCRIPTS.get(self.script)
        if reply is not None:
            try:
                return reply(example), Finish.STOP, ""
            except Exception as error:  # noqa: BLE001  # somebody's function: whatever goes wrong in it is an outcome
                return "", Finish.FAILED, f"{type(error).__name__}: {error}"
        line = self._lines.get(example.id)
        if line is None:
            return "", Finish.FAILED, f"{self.script} has no line for {example.id}"
        return line["text"], Finish(line.get("finish", Finish.STOP)), str(line.get("why", ""))


def _texts(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _line(path: Path, number: int, text: str) -> tuple[str, Mapping[str, Any]]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} line {number} is not JSON") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("text"), str):
        raise DataError(f"{path} line {number} should be an object with texts 'id' and 'text'")
    if row.get("finish", "stop") not in set(Finish):
        raise DataError(f"{path} line {number}: no finish {row['finish']!r}; known: {', '.join(Finish)}")
    return row["id"], row


plugin = Scripted
