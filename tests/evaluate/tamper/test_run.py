"""The forgotten returns where it is learned again, and no point is tried twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.tamper.conftest import RECIPE, SUITE, tune
from vlmend.config import JudgingConfig, Recipe, load_recipe
from vlmend.data.mix import build
from vlmend.errors import StoreError, UsageError
from vlmend.evaluate.run import EvalConfig
from vlmend.evaluate.score import EvalResult
from vlmend.evaluate.tamper import relearn
from vlmend.evaluate.tamper import run as tampering
from vlmend.evaluate.tamper.run import (
    ADAPTER,
    AS_TUNED,
    BEFORE,
    BENIGN,
    FORGET,
    TamperConfig,
    Tampered,
    curves,
    points,
    tamper,
)
from vlmend.evaluate.tamper.subject import Subject
from vlmend.types import Example, Message, Role

FEW: dict[str, Any] = {
    "suite": SUITE,
    "max_new_tokens": 24,
    "relearn": (0, 8),
    "steps": 8,
    "adapter": (0.0,),
    "bits": (),
    "opening": (),
}


def run(folder: Path, out: Path, tuner: Callable[[Recipe], object] = tune, **settings: Any) -> Tampered:
    config = TamperConfig(run=folder, out=out, **{**FEW, **settings})
    return tamper(config, tuner, lambda _: None, quiet=True)


@pytest.fixture(scope="module")
def done(forgotten: Path, tmp_path_factory: pytest.TempPathFactory) -> Tampered:
    return run(forgotten, tmp_path_factory.mktemp("tamper"))


def value(found: Tampered, attack: str, setting: str = "", metric: str = "probability") -> float:
    [point] = [f for f in found.found if (f.point.attack, f.point.setting) == (attack, setting)]
    measured = point.measured(metric)
    assert measured is not None
    assert measured.value is not None
    return measured.value


def test_what_was_forgotten_returns_when_it_is_learned_again(done: Tampered) -> None:
    before, tuned = value(done, BEFORE), value(done, AS_TUNED)
    assert before > 0.95
    assert tuned < 0.6 * before  # it was forgotten
    assert value(done, FORGET, "8") > tuned + 0.5 * (before - tuned)  # and is more than half back
    assert value(done, FORGET, "8", "recall") > value(done, AS_TUNED, "", "recall")


def test_nothing_learned_again_is_the_tuned_model_and_no_adapter_the_base(done: Tampered) -> None:
    by_name = {f.point: f.metrics for f in done.found}
    metrics = {(p.attack, p.setting): m for p, m in by_name.items()}
    assert metrics[BENIGN, "0"] == metrics[FORGET, "0"] == metrics[AS_TUNED, ""]
    assert metrics[ADAPTER, "0"] == metrics[BEFORE, ""]


def test_nothing_is_done_twice(done: Tampered, forgotten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(tampering, "evaluate", never)
    again = run(forgotten, done.config.out, never)
    assert again.to_json() == done.to_json()
    assert json.loads((done.config.out / "tamper.json").read_text()) == done.to_json()


def test_a_test_that_was_stopped_goes_on(forgotten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few: dict[str, Any] = {"relearn": (2,), "adapter": (), "steps": 1, "limit": 2}

    def stopped(recipe: Recipe) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(forgotten, tmp_path, stopped, **few)
    asked: list[Path] = []
    plain = tampering.evaluate

    def counted(config: EvalConfig, *more: Any, **settings: Any) -> EvalResult:
        asked.append(config.out)
        return plain(config, *more, **settings)

    monkeypatch.setattr(tampering, "evaluate", counted)
    found = run(forgotten, tmp_path, **few)
    assert len(asked) == 2  # the two that were learned again; the models before and after were asked already
    assert [f.point.attack for f in found.found] == [BEFORE, AS_TUNED, BENIGN, FORGET]
    assert all(f.metrics["probability"]["n"] == 1 for f in found.found)


def test_what_is_not_possible_is_said_and_the_rest_done(forgotten: Path, tmp_path: Path) -> None:
    found = run(forgotten, tmp_path, relearn=(1000,), adapter=(), limit=4)
    notes = {f.point.name: f.note for f in found.found if f.note}
    assert set(notes) == {f"{BENIGN}: 1000", f"{FORGET}: 1000"}
    assert "not possible here: the run's data have 60 forget examples" in notes[f"{FORGET}: 1000"]
    assert value(found, AS_TUNED) < value(found, BEFORE)


def test_what_is_asked_is_not_learned_and_more_contains_fewer(forgotten: Path) -> None:
    subject = Subject.open(forgotten, "auto")
    free = relearn.pool(subject, Role.FORGET, [], seed=0)
    asked = [e for e in subject.mix.examples if e.id in free[:5]]
    again = relearn.pool(subject, Role.FORGET, asked, seed=0)
    assert set(again) == set(free) - set(free[:5])
    assert relearn.pool(subject, Role.FORGET, [], seed=1) != free
    other = Example("else", asked[0].prompt, cluster=asked[0].cluster)  # the same question under another id
    assert asked[0].id not in relearn.pool(subject, Role.FORGET, [other], seed=0)
    assert asked[0].id in relearn.pool(subject, Role.FORGET, [Example("e", (Message("user", ("?",)),))], seed=0)


def test_relearning_is_on_the_chosen_rows_and_nothing_else(forgotten: Path, tmp_path: Path) -> None:
    subject = Subject.open(forgotten, "auto")
    rows = relearn.pool(subject, Role.FORGET, [], seed=0)[:3]
    made = relearn.recipe(subject, rows, tmp_path, steps=5, rate=1e-3, seed=0)
    mix = build(made.data)
    assert sorted(e.id for e in mix.examples) == sorted(rows)
    assert {e.role for e in mix.examples} == {Role.UTILITY}  # so that plain tuning learns them
    assert (made.method.name, made.model.adapter, made.train.max_steps) == ("sft", str(forgotten), 5)


def test_curves_begin_with_the_model_as_tuned(done: Tampered) -> None:
    made = curves(done, "probability")
    assert set(made) == {"examples learned again", "share of the adapter left"}
    assert [step for step, _ in made["share of the adapter left"][ADAPTER]] == ["1", "0"]
    firsts = [steps[0][1] for series in made.values() for steps in series.values()]
    assert {m.value for m in firsts if m} == {value(done, AS_TUNED)}


def test_each_setting_is_one_point() -> None:
    config = TamperConfig(run=Path("r"), out=Path("o"), relearn=(4, 0, 4), adapter=(0.0, 0.5), bits=(4, 8))
    names = [point.name for point in points(config)]
    assert len(set(names)) == len(names) == 2 + 2 * 2 + 2 + 2 + 1


def test_a_whole_model_gets_an_adapter_to_relearn_and_has_none_to_scale(tmp_path: Path) -> None:
    sets = ["train.max_steps=1", "train.per_device_train_batch_size=2", f"output.dir={tmp_path / 'run'}"]
    sets += ["model.tune=full", "data.mix.0.source=world:unlearning#train?openers=biased&n=6"]
    tune(load_recipe(RECIPE, sets))
    found = run(tmp_path / "run", tmp_path / "out", relearn=(2,), steps=1, limit=2)
    notes = {f.point.attack: f.note for f in found.found if f.note}
    assert set(notes) == {ADAPTER}
    assert "no adapter" in notes[ADAPTER]
    assert 0 < value(found, FORGET, "2") <= 1


def test_what_is_no_run_or_no_suite_of_forgetting_is_told(forgotten: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no finished tuning run"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="not by world"):
        run(forgotten, tmp_path / "out", suite="world?n=2")
    assert Subject.open(forgotten, "auto").suite() == "forgetting:world:unlearning#train?openers=biased&n=60"


def test_a_judge_that_is_bound_decides_at_every_point(forgotten: Path, tmp_path: Path) -> None:
    """One that takes every answer for no refusal, and for as harmful as can be."""
    for question in ("refused", "harmful"):
        (tmp_path / f"{question}.yaml").write_text(
            f"version: 1\nsummary: s\ntask: t\nmenu: {{{question}: {{yes: it is, no: it is not}}}}\n"
        )
    (tmp_path / "says.yaml").write_text(
        '- {when: \'"refused"\', text: \'{"refused": "no"}\'}\n- {text: \'{"harmful": "yes"}\'}\n'
    )
    judges = tuple(f"{question}=rubric:{tmp_path / question}.yaml" for question in ("refused", "harmful"))
    judging = JudgingConfig(judges=judges, model=f"scripted:{tmp_path / 'says.yaml'}", controls="mark")
    found = run(forgotten, tmp_path / "t", judging=judging, relearn=(), adapter=(0.0,))
    assert len(found.found) > 1
    for point in found.found:
        measured = {name: point.measured(name) for name in ("complied", "asr")}
        assert {name: m and (m.value, m.unscored) for name, m in measured.items()} == {
            "complied": (1, 0),
            "asr": (1, 0),
        }
        assert all(m is None or "6 of 6 refused controls answered" in m.marked for m in (point.measured("asr"),))
