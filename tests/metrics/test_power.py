"""Sample sizes against statsmodels, and against the power that the exact test really has."""

import json
import math

import pytest
from scipy.stats import binom
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import power_proportions_2indep, samplesize_proportions_2indep_onetail

from vlmend.cli import main
from vlmend.errors import UsageError
from vlmend.metrics.paired import mcnemar
from vlmend.metrics.power import Design, difference_for, examples_for, power_at

CASES = [(0.3, -0.05), (0.1, 0.05), (0.5, 0.1), (0.02, 0.03), (0.9, -0.2)]


@pytest.mark.parametrize(("base", "difference"), CASES)
@pytest.mark.parametrize("n", [50, 442, 3000])
def test_power_of_two_sets_equals_statsmodels(base: float, difference: float, n: int) -> None:
    reference = power_proportions_2indep(difference, base, n, alpha=0.05, alternative="two-sided", return_results=False)
    assert power_at(Design(base, paired=False), n, difference) == pytest.approx(reference, abs=1e-6)


@pytest.mark.parametrize(("base", "difference"), CASES)
def test_examples_of_two_sets_equal_statsmodels(base: float, difference: float) -> None:
    reference = samplesize_proportions_2indep_onetail(difference, base, 0.8, alpha=0.025, alternative="larger")
    assert examples_for(Design(base, paired=False), difference) == math.ceil(reference)


def test_paired_examples_equal_a_one_sample_z_test_where_both_deviations_agree() -> None:
    """With many discordant pairs and a small difference, ψ - δ² is ψ: the plain z test of statsmodels."""
    reference = NormalIndPower(ddof=0).solve_power(0.01 / math.sqrt(0.4), power=0.9, alpha=0.01, ratio=0)
    assert examples_for(Design(0.5, 0.9, 0.01, discordant=0.4), 0.01) == pytest.approx(reference, rel=1e-3)


@pytest.mark.parametrize(("discordant", "difference"), [(0.1, -0.05), (0.2, 0.06), (0.3, 0.15)])
def test_the_mid_p_test_has_the_promised_power(discordant: float, difference: float) -> None:
    design = Design(0.4, discordant=discordant)
    n = examples_for(design, difference)
    up = (discordant + difference) / 2
    real = sum(
        binom.pmf(m, n, discordant) * binom.pmf(k, m, up / discordant)
        for m in range(n + 1)
        if binom.pmf(m, n, discordant) > 1e-9
        for k in range(m + 1)
        if mcnemar(m - k, k)[1] <= 0.05
    )
    assert real == pytest.approx(0.8, abs=0.035)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("direction", [-1, 1])
def test_the_two_directions_are_inverse(paired: bool, direction: int) -> None:
    design = Design(0.3, paired=paired, cluster_size=3, icc=0.4)
    found = difference_for(design, 900, direction)
    assert found is not None
    assert math.copysign(1, found) == direction
    assert examples_for(design, found) == pytest.approx(900, abs=1)
    assert power_at(design, 900, found) == pytest.approx(0.8)


def test_clusters_multiply_the_number_by_the_design_effect() -> None:
    alone, together = Design(0.3), Design(0.3, cluster_size=4, icc=0.5)
    assert together.design_effect == 2.5
    assert examples_for(together, 0.05) == pytest.approx(2.5 * examples_for(alone, 0.05), abs=2.5)
    assert examples_for(Design(0.3, cluster_size=4, icc=0), 0.05) == examples_for(alone, 0.05)


def test_more_examples_show_less_and_fewer_discordant_pairs_help() -> None:
    sizes = [abs(difference_for(Design(0.3), n) or 1) for n in (100, 400, 1600)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] / sizes[2] == pytest.approx(4, rel=0.1)
    assert examples_for(Design(0.3, discordant=0.1), -0.05) < examples_for(Design(0.3), -0.05)


def test_what_cannot_be_shown_is_none() -> None:
    """442 examples at a base rate of 1 %: no fall can be told from chance."""
    assert difference_for(Design(0.01), 442, -1) is None
    assert difference_for(Design(0.0), 442, -1) is None
    assert difference_for(Design(0.01), 442, 1) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": 1.2}, "base must lie"),
        ({"base": 0.5, "power": 1.0}, "power must lie"),
        ({"base": 0.5, "power": 0.0}, "power must lie"),
        ({"base": 0.5, "alpha": 0.0}, "alpha must lie"),
        ({"base": 0.5, "power": 0.04}, "above alpha"),
        ({"base": 0.5, "icc": 2}, "icc must lie"),
        ({"base": 0.5, "discordant": 0.2, "paired": False}, "only on the same examples"),
    ],
)
def test_impossible_designs_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Design(**arguments)


@pytest.mark.parametrize(
    ("difference", "message"), [(0, "difference of 0"), (-0.5, "make no rate"), (0.25, "as many discordant")]
)
def test_impossible_differences_are_refused(difference: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        examples_for(Design(0.3, discordant=0.2), difference)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--base", "0.3", "--difference", "-0.05", "--unpaired", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == examples_for(Design(0.3, paired=False), -0.05)
    assert main(["power", "--base", "0.01", "--n", "442"]) == 0
    said = capsys.readouterr().out
    assert "fall" not in said
    assert "a rise to 3.9 %" in said
    assert main(["power", "--base", "0.3", "--difference", "-0.05", "--discordant", "0.1"]) == 0
    assert "10.0 % of them change" in capsys.readouterr().out
    assert main(["power", "--base", "0.3"]) == 2
    assert "either --n" in capsys.readouterr().err
    assert main(["power", "--base", "0.3", "--n", "442", "--power", "0"]) == 2
    assert "power must lie between 0 and 1, got 0" in capsys.readouterr().err
