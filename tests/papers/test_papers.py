"""Every paper names what exists: suites, metrics, attacks, judges, recipes, and published figures in its own units."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vlmend import recipes
from vlmend.errors import ConfigError
from vlmend.judge.binding import bind
from vlmend.metrics.views import measures_of
from vlmend.papers import names
from vlmend.papers.paper import Column, Paper, published, read
from vlmend.papers.tables import measured, overview
from vlmend.registry import attacks, suites
from vlmend.types import Mean, Rate

UNITS = {"%": "percent", "fraction": "fraction"}
OTHER = {"low": "high", "high": "low", None: None}


@pytest.fixture(params=names())
def paper(request: pytest.FixtureRequest) -> Paper:
    return read(request.param)


def test_every_ask_is_a_suite_with_its_attacks_and_judges(paper: Paper) -> None:
    for ask in paper.asks.values():
        filled = ask.filled({key: Path("DIR") for key in paper.needs})
        assert "{" not in filled.suite
        suite = suites.from_spec(filled.suite)
        assert list(map(attacks.from_spec, filled.attack)) is not None
        assert bind(suite, filled.judges).judges
        known = {metric.name for metric in measures_of(suite)}
        assert not ask.only or {*ask.only.split(",")} <= known


def test_every_column_is_a_metric_of_its_suite_and_good_in_the_same_direction(paper: Paper) -> None:
    data = {key: Path("DIR") for key in paper.needs}
    for column in paper.columns():
        if column.ask:
            suite = suites.from_spec(paper.asks[column.ask].filled(data).suite)
            better = {metric.name: metric.better for metric in measures_of(suite)}
            assert column.metric in better, column.title
            way = better[column.metric]
            if isinstance(way, str) and not column.published:
                assert column.better == (OTHER[way] if column.contrary else way), column.title


def test_every_ask_serves_a_column_and_every_folder_an_ask(paper: Paper) -> None:
    assert {ask for column in paper.columns() for ask in column.asks} == {*paper.asks}
    assert {need for ask in paper.asks.values() for need in ask.needs} == {*paper.needs}


def test_every_recipe_ships(paper: Paper) -> None:
    assert {*paper.recipes} <= {*recipes.names()}


def test_every_published_place_has_figures_in_the_tables_unit(paper: Paper) -> None:
    for table in paper.tables:
        rows = paper.rows(table)
        named = {figure.table for row in rows.values() for figure in row.values()}
        assert named == {*table.published}
        for column in table.columns:
            figures = [row[column] for row in rows.values() if column in row]
            assert bool(figures) == bool(column.published), column.title
            for figure in figures:
                assert UNITS.get(figure.unit, table.unit) == table.unit


def test_its_page_has_the_tables_that_the_command_prints(paper: Paper) -> None:
    page = (Path(__file__).parents[2] / "docs" / "papers" / f"{paper.name}.md").read_text(encoding="utf-8")
    assert page.endswith(overview(paper))
    assert f"vlmend paper {paper.name} \\\n" in page
    assert all(f"--data {key}=" in page for key in paper.needs)


def test_no_figure_stands_twice_in_a_place_of_a_table(paper: Paper) -> None:
    for table in paper.tables:
        places = {column.published for column in table.columns}
        places_held = Counter(
            (figure.model, figure.method, figure.metric, figure.split)
            for figure in published()
            if figure.paper == paper.figures
            and figure.table in table.published
            and (figure.metric, figure.split) in places
        )
        assert not [place for place, count in places_held.items() if count > 1]


def test_a_contrary_rate_counts_the_rest_and_twice_is_the_rate() -> None:
    column = Column(name="x", ask="a", metric="m", contrary=True)
    rate = Rate(3, 10, 2, 0.1, 0.6)
    other = measured(column, rate)
    assert isinstance(other, Rate)
    assert (other.k, other.n, other.unscored, other.low, other.high) == (7, 10, 2, 0.4, 0.9)
    again = measured(column, other)
    assert isinstance(again, Rate)
    assert (again.k, again.low, again.high) == (3, pytest.approx(0.1), pytest.approx(0.6))
    mean = measured(column, Mean(0.25, 4, 0, 0.2, 0.3))
    assert (mean.value, mean.low, mean.high) == (0.75, 0.7, 0.8)
    assert measured(Column(name="x", ask="a", metric="m"), rate) == rate


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"asks": {"a": {"suite": "source:advbench:{avbench}"}}}, "Did you mean 'advbench'?"),
        ({"tables": [{"title": "t", "columns": [{"name": "c", "ask": "b", "metric": "asr"}]}]}, "Known: a"),
        ({"tables": [{"title": "t", "columns": [{"name": "c", "ask": "a"}]}]}, "or why it is not run"),
        ({"tables": [{"title": "t", "columns": [{"name": "c", "ask": "a", "metric": "m", "why": "w"}]}]}, "either ask"),
        ({"tabels": []}, "Did you mean 'tables'?"),
    ],
)
def test_a_paper_that_names_what_it_does_not_have_is_refused(
    change: dict[str, object], says: str, tmp_path: Path
) -> None:
    import yaml

    held: dict[str, object] = {
        "title": "t", "arxiv": "1", "figures": "f", "needs": {"advbench": {"what": "w", "layout": "l", "get": "g"}},
        "asks": {"a": {"suite": "source:advbench:{advbench}"}},
        "tables": [{"title": "t", "columns": [{"name": "c", "ask": "a", "metric": "asr"}]}],
    }  # fmt: skip
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(held))
    assert read(str(file)).name == "mine"
    file.write_text(yaml.safe_dump({**held, **change}))
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        read(str(file))
