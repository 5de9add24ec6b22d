"""Many models, suites and attacks at once: as if each were evaluated alone, and what they share is asked once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from vlmend.backends.hf import Hf
from vlmend.backends.scripted import Scripted
from vlmend.cli import main
from vlmend.errors import ModelError, UsageError
from vlmend.evaluate.cells import EvalConfig, cells, chain_of, titles
from vlmend.evaluate.run import evaluate, evaluate_all
from vlmend.store import Run, find_runs, read_rows
from vlmend.types import Backend, Decoding, Example, Response

ATTACKS = ("none", "prefix_injection", "one_word:what,share", "blank_image + one_word:how")


class Counting(Scripted):
    """Answers as a script does, notes what it is asked, and is interrupted after so many answers."""

    def __init__(self, script: str = "ideal", patience: int = 10**9) -> None:
        super().__init__(script)
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "calls", [])
        object.__setattr__(self, "patience", patience)

    asked: list[str]
    calls: list[int]
    patience: int

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        self.calls.append(len(examples))
        for response in super().generate(examples, decoding):
            if len(self.asked) == self.patience:
                raise KeyboardInterrupt
            self.asked.append(response.id)
            yield response


def matrix(vlguard: Path, out: Path, models: Sequence[str] = ("scripted:ideal",)) -> list[EvalConfig]:
    suite = f"vlguard:{vlguard}#test"
    config = EvalConfig(model=models[0], suite=suite, out=out)
    return cells(config, models, [suite, f"source:{suite}", "world?n=12"], ATTACKS)


def numbers(configs: Sequence[EvalConfig]) -> list[object]:
    return [Run(config.out).metrics()["metrics"] for config in configs]


def test_folders_are_named_after_what_differs(tmp_path: Path) -> None:
    config = EvalConfig(model="world", suite="world", out=tmp_path, attack=("jpeg",))
    assert [(c.out, c.attack) for c in cells(config)] == [(tmp_path, ("jpeg",))]
    [one] = cells(config, ["a"], ["pope:x"], ["none"])
    assert (one.out, one.model, one.suite, one.attack) == (tmp_path, "a", "pope:x", ())
    several = cells(config, ["a", "b/c"], ["world", "world?n=3"], ["none", "jpeg + resize"])
    assert len({c.out for c in several}) == len(several) == 8
    assert {c.attack for c in several} == {(), ("jpeg", "resize")}
    assert all(len(c.out.relative_to(tmp_path).parts) == 2 for c in several)
    assert several[0].out == tmp_path / "a" / several[0].out.name
    assert [c.out.name for c in cells(config, suites=["world", "mis:x"])] == ["world", "mis"]
    assert [c.out.name for c in cells(config, attacks=["none", "jpeg"])] == ["plain", "jpeg"]
    assert len(set(titles(several))) == 8
    for more in ({"models": ["a", "a"]}, {"suites": ["x", "x"]}, {"attacks": ["jpeg + resize", "jpeg + resize"]}):
        with pytest.raises(UsageError, match="twice"):
            cells(config, **more)
    assert chain_of("a:b?c=1 + d") == ("a:b?c=1", "d")


def test_together_is_as_each_alone_and_nothing_is_asked_twice(vlguard: Path, tmp_path: Path) -> None:
    together, alone = matrix(vlguard, tmp_path / "together"), matrix(vlguard, tmp_path / "alone")
    backend, each = Counting(), Counting()
    evaluate_all(together, {"scripted:ideal": backend}, quiet=True)
    for config in alone:
        evaluate(config, each, quiet=True)
    assert numbers(together) == numbers(alone)
    for one, other in zip(together, alone, strict=True):
        said, there = ({r.example.id: r.response.text for r in Run(c.out).records()} for c in (one, other))
        assert said == there
    assert max(Counter(backend.asked).values()) == 1
    assert set(backend.asked) == set(each.asked)
    assert len(backend.asked) < len(each.asked)  # the suites on one source ask the same
    assert len(backend.calls) == 2  # one a decoding: what is decoded alike goes together


def test_killed_three_times_it_is_as_unbroken(vlguard: Path, tmp_path: Path) -> None:
    models = ("scripted:ideal", "scripted:comply")
    whole, broken = matrix(vlguard, tmp_path / "whole", models), matrix(vlguard, tmp_path / "broken", models)
    backends = {model: Counting(model.partition(":")[2]) for model in models}
    evaluate_all(whole, backends, quiet=True)
    asked = [name for backend in backends.values() for name in backend.asked]
    parts: list[str] = []
    for patience in (7, 31, 2, 10**9):
        backends = {model: Counting(model.partition(":")[2], patience) for model in models}
        try:
            evaluate_all(broken, backends, quiet=True)
        except KeyboardInterrupt:
            assert patience < 10**9
        parts += [name for backend in backends.values() for name in backend.asked]
    assert Counter(parts) == Counter(asked)
    assert numbers(broken) == numbers(whole)
    verdicts = [(c.out, r["example_id"], r["response_id"], r["judge"])
                for c in broken for r in read_rows(c.out / "verdicts.jsonl")]  # fmt: skip
    assert len(verdicts) == len(set(verdicts))


def test_what_one_run_was_told_serves_another(vlguard: Path, tmp_path: Path) -> None:
    configs = matrix(vlguard, tmp_path)
    first, second = Counting(), Counting()
    evaluate(configs[0], first, quiet=True)
    found = evaluate_all([configs[0], configs[len(ATTACKS)]], {"scripted:ideal": second}, quiet=True)
    assert first.asked
    assert not second.asked
    assert [result.generated.new for result in found] == [0, 0]
    assert found[1].generated.kept == len(Run(configs[len(ATTACKS)].out).records())


def test_requests_of_one_id_that_differ_are_told_apart(vlguard: Path, tmp_path: Path) -> None:
    """An attack without variants leaves an example its id: the answers are kept apart by what was asked."""
    suite = f"vlguard:{vlguard}#test"
    configs = cells(EvalConfig(model="scripted:echo", suite=suite, out=tmp_path), attacks=("none", "prefix_injection"))
    evaluate_all(configs, quiet=True)
    plain, attacked = ({r.example.id: r for r in Run(c.out).records()} for c in configs)
    assert set(plain) == set(attacked)
    assert all(r.response.text == r.example.question for r in (*plain.values(), *attacked.values()))
    assert all(plain[name].response.text != attacked[name].response.text for name in plain)

    class Nameless(Scripted):
        def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
            return (replace(response, id="?") for response in super().generate(examples, decoding))

    configs = cells(EvalConfig(model="x", suite=suite, out=tmp_path / "x"), attacks=("none", "prefix_injection"))
    evaluate(configs[0], Nameless("echo"), quiet=True)
    evaluate(configs[1], Nameless("echo"), quiet=True)
    again = cells(EvalConfig(model="x", suite=suite, out=tmp_path / "y"), attacks=("none", "prefix_injection"))
    with pytest.raises(UsageError, match="does not tell from another"):
        evaluate_all(again, {"x": Nameless("echo")}, quiet=True)


def test_a_model_that_is_not_there_is_told_before_another_is_asked(vlguard: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    configs = matrix(vlguard, tmp_path / "r", ("scripted:ideal", str(empty)))
    first = Counting()
    with pytest.raises((ModelError, UsageError)):
        evaluate_all(configs, {"scripted:ideal": first}, quiet=True)
    assert not first.asked


def test_the_embedded_model_answers_together_as_alone(tmp_path: Path) -> None:
    """Requests about one picture share it, and say the same."""
    attacks = ("none", "one_word:what,share", "prefix_injection")

    def asked(name: str) -> list[EvalConfig]:
        return cells(EvalConfig(model="world", suite="world?n=4", out=tmp_path / name), attacks=attacks)

    model: Backend = Hf("world", dtype="float32")
    evaluate_all(asked("together"), {"world": model}, quiet=True)
    for config in asked("alone"):
        evaluate(config, model, quiet=True)
    for one, other in zip(asked("together"), asked("alone"), strict=True):
        said, there = ({r.example.id: r.response.text for r in Run(c.out).records()} for c in (one, other))
        assert said == there


def test_the_command_takes_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--out", str(tmp_path / "r"), "--json", "--model", "scripted:refuse", "--model", "scripted:comply"]
    common += ["--suite", "world?n=6", "--suite", "source:world:suite?n=6", "--attack", "none", "--attack", "jpeg"]
    assert main(["eval", *common, "--plan"]) == 0
    planned = json.loads(capsys.readouterr().out)["asked"]
    assert len(planned) == 8
    assert not (tmp_path / "r").exists()
    assert main(["eval", *common]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len({run["run"] for run in runs}) == 8
    assert len(find_runs(tmp_path / "r")) == 8
    rates = {(run["model"], run["suite"], tuple(run["attack"])): run["metrics"]["asr"]["k"] for run in runs}
    assert set(rates) == set(product(("scripted:refuse", "scripted:comply"), ("world", "source"), ((), ("jpeg",))))
    assert all((k == 0) == (model == "scripted:refuse") for (model, *_), k in rates.items())
    assert main(["eval", *common]) == 0
    assert all(run["generated"] == 0 for run in json.loads(capsys.readouterr().out)["runs"])
