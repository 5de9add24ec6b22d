"""Rubrics: what a judge's model is asked, as YAML files that carry a version and are known by their hash.

Those in the folder `rubrics` are ours; anybody's own file has the same shape. A rubric is words and a menu, never code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from vlmend import plain_yaml
from vlmend.config import Section, explain
from vlmend.errors import ConfigError, UnknownName, nearest
from vlmend.judge import own
from vlmend.judge.own import Word
from vlmend.judge.quoting import DATA, neutral, quoted
from vlmend.judge.reading import Menu, Read, read
from vlmend.judge.sifting import NOBODY
from vlmend.metrics.questions import QUESTIONS, YES_NO, Said
from vlmend.types import Example, Image, Message, Verdict, digest

FOLDER = Path(__file__).with_name("rubrics")
CLOSINGS = {
    "json": "Judge the answer now. Reply with one JSON object that has the keys {keys}, and with nothing else.",
    "reason": "Judge the answer now. Reply with one JSON object that has the keys reason (one sentence), {keys}, in "
    "this order, and with nothing else.",
    "word": "Judge the answer now. Reply with one word and nothing else: {values}.",
}
FLAGS = {"refused": "refused", "harmful": "harmful", "right": "correct"}  # questions that have a key of their own
NUMBERS = {"agreement": "agrees", "helpfulness": "helpful"}  # menus of ours whose score answers another name's question
LATER = ("prompt", "system", "reads", "tokens", "harmful_from", "answers")  # no part of the hash of what has none
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
    `refused` and `correct` say which values of which menu mean yes, `score` which number each stands for; where
    `harmful_from` is given, a score of at least that is harmful. A menu whose name is a question answers it; `answers`
    says which menu answers any other, and what its values mean there. `sees` is what is shown unless the user says
    otherwise. `category` is the definition where the example's own is not known.

    `prompt` is for a whole prompt of one's own instead of `task`, with the variables of `own.VARIABLES`; `reads` says
    how the reply is read then (as ours are where it is left out), `tokens` how long it may be, and `system`, which may
    have variables too, is a turn before it. What `shows` lists is then of no account.
    """

    version: int = Field(gt=0)
    summary: str
    task: str = ""
    prompt: str = ""
    system: str = ""
    reads: dict[str, own.Reading] = Field(default_factory=dict)
    tokens: int = Field(512, gt=0)
    menu: dict[str, dict[Word, str]] = Field(min_length=1)
    shows: tuple[Shown, ...] = ("question", "answer")
    sees: Literal["text", "image"] = "text"
    harmful: Values = Field(default_factory=dict)
    refused: Values = Field(default_factory=dict)
    correct: Values = Field(default_factory=dict)
    score: dict[str, dict[Word, float]] = Field(default_factory=dict)
    answers: dict[str, dict[str, dict[Word, Word]]] = Field(default_factory=dict)
    harmful_from: float | None = None
    category: str = ""
    categories: dict[str, Category] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _asks(self) -> Rubric:
        if bool(self.task) == bool(self.prompt):
            raise ValueError("has one of task (what is to be judged) and prompt (all that is asked)")
        if not self.prompt:
            if extra := self.model_fields_set & {"system", "reads", "tokens"}:
                raise ValueError(f"{sorted(extra)[0]} goes with prompt")
            return self
        own.check([self.system, self.prompt])
        if self.reads and (lost := set(self.menu) ^ set(self.reads)):
            raise ValueError(f"menu and reads have the same names; {sorted(lost)[0]!r} is in one of them only")
        for name, reading in self.reads.items():
            values = self.menu[name]
            if values and (unknown := set(reading.words.values()) - set(values)):
                raise ValueError(f"{name!r} has no {sorted(unknown)} on its menu")
        return self

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
        if self.harmful_from is not None:
            if self.harmful:
                raise ValueError("harmful says which values are, and harmful_from which scores: one of the two")
            self.check_threshold(self.harmful_from)
        return self

    def _check_answers(self, question: str, menus: Mapping[str, Mapping[str, str]]) -> None:
        """Raise ValueError unless one menu of words answers a question that exists, in words of the question."""
        if question not in QUESTIONS:
            raise ValueError(f"answers: {UnknownName('question', question, QUESTIONS)}")
        if getattr(self, FLAGS.get(question, ""), None) or (question == "harmful" and self.harmful_from is not None):
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
            if _said(question, question, meaning) is None:
                known = ", ".join(QUESTIONS[question].values)
                raise ValueError(f"answers: {question!r} has no value {meaning!r}; it has {known or 'numbers 0 to 1'}")

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions that it answers."""
        flags = [question for question, key in FLAGS.items() if getattr(self, key)]
        flags += ["harmful"] if self.harmful_from is not None else []
        menus = [question for name in self.menu for question in self._answered(name)]
        return tuple(dict.fromkeys((*flags, *menus, *self.answers)))

    def check_threshold(self, harmful_from: float) -> None:
        """Raise ValueError for a score that all answers reach, or none."""
        worths = [n for values in self.score.values() for n in values.values()]
        low, high = (min(worths), max(worths)) if worths else (0.0, 1.0)
        if not worths and all(self.menu.values()):
            raise ValueError("harmful_from is for a rubric that gives a score")
        if not low < harmful_from <= high:
            raise ValueError(f"harmful_from lies above {low:g} and not above {high:g}, not at {harmful_from:g}")

    @property
    def menus(self) -> tuple[Menu, ...]:
        """What is to be said."""
        return tuple(Menu(name, tuple(values)) for name, values in self.menu.items())

    def _answered(self, menu: str) -> Iterator[str]:
        """The questions that a menu answers by itself: with each of its words, or with its number."""
        words = self.menu[menu]
        for question in QUESTIONS.values():
            said = [_said(question.name, menu, word) for word in words]
            numbers = NUMBERS.get(menu, menu) == question.name and (not words or menu in self.score)
            if (said and None not in said) if question.values else numbers:
                yield question.name

    @property
    def hash(self) -> str:
        """Twelve digits that change with every word that is asked, and with what the replies are taken to mean."""
        asked = self.model_dump(mode="json")
        for name in LATER:
            if name not in self.model_fields_set:
                del asked[name]
        return digest(asked, DATA, CLOSINGS)[:12]

    def lacks(self, example: Example) -> str:
        """What the example would need for this question, or the empty string."""
        shown = own.names(self.system + self.prompt) if self.prompt else self.shows
        if "reference" in shown and not any(a.strip() for a in example.answers):
            return "the example has no reference answer"
        if self.prompt and "category" in shown and not example.category:
            return "the example has no category"
        if self.prompt and "definition" in shown and not self._definition(example.category)[1]:
            return f"the rubric has no definition of the category {example.category!r}"
        return ""

    def closing(self, reply: Reply) -> str:
        """The form of the reply. Raises ConfigError when one word cannot say it."""
        if self.prompt and reply != "json":
            raise ConfigError(
                f"reply={reply} is not for a rubric with a prompt of its own, which asks for its own form"
            )
        if reply in ("json", "reason"):
            return CLOSINGS[reply].format(keys=", ".join(f'"{name}"' for name in self.menu))
        [values, *others] = self.menu.values()
        if others or not values:
            raise ConfigError(f"reply={reply} is for one menu of words; this rubric asks for {', '.join(self.menu)}")
        return CLOSINGS["word"].format(values=" or ".join(values))

    def asked(self, example: Example, answer: str, reply: Reply, *, pictures: bool) -> tuple[Message, ...]:
        """The question as one user turn: pictures, task, menu, material, and the form of the reply."""
        images = example.images if pictures else ()
        if self.prompt:
            return self._own_prompt(example, answer, images)
        name, definition = self._definition(example.category)
        shown: dict[Shown, str] = {
            "question": quoted("question", example.question),
            "category": f"What counts as unsafe here: {f'{name}. {definition}' if name else definition}",
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
        return (Message("user", (*images, text)),)

    def _own_prompt(self, example: Example, answer: str, images: tuple[Image, ...]) -> tuple[Message, ...]:
        """The user's own prompt as one user turn, with pictures first; behind its system turn if it has one."""
        values = {
            "question": neutral(example.question),
            "answer": neutral(answer),
            "reference": neutral(example.answers[0]) if example.answers else "",
            "category": neutral(example.category),
            "definition": self._definition(example.category)[1],
        }
        turns = (Message("system", (own.filled(self.system.strip(), values.__getitem__),)),) if self.system else ()
        return (*turns, Message("user", (*images, own.filled(self.prompt.strip(), values.__getitem__))))

    def _definition(self, category: str) -> tuple[str, str]:
        """The category's name here, and what counts as unsafe in it; in general where it is not known."""
        known = _plain(category)
        for name, found in self.categories.items():
            if known in map(_plain, (name, *found.also)):
                return name, found.definition.strip()
        return neutral(category), self.category.strip()

    def read(self, text: str) -> Read:
        """What a reply says, or why that cannot be told."""
        return own.read(text, self.menus, self.reads) if self.reads else read(text, self.menus)

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
        named = {q: values[q] for q, key in FLAGS.items() if values.get(q) in YES_NO and not getattr(self, key)}
        flags = {FLAGS[q]: value == "yes" for q, value in {**named, **said}.items() if q in FLAGS}
        found = Verdict(
            judge, response_id, refused=_flag(self.refused, values), harmful=_flag(self.harmful, values),
            correct=_flag(self.correct, values), labels={**labels, **values, **said},
            score=(*scores, *numbers, *meant, None)[0],
        )  # fmt: skip
        return replace(found, **flags) if flags else found

    def by_score(self, verdict: Verdict, harmful_from: float | None) -> Verdict:
        """The verdict, harmful where its score reaches the rubric's `harmful_from` or the one given instead."""
        least = self.harmful_from if harmful_from is None else harmful_from
        if least is None or verdict.score is None:
            return verdict
        return replace(verdict, harmful=verdict.score >= least)


def _flag(yes: Mapping[str, tuple[str, ...]], values: Mapping[str, str]) -> bool | None:
    return any(values[name] in wanted for name, wanted in yes.items()) if yes else None


def _said(question: str, label: str, value: str) -> Said | None:
    """What a verdict with this label alone says to the question."""
    return QUESTIONS[question].said(Verdict("", "", labels={label: value}), NOBODY)


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
