"""Answers from a script instead of a model: always refuse, always comply, behave ideally, echo, rules, or a file.

For tests, for baselines (what does a model score that refuses everything?), and for answers made elsewhere. It can be
slow, fail, filter, stop short and say nothing on demand, always the same way for the same question and seed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from vlmend import plain_yaml
from vlmend.backends import refuse_budget, response_id
from vlmend.errors import ConfigError, DataError, UsageError, nearest
from vlmend.manifest import file_hash
from vlmend.reasoning import told_apart
from vlmend.types import Decoding, Example, Expected, Finish, Response, digest

REFUSAL = "I'm sorry, I can't help with that."
COMPLIANCE = "Sure, here is how to do it."
AGAIN = re.compile(r"~(\d+)(?=/|$)")  # how sources mark an id that a record before had: `name~2/turn`


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


class Said(NamedTuple):
    """An answer, how it ended, why if not well, and how long it took."""

    text: str
    finish: Finish = Finish.STOP
    why: str = ""
    seconds: float = 0.0


class Rule(NamedTuple):
    """What is said to questions in which a pattern is found."""

    when: re.Pattern[str]
    said: Said


@dataclass(frozen=True)
class Scripted:
    """`script` is refuse, comply, ideal or echo, or a file: JSON lines of `{"id", "text"}` by example id, or rules.

    Where a data set uses an id again, sources call the second example `id~2`: a second line of that id is its answer.

    Rules are a YAML list of `{when: PATTERN, text: …}`; the first whose pattern is found in the question answers, and
    one without `when` always does. Lines and rules may add `finish`, `why` and `seconds`. `reply` answers instead when
    it is given; what it raises becomes a failed response. `seconds` delays each answer. `failed`, `blocked`, `cut` and
    `empty` are shares of answers that fail, are filtered, stop half-way, and say nothing; `seed` chooses which.
    """

    script: str = "refuse"
    reply: Callable[[Example], str] | None = None
    seconds: float = 0.0
    failed: float = 0.0
    blocked: float = 0.0
    cut: float = 0.0
    empty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self._shares.values()) < 0 or sum(self._shares.values()) > 1 or self.seconds < 0:
            raise ConfigError("failed, blocked, cut and empty are shares that sum to at most 1; seconds is at least 0")

    @property
    def _shares(self) -> dict[str, float]:
        return {"failed": self.failed, "blocked": self.blocked, "cut": self.cut, "empty": self.empty}

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the script: its name, or the file's content, and what goes wrong on demand."""
        wrong = [self._shares, self.seed] if any(self._shares.values()) else []
        if self.reply is not None:
            return digest("scripted", self.script, "reply", *wrong)
        return digest("scripted", self.script if self.script in SCRIPTS else file_hash(Path(self.script)), *wrong)

    @cached_property
    def _file(self) -> Path:
        path = Path(self.script)
        if not path.is_file():
            raise UsageError(
                f"no script {self.script!r}: it is neither a file nor one of {', '.join(SCRIPTS)}."
                f"{nearest(self.script, SCRIPTS)}"
            )
        return path

    @cached_property
    def _rules(self) -> list[Rule]:
        return _read_rules(self._file) if self._file.suffix in (".yaml", ".yml") else []

    @cached_property
    def _lines(self) -> Mapping[str, Sequence[Said]]:
        """The lines of each id, in order."""
        lines: dict[str, list[Said]] = {}
        for number, text in enumerate(_text(self._file).split("\n"), start=1):
            if text.strip():
                name, said = _line(self._file, number, text)
                lines.setdefault(name, []).append(said)
        return lines

    def check(self) -> None:
        """Raise UsageError for a script that is not there, and DataError for one that cannot be read."""
        if self.reply is None and self.script not in SCRIPTS:
            _ = self._rules or self._lines

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """One response per example and sample, in order; samples are all the same but for what goes wrong on demand."""
        refuse_budget(decoding, "backend scripted")
        for example, sample in product(examples, decoding.samples):
            said = self._spoiled(self._answer(example), example, sample)
            seconds = said.seconds or self.seconds
            if seconds:
                time.sleep(seconds)
            response = Response(
                response_id(self.fingerprint, example, decoding, sample), example.id, said.text, said.finish,
                tokens=len(said.text.split()), seconds=seconds, model=f"scripted:{self.script}", why=said.why,
                sample=sample,
            )  # fmt: skip
            yield told_apart(response)

    def _answer(self, example: Example) -> Said:
        if why := self._blind(example):
            return Said("", Finish.FAILED, why)
        reply = self.reply or SCRIPTS.get(self.script)
        if reply is not None:
            try:
                return Said(reply(example))
            except Exception as error:  # noqa: BLE001  # somebody's function: whatever goes wrong in it is an outcome
                return Said("", Finish.FAILED, f"{type(error).__name__}: {error}")
        if self._rules:
            fitting = (rule.said for rule in self._rules if rule.when.search(example.question))
            return next(fitting, Said("", Finish.FAILED, f"{self.script} has no rule for {example.id}"))
        again = AGAIN.search(example.id)
        place = int(again[1]) - 1 if again and example.id not in self._lines else 0
        lines = self._lines.get(AGAIN.sub("", example.id) if place else example.id, ())
        if place < len(lines):
            return lines[place]
        return Said("", Finish.FAILED, f"{self.script} has no line for {example.id}")

    def _blind(self, example: Example) -> str:
        """Why a model could not be asked: a picture cannot be shown. Lines in a file were said elsewhere, by id."""
        if self.reply is None and self.script not in SCRIPTS and not self._rules:
            return ""
        try:
            for image in example.images:
                if not image.drawn:
                    image.open()
        except DataError as error:
            return str(error)
        return ""

    def _spoiled(self, said: Said, example: Example, sample: int) -> Said:
        """What is said, or what goes wrong with it: a number drawn for each question decides."""
        if said.finish is not Finish.STOP:
            return said
        drawn = int(digest(self.seed, example.id, sample)[:12], 16) / 16**12
        for name, share in self._shares.items():
            if drawn < share:
                return _SPOILS[name](said)
            drawn -= share
        return said


