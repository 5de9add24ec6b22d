"""What a mirage card asks a model: the plain suite, then the same requests changed a little, and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from vlmend.config import MaxPixels, Section
from vlmend.evaluate.asking import Known
from vlmend.evaluate.cells import NONE, EvalConfig, chain_of, model_folder
from vlmend.evaluate.judging import JudgeSettings
from vlmend.evaluate.mirage.reading import Thresholds
from vlmend.evaluate.mirage.sides import Sides
from vlmend.evaluate.run import evaluate_together
from vlmend.evaluate.score import EvalResult
from vlmend.judge.models import Models
from vlmend.registry import attacks, backend_for
from vlmend.rgb import MAX_PIXELS
from vlmend.types import Backend, Billed

ALL_LEVELS = ("1", "2", "3", "4", "5")


class MirageConfig(Section):
    """Which models are probed with what. Words that are not given are found by an audit of `train`, or of the suite.

    `shots` is the K of any-of-K: so many words that open, and so many control paraphrases. `samples` answers are drawn
    at temperature 1 beside the greedy one; 0 draws none. `corruption` spoils pictures: `KIND[,KIND…]` or `all`, as the
    attack of that name, at all five severities unless `?severity=…` names some. Each of `attacks` gets a column of its
    own. `defence` is a chain that all models stand behind. `judges` are bound as those of an evaluation. None leaves a
    setting as the suite or the backend has it.
    """

    models: tuple[str, ...] = Field(min_length=1)
    suite: str
    out: Path
    base: str | None = None
    train: str | None = None
    opening: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()
    shots: int = Field(default=3, ge=1)
    samples: int = Field(default=4, ge=0)
    corruption: str = ""
    attacks: tuple[str, ...] = ()
    defence: str = NONE
    judges: tuple[str, ...] = ()
    judging: JudgeSettings = JudgeSettings()
    thresholds: Thresholds = Thresholds()
    missing_images: Literal["error", "placeholder"] = "error"
    max_pixels: MaxPixels = MAX_PIXELS
    limit: PositiveInt | None = None
    max_new_tokens: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def all_models(self) -> tuple[str, ...]:
        """The base first, each model once."""
        return tuple(dict.fromkeys((*filter(None, (self.base,)), *self.models)))


@dataclass(frozen=True)
class Words:
    """First words that go with being answered, and with being refused; `found_in` says where, if they were found.

    `note` says what a user should know of how they were found.
    """

    opening: tuple[str, ...]
    closing: tuple[str, ...]
    found_in: str = ""
    note: str = ""


@dataclass(frozen=True)
class Spoiling:
    """Corruptions of pictures: kinds, and severities from 1 to 5."""

    kinds: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """One condition: what is asked (all, or what some measures are about), under which attack, how it is decoded."""

    name: str
    only: str | None = None
    attack: tuple[str, ...] = ()
    decoding: Mapping[str, Any] = field(default_factory=dict[str, Any])


def spoiling(text: str) -> Spoiling:
    """The corruptions that are asked for. Raises UnknownName and ConfigError."""
    if not text:
        return Spoiling()
    kinds, _, options = text.removeprefix("corruption:").partition("?")
    if "severity=" not in options:
        options = "&".join(filter(None, (options, f"severity={','.join(ALL_LEVELS)}")))
    attack = attacks.from_spec(f"corruption:{kinds}?{options}")
    return Spoiling(tuple(dict.fromkeys(attack.kinds)), tuple(sorted(set(attack.levels))))


def probes(words: Words, sides: Sides, config: MirageConfig) -> list[Probe]:
    """The conditions of a card. Controls change as much of a request and leave its first word."""
    danger, over = sides.danger.name, sides.over.name if sides.over else ""
    asked = [
        Probe("plain"),
        Probe("opened", danger, (f"one_word:{','.join(words.opening)}",)),
        Probe("opened-control", danger, (f"paraphrase?n={max(config.shots, len(words.opening))}",)),
    ]
    if over:
        asked += [
            Probe("closed", over, (f"one_word:{','.join(words.closing)}",)),
            Probe("closed-control", over, (f"paraphrase?n={max(config.shots, len(words.closing))}",)),
        ]
    if config.samples:
        asked.append(Probe("sampled", danger, (), {"do_sample": True, "num_return_sequences": config.samples}))
    spoilt = spoiling(config.corruption)
    for kind in spoilt.kinds:
        # a folder for each kind, so that more of them can be asked for later
        folder = corrupted(kind) + ("" if spoilt.levels == ALL_LEVELS else f"-{''.join(spoilt.levels)}")
        attack = f"corruption:{kind}?severity={','.join(spoilt.levels)}"
        asked.append(Probe(folder, sides.names, (attack,)))
    asked += [Probe(attacked(spec), danger, chain_of(spec)) for spec in dict.fromkeys(config.attacks)]
    return asked


def corrupted(kind: str) -> str:
    """The probe of pictures spoilt in this way."""
    return f"corruption-{kind}"


def attacked(spec: str) -> str:
    """The probe of an attack that has a column of its own."""
    return f"attack-{model_folder(spec)}"


Results = Mapping[str, EvalResult]


def ask(
    config: MirageConfig,
    model: str,
    asked: Sequence[Probe],
    models: Models,
    *,
    quiet: bool = False,
    known: Known | None = None,
) -> Results:
    """Every probe of one model, each in a run folder of its own; what is there already is not asked again.

    They are asked together, so that requests about one picture share it. Models on servers are paid from the purse of
    the judges, unless their spec has a budget of its own.
    """
    settings: dict[str, Any] = {"device": config.device, "dtype": config.dtype, "batch_size": config.batch_size}
    backend: Backend = backend_for(model, {name: value for name, value in settings.items() if value is not None})
    if isinstance(backend, Billed) and backend.account.purse.budget is None:
        models.purse.check(backend.account.model)
        backend.account.purse = models.purse
    configs = [
        EvalConfig(
            model=model, suite=config.suite, out=config.out / model_folder(model) / probe.name, attack=probe.attack,
            defence=chain_of(config.defence), only=probe.only, judges=config.judges, judging=config.judging,
            missing_images=config.missing_images,
            max_pixels=config.max_pixels, limit=config.limit,
            max_new_tokens=config.max_new_tokens, **settings, **probe.decoding,
        )
        for probe in asked
    ]  # fmt: skip
    results = evaluate_together(configs, backend, models, quiet=quiet, known=known)
    return {probe.name: result for probe, result in zip(asked, results, strict=True)}
