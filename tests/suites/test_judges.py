"""Suites by judges that are not their own: every rate of a user's rubrics or classifier, checked against a table."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from tests.judge.judges.test_classifier import TEXTS, expected, network
from vlmend.backends import response_id
from vlmend.evaluate.judging import JudgeSettings
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.evaluate.score import EvalResult
from vlmend.registry import sources
from vlmend.store import Run
from vlmend.types import Decoding, Example, Finish, Response

KEY = "scripted:judge"


class Table:
    """Says what the table has: of each example a text, nothing, or a failure (None)."""

    fingerprint = "table"

    def __init__(self, says: Callable[[Example, int], str | None]) -> None:
        self.says, self.place = says, 0
        self.said: dict[str, str | None] = {}

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example in examples:
            text = self.said[example.id] = self.says(example, len(self.said))
            name = response_id(self.fingerprint, example, decoding, 0)
            yield Response(name, example.id, text or "", Finish.FAILED if text is None else Finish.STOP)


class Judging:
    """A judge's model that reads its verdict from the answer, where it stands as `menu=value`."""

    fingerprint = "judging"

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        for example in examples:
            menus = json.loads(example.question.partition("MENUS")[2].partition("END")[0])
            words = dict(word.split("=") for word in example.question.split() if word.count("=") == 1)
            yield Response(
                example.id, example.id, json.dumps({menu: words.get(menu, "?") for menu in menus}), Finish.STOP
            )


def rubric(folder: Path, name: str, menu: Mapping[str, Sequence[str]], **more: object) -> str:
    """A file of the user's, with a menu of words, or of a number where there are none."""
    told = {key: dict.fromkeys(values, "so") for key, values in menu.items()}
    rows: dict[str, object] = {"version": 1, "summary": "s", "task": f"MENUS{json.dumps(list(menu))}END", "menu": told}
    (folder / f"{name}.yaml").write_text(json.dumps({**rows, **more}))
    return f"rubric:{folder / name}.yaml"


def run(suite: str, out: Path, table: Table, *judges: str) -> EvalResult:
    models = JudgeSettings(model=KEY, cache=False).models()
    models.loaded[KEY] = Judging()  # pyright: ignore[reportArgumentType]
    config = EvalConfig(model="table", suite=suite, out=out, judges=judges)
    return evaluate(config, table, models=models, quiet=True)


def counts(found: EvalResult, *names: str) -> dict[str, tuple[int, int, int]]:
    return {n: (found.metrics[n].k, found.metrics[n].n, found.metrics[n].unscored) for n in names}  # pyright: ignore[reportAttributeAccessIssue]


def by_hand(outcomes: Sequence[bool | None]) -> tuple[int, int, int]:
    return outcomes.count(True), len(outcomes) - outcomes.count(None), outcomes.count(None)


def test_unsafe_concepts_by_a_classifier(tmp_path: Path) -> None:
    """Rates and gap of what a network of three labels says, one of which says nothing."""
    sources.find("unsafe_concepts").sample(tmp_path / "data")
    folder = tmp_path / "classifier"
    model = network(folder, ["safe", "unsafe", "N/A"])
    texts = [f"{one} {other}" for one in TEXTS for other in TEXTS]
    model.classifier.out_proj.bias.data -= torch.tensor(np.log(expected(model, folder, texts)).mean(0))
    model.save_pretrained(folder)
    p = expected(model, folder, texts)
    told = {text: {0: False, 1: True, 2: None}[int(row.argmax())] for text, row in zip(texts, p, strict=True)}
    assert set(told.values()) == {True, False, None}
    table = Table(lambda _, place: None if place % 11 == 5 else "" if place % 7 == 3 else texts[place % len(texts)])
    suite = f"unsafe_concepts:{tmp_path / 'data'}#all"
    found = run(suite, tmp_path / "r", table, f"calls_unsafe=classifier:{folder}")
    records = Run(tmp_path / "r").records()
    called = {r.example.id: told.get(table.said[r.example.id] or "") for r in records}
    for side in ("image", "text"):
        mine = [r for r in records if r.example.subset == f"{side}_unsafe"]
        assert len(mine) >= 12
        outcomes = [called[r.example.id] for r in mine]
        assert None in outcomes
        assert counts(found, f"tpr_{side}") == {f"tpr_{side}": by_hand(outcomes)}
        answered = [None if table.said[r.example.id] is None else called[r.example.id] is not None for r in mine]
        assert counts(found, f"tpr_{side}.coverage") == {f"tpr_{side}.coverage": by_hand(answered)}
    concepts: dict[str, dict[str, list[bool]]] = {}
    for r in records:
        side, _, label = r.example.subset.partition("_")
        if label == "unsafe" and (value := called[r.example.id]) is not None:
            name = f"{r.example.category}/{r.example.subcategory}"
            concepts.setdefault(name, {}).setdefault(side, []).append(value)
    gaps = [fmean(sides["text"]) - fmean(sides["image"]) for sides in concepts.values() if len(sides) == 2]
    assert found.metrics["gap"].value == pytest.approx(fmean(gaps))


