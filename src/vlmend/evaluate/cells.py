"""One evaluation, and how models, suites, attacks and defences become many, each with a run folder of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field

from vlmend.config import MaxPixels, Section
from vlmend.errors import UsageError
from vlmend.evaluate.judging import JudgeSettings
from vlmend.rgb import MAX_PIXELS
from vlmend.types import digest

T = TypeVar("T")

NONE = "none"  # as an attack: the requests as they are; as a defence: the model as it is
CHAIN = " + "  # between the attacks, or the defences, of a chain


class Asking(Section):
    """How questions are asked: which pictures may be missing, how many questions, how answers are decoded, on what.

    None leaves a setting as the suite or the backend has it.
    """

    missing_images: Literal["error", "placeholder"] = "error"
    max_pixels: MaxPixels = MAX_PIXELS
    limit: int | None = Field(default=None, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)
    do_sample: bool | None = None
    temperature: float | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    num_return_sequences: int | None = Field(default=None, gt=0)
    seed: int | None = None
    thinking_budget: int | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, gt=0)
    share_prefix: bool | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def given(self) -> dict[str, Any]:
        """What is not as it is by default, as plain data."""
        return self.model_dump(mode="json", exclude_defaults=True)


class EvalConfig(Asking):
    """One evaluation: a model, a suite, what is done to its questions, and where the records go.

    `judges` are `QUESTION=SPEC`, in the place of the suite's
    own, or `SPEC`, beside them. `only` names a
    metric of the suite, or several with commas: nothing is asked but what these are about. `answers` are files of
    answers that `model` gave elsewhere, `FILE` or `SUBSET=FILE`: nothing is asked then, and no picture is needed.
    """

    model: str
    suite: str
    out: Path
    answers: tuple[str, ...] = ()
    attack: tuple[str, ...] = ()
    defence: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    judging: JudgeSettings = JudgeSettings()
    only: str | None = None

    @property
    def attack_name(self) -> str:
        """The chain of attacks in one word; empty when there is none."""
        return CHAIN.join(self.attack)

    @property
    def defence_name(self) -> str:
        """The chain of defences in one word; empty when there is none."""
        return CHAIN.join(self.defence)


def cells(
    config: EvalConfig,
    models: Sequence[str] = (),
    suites: Sequence[str] = (),
    attacks: Sequence[str] = (),
    defences: Sequence[str] = (),
) -> list[EvalConfig]:
    """The same evaluation of each model, on each suite, under each attack, behind each defence.

    What is not named is the configuration's own. An attack is a spec, several joined by ` + ` to a chain, or `none`; so
    is a defence. Where there are several of any, folders below `out` are named after them:
    `MODEL/SUITE+ATTACK+DEFENCE`. Raises UsageError where one is named twice.
    """
    models, suites = models or [config.model], suites or [config.suite]
    chains = [chain_of(attack) for attack in attacks] or [config.attack]
    guarded = [chain_of(defence) for defence in defences] or [config.defence]
    for what, given in (("model", models), ("suite", suites), ("attack", chains), ("defence", guarded)):
        if len(set(given)) < len(given):
            raise UsageError(f"the same {what} is named twice")
    by_model = _names(models, model_folder)
    by_suite = _names(suites, lambda spec: re.split(r"[:#?]", spec)[0])
    by_attack = _names(chains, lambda chain: "+".join(chain) or "plain")
    by_defence = _names(guarded, lambda chain: "+".join(chain) or "undefended")
    return [
        config.model_copy(
            update={
                "model": model, "suite": suite, "attack": chain, "defence": guard,
                "out": config.out.joinpath(*filter(None, (by_model[model], "+".join(filter(None, (by_suite[suite],
                    by_attack[chain], by_defence[guard])))))),
            }
        )
        for model, suite, chain, guard in product(models, suites, chains, guarded)
    ]  # fmt: skip


def titles(configs: Sequence[EvalConfig]) -> list[str]:
    """The suite of each, with its model, its attack and its defence where these differ."""
    models, chains = {c.model for c in configs}, {c.attack for c in configs}
    guarded = {c.defence for c in configs}
    parts = [
        (
            c.model if len(models) > 1 else "", c.suite, (c.attack_name or NONE) if len(chains) > 1 else "",
            (c.defence_name or "undefended") if len(guarded) > 1 else "",
        )
        for c in configs
    ]  # fmt: skip
    return [" · ".join(filter(None, some)) for some in parts]


def chain_of(spec: str) -> tuple[str, ...]:
    """The attacks, or defences, of a chain, in order; none of `none`."""
    return () if spec == NONE else tuple(part.strip() for part in spec.split(CHAIN))


def model_folder(model: str) -> str:
    """A folder name for a model spec that no other spec shares."""
    tail = model.rstrip("/").rpartition("/")[2]
    plain = _safe(tail)[:40]
    return plain if plain == model else f"{plain}-{digest(model)[:6]}"


def _names(given: Sequence[T], name: Callable[[T], str]) -> dict[T, str]:
    """A folder name for each, with a hash where two would share it; empty where there is one alone."""
    if len(given) == 1:
        return {given[0]: ""}
    plain = {each: _safe(name(each)) for each in given}
    names = list(plain.values())
    return {each: n if names.count(n) == 1 else f"{n}-{digest(each)[:6]}" for each, n in plain.items()}


def _safe(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")