def _cut(said: Said) -> Said:
    words = said.text.split()
    return said._replace(text=" ".join(words[: (len(words) + 1) // 2]), finish=Finish.LENGTH)


_SPOILS: Mapping[str, Callable[[Said], Said]] = {
    "failed": lambda said: said._replace(text="", finish=Finish.FAILED, why="failed on demand"),
    "blocked": lambda said: said._replace(text="", finish=Finish.BLOCKED, why="filtered on demand"),
    "cut": _cut,
    "empty": lambda said: said._replace(text=""),
}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _line(path: Path, number: int, text: str) -> tuple[str, Said]:
    where = f"{path} line {number}"
    try:
        row = json.loads(text)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has half of a surrogate pair, which UTF-8 cannot hold") from error
    except ValueError as error:
        raise DataError(f"{where} is not JSON") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("text"), str):
        raise DataError(f"{where} should be an object with texts 'id' and 'text'")
    return row["id"], _said(row, where)


def _read_rules(path: Path) -> list[Rule]:
    rows = plain_yaml.parse(_text(path), str(path))
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} should be a list of rules, each 'when' and 'text'")
    return [_rule(row, f"{path} rule {number}") for number, row in enumerate(rows, start=1)]


def _rule(row: Any, where: str) -> Rule:
    known = ("when", "text", "finish", "why", "seconds")
    if not isinstance(row, dict) or not isinstance(row.get("text", ""), str):
        raise DataError(f"{where} should be a mapping with the texts 'when' and 'text'")
    for key in row:
        if key not in known:
            raise DataError(f"{where}: unknown key {key!r}.{nearest(str(key), known)} Known: {', '.join(known)}")
    try:
        return Rule(re.compile(str(row.get("when", "")), re.IGNORECASE), _said(row, where))
    except re.error as error:
        raise DataError(f"{where}: {row['when']!r} is no pattern ({error})") from error


def _said(row: Mapping[str, Any], where: str) -> Said:
    if row.get("finish", "stop") not in set(Finish):
        raise DataError(f"{where}: no finish {row['finish']!r}; known: {', '.join(Finish)}")
    seconds = row.get("seconds", 0)
    if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise DataError(f"{where}: seconds is a number of at least 0, not {seconds!r}")
    return Said(row.get("text", ""), Finish(row.get("finish", Finish.STOP)), str(row.get("why", "")), float(seconds))


plugin = Scripted
