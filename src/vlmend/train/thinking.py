"""What a run makes of reasoning before answers: whose it is, what of it is learned, and what is to be said before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vlmend.config import Recipe
from vlmend.data.mix import Mix
from vlmend.data.own import Own, keeps, own
from vlmend.errors import ConfigError
from vlmend.models.generate import Engine
from vlmend.models.load import Loaded
from vlmend.models.prompts import bare as bare_model
from vlmend.objectives import Objective, OnPolicy, Pairs
from vlmend.reasoning import KNOWN, MARKS
from vlmend.registry import backends
from vlmend.terminal import plural
from vlmend.train.parallel import Team
from vlmend.train.precision import computing
from vlmend.types import Decoding, Example, Role

ASKED = 4  # rows that a model is given to see whether it thinks
BEGINNING = 16  # tokens, enough for any mark
COLLAPSE = (
    "tuned on answers alone, such models stop thinking within a few steps and lose ability with it, before they learn"
    " to refuse (VLGuard on Qwen3-VL-8B-Thinking: the mean of five abilities from 78 to 17, harmless requests refused"
    " from 21 to 95 %; docs/reasoning.md). train.thinking: keep_own, or the source keep_own:(SOURCE)?model=MODEL,"
    " keeps the model's own reasoning"
)


@dataclass(frozen=True)
class Thinking:
    """The mix as it is learned, and what there is to say of it."""

    mix: Mix
    lines: tuple[str, ...] = ()


def arranged(mix: Mix, recipe: Recipe, objective: Objective, team: Team) -> Thinking:
    """The mix with the reasoning that `train.thinking` asks for; asks the model before it is tuned where that is so.

    Raises ConfigError for a method that learns from something else than answers.
    """
    thoughtful = sum(bool(example.reasoning) for example in mix.examples)
    if recipe.train.thinking == "none":
        lines = [f"{plural(thoughtful, 'row')} with reasoning: it is left out (train.thinking: none)"]
        return Thinking(_changed(mix, lambda e: replace(e, reasoning="")), tuple(lines) if thoughtful else ())
    if recipe.train.thinking == "mask" and thoughtful:
        line = f"{plural(thoughtful, 'row')} with reasoning: it is shown and not learned (train.thinking: mask)"
        return Thinking(mix, (line,))
    if recipe.train.thinking != "keep_own":
        return Thinking(mix)
    if isinstance(objective, Pairs | OnPolicy):
        what = "pairs" if isinstance(objective, Pairs) else "the model's own answers as it is tuned"
        raise ConfigError(
            f"train.thinking: keep_own is for methods that learn given answers; {recipe.method.name} learns from {what}"
        )
    found: Own = team.first(lambda: own(mix.examples, _before(recipe), recipe.train.own))
    kept = {example.id: example for example in found(mix.examples)}
    changed = _changed(mix, lambda e: kept.get(e.id))
    report = {**changed.report, "own": dict(found.counts)}
    return Thinking(replace(changed, report=report), tuple(found.lines()))


def _before(recipe: Recipe) -> Any:
    """The model before tuning, as what answers."""
    model = recipe.model
    options = "&".join(f"{key}={value}" for key, value in model.family.items())
    name = model.name + (f"+{model.adapter}" if model.adapter else "") + (f"?{options}" if options else "")
    settings = ("dtype", "device", "attn_implementation", "quantization", "revision", "trust_remote_code")
    return backends.build("hf", {"model": name, **{key: getattr(model, key) for key in settings}})


def _changed(mix: Mix, change: Callable[[Example], Example | None]) -> Mix:
    rows = [(change(e), weight) for e, weight in zip(mix.examples, mix.weights, strict=True)]
    kept = [(example, weight) for example, weight in rows if example is not None]
    return Mix(
        tuple(example for example, _ in kept), tuple(weight for _, weight in kept),
        {**mix.report, "examples": len(kept)},
    )  # fmt: skip


def warned(mix: Mix, loaded: Loaded) -> list[str]:
    """What is to be said where a model that thinks is to learn answers without a thought; nothing where it is not."""
    bare = [e for e in mix.examples if not e.reasoning and e.role is not Role.FORGET and e.answers]
    if not bare:
        return []
    why = "its chat template is of a model that thinks" if loaded.codec.thinks else _thinks(loaded, bare)
    count = f"{len(bare):,} of {plural(len(mix.examples), 'row')} have no reasoning"
    return [f"this model thinks before it answers ({why}), and {count}: {COLLAPSE}"] if why else []


def _thinks(loaded: Loaded, bare: list[Example]) -> str:
    """How many of a few rows to be answered the model begins to answer with reasoning; empty for none."""
    asked = ([e for e in bare if keeps(e)] or bare)[:ASKED]
    model, codec = loaded.model, loaded.codec
    held = [(each, each.generation_config) for each in (model, bare_model(model))]
    model.eval()
    engine = Engine(loaded, batch_size=ASKED, batch_tokens=16_384, share_prefix=False, features_mb=1)
    try:
        with computing(model.device, loaded.precision if loaded.mixed else None):
            answers = list(engine.answers(asked, Decoding(max_new_tokens=BEGINNING)))
    finally:
        model.train()
        for each, config in held:  # which is saved with the model
            each.generation_config = config
    said = [codec.decode(answer.ids, MARKS) for answer in answers if answer.ids is not None]
    thought = sum(any(tags.begin.match(text) for tags in KNOWN) for text in said)
    return f"so it began {thought} of {plural(len(said), 'answer')}" if thought else ""
