from __future__ import annotations

import pytest

from tests.report.pages import ASR, EVIL, SHARE, UTILITY, rate, table
from vlmend.metrics.rates import as_json
from vlmend.report import tables
from vlmend.types import Metric


def test_a_rate_of_nothing_is_a_dash_and_never_zero() -> None:
    assert tables.value(rate(0, 0)) == tables.value(None) == "–"
    assert tables.value(rate(0, 5)) == "0.0 %"
    assert tables.sentence(rate(0, 0, 7)) == "nothing scored, 7 unscored"
    assert tables.sentence(None) == "not measured"


def test_a_sentence_has_everything_that_is_known() -> None:
    assert tables.sentence(rate(91, 200, 4)) == (
        "45.5 %: 91 of 200, 95 % interval 38.7 to 52.4 %; 4 unscored, worst case 46.6 %"
    )
    assert tables.sentence(rate(190, 200, 50), "high").endswith("worst case 76.0 %")


def test_conditions_of_one_model_share_a_row_and_measures_stay_together() -> None:
    drawn = table()
    assert [row.name for row in drawn.rows] == ["base", EVIL]
    assert drawn.columns == (ASR, SHARE, UTILITY)


def test_markdown_has_one_line_per_model() -> None:
    lines = tables.markdown(table()).splitlines()
    assert len(lines) == 4
    assert {line.count("|") - line.count("\\|") for line in lines} == {5}
    assert "45" not in lines[2]
    assert "99.5 % [97.2 to 99.9] 199/200" in lines[2]
    assert "– 0/0 +200 unscored" in lines[3]


@pytest.mark.parametrize("better", ["low", "high"])
def test_metrics_on_disk_come_back_as_rates(better: tables.Better) -> None:
    metric = Metric("m", "what m is", lambda _: True, lambda _: None, better)
    row = {**as_json(rate(3, 9, 1), metric), "summary": metric.summary, "better": better}
    ((column, back),) = tables.from_metrics({"m": row}, "plain").items()
    assert back == rate(3, 9, 1)
    assert (column.name, column.condition, column.better, column.summary) == ("m", "plain", better, "what m is")
    assert tables.worst(back, column.better) == row["worst"]
