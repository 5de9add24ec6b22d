"""Rows about safety in many wordings: training apart from tests, forms that agree, contexts no word of which tells."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vlmend.data import contexts, phrasings
from vlmend.data.phrasings import Asking, Form, Half, Label, Subject
from vlmend.errors import ConfigError, DataError
from vlmend.types import Example, Pair

APART = phrasings.load("apart")
LABELS: tuple[Label, ...] = ("safe", "unsafe")


def subject(label: Label, name: str = "s/1", concept: str = "flask") -> Subject:
    return Subject(name, (), "this picture", label, f"image_{label}", concept)


def asked(label: Label, form: Form = "answers", half: Half = "train", **more: object) -> list[Example | Pair]:
    given = {"phrasings": APART, "half": half, "form": form, **more}
    return list(Asking(**given).rows(subject(label)))  # type: ignore[arg-type]


def examples(rows: Sequence[Example | Pair]) -> list[Example]:
    return [row for row in rows if isinstance(row, Example)]


def pairs(rows: Sequence[Example | Pair]) -> list[Pair]:
    return [row for row in rows if isinstance(row, Pair)]


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def test_what_is_trained_on_is_not_tested_with() -> None:
    train, test = dict(APART.numbered("train")), dict(APART.numbered("test"))
    assert len(train) >= 10
    assert len(test) >= 5
    assert not train.keys() & test.keys()
    assert not set(train.values()) & set(test.values())
    published = phrasings.load("published")
    assert published.numbered("train") == published.numbered("test")
    assert len(published.numbered("test")) == 5


@pytest.mark.parametrize("label", LABELS)
def test_all_forms_are_of_the_same_questions(label: Label) -> None:
    plain, prompts = examples(asked(label)), examples(asked(label, "prompts"))
    preferences = pairs(asked(label, "pairs"))
    assert [(e.id, e.prompt) for e in plain] == [(e.id, e.prompt) for e in prompts]
    assert [(e.id, e.prompt) for e in plain] == [(p.id, p.prompt) for p in preferences]
    assert [e.answers[0] for e in plain] == [p.chosen for p in preferences]
    assert {e.answers for e in prompts} == {("Yes" if label == "safe" else "No",)}
    assert all(e.meta["label"] == label for e in plain)


def test_the_rejected_answer_is_what_is_right_of_the_contrary() -> None:
    """Same phrasing, same template, same concept: only the verdict differs, and it differs both ways."""
    for safe, unsafe in zip(pairs(asked("safe", "pairs")), pairs(asked("unsafe", "pairs")), strict=True):
        assert (safe.chosen, safe.rejected) == (unsafe.rejected, unsafe.chosen)
        assert safe.chosen.startswith("Yes. ")
        assert safe.rejected.startswith("No. ")
        assert ("flask" in safe.chosen) == ("flask" in safe.rejected)


def test_one_phrasing_is_one_of_all_whatever_the_form() -> None:
    every = {e.id for e in asked("safe")}
    for seed in range(8):
        one = asked("safe", each="one", seed=seed)
        assert [row.id for row in one] == [row.id for row in asked("safe", "pairs", each="one", seed=seed)]
        assert {row.id for row in one} < every
    assert len({asked("safe", each="one", seed=seed)[0].id for seed in range(20)}) > 3


def test_answers_are_many_and_name_what_is_shown() -> None:
    drawn = {e.answers[0] for seed in range(10) for e in examples(asked("unsafe", seed=seed))}
    assert len(drawn) == len(APART.answers.unsafe if APART.answers else ())
    rows = Asking(APART, "train").rows(subject("safe", concept=""))
    assert {e.answers[0] for e in rows if isinstance(e, Example)} == {"Yes. It is harmless."}


def test_where_yes_means_unsafe_the_other_word_is_right() -> None:
    reversed_ = phrasings.load("reversed")
    found = {label: examples(asked(label, phrasings=reversed_)) for label in LABELS}
    assert {e.answers[1] for e in found["unsafe"]} == {"Yes"}
    assert {e.answers[1] for e in found["safe"]} == {"No"}
    assert {e.meta["label"] for e in found["unsafe"]} == {"unsafe"}


def write(folder: Path, text: str) -> str:
    file = folder / "mine.yaml"
    file.write_text(text)
    return str(file)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    text = 'questions: {train: ["Is {it} fine?"], test: ["May one show {it}?"]}\n'
    text += 'answers: {safe: ["OK: {concept}"], unsafe: ["{concept}: not OK"]}\n'
    mine = phrasings.load(write(tmp_path, text))
    (row,) = examples(asked("unsafe", half="test", phrasings=mine))
    assert (row.question, row.answers) == ("May one show this picture?", ("No. flask: not OK", "No"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("questions: {train: []}", "'questions.train'"),
        ('questions: {train: ["Is it fine?"]}', "a question has {it} in it once"),
        ('questions: {train: ["Is {it} or {it} fine?"]}', "a question has {it} in it once"),
        ('questions: {train: ["Is {it fine?"]}', "expected '}'"),
        ('questions: {train: ["Is {it} ok?"], test: ["Is {it} ok?"]}', "is among both train and test"),
        ('questions: {train: ["{it}?"]}\nanswers: {safe: ["a"], unsafe: ["b", "c"]}', "should be as many"),
        ('questions: {train: ["{it}?"]}\nanswers: {safe: ["{it}"], unsafe: ["b"]}', "maybe {concept} among them"),
        ('questions: {train: ["{it}?"]}\nyes_mean: safe', "Did you mean 'yes_means'?"),
        ("- a", "should be an object"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        phrasings.load(write(tmp_path, text))
    assert says in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_that_is_not_there_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"neither apart, published, reversed nor a file .* Did you mean 'published'"):
        phrasings.load("publshed")


def uses(label: Label, half: Half = "test", n: int = 200) -> list[Example]:
    about = [replace(subject(label), name=f"s/{i}") for i in range(n)]
    return [row for each in about for row in contexts.rows(each, half, "answers", 0) if isinstance(row, Example)]


@pytest.mark.parametrize("half", ["train", "test"])
def test_no_word_of_a_context_tells_the_answer(half: Half) -> None:
    """Both questions about a picture are of the same words, and begin and end alike: whatever reads words in a bag
    says the same to both, and is right about one.
    """
    rows = uses("unsafe", half)
    for fit, unfit in zip(rows[::2], rows[1::2], strict=True):
        assert (fit.answers[1], unfit.answers[1]) == ("Yes", "No")
        assert words(fit.question) == words(unfit.question)
        assert fit.question != unfit.question
        assert fit.question.split()[:2] == unfit.question.split()[:2]
        assert fit.question.split()[-1] == unfit.question.split()[-1]
    frequencies: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        frequencies[row.answers[1]] += words(row.question)
    assert frequencies["Yes"] == frequencies["No"]


def test_the_words_of_a_context_alone_do_not_tell_of_harmless_pictures() -> None:
    safe, unsafe = uses("safe"), uses("unsafe")
    assert [e.question for e in safe] == [e.question for e in unsafe]
    assert {e.answers[1] for e in safe} == {"Yes"}
    assert Counter(e.answers[1] for e in unsafe) == {"Yes": 200, "No": 200}
    assert {e.subset for e in safe} == {"context_harmless"}


def test_contexts_of_training_are_not_those_of_tests() -> None:
    def audiences(half: Half) -> set[str]:
        asked_ = " ".join(e.question for e in uses("unsafe", half))
        return {name for name in (*contexts.FIT, *contexts.UNFIT) if name in asked_}

    assert len(audiences("train")) == len(audiences("test")) == 8
    assert not audiences("train") & audiences("test")


def test_a_context_as_a_pair_prefers_what_is_right() -> None:
    found = [p for p in contexts.rows(subject("unsafe"), "train", "pairs", 0) if isinstance(p, Pair)]
    assert [(p.chosen[:3], p.rejected[:3]) for p in found] == [("Yes", "No."), ("No.", "Yes")]
