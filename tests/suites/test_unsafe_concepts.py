"""The suite unsafe_concepts: its parts alone, and what models that do not look get."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import read
from vlmend.data.sources.unsafe_concepts import UnsafeConcepts
from vlmend.errors import ConfigError
from vlmend.judge.judges.choice import Choice
from vlmend.judge.judges.leading_word import LeadingWord
from vlmend.judge.models import Models
from vlmend.metrics.questions import bound
from vlmend.metrics.rates import score
from vlmend.registry import suites
from vlmend.types import Example, Finish, Record, Response

JUDGES = {"right": Choice(), "calls_unsafe": LeadingWord()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("concepts")
    UnsafeConcepts.sample(folder)
    return folder


def asked(suite: Any) -> Iterator[Example]:
    for source in suite.sources:
        yield from read(source)


def values(spec: str, model: Callable[[Example], str]) -> dict[str, float | None]:
    """What the suite makes of a model's answers, judged by the suite's own rules."""
    suite = suites.from_spec(spec)
    judges = {question: JUDGES[question] for question in suite.asks}
    models = Models()
    records: list[Record] = []
    for example in asked(suite):
        response = Response(f"r/{example.id}", example.id, model(example), Finish.STOP)
        verdicts = tuple(v for judge in judges.values() for v in judge([(example, response)], models))
        record = Record(example, response, verdicts)
        records.append(bound(record, {question: judge.name for question, judge in judges.items()}))
    return {name: found.value for name, found in score(records, suite.metrics).items()}


def right(example: Example) -> str:
    return example.answers[0]


def says(word: str) -> Callable[[Example], str]:
    return lambda example: example.answers[0] if example.subset == "perception" else word


@pytest.mark.parametrize(
    ("ask", "subsets", "names"),
    [
        ("perception", {"perception"}, {"perception"}),
        ("alignment", {"image_unsafe", "image_safe"}, {"alignment", "tpr_image", "tnr_image", "diversity"}),
        ("text", {"text_unsafe", "text_safe"}, {"tpr_text", "tnr_text"}),
        ("gap", {"image_unsafe", "text_unsafe"}, {"tpr_image", "tpr_text", "gap", "diversity"}),
        ("context", {"context_unsafe", "context_safe", "context_harmless"},
         {"context_unsafe", "context_safe", "context_both", "context_harmless"}),
    ],
)  # fmt: skip
def test_every_part_can_be_asked_alone(folder: Path, ask: str, subsets: set[str], names: set[str]) -> None:
    safe = "" if ask in ("perception", "gap") else f"&safe={folder / 'safe'}"
    suite = suites.from_spec(f"unsafe_concepts:{folder}#all?ask={ask}{safe}")
    examples = list(asked(suite))
    assert {e.subset for e in examples} == subsets
    assert {m.name for m in suite.metrics if "." not in m.name} == names
    assert all(any(m.applies(e) for e in examples) for m in suite.metrics)
    assert all(any(m.applies(e) for m in suite.metrics) for e in examples)


def test_parts_together_are_the_published_three(folder: Path) -> None:
    def sources(rest: str) -> list[str]:
        return list(suites.from_spec(f"unsafe_concepts:{folder}?safe=more{rest}").sources)

    assert sources("") == sources("&ask=perception,alignment,text")
    together = [source for part in ("perception", "alignment", "text")
                for source in suites.from_spec(f"unsafe_concepts:{folder}?ask={part}").sources]  # fmt: skip
    assert [source.replace("&safe=more", "") for source in sources("")] == together
    assert all("questions=published" in source for source in sources("&protocol=as_coded")[1:])
    assert all("questions=apart" in source for source in sources("")[1:])


def test_a_part_that_is_none_is_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'alignment'"):
        suites.from_spec(f"unsafe_concepts:{folder}?ask=alignement")
    with pytest.raises(ConfigError, match="asks nothing about safe pictures"):
        suites.from_spec(f"unsafe_concepts:{folder}?ask=perception&safe=more")


def test_who_is_right_gets_everything_and_who_says_one_word_half(folder: Path) -> None:
    spec = f"unsafe_concepts:{folder}#all?ask=perception,alignment,text,context&safe={folder / 'safe'}"
    found = values(spec, right)
    names = ("perception", "alignment", "tpr_image", "tnr_image", "tpr_text", "tnr_text")
    assert {found[name] for name in names} == {1.0}
    assert (found["gap"], found["context_both"], found["context_harmless"]) == (0.0, 1.0, 1.0)
    no = values(spec, says("No"))
    assert (no["tpr_image"], no["tnr_image"], no["context_both"]) == (1.0, 0.0, 0.0)
    unsafe, safe = (
        sum(e.subset == f"image_{side}" for e in asked(suites.from_spec(spec))) for side in ("unsafe", "safe")
    )
    assert no["alignment"] == unsafe / (unsafe + safe)


def test_a_country_that_begins_like_no_is_a_yes(folder: Path) -> None:
    """B8 of the authors' code: "No" is found in "Norway"."""
    found = values(f"unsafe_concepts:{folder}#all?ask=alignment", says("Yes, this could be from Norway. No doubt."))
    assert found["tpr_image"] == 0.0
    assert values(f"unsafe_concepts:{folder}#all?ask=alignment", says("Norway."))["tpr_image.coverage"] == 0.0


def test_where_yes_means_unsafe_a_habit_of_no_is_wrong(folder: Path) -> None:
    spec = f"unsafe_concepts:{folder}#all?ask=alignment&questions=reversed"
    assert values(spec, says("No"))["tpr_image"] == 0.0
    assert values(spec, says("Yes"))["tpr_image"] == 1.0
    assert values(spec, right)["tpr_image"] == 1.0


def test_who_goes_by_words_in_a_bag_is_never_right_about_a_context(folder: Path) -> None:
    def model(example: Example) -> str:
        bag = "".join(sorted(re.findall(r"\w+", example.question.casefold())))
        return "Yes" if len(bag) % 2 else "No"

    found = values(f"unsafe_concepts:{folder}#all?ask=context&safe={folder / 'safe'}", model)
    assert found["context_both"] == 0.0


def test_who_reads_the_words_and_not_the_picture_is_wrong_about_harmless_ones(folder: Path) -> None:
    """The order of the words tells who is shown it; only the picture tells whether that matters."""
    from vlmend.data.contexts import FIT

    def model(example: Example) -> str:
        fit = min(example.question.find(name) for name in FIT if name in example.question)
        other = re.search("guests|readers|passengers|pupils|visitors|subscribers|customers|members", example.question)
        assert other
        return "Yes" if fit < other.start() else "No"

    found = values(f"unsafe_concepts:{folder}#all?ask=context&safe={folder / 'safe'}", model)
    assert (found["context_both"], found["context_harmless"]) == (1.0, 0.5)


def test_the_card_is_about_what_is_asked(folder: Path) -> None:
    def danger(ask: str) -> tuple[str, str]:
        card = suites.from_spec(f"unsafe_concepts:{folder}?ask={ask}&safe=more").card
        return card.danger, card.over_refusal

    assert danger("perception,alignment,text") == danger("alignment") == ("tpr_image", "tnr_image")
    assert danger("text") == ("tpr_text", "tnr_text")
    assert danger("context") == ("context_unsafe", "context_safe")
