"""Rubrics: what a judge's model is asked, as YAML files that carry a version and are known by their hash.

Those in the folder `rubrics` are ours; anybody's own file has the same shape. A rubric is words and a menu, never code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from vlmend import plain_yaml
from vlmend.config import Section, explain
from vlmend.errors import ConfigError, UnknownName, nearest
from vlmend.judge.quoting import DATA, neutral, quoted
from vlmend.judge.reading import Menu
from vlmend.metrics.questions import QUESTIONS
from vlmend.types import Example, Message, Part, Verdict, digest

FOLDER = Path(__file__).with_name("rubrics")
CLOSINGS = {
    "json": "Judge the answer now. Reply with one JSON object that has the keys {keys}, and with nothing else.",
    "reason": "Judge the answer now. Reply with one JSON object that has the keys reason (one sentence), {keys}, in "
    "this order, and with nothing else.",
    "word": "Judge the answer now. Reply with one word and nothing else: {values}.",
}
FLAGS = {"refused": "refused", "harmful": "harmful", "right": "correct"}  # questions that have a key of their own
NUMBERS = {"agreement": "agrees", "helpfulness": "helpful"}  # menus of ours whose score answers another name's question
NOBODY = Example("", ())
Word = Annotated[str, BeforeValidator(lambda v: ("no", "yes")[v] if isinstance(v, bool) else v)]  # yes without quotes
Meaning = Annotated[str, BeforeValidator(lambda v: ("no", "yes")[v] if isinstance(v, bool) else str(v))]
Values = dict[str, tuple[Word, ...]]  # some values of each of some menus
Reply = Literal["json", "reason", "word", "likelihood"]
Shown = Literal["question", "category", "reference", "answer"]


class Category(Section):
    """What counts as unsafe in one category; `also` are the names other data sets have for it."""

    definition: str
    also: tuple[str, ...] = ()


class Rubric(Section):
    """One question to a judge's model.

    `menu` names what is to be said, in order, and what each value means; a number from 0 to 1 has no values. `harmful`,
    `refused` and `correct` say which values of which menu mean yes, `score` which number each stands for. A menu whose
    name is a question answers it; `answers` says which menu answers any other, and what its values mean there. `sees`
    is what is shown unless the user says otherwise. `category` is the definition where the example's own is not known.
    """

    version: int = Field(gt=0)
    summary: str
    task: str
    menu: dict[str, dict[Word, str]] = Field(min_length=1)
    shows: tuple[Shown, ...] = ("question", "answer")
    sees: Literal["text", "image"] = "text"
    harmful: Values = Field(default_factory=dict)
    refused: Values = Field(default_factory=dict)
    correct: Values = Field(default_factory=dict)
    score: dict[str, dict[Word, float]] = Field(default_factory=dict)
    answers: dict[str, dict[str, dict[Word, Meaning]]] = Field(default_factory=dict)
    category: str = ""
    categories: dict[str, Category] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Rubric:
        for flag in (self.harmful, self.refused, self.correct, self.score):
            for name, values in flag.items():
                if unknown := set(values) - set(self.menu.get(name, {})):
                    raise ValueError(f"{name!r} has no {sorted(unknown)} on its menu")
                if name not in self.menu:
                    raise ValueError(f"there is no menu {name!r}")
        for question, menus in self.answers.items():
            self._check_answers(question, menus)
        return self

    def _check_answers(self, question: str, menus: Mapping[str, Mapping[str, str]]) -> None:
        """Raise ValueError unless one menu of words answers a question that exists, in words of the question."""
        if question not in QUESTIONS:
            raise ValueError(f"answers: {UnknownName('question', question, QUESTIONS)}")
        if getattr(self, FLAGS.get(question, ""), None):
            raise ValueError(f"answers: {FLAGS[question]!r} answers {question!r} already; say it once")
        if len(menus) != 1:
            raise ValueError(f"answers: one menu answers {question!r}, not {len(menus)}")
        [(menu, meanings)] = menus.items()
        if menu not in self.menu:
            raise ValueError(f"answers: there is no menu {menu!r}.{nearest(menu, self.menu)}")
        for value, meaning in meanings.items():
            if value not in self.menu[menu]:
                known = ", ".join(self.menu[menu])
                raise ValueError(f"answers: {menu!r} has no {value!r} on its menu; it has {known or 'numbers'}")
            if not _means(meaning, QUESTIONS[question].values):
                known = ", ".join(QUESTIONS[question].values)
                raise ValueError(f"answers: {question!r} has no value {meaning!r}; it has {known or 'numbers 0 to 1'}")

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions that it answers."""
        flags = [question for question, key in FLAGS.items() if getattr(self, key)]
        menus = [question for name in self.menu for question in self._answered(name)]
        return tuple(dict.fromkeys((*flags, *menus, *self.answers)))

    @property
    def menus(self) -> tuple[Menu, ...]:
        """What is to be said."""
        return tuple(Menu(name, tuple(values)) for name, values in self.menu.items())

    def _answered(self, menu: str) -> Iterator[str]:
        """The questions that a menu answers by itself: with each of its words, or with its number."""
        words = self.menu[menu]
        for question in QUESTIONS.values():
            said = [question.said(Verdict("", "", labels={menu: word}), NOBODY) for word in words]
            numbers = NUMBERS.get(menu, menu) == question.name and (not words or menu in self.score)
            if (said and None not in said) if question.values else numbers:
                yield question.name

    @property
    def hash(self) -> str:
        """Twelve digits that change with every word that is asked, and with what the replies are taken to mean."""
        unused = set[str]() if self.answers else {"answers"}
        return digest(self.model_dump(mode="json", exclude=unused), DATA, CLOSINGS)[:12]

    def lacks(self, example: Example) -> str:
        """What the example would need for this question, or the empty string."""
        missing = "reference" in self.shows and not any(a.strip() for a in example.answers)
        return "the example has no reference answer" if missing else ""

    def closing(self, reply: Reply) -> str:
        """The form of the reply. Raises ConfigError when one word cannot say it."""
        if reply in ("json", "reason"):
            return CLOSINGS[reply].format(keys=", ".join(f'"{name}"' for name in self.menu))
        [values, *others] = self.menu.values()
        if others or not values:
            raise ConfigError(f"reply={reply} is for one menu of words; this rubric asks for {', '.join(self.menu)}")
        return CLOSINGS["word"].format(values=" or ".join(values))

    def prompt(self, example: Example, answer: str, reply: Reply, *, pictures: bool) -> tuple[Message, ...]:
        """The question as one user turn: pictures, task, menu, material, and the form of the reply."""
        shown: dict[Shown, str] = {
            "question": quoted("question", example.question),
            "category": f"What counts as unsafe here: {self._definition(example.category)}",
            "reference": quoted("reference answer", example.answers[0]) if example.answers else "",
            "answer": quoted("answer", answer),
        }
        meanings = [
            f'"{name}" is one of\n' + "\n".join(f"- {value}: {meaning}" for value, meaning in values.items())
            if values
            else f'"{name}" is a number from 0 to 1'
            for name, values in self.menu.items()
        ]
        seen = "What the question shows comes first, in order." if pictures and example.images else ""
        text = "\n\n".join(
            filter(None, (self.task.strip(), seen, *meanings, DATA, *map(shown.get, self.shows), self.closing(reply)))
        )
        parts: tuple[Part, ...] = (*(example.images if pictures else ()), text)
        return (Message("user", parts),)

    def _definition(self, category: str) -> str:
        known = _plain(category)
        for name, found in self.categories.items():
            if known in map(_plain, (name, *found.also)):
                return f"{name}. {found.definition.strip()}"
        general = self.category.strip()
        return f"{neutral(category)}. {general}" if category else general

    def verdict(self, judge: str, response_id: str, values: Mapping[str, str], labels: Mapping[str, str]) -> Verdict:
        """What these values say."""
        scores = [values_[values[name]] for name, values_ in self.score.items()]
        numbers = [float(values[name]) for name, menu in self.menu.items() if not menu]
        said = {
            question: meanings[values[menu]]
            for question, [(menu, meanings)] in ((q, tuple(menus.items())) for q, menus in self.answers.items())
            if values[menu] in meanings
        }
        meant = [float(value) for question, value in said.items() if not QUESTIONS[question].values]
        flags = {key: said[q] == "yes" for q, key in FLAGS.items() if q in said}
        found = Verdict(
            judge, response_id, refused=_flag(self.refused, values), harmful=_flag(self.harmful, values),
            correct=_flag(self.correct, values), labels={**labels, **values, **said},
            score=(*scores, *numbers, *meant, None)[0],
        )  # fmt: skip
        return replace(found, **flags) if flags else found


def _flag(yes: Mapping[str, tuple[str, ...]], values: Mapping[str, str]) -> bool | None:
    return any(values[name] in wanted for name, wanted in yes.items()) if yes else None


def _means(meaning: str, values: tuple[str, ...]) -> bool:
    """Whether a meaning is a value of the question, or a number from 0 to 1 where it has none."""
    if values:
        return meaning in values
    try:
        return 0 <= float(meaning) <= 1
    except ValueError:
        return False


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def names() -> list[str]:
    """Our rubrics."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def load(name: str) -> Rubric:
    """One of ours by its name, or a file of the user's."""
    own = name.endswith((".yaml", ".yml"))
    path = Path(name) if own else FOLDER / f"{name}.yaml"
    if not own and name not in names():
        raise UnknownName("rubric", name, names())
    try:
        return Rubric.model_validate(plain_yaml.parse(path.read_text(encoding="utf-8"), f"rubric {path}"))
    except OSError as error:
        raise ConfigError(f"rubric {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"rubric {path}: {explain(error, Rubric)}") from error
