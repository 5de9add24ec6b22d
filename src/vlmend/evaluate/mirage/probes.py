"""What a mirage card asks a model: the plain suite, then the same requests with one word changed, and controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from vlmend.config import MaxPixels, Section
from vlmend.errors import UsageError
from vlmend.evaluate.mirage.reading import Thresholds
from vlmend.evaluate.run import EvalConfig, evaluate
from vlmend.evaluate.score import EvalResult
from vlmend.registry import backend_for, suites
from vlmend.rgb import MAX_PIXELS
from vlmend.types import Backend, Metric, Suite, digest

ASR, OVER = "asr", "over_refusal"


class MirageConfig(Section):
    """Which models are probed with what. Words that are not given are found by an audit of `train`, or of the suite.

    `shots` is the K of any-of-K: so many words that open, and so many control paraphrases. `samples` answers are drawn
    at temperature 1 beside the greedy one; 0 draws none. None leaves a setting as the suite or the backend has it.
    """

    models: tuple[str, ...] = Field(min_length=1)
    suite: str
    out: Path
    base: str | None = None
    train: str | None = None
    opening: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()
    shots: int = Field(default=3, ge=1, le=3)
    samples: int = Field(default=4, ge=0)
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
    """First words that go with being answered, and with being refused; `found_in` says where, if they were found."""

    opening: tuple[str, ...]
    closing: tuple[str, ...]
    found_in: str = ""


@dataclass(frozen=True)
class Probe:
    """One condition: what is asked (all, or what one metric is about), under which attack, how it is decoded."""

    name: str
    only: str | None = None
    attack: tuple[str, ...] = ()
    decoding: Mapping[str, Any] | None = None


def probes(words: Words, shots: int, samples: int) -> list[Probe]:
    """The conditions of a card. Controls change as much of a request and leave its first word."""
    control = (f"paraphrase?n={shots}",)
    asked = [
        Probe("plain"),
        Probe("opened", ASR, (f"one_word:{','.join(words.opening)}",)),
        Probe("opened-control", ASR, control),
        Probe("closed", OVER, (f"one_word:{','.join(words.closing)}",)),
        Probe("closed-control", OVER, control),
    ]
    if samples:
        asked.append(Probe("sampled", ASR, (), {"do_sample": True, "num_return_sequences": samples}))
    return asked


def measures(suite: Suite) -> tuple[Metric, Metric]:
    """The suite's attack success and over-refusal. Raises UsageError where it has none."""
    found = {m.name: m for m in suite.metrics if isinstance(m, Metric)}
    if ASR not in found or OVER not in found:
        raise UsageError(
            f"suite {suite.name} has no {ASR} and {OVER} to make a card of; source:SPEC makes a suite of any source"
        )
    return found[ASR], found[OVER]


Results = Mapping[str, EvalResult]


def ask(
    config: MirageConfig, model: str, asked: Sequence[Probe], *, quiet: bool = False, told: set[Path] | None = None
) -> Results:
    """Every probe of one model, each in a run folder of its own; what is there already is not asked again.

    `told`: pictures whose stand-ins the user knows of.
    """
    told = set() if told is None else told
    settings: dict[str, Any] = {"device": config.device, "dtype": config.dtype, "batch_size": config.batch_size}
    backend: Backend = backend_for(model, {name: value for name, value in settings.items() if value is not None})
    return {
        probe.name: evaluate(
            EvalConfig(
                model=model, suite=config.suite, out=config.out / folder(model) / probe.name, attack=probe.attack,
                only=probe.only, missing_images=config.missing_images,
                max_pixels=config.max_pixels, limit=config.limit,
                max_new_tokens=config.max_new_tokens, **settings, **(probe.decoding or {}),
            ),
            backend, quiet=quiet, told=told,
        )
        for probe in asked
    }  # fmt: skip


def folder(model: str) -> str:
    """A folder name for a model spec that no other spec shares."""
    tail = model.rstrip("/").rpartition("/")[2]
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in tail)[:40]
    return plain if plain == model else f"{plain}-{digest(model)[:6]}"


def suite_for(config: MirageConfig) -> Suite:
    """The suite, fit for a card."""
    suite: Suite = suites.from_spec(config.suite)
    measures(suite)
    return suite