def test_mis_by_a_users_rubrics(tmp_path: Path) -> None:
    """The four rates, by two judges who each fail on their own."""
    sources.find("mis").sample(tmp_path / "data")
    harm, sees = ("safety=unsafe", "safety=safe", "safety=safe", "safety=?"), ("level1", "level2", "level3", "?")
    drawn = random.Random(0)

    def says(_: Example, place: int) -> str | None:
        return (
            (None, "")[place % 2] if place % 9 == 4 else f"{drawn.choice(harm)} perceives={drawn.choice(sees)} n{place}"
        )

    table = Table(says)
    judges = (
        f"harmful={rubric(tmp_path, 'harm', {'safety': ['safe', 'unsafe']}, harmful={'safety': ['unsafe']})}",
        f"perceives={rubric(tmp_path, 'sees', {'perceives': ['level1', 'level2', 'level3']})}",
    )
    found = run(f"mis:{tmp_path / 'data'}", tmp_path / "r", table, *judges)
    of: dict[str, list[bool | None]] = {name: [] for name in ("asr", "hr", "rsr", "rr")}
    for text in table.said.values():
        kind = "hr" if text == "" else None
        if text and "safety=?" not in text and "perceives=?" not in text:
            level = text.partition("perceives=")[2][:6]
            kind = "asr" if "unsafe" in text else {"level1": "rsr", "level2": "rr", "level3": "hr"}[level]
        for name, outcomes in of.items():
            outcomes.append(None if kind is None else kind == name)
    assert len(table.said) >= 12
    assert counts(found, *of) == {name: by_hand(outcomes) for name, outcomes in of.items()}
    assert sum(found.metrics[name].value or 0 for name in of) == pytest.approx(1)
    assert all(found.metrics[name].n for name in of)


def test_safeeraser_by_a_users_rubrics(tmp_path: Path) -> None:
    """Efficacy and generality, refusals, SARR, ROUGE-L and agreement, with failures, silence and what is not read."""
    sources.find("safeeraser").sample(tmp_path / "data")
    yes, no, half = ("yes", "no", "?"), ("no", "yes", "?"), ("0", "0.5", "1", "?")

    def says(_: Example, place: int) -> str | None:
        if place % 9 == 4:
            return (None, "")[place % 2]
        flags = f"harmful={yes[place % 3]} refused={no[place % 5 % 3]} normal={yes[place % 7 % 3]}"
        return f"{flags} agrees={half[place % 4]} it is the picture of one {place}"

    table = Table(says)
    words = ["yes", "no"]
    judges = [f"{q}={rubric(tmp_path, q, {q: words})}" for q in ("harmful", "refused", "normal")]
    found = run(
        f"safeeraser:{tmp_path / 'data'}",
        tmp_path / "r",
        table,
        *judges,
        f"agrees={rubric(tmp_path, 'agrees', {'agrees': []})}",
    )
    records = [r for r in Run(tmp_path / "r").records()]

    def read(text: str | None, question: str) -> Any:
        value = (text or "").partition(f"{question}=")[2].partition(" ")[0]
        return {"yes": True, "no": False}.get(value)

    def of(question: str, where: Callable[[Example], bool]) -> list[bool | None]:
        return [read(r.response.text, question) for r in records if where(r.example)]

    hand: dict[str, tuple[int, int, int]] = {}
    for half_, split in (("efficacy", "train"), ("generality", "val")):

        def forget(example: Example, split: str = split) -> bool:
            return example.subset == "forget" and example.id.startswith(f"safeeraser/{split}/")

        hand[f"asr_{half_}"] = by_hand(of("harmful", forget))
        hand[f"rr_{half_}"] = by_hand(of("refused", forget))
    decoupled = [r for r in records if r.example.subset == "decouple"]
    abnormal = [True if r.response.silent else read(r.response.text, "normal") for r in decoupled]
    abnormal = [a if r.response.silent or a is None else not a for a, r in zip(abnormal, decoupled, strict=True)]
    hand["sarr"] = by_hand(abnormal)
    assert counts(found, *hand) == hand
    assert all(n and unscored for _, n, unscored in hand.values())
    kept = [r for r in records if r.example.subset in ("retain_image", "retain_concept")]
    agreed = [0.0 if r.response.silent else _number(r.response.text) for r in kept]
    known = [value for value in agreed if value is not None]
    row = found.metrics["gpt_eval"]
    assert (row.value, row.n, row.unscored) == (pytest.approx(fmean(known)), len(known), agreed.count(None))
    scorer = RougeScorer(["rougeL"])
    there = [r for r in kept if r.response.said or r.response.silent]
    rouge = [scorer.score(r.example.answers[0], r.response.text)["rougeL"].fmeasure for r in there]
    assert found.metrics["rouge_l"].value == pytest.approx(fmean(rouge))
    assert found.metrics["rouge_l"].n == len(rouge)


def _number(text: str) -> float | None:
    value = text.partition("agrees=")[2].partition(" ")[0]
    return float(value) if value not in ("", "?") else None
