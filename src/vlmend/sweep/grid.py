"""What is in a sweep: recipes times settings, and the conditions under which each tuned model is asked. No torch."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from vlmend.config import JudgingConfig, Recipe, load_recipe
from vlmend.data.dataset import fingerprint_of, read_any
from vlmend.errors import DataError, UsageError
from vlmend.evaluate.cells import Asking, chain_of
from vlmend.registry import Spec, attacks, defences, suites
from vlmend.types import digest

PLAIN = "plain"
BASE = "base"


@dataclass(frozen=True)
class Condition:
    """A suite, what is done to its requests, and what stands between them and the model."""

    suite: str
    attack: tuple[str, ...] = ()
    defence: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: Sequence[str]) -> Condition:
        """From a suite, attacks and defences: these are told apart by their names."""
        suite, *others = words
        behind = [word for word in others if Spec.parse(word).name in defences.names()]
        return cls(suite, tuple(word for word in others if word not in behind), tuple(behind))

    @property
    def words(self) -> list[str]:
        """The suite, then the attacks, then the defences."""
        return [self.suite, *self.attack, *self.defence]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: a recipe with what is set in it, or the untuned model of a recipe.

    `judging` has the judges that the sweep names beside those of the recipe, `asking` how its questions are asked.
    """

    recipe: Path
    settings: tuple[str, ...] = ()
    tuned: bool = True
    judging: JudgingConfig = field(default_factory=JudgingConfig)
    asking: Asking = field(default_factory=Asking)

    @property
    def name(self) -> str:
        """Such as `unlearn_npo,method.pd=true,train.seed=1`; also the name of its folder."""
        return ",".join((self.recipe.stem, *self.settings)).replace("/", "_") if self.tuned else BASE

    def without(self, keys: Sequence[str]) -> str:
        """The name without the settings of these keys: the row that the run is pooled into."""
        kept = tuple(item for item in self.settings if item.partition("=")[0] not in keys)
        return Cell(self.recipe, kept, self.tuned).name

    @property
    def start(self) -> str:
        """The spec of the model that is tuned."""
        model = self.load(Path()).model
        return f"{model.name}+{model.adapter}" if model.adapter else model.name

    def load(self, folder: Path) -> Recipe:
        """The recipe as it is run, its output below `folder`."""
        recipe = load_recipe(self.recipe, [*self.settings, f"output.dir={str(folder / 'tuned')!r}"])
        return recipe.model_copy(update={"judging": recipe.judging.also(**self.judging.model_dump())})


def expand(recipes: Sequence[Path], grid: Sequence[str]) -> Iterator[Cell]:
    """Every recipe with every combination. Raises UsageError for a grid line that is none."""
    axes: list[list[str]] = []
    for line in grid:
        key, equals, values = line.partition("=")
        if not equals or not key or not all(values.split(",")):
            raise UsageError(f"--grid {line!r} is not of the form a.b=x,y,…")
        axes.append([f"{key}={value}" for value in values.split(",")])
    stems = [recipe.stem for recipe in recipes]
    if BASE in stems:
        raise UsageError(
            f"a recipe is called {BASE}, as the model that is not tuned; runs are named after their recipe"
        )
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise UsageError(f"two recipes are called {twice}; runs are named after their recipe")
    for recipe in recipes:
        for settings in itertools.product(*axes):
            yield Cell(recipe, settings)


def untuned(cells: Sequence[Cell]) -> Cell:
    """The model that all cells start from. Raises UsageError where they start from several."""
    models = {cell.start: cell for cell in reversed(cells)}
    if len(models) > 1:
        raise UsageError(f"--base is for one model, and the recipes tune {', '.join(reversed(models))}")
    return replace(cells[0], tuned=False)


def conditions(
    suite: str, attacked: Sequence[str], named: Sequence[str], defended: Sequence[str] = ()
) -> dict[str, Condition]:
    """`plain`, one for each attack, both behind each defence, and those written out as `NAME=SUITE [WORD …]`."""
    chains = {"": (), **{_folder(attack): chain_of(attack) for attack in attacked}}
    guards = {"": (), **{f"behind-{_folder(defence)}": chain_of(defence) for defence in defended}}
    found: dict[str, Condition] = {}
    for (behind, guard), (name, chain) in itertools.product(guards.items(), chains.items()):
        if (guard or not behind) and (chain or not name):
            found["+".join(filter(None, (name, behind))) or PLAIN] = Condition(suite, chain, guard)
    for line in named:
        name, equals, rest = line.partition("=")
        words = shlex.split(rest)
        if not equals or not name.replace("-", "_").replace(".", "_").isidentifier() or not words:
            raise UsageError(f"--condition {line!r} is not of the form NAME=SUITE [ATTACK …] [DEFENCE …]")
        if name in found:
            raise UsageError(f"two conditions are called {name}")
        found[name] = Condition.of(words)
    for asks in found.values():  # a wrong name is told before anything is tuned
        suites.from_spec(asks.suite)
        for attack in asks.attack:
            attacks.from_spec(attack)
        for defence in asks.defence:
            defences.from_spec(defence)
    return found


def _folder(spec: str) -> str:
    return spec.replace(":", "-").replace("/", "_")


def identity(cell: Cell, folder: Path, asked: Mapping[str, Condition]) -> str:
    """A hash of all that decides what comes out: a run with the same one need not even be looked at again."""
    recipe = cell.load(folder)
    settings: dict[str, Any] = recipe.resolved()
    settings.pop("output", None)
    settings.pop("judging", None)
    if recipe.method.same_judge == "refused":  # as before there was such a key
        settings["method"].pop("same_judge")
    read = [part.source for part in recipe.data.mix]
    read += [source for asks in asked.values() for source in suites.from_spec(asks.suite).sources]
    contents = [_content(source) for source in dict.fromkeys(read)]
    more = [given for given in (recipe.judging.given, cell.asking.given) if given]
    return digest(settings, cell.tuned, {name: asks.words for name, asks in asked.items()}, contents, *more)


@cache
def _content(source: str) -> str:
    """What a source holds now; the run itself says what is wrong with one that cannot be read."""
    try:
        return fingerprint_of(read_any(source))
    except DataError as error:
        return str(error)
