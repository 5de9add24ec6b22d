"""A whole prompt of the user's own, with variables, and how the reply to it is read.

Text is put in once: what stands in an answer opens no variable. A brace that opens none is an ordinary character, so
that JSON in a prompt needs no care; `{{name}}` stands for the text `{name}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from vlmend.config import Section
from vlmend.errors import nearest
from vlmend.judge.reading import Menu, Read


def _word(value: object) -> object:
    """What YAML takes for something else: yes, no and numbers without quotes."""
    if isinstance(value, bool):
        return ("no", "yes")[value]
    return f"{value:g}" if isinstance(value, int | float) else value


Word = Annotated[str, BeforeValidator(_word)]
VARIABLES: Mapping[str, str] = {
    "question": "what was asked, text of the last turn",
    "answer": "the answer that is judged",
    "reference": "the example's first reference answer",
    "category": "the example's category, as its data set names it",
    "definition": "what the rubric's `categories` say of it, else its `category`",
}
_VARIABLE = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


class Reading(Section):
    """Where a reply says one thing. `pattern`: a regular expression whose one group is it; its last match counts.

    `words`: values of the menu by the words for them. Without a pattern the reply has to begin with one, whole.
    """

    pattern: str = ""
    words: dict[Word, Word] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> Reading:
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is no pattern ({error})") from error
        if self.pattern and groups != 1:
            raise ValueError(f"the pattern {self.pattern!r} has {groups} groups; the one group is what is read")
        if not self.pattern and not self.words:
            raise ValueError("says neither pattern nor words")
        if any(not word.strip() for word in self.words):
            raise ValueError("an empty word is in every reply")
        return self

    def found(self, text: str, menu: Menu) -> tuple[str | None, str]:
        """The value on the menu, and what was read; None where that is none of its values."""
        if self.pattern:
            matches = re.findall(self.pattern, text)
            said = matches[-1].strip() if matches else ""
            by_word = {word.casefold(): value for word, value in self.words.items()}
            return menu.read(by_word.get(said.casefold(), said)) if said else None, said
        start = text.lstrip(" \t\r\n*_`\"'“”‘’#>-([")
        for word in sorted(self.words, key=len, reverse=True):  # "not sure" before "not"
            # a lone letter needs a sign that it is one: the "A" of "A clear case" is none
            ends = r"(?![\w-])" if len(word) > 1 else r"(?=[\s*_]*(?:[.):,;\]]|\n|$))"
            if re.match(re.escape(word) + ends, start, re.IGNORECASE):
                return menu.read(self.words[word]), word
        return None, ""


def names(template: str) -> list[str]:
    """The variables that a template opens, each once, in order."""
    return list(dict.fromkeys(name for _, name in _VARIABLE.findall(template) if name))


def check(templates: Iterable[str]) -> None:
    """Raise ValueError for a variable that there is none of, and where the answer is not shown."""
    found = [name for template in templates for name in names(template)]
    for name in found:
        if name not in VARIABLES:
            raise ValueError(
                f"there is no variable {{{name}}}.{nearest(name, VARIABLES)} Known: {', '.join(VARIABLES)}; write"
                f" {{{{{name}}}}} for the text {{{name}}}"
            )
    if "answer" not in found:
        raise ValueError("the prompt does not show {answer}, which is what is judged")


def filled(template: str, value: Callable[[str], str]) -> str:
    """The template with each variable's value in its place. What a value spells is left as it is."""
    return _VARIABLE.sub(lambda found: f"{{{found[1]}}}" if found[1] else value(found[2]), template)


def read(text: str, menus: Sequence[Menu], readings: Mapping[str, Reading]) -> Read:
    """What the readings find in a reply, or why one of them finds nothing that is on its menu."""
    values: dict[str, str] = {}
    for menu in menus:
        value, said = readings[menu.name].found(text, menu)
        if value is None:
            line = " ".join(text.split())
            shown = line if len(line) <= 120 else f"{line[:60]} … {line[-60:]}"
            return Read(
                {}, f"verdict off the menu: {menu.name} is {said!r}" if said else f"unreadable verdict: {shown!r}"
            )
        values[menu.name] = value
    return Read(values)
