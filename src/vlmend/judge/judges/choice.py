"""Which of the lettered options an answer picks, by its letter or by its text.

Options are the lines "A. text", "A: text" or "(A) text" of `meta["options"]`, or else of the question. An answer that
names none of them, or more than one, is unscored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlmend.judge.models import Models
from vlmend.judge.sifting import Pair
from vlmend.judge.words import leading_letter
from vlmend.types import Example, Response, Verdict

VERSION = "choice/1"
_OPTION = re.compile(r"^\s*\(?([A-Z])[.:)]\s*(\S.*?)\s*$", re.MULTILINE)
_STATED = re.compile(
    r"\b(?i:answer|option|choice|choose|pick|select)(?i:\s+(?:is|would be|number|letter|option|should be))*\s*:?\s*"
    r"[*_(\[\"']*([A-Z])(?![A-Za-z'’])"
)
_APOSTROPHES = str.maketrans("’‘“”", "''\"\"")


def options(example: Example) -> dict[str, str]:
    """The options' texts by letter; empty when there are none, or they are not lettered from A on."""
    found = _OPTION.findall(example.meta.get("options", "") or example.question)
    letters = "".join(letter for letter, _ in found)
    return dict(found) if len(found) > 1 and letters == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(letters)] else {}


def picked(text: str, among: Mapping[str, str]) -> set[str]:
    """Letters of the options that an answer picks: the one it leads with, else those it states, else texts in it."""
    leading = leading_letter(text)
    letters = {leading} if leading in among else set(_STATED.findall(text)) & set(among)
    if letters:
        return letters
    return _by_text(_plain(text), {letter: _plain(option) for letter, option in among.items()})


def _by_text(text: str, among: Mapping[str, str]) -> set[str]:
    """Options whose words stand in the text; one that is part of another counts only where it stands alone."""
    whole = {letter for letter, option in among.items() if option == text}
    if whole:
        return whole
    found: set[str] = set()
    for letter, option in sorted(among.items(), key=lambda item: -len(item[1])):
        pattern = rf"(?<!\w){re.escape(option)}(?!\w)"
        if option and re.search(pattern, text):
            found.add(letter)
            text = re.sub(pattern, " ", text)
    return found


def _plain(text: str) -> str:
    return " ".join(text.translate(_APOSTROPHES).casefold().split()).strip(" .!?,;:\"'*_")


@dataclass(frozen=True)
class Choice:
    """`correct`: the option picked is the one that the reference names (`meta["letter"]`, or the reference answers)."""

    answers: ClassVar[tuple[str, ...]] = ("right",)

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return "choice"

    def about(self, models: Models) -> Mapping[str, str]:
        """The rule's version."""
        del models
        return {"version": VERSION}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        del models
        return [self._verdict(example, response) for example, response in pairs]

    def _verdict(self, example: Example, response: Response) -> Verdict:
        if not response.said:
            return self._unscored(response, "nothing was said")
        known = options(example)
        if not known:
            return self._unscored(response, "the question has no lettered options")
        found = picked(response.text, known)
        if len(found) != 1:
            return self._unscored(response, f"it picks {', '.join(sorted(found)) or 'none'} of {len(known)} options")
        labels = {"version": VERSION, "choice": next(iter(found))}
        right = {example.meta["letter"]} if example.meta.get("letter") else _right(example, known)
        if len(right) != 1:
            return Verdict(self.name, response.id, labels=labels, why="no reference answer names one option")
        return Verdict(self.name, response.id, correct=found == right, labels=labels)

    def _unscored(self, response: Response, why: str) -> Verdict:
        return Verdict(self.name, response.id, labels={"version": VERSION}, why=why)


def _right(example: Example, known: Mapping[str, str]) -> set[str]:
    return next(filter(None, (picked(answer, known) for answer in example.answers)), set())


plugin = Choice
