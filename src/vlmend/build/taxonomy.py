"""Taxonomies: which categories of unsafe content there are, what belongs to each, and how those of two sets relate.

One YAML file each in the folder `taxonomies`; anybody's own file has the same shape. Names are those of a data set's
own files, so that rows that are drafted and rows that were published can be counted in one table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from vlmend import plain_yaml
from vlmend.build.taxonomies import FOLDER, names
from vlmend.config import Section, explain
from vlmend.errors import ConfigError, UnknownName, nearest

HUB = "mlcommons"  # through which two taxonomies relate that do not name one another


class Category(Section):
    """A category: its name as data has it, a title for people, what belongs and what does not, and its parts."""

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    what: str = Field(min_length=1)
    parts: tuple[Category, ...] = ()

    def walk(self) -> Iterator[Category]:
        """This category, then all that is inside it."""
        yield self
        for part in self.parts:
            yield from part.walk()


class Taxonomy(Section):
    """Categories of one origin. A changed word is a new `version`.

    `mappings` has, by the name of another taxonomy, the categories there that each category here overlaps with; null
    says that there is none. A part that is not named there relates as the category around it does.
    """

    name: str = Field(min_length=1)
    version: int = Field(gt=0)
    summary: str
    source: str
    categories: tuple[Category, ...] = Field(min_length=1)
    mappings: dict[str, dict[str, tuple[str, ...] | None]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Taxonomy:
        names = self.names
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"category {twice!r} stands twice")
        for other, table in self.mappings.items():
            for name, there in table.items():
                if name not in names:
                    raise ValueError(f"mappings.{other}: there is no category {name!r}.{nearest(name, names)}")
                if there == ():
                    raise ValueError(f"mappings.{other}: {name!r} has an empty list; null says that it has none there")
            if silent := [category.name for category in self.categories if category.name not in table]:
                raise ValueError(
                    f"mappings.{other}: nothing is said of {silent[0]!r}; null says that it has none there"
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of all categories and their parts."""
        return tuple(category.name for top in self.categories for category in top.walk())

    def category(self, name: str) -> Category:
        """The category or part of that name. Raises UnknownName."""
        for top in self.categories:
            for category in top.walk():
                if category.name == name:
                    return category
        raise UnknownName(f"category of {self.name}", name, self.names)

    def related(self, name: str, to: str) -> tuple[str, ...] | None:
        """What this file itself says about a category; None where it has no counterpart or nothing is said."""
        table = self.mappings.get(to, {})
        around = next(top for top in self.categories if any(part.name == name for part in top.walk()))
        line = _line(around, name)
        return next((table[one] for one in reversed(line) if one in table), None)

    def text(self) -> str:
        """As a prompt has it: one line for each category, its parts below it."""
        return "\n".join(line for top in self.categories for line in _lines(top, 0))


def load(name: str) -> Taxonomy:
    """One of ours by its name, or a file. Raises UnknownName, or ConfigError with the file and the key that is wrong.

    Categories of other taxonomies that it names are looked up there.
    """
    ours = name in names()
    file = FOLDER / f"{name}.yaml" if ours else Path(name)
    if not ours and file.suffix not in (".yaml", ".yml") and not file.is_file():
        raise UnknownName("taxonomy", name, names(), f"{nearest(name, names())} A file of your own ends in .yaml.")
    try:
        data = plain_yaml.parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"taxonomy {file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = Taxonomy.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"taxonomy {file}: {explain(error, Taxonomy)}") from error
    for other, table in found.mappings.items():
        if other not in names():
            raise ConfigError(f"taxonomy {file}: mappings.{other}: {UnknownName('taxonomy', other, names())}")
        known = load(other).names
        for category, there in table.items():
            if wrong := [one for one in there or () if one not in known]:
                message = UnknownName(f"category of {other}", wrong[0], known)
                raise ConfigError(f"taxonomy {file}: mappings.{other}.{category}: {message}")
    return found


def mapped(category: str, start: Taxonomy, to: Taxonomy) -> tuple[str, ...] | None:
    """Categories of `to` that a category of `start` overlaps with; None where nobody says that there is one.

    By the file of either where it names the other, otherwise through MLCommons. It is a relation, no function: the way
    back from what is found holds the start, and often more. Raises UnknownName for a category that `start` lacks.
    """
    start.category(category)
    if start.name == to.name:
        return (category,)
    if to.name in start.mappings:
        return start.related(category, to.name)
    if start.name in to.mappings:
        return tuple(name for name in to.names if category in (to.related(name, start.name) or ())) or None
    if HUB not in start.mappings or HUB not in to.mappings:
        return None
    hazards = set(start.related(category, HUB) or ())
    return tuple(name for name in to.names if hazards & set(to.related(name, HUB) or ())) or None


def _line(category: Category, name: str) -> list[str]:
    """The names from a category down to the one that is sought."""
    if category.name == name:
        return [name]
    inside = next(part for part in category.parts if any(one.name == name for one in part.walk()))
    return [category.name, *_line(inside, name)]


def _lines(category: Category, depth: int) -> Iterator[str]:
    title = "" if category.title.casefold() == category.name.casefold() else f" ({category.title})"
    yield f"{'  ' * depth}- {category.name}{title}: {category.what}"
    for part in category.parts:
        yield from _lines(part, depth + 1)
