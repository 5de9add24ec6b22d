"""How fast does the forgotten return? Every way of tampering, each point asked about by the suite `forgetting`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vlmend.backends.hf import Hf
from vlmend.config import JudgingConfig, Recipe, Section
from vlmend.data.dataset import fingerprint_of, read
from vlmend.errors import ConfigError, DataError, ModelError, StoreError, UsageError
from vlmend.evaluate.judging import JudgeSettings
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.evaluate.tamper import relearn
from vlmend.evaluate.tamper.altered import Begun, Rounded, scaled_adapter
from vlmend.evaluate.tamper.subject import Subject
from vlmend.judge.models import Models
from vlmend.manifest import environment
from vlmend.metrics.rates import as_json, rate_from_json
from vlmend.registry import suites
from vlmend.store import Journal, Run, read_rows, write_json
from vlmend.types import Example, Measured, Role, digest

VERSION = "tamper/2"
SUITE = "forgetting"
POINTS = "points.jsonl"
# what a point is told by
MAIN = ("complied", "told", "recall", "probability", "extraction", "asr", "accuracy", "rouge_l")
AS_TUNED, BEFORE = "as tuned", "before tuning"
BENIGN, FORGET, ADAPTER = "relearned, benign", "relearned, forgotten", "adapter scaled"
ROUNDED, BEGUN = "weights rounded", "answer begun"
EXAMPLES, LEFT = "examples learned again", "share of the adapter left"  # what curves run along
ROLES = {BENIGN: Role.RETAIN, FORGET: Role.FORGET}
Bits = Annotated[int, Field(ge=2, le=8)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class TamperConfig(Section):
    """What is done to the model of a run. `relearn` are numbers of examples, `adapter` shares of its strength.

    None takes the suite from the run's own data, and the learning rate that the run was tuned with. Judges are those of
    the run's recipe and those of `judging`.
    """

    run: Path
    out: Path
    suite: str | None = None
    limit: int | None = Field(default=200, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)
    relearn: tuple[Count, ...] = (0, 4, 16, 64)
    steps: int = Field(default=20, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    adapter: tuple[Share, ...] = (0.75, 0.5, 0.25, 0.0)
    bits: tuple[Bits, ...] = (8, 4)
    opening: tuple[str, ...] = ("Sure,",)
    batch_size: int | None = Field(default=None, gt=0)
    device: str = "auto"
    seed: int = 0
    judging: JudgingConfig = JudgingConfig()


@dataclass(frozen=True)
class Point:
    """One thing done to the model: how, and how much of it."""

    attack: str
    setting: str = ""

    @property
    def name(self) -> str:
        """Both in one line."""
        return f"{self.attack}: {self.setting}" if self.setting else self.attack


@dataclass(frozen=True)
class Found:
    """What a point came to; `note` says why it could not be tried, where it could not."""

    point: Point
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    note: str = ""

    def measured(self, metric: str) -> Measured | None:
        """One of its numbers; None where it was not measured."""
        row = self.metrics.get(metric)
        return None if row is None else rate_from_json(row)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"attack": self.point.attack, "setting": self.point.setting, "note": self.note, "metrics": self.metrics}


@dataclass(frozen=True)
class Tampered:
    """All points of one run."""

    config: TamperConfig
    suite: str
    learning_rate: float
    found: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        """As `vlmend tamper --json` prints it and tamper.json keeps it."""
        settings = {**self.config.model_dump(mode="json"), "suite": self.suite, "learning_rate": self.learning_rate}
        return {"settings": settings, "points": [found.to_json() for found in self.found]}


def points(config: TamperConfig) -> list[Point]:
    """Everything that is to be tried, in the order of the table."""
    return [
        Point(BEFORE),
        Point(AS_TUNED),
        *(Point(attack, str(n)) for attack in ROLES for n in sorted(set(config.relearn))),
        *(Point(ADAPTER, f"{alpha:g}") for alpha in sorted(set(config.adapter), reverse=True)),
        *(Point(ROUNDED, f"{bits} bits") for bits in sorted(set(config.bits), reverse=True)),
        *(Point(BEGUN, opening) for opening in dict.fromkeys(config.opening)),
    ]


Tune = Callable[[Recipe], object]


def tamper(config: TamperConfig, tune: Tune, say: Callable[[str], None], *, quiet: bool = False) -> Tampered:
    """Try every point, but none again that the folder `out` holds already, and store each as soon as it is there.

    `tune` carries out a recipe.
    """
    work = _Work(config, Subject.open(config.run, config.device), tune, quiet)
    known = _known(config.out / POINTS)
    made: dict[Point, Found] = {}
    wanted = points(config)
    with Journal(config.out / POINTS) as journal:
        for number, point in enumerate(wanted, start=1):
            key = work.key(point)
            if key in known:
                made[point] = Found(point, known[key]["metrics"])
                continue
            say(f"{number} of {len(wanted)}: {point.name}")
            made[point] = found = _found(work, point)
            if found.note:
                say(f"{point.name}: {found.note}")
            else:
                known[key] = {"key": key, **found.to_json(), "environment": environment()}
                journal.append(known[key])
    done = Tampered(config, work.suite, work.rate, tuple(made.values()))
    write_json(config.out / "tamper.json", done.to_json())
    return done


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """The points that are there already, by their key. Raises StoreError for a row that is none."""
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(read_rows(path), start=1):
        if not isinstance(row.get("key"), str) or not isinstance(row.get("metrics"), dict):
            raise StoreError(f"{path} is damaged in line {number}: not a point with 'key' and 'metrics'; remove it")
        found[row["key"]] = row
    return found


def _found(work: _Work, point: Point) -> Found:
    try:
        return Found(point, work.measure(point))
    except (ConfigError, DataError, ModelError, UsageError) as error:
        if point.attack in (BEFORE, AS_TUNED):  # without these, nothing can be said at all
            raise
        return Found(point, note=f"not possible here: {error}")


@dataclass(frozen=True)
class _Work:
    """One run under the tools."""

    config: TamperConfig
    subject: Subject
    tune: Tune
    quiet: bool

    @cached_property
    def suite(self) -> str:
        """The spec of the suite. Raises UsageError for another one than `forgetting`."""
        spec = self.config.suite or self.subject.suite()
        if (name := suites.from_spec(spec).name) != SUITE:
            raise UsageError(f"what was forgotten is measured by the suite {SUITE}:SPEC, not by {name}")
        return spec

    @cached_property
    def data(self) -> list[str]:
        """What the suite asks, by content: a point on other questions is another one."""
        return [fingerprint_of(read(spec)) for spec in suites.from_spec(self.suite).sources]

    @property
    def rate(self) -> float:
        """The learning rate of relearning."""
        return self.config.learning_rate or self.subject.recipe.train.learning_rate

    @cached_property
    def judging(self) -> JudgingConfig:
        """Who judges: whom the run's recipe names, and whoever is named here."""
        return self.subject.recipe.judging.also(**self.config.judging.model_dump())

    @cached_property
    def models(self) -> Models:
        """What the judges of all points are given."""
        return JudgeSettings.of(self.judging).models()

    def key(self, point: Point) -> str:
        """Identity of everything that decides what a point comes to."""
        made = self._made(point)
        return digest(made, self.judging.given) if self.judging.given else made

    def _made(self, point: Point) -> str:
        """Identity of the model of a point, and of what it is asked."""
        c = self.config
        learned = [c.steps, self.rate, c.seed] if point.attack in ROLES and point.setting != "0" else []
        made = [AS_TUNED, ""] if point.attack in ROLES and point.setting == "0" else [point.attack, point.setting]
        return digest(VERSION, self.subject.weights, self.suite, self.data, c.limit, c.max_new_tokens, *made, learned)

    def measure(self, point: Point) -> dict[str, dict[str, Any]]:
        """The main numbers of a point."""
        backend = self._backend(point)
        config = EvalConfig(
            model=backend.model, suite=self.suite, out=self._folder(point) / "answers", limit=self.config.limit,
            max_new_tokens=self.config.max_new_tokens, judges=self.judging.judges,
        )  # fmt: skip
        result = evaluate(config, backend, models=self.models, quiet=self.quiet)
        measured = {m.name: m for m in result.measured}
        return {
            name: {**as_json(result.metrics[name], measured[name]), "better": measured[name].better}
            for name in MAIN
            if name in measured
        }

    def _folder(self, point: Point) -> Path:
        return self.config.out / "points" / self._made(point)[:12]

    def _backend(self, point: Point) -> Hf:
        """The tampered model."""
        subject, attack = self.subject, point.attack
        if attack == ROUNDED:
            return Rounded(subject.tuned, bits=int(point.setting.split()[0]), **self._loading)
        if attack == BEGUN:
            return Begun(subject.tuned, opening=point.setting, **self._loading)
        if attack in ROLES:
            model = self._relearned(point)
        elif attack == ADAPTER:
            model = self._scaled(point)
        else:
            model = subject.base if attack == BEFORE else subject.tuned
        return Hf(model, **self._loading)

    @property
    def _loading(self) -> dict[str, Any]:
        size = self.config.batch_size
        return {**self.subject.loading, **({"batch_size": size} if size else {})}

    def _scaled(self, point: Point) -> str:
        if not self.subject.is_adapter:
            raise UsageError("the run tuned the model itself; there is no adapter to be scaled")
        subject, folder = self.subject, self._folder(point) / "adapter"
        return subject.with_adapter(
            scaled_adapter(subject.folder, float(point.setting), subject.base, subject.loading, folder)
        )

    def _relearned(self, point: Point) -> str:
        """The model after a few steps on the first of the examples of a role."""
        n = int(point.setting)
        if not n:
            return self.subject.tuned
        free = self._pools[ROLES[point.attack]]
        if n > len(free):
            raise UsageError(
                f"the run's data have {len(free)} {ROLES[point.attack]} examples that are not asked about;"
                " a smaller --limit leaves more"
            )
        folder = self._folder(point)
        c = self.config
        self.tune(relearn.recipe(self.subject, free[:n], folder, steps=c.steps, rate=self.rate, seed=c.seed))
        return self.subject.with_adapter(folder / "tuned")

    @cached_property
    def _pools(self) -> dict[Role, list[str]]:
        """Ids of examples that may be learned again, by role: of none is asked later."""
        asked = self._asked()
        return {role: relearn.pool(self.subject, role, asked, self.config.seed) for role in ROLES.values()}

    def _asked(self) -> Sequence[Example]:
        return Run.open(self._folder(Point(AS_TUNED)) / "answers").examples()


def curves(done: Tampered, metric: str) -> dict[str, dict[str, list[tuple[str, Measured | None]]]]:
    """By what is varied, each way of tampering with what its settings came to; the untouched model begins each."""
    untouched = next(found.measured(metric) for found in done.found if found.point.attack == AS_TUNED)
    steps = {
        attack: [(f.point.setting, f.measured(metric)) for f in done.found if f.point.attack == attack]
        for attack in (BENIGN, FORGET, ADAPTER)
    }
    for attack, start in ((BENIGN, "0"), (FORGET, "0"), (ADAPTER, "1")):
        if steps[attack] and steps[attack][0][0] != start:
            steps[attack].insert(0, (start, untouched))
    relearned = {attack: steps[attack] for attack in (BENIGN, FORGET) if steps[attack]}
    scaled = {ADAPTER: steps[ADAPTER]} if steps[ADAPTER] else {}
    return {what: series for what, series in ((EXAMPLES, relearned), (LEFT, scaled)) if series}
