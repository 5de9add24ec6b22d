"""A paper as its file says it, checked: folders, questions, tables, and the published figures that belong to them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from vlmend import plain_yaml
from vlmend.config import Section, Words, explain
from vlmend.errors import ConfigError, UnknownName, nearest
from vlmend.papers import FOLDER, names

PLACE = re.compile(r"\{(\w+)\}")  # of a folder of the user's in a spec


class Need(Section):
    """A data set that the user brings: what it is, what its folder holds, and where it is got."""

    what: str
    layout: str
    get: str


class Ask(Section):
    """What is asked of every model: a suite, maybe attacked, with judges in the place of the suite's own.

    `{key}` in a spec is a folder of `needs`; `only` names the metrics whose examples are asked, as everywhere. `wants`
    are questions that the user has to bind a judge to, each with what sort of judge that is.
    """

    suite: str
    attack: Words = ()
    judges: Words = ()
    wants: Mapping[str, str] = {}
    only: str | None = None

    @property
    def needs(self) -> list[str]:
        """The keys of the folders that it is made from."""
        return list(dict.fromkeys(PLACE.findall(" ".join((self.suite, *self.attack, *self.judges)))))

    def filled(self, data: Mapping[str, Path]) -> Ask:
        """The same with the user's folders in it."""

        def fill(spec: str) -> str:
            return PLACE.sub(lambda found: str(data[found[1]]), spec)

        return self.model_copy(
            update={
                "suite": fill(self.suite),
                "attack": tuple(map(fill, self.attack)),
                "judges": tuple(map(fill, self.judges)),
            }
        )


class Column(Section):
    """A column: a metric of what was asked, or why it cannot be; its published figures by metric and split.

    `category`: of that category's examples alone. `average` names one of `vlmend utility average`, over the asks `of`.
    `contrary`: the paper counts what the metric does not, as a rate of answers where ours is one of refusals. `differs`
    says why the two are not the same number even where everything is done as published.
    """

    name: str
    group: str = ""
    ask: str = ""
    metric: str = ""
    category: str = ""
    average: str = ""
    of: Words = ()
    contrary: bool = False
    better: Literal["low", "high"] | None = None
    published: tuple[str, str] | None = None
    differs: str = ""
    why: str = ""

    @model_validator(mode="after")
    def _measured_or_explained(self) -> Self:
        if bool(self.ask and self.metric) + bool(self.average and self.of) + bool(self.why) != 1:
            raise ValueError(f"column {self.name!r} has either ask and metric, or average and of, or why it is not run")
        return self

    @property
    def asks(self) -> tuple[str, ...]:
        """All that is asked for it."""
        return (self.ask,) if self.ask else self.of

    @property
    def title(self) -> str:
        """Group and name in one line."""
        return f"{self.group}: {self.name}" if self.group else self.name


class Table(Section):
    """A table: its columns, and from which tables of the published figures its rows are.

    `unit` is how its numbers are written: percent, a fraction, or the metric's own scale.
    """

    title: str
    published: Words = ()
    unit: Literal["percent", "fraction", "own"] = "percent"
    columns: tuple[Column, ...]
    note: str = ""


class Figure(Section):
    """A published figure. `note` says what is doubtful about it; `second_hand`, that it was read elsewhere."""

    paper: str
    table: str
    model: str
    method: str
    metric: str
    split: str
    value: float
    unit: str
    source: str
    second_hand: bool = False
    note: str = ""


class Paper(Section):
    """All that `vlmend paper` knows of a paper. `figures` is its name in the published figures."""

    name: str
    title: str
    arxiv: str
    figures: str
    needs: Mapping[str, Need]
    recipes: Mapping[str, str] = {}
    asks: Mapping[str, Ask]
    tables: tuple[Table, ...]

    @model_validator(mode="after")
    def _names_what_it_has(self) -> Self:
        for key, ask in self.asks.items():
            for need in ask.needs:
                _known(f"folder of {key}", need, self.needs)
        for column in self.columns():
            for ask in column.asks:
                _known(f"ask of column {column.name!r}", ask, self.asks)
        return self

    def columns(self) -> Iterator[Column]:
        """Those of all tables."""
        for table in self.tables:
            yield from table.columns

    def rows(self, table: Table) -> dict[tuple[str, str], dict[Column, Figure]]:
        """The published rows of a table: model and method, and what each says in its columns."""
        by_place = {column.published: column for column in table.columns if column.published}
        found: dict[tuple[str, str], dict[Column, Figure]] = {}
        for figure in published():
            column = by_place.get((figure.metric, figure.split))
            if column and figure.paper == self.figures and figure.table in table.published:
                found.setdefault((figure.model, figure.method), {})[column] = figure
        return found


def _known(what: str, name: str, names: Mapping[str, object]) -> None:
    if name not in names:
        raise ValueError(f"no {what} is named {name!r}.{nearest(name, names)} Known: {', '.join(names) or 'none'}")


def read(named: str) -> Paper:
    """A paper by name, or from a file of the user's in the same form. Raises UnknownName and ConfigError."""
    own = Path(named)
    path = own if own.is_file() else FOLDER / f"{named}.yaml"
    if path != own and named not in names():
        raise UnknownName("paper", named, names())
    held = plain_yaml.parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(held, dict):
        raise ConfigError(f"{path} should hold a paper: {', '.join(Paper.model_fields)}")
    try:
        return Paper.model_validate({"name": path.stem, **held})
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Paper)}") from error


@cache
def published() -> tuple[Figure, ...]:
    """Every published figure that is known here, in the order of the file."""
    lines = (FOLDER / "published.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return tuple(Figure.model_validate(row) for row in rows)
