"""The bench of tuning compares the same computations, counts what there is, and ends with a table."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import shapes  # noqa: E402
from tuning import cases, flops  # noqa: E402
from tuning.cases import CASES  # noqa: E402
from tuning.job import Job  # noqa: E402
from tuning.plain import Encoder, Plain  # noqa: E402

TINY = shapes.SIZES["tiny"]
UNITS = {name: cases.steps(case, 1, seed=0)[0] for name, case in CASES.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.save(TINY, tmp_path_factory.mktemp("model") / "tiny", "cpu")


@pytest.mark.parametrize("name", CASES)
def test_a_step_has_the_units_it_says_and_files_give_them_back(name: str, tmp_path: Path) -> None:
    case, units = CASES[name], UNITS[name]
    assert len(units) == case.step
    again = cases.read(cases.write(units, tmp_path / "data", seed=0))
    assert [list(unit) for unit in again] == [list(unit) for unit in units]
    assert [[row["prompt"] for row in u.values()] for u in again] == [[r["prompt"] for r in u.values()] for u in units]


@pytest.mark.parametrize("name", ["gdpd8", "dpo"])
def test_tokens_are_counted_as_the_processor_makes_them(name: str, model: Path, tmp_path: Path) -> None:
    units = cases.read(cases.write(UNITS[name], tmp_path / "data", seed=0))[:3]
    encode = Encoder(model)
    rows = [
        {**row, "answer": row[side]}
        for unit in units
        for role, row in unit.items()
        for side in (("chosen", "rejected") if role == "pair" else ("answer",))
    ]
    made = [encode.one(row) for row in rows]
    counted = list(flops.asked(TINY, units))
    assert [len(one["input_ids"]) for one in made] == [one.tokens for one in counted]
    assert [int((one["labels"] != -100).sum()) for one in made] == [one.answer.answer for one in counted]


def test_what_is_shared_is_computed_once_and_nothing_else_changes() -> None:
    alone, shared = ([flops.operations(TINY, c.method, UNITS[n], shared=s) for n, c in CASES.items() if n != "rmu"]
                     for s in (False, True))  # fmt: skip
    by = dict(zip((n for n in CASES if n != "rmu"), zip(alone, shared, strict=True), strict=True))
    assert by["single"][0] == by["single"][1]
    assert all(once < each for name, (each, once) in by.items() if name != "single")
    assert flops.operations(TINY, CASES["rmu"].method, UNITS["rmu"], shared=True) is None


def test_operations_of_one_token_are_those_of_its_matrices() -> None:
    """A token after none: each weight twice forward and twice backward, of adapters six times, one pair attended to."""
    span = flops.Span(1, 0, 1)
    weights = TINY.layers * (4 * TINY.hidden**2 + 3 * TINY.hidden * TINY.inner) + TINY.vocabulary * TINY.hidden
    attention = 4 * TINY.hidden * TINY.layers
    assert flops._both(TINY, span) == 4 * weights + 3 * attention + 6 * TINY.lora_weights


def test_adapters_have_as_many_weights_as_counted(model: Path, tmp_path: Path) -> None:
    trained = Plain(Job("sft8", "tiny", model, tmp_path)).trained
    assert sum(p.numel() for p in trained) == TINY.lora_weights


def test_utilization_is_a_share_of_a_known_peak() -> None:
    assert flops.utilization(989e12, 2, 4.0, "NVIDIA H100 80GB HBM3") == pytest.approx(0.5)
    assert flops.peak("NVIDIA H100 PCIe") == 756e12
    assert flops.utilization(1e12, 1, 1.0, "Quantum 9000") is None


def test_a_thin_model_keeps_proportions_of_7b() -> None:
    def head(shape: shapes.Shape) -> float:
        return shape.vocabulary * shape.hidden / shape.layer_weights

    for shape in (shapes.SIZES["small"], shapes.SIZES["wide"], shapes.DEEP["small"]):
        assert head(shape) == pytest.approx(head(shapes.SIZES["7b"]), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (["--check", "--case", "npo8", "--case", "kl8", "--case", "rmu"], 6),
        (["--quick", "--case", "gdpd8", "--variant", "alone=speed.shared_prefix=false"], 4),
    ],
)
def test_the_command_finds_no_difference_and_prints_every_row(arguments: list[str], rows: int) -> None:
    command = [sys.executable, str(BENCH / "tune.py"), "--threads", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "--check" in arguments:
        assert done.stderr.count("differs from vlmend by") == rows
    else:
        assert "failed" not in done.stdout
        assert done.stdout.count("| gdpd8 |") == rows


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
def test_trl_computes_the_same() -> None:
    command = [sys.executable, str(BENCH / "tune.py"), "--threads", "1", "--check", "--case", "sft8", "--case", "dpo"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("TRL") == 2
