"""A paper's questions put to models: each run once for each model, through the same function as `vlmend eval`.

What is not run is said with its reason: a folder that was not given, a judge that has no model to ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmend.errors import DataError, UnknownName, UsageError, nearest
from vlmend.evaluate.asking import Known
from vlmend.evaluate.cells import EvalConfig
from vlmend.evaluate.run import evaluate_all
from vlmend.evaluate.score import EvalResult
from vlmend.judge.binding import bind, named
from vlmend.judge.models import Models
from vlmend.judge.naming import about, asks_model
from vlmend.papers.paper import Ask, Paper
from vlmend.registry import suites
from vlmend.types import Backend, Suite


@dataclass(frozen=True)
class Request:
    """What a user asks of a paper: models by label, folders by key, and the evaluation that all share.

    `base` is an evaluation of no suite yet; its `out` is the folder of all runs, its judges are the user's.
    """

    paper: Paper
    models: Mapping[str, str]
    data: Mapping[str, Path]
    base: EvalConfig

    @property
    def asks(self) -> dict[str, Ask]:
        """What can be asked, with the user's folders in it."""
        given = {*self.data}
        return {key: ask.filled(self.data) for key, ask in self.paper.asks.items() if {*ask.needs} <= given}

    def config(self, label: str, key: str, ask: Ask) -> EvalConfig:
        """The evaluation of one model."""
        return self.base.model_copy(
            update={
                "model": self.models[label],
                "suite": ask.suite,
                "attack": ask.attack,
                "only": ask.only,
                "judges": _judges(self, ask, suites.from_spec(ask.suite)),
                "out": self.base.out / label / key,
            }
        )


@dataclass(frozen=True)
class Found:
    """What came of a request: results by model and ask, and why the other asks were not run."""

    request: Request
    results: Mapping[str, Mapping[str, EvalResult]]
    left_out: Mapping[str, str]


def labeled(given: Sequence[str]) -> dict[str, str]:
    """Models by label: `LABEL=SPEC`, or the spec alone. Raises UsageError for a label that stands twice."""
    found: dict[str, str] = {}
    for text in given:
        label, equals, spec = text.partition("=")
        if not equals or any(mark in label for mark in ":/?+@"):  # the = of an option
            label, spec = text, text
        label = label.strip().replace("/", "_")
        if label in ("", ".", "..") or not spec:
            raise UsageError(f"--model {text!r} is not of the form LABEL=SPEC, or SPEC alone")
        if label in found:
            raise UsageError(f"two models are called {label!r}; name one of them with LABEL=SPEC")
        found[label] = spec
    return found


def folders(paper: Paper, given: Sequence[str]) -> dict[str, Path]:
    """Folders by the key of what they hold. Raises UsageError, and UnknownName for a key the paper does not have."""
    found: dict[str, Path] = {}
    for text in given:
        key, equals, folder = text.partition("=")
        if not equals or not folder:
            raise UsageError(
                f"--data {text!r} is not of the form KEY=DIR; keys of {paper.name}: {', '.join(paper.needs)}"
            )
        if key not in paper.needs:
            raise UnknownName(f"data set of {paper.name}", key, paper.needs)
        if key in found:
            raise UsageError(f"--data {key}=… is given twice")
        found[key] = Path(folder)
    return found


def check(request: Request, models: Models, known: Known) -> dict[str, str]:
    """Read all data and bind all judges before anything is asked; why asks are left out, by key.

    Raises DataError for a folder in another layout, UsageError for a judge that none of the suites has a question for.
    """
    left_out = {
        key: f"needs --data {' '.join(f'{need}=DIR' for need in ask.needs if need not in request.data)}"
        for key, ask in request.paper.asks.items()
        if not {*ask.needs} <= {*request.data}
    }
    asked: set[str] = set()
    for key, ask in request.asks.items():
        suite: Suite = suites.from_spec(ask.suite)
        asked |= _questions(ask, suite)
        _read(request.paper, key, suite, known)
        judges = _judges(request, ask, suite)
        given = {question for question, _ in map(named, judges)}
        idle = _idle(suite, judges, models)
        if lacking := [
            f"{told}: --judge {question}=SPEC" for question, told in ask.wants.items() if question not in given
        ]:
            left_out[key] = f"needs {'; '.join(lacking)}"
        elif idle:
            left_out[key] = f"needs a model that judges: --judge-model MODEL, or --judge QUESTION=SPEC (for {idle})"
    for question in [question for question, _ in map(named, request.base.judges) if question]:
        if request.asks and question not in asked:
            raise UsageError(
                f"{request.paper.name} asks nothing about {question!r} of these data sets;{nearest(question, asked)}"
                f" it asks {', '.join(sorted(asked))}"
            )
    if len(left_out) == len(request.paper.asks):
        whys = "; ".join(f"{key} {why}" for key, why in left_out.items())
        raise UsageError(f"nothing of {request.paper.name} can be run: {whys}")
    return left_out


def _read(paper: Paper, key: str, suite: Suite, known: Known) -> None:
    for source in suite.sources:
        try:
            known.read(source)
        except DataError as error:
            asked = paper.asks[key]
            told = "; ".join(f"--data {need} holds {paper.needs[need].layout}" for need in asked.needs)
            raise DataError(f"{error} ({told})") from error


def _judges(request: Request, ask: Ask, suite: Suite) -> tuple[str, ...]:
    """The user's judges of what is asked here, and the paper's of the questions that the user does not give.

    A judge of what some ask wants a judge for is for the asks that want it, and takes no other judge's place.
    """
    wanted = {question for other in request.paper.asks.values() for question in other.wants}
    asked = {"", *ask.wants, *(_questions(ask, suite) - wanted)}
    own = [text for text in request.base.judges if named(text)[0] in asked]
    taken = {question for question, _ in map(named, own) if question}
    return (*(text for text in ask.judges if named(text)[0] not in taken), *own)


def _questions(ask: Ask, suite: Suite) -> set[str]:
    """What is asked of the answers: by the suite itself, and by the paper beyond it."""
    return {*suite.asks, *ask.wants, *(question for question, _ in map(named, ask.judges) if question)}


def _idle(suite: Suite, judges: Sequence[str], models: Models) -> str:
    """A judge that would ask a model and has none to ask, by name; the empty string where there is none."""
    for judge in bind(suite, judges).judges.values():
        if asks_model(judge) and not models.model:
            try:
                about(judge, models)
            except UsageError:
                return judge.name
    return ""


def cells(request: Request, left_out: Mapping[str, str]) -> dict[tuple[str, str], EvalConfig]:
    """The evaluations that are run, by model and ask."""
    asks = {key: ask for key, ask in request.asks.items() if key not in left_out}
    return {(label, key): request.config(label, key, ask) for label in request.models for key, ask in asks.items()}


def run(
    request: Request, left_out: Mapping[str, str], models: Models, servers: Mapping[str, Backend], known: Known,
    *, quiet: bool = False,
) -> Found:  # fmt: skip
    """Ask everything that is not left out, each model all of it together; what a folder holds is not asked again.

    `left_out` is of `check`, as are the data in `known`; `servers` are by spec the models that are there already, with
    what they may spend.
    """
    configs = cells(request, left_out)
    done = evaluate_all(list(configs.values()), servers, models=models, quiet=quiet, known=known)
    by_folder = {result.run.folder: result for result in done}
    results: dict[str, dict[str, EvalResult]] = {}
    for (label, key), config in configs.items():
        results.setdefault(label, {})[key] = by_folder[config.out]
    return Found(request, results, left_out)
