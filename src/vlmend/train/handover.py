"""A recipe's prompts and rewards in the hands of trainers for many GPUs: TRL's GRPOTrainer, and verl.

What is written is a folder with rows and a `reward.py` that calls back here. How they optimize is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from vlmend.config import Recipe
from vlmend.data.export import prompts
from vlmend.data.mix import build as build_mix
from vlmend.errors import ConfigError, ModelError, StoreError, UnknownName
from vlmend.models.codec import end_ids
from vlmend.models.places import locate
from vlmend.objectives import OnPolicy
from vlmend.objectives import build as build_objective
from vlmend.objectives.grpo import Grpo
from vlmend.rewards import Composite, Rewarded, build
from vlmend.store import write_atomic
from vlmend.types import Example, Rollout

SETTINGS = "grpo.json"
LOSSES = {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}  # what TRL calls them
SCRIPT = '''"""Rewards of a vlmend recipe, as TRL's GRPOTrainer (`reward`) and verl (`compute_score`) ask for them.

vlmend has to be installed where this runs. Judges, models and folders in rewards are found from where it is run.
"""

from pathlib import Path

from vlmend.train.handover import Handed

HANDED = Handed(
    folder=Path(__file__).resolve().parent,
    rewards={rewards!r},
    unfinished={unfinished!r},  # taken off the reward of an answer that was cut off
    limit={limit!r},  # tokens of an answer at most
    ends={ends!r},  # tokens that end an answer
    model={model!r},
)
UNSCORED = None  # what verl is given for an answer that nobody can value, where a number is wanted; TRL leaves it out


def reward(completions, completion_ids, example, log_metric=None, **columns):
    return HANDED.for_trl(completions, completion_ids, example, log_metric)


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **settings):
    return HANDED.for_verl(solution_str, ground_truth, UNSCORED)
'''
TRAIN = '''"""GRPO by TRL on these prompts and rewards: `accelerate launch train.py`."""

import json
from pathlib import Path

from datasets import load_dataset
from reward import reward
from trl import GRPOConfig, GRPOTrainer

HERE = Path(__file__).resolve().parent

trainer = GRPOTrainer(
    model={model!r},
    reward_funcs=reward,
    args=GRPOConfig(output_dir="out", **json.loads((HERE / "grpo.json").read_text())),
    train_dataset=load_dataset("parquet", data_files=str(HERE / "train.parquet"), split="train"),
)
trainer.train()
trainer.save_model()
'''


@dataclass(frozen=True)
class Handed:
    """Rewards of a recipe outside of it.

    `folder` is where the rows' pictures lie, `ends` are the tokens that end an answer, and their texts.
    """

    folder: Path
    rewards: Sequence[Mapping[str, Any] | str]
    unfinished: float
    limit: int
    ends: Mapping[int, str]
    model: str

    @cached_property
    def _composite(self) -> Composite:
        return build(self.rewards)

    @cached_property
    def _tokenizer(self) -> Any:
        return _processor(self.model, None, trusted=False)[0]

    def for_trl(
        self,
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        known: Sequence[str],
        log: Callable[[str, float], None] | None = None,
    ) -> list[float | None]:
        """One for each completion; None is left out by TRL. `log` is told the mean of each of several rewards."""
        rollouts = [
            Rollout(self._example(row), _said(completion), len(ids), bool(ids) and ids[-1] in self.ends)
            for completion, ids, row in zip(completions, completion_ids, known, strict=True)
        ]
        found = self._composite(rollouts)
        for name in {name: None for one in found for name in one.terms} if log and len(self.rewards) > 1 else ():
            told = [value for one in found if (value := one.terms[name]) is not None]
            if told and log:
                log(f"reward/{name}", fmean(told))
        return [self._total(one, rollout) for one, rollout in zip(found, rollouts, strict=True)]

    def for_verl(self, text: str, known: str, unscored: float | None) -> float:
        """Of one answer. verl tells its text alone: without an end token in it, its tokens are counted anew."""
        text = text.rstrip()
        end = next((end for end in self.ends.values() if text.endswith(end)), "")
        text = text.removesuffix(end).strip()
        tokens = len(self._tokenizer.encode(text, add_special_tokens=False))
        rollout = Rollout(self._example(known), text, tokens + 1, bool(end) or tokens < self.limit)
        value = self._total(self._composite([rollout])[0], rollout)
        if value is None and unscored is None:
            raise StoreError(
                f"nobody can value an answer to example {rollout.example.id!r}, and verl takes numbers alone; UNSCORED"
                " in reward.py may be one"
            )
        return cast(float, unscored if value is None else value)

    def _total(self, found: Rewarded, rollout: Rollout) -> float | None:
        if found.total is None:
            return None
        return found.total - (0.0 if rollout.finished else self.unfinished)

    def _example(self, known: str) -> Example:
        return prompts.read(known, self.folder)


def _said(completion: Any) -> str:
    """The text of a completion: as it is, or that of its last turn."""
    content = completion if isinstance(completion, str) else completion[-1]["content"]
    if not isinstance(content, str):
        content = "".join(part.get("text") or "" for part in content)
    return content.strip()


@dataclass(frozen=True)
class Written:
    """What was written. `notes`: what of the recipe the program does not do, or does otherwise."""

    folder: Path
    prompts: int
    notes: tuple[str, ...]


def write(recipe: Recipe, program: str, folder: Path) -> Written:
    """Write rows and `reward.py`, and for TRL's GRPOTrainer `grpo.json` and `train.py`.

    Raises ConfigError for a recipe that learns from no rollouts, or by what the program does not know.
    """
    if program not in prompts.PROGRAMS:
        raise UnknownName("program", program, prompts.PROGRAMS)
    objective = build_objective(recipe.method)
    if not isinstance(objective, OnPolicy):
        raise ConfigError(f"method {recipe.method.name} samples no answers, and nothing rewards them: data export")
    if objective.costs:
        raise ConfigError("method.costs: neither TRL nor verl holds a cost to a limit; give it a place in rewards")
    rewards: list[Any] = json.loads(json.dumps(recipe.method.settings["rewards"]))
    build(rewards)
    mix = build_mix(recipe.data).of_roles(objective.needs.roles)
    if len(set(mix.weights)) > 1:
        raise ConfigError(
            "data.mix: a weight of examples is nothing that TRL or verl knows of; use n or repeat instead"
        )
    tokenizer, generation = _processor(recipe.model.name, recipe.model.revision, trusted=recipe.model.trust_remote_code)
    ends = {i: str(tokenizer.convert_ids_to_tokens(i)) for i in sorted(end_ids(tokenizer, generation))}
    folder.mkdir(parents=True, exist_ok=True)
    prompts.write(mix.examples, program, folder)
    script = SCRIPT.format(
        rewards=rewards, unfinished=objective.unfinished, limit=objective.max_new_tokens, ends=ends,
        model=recipe.model.name,
    )  # fmt: skip
    write_atomic(folder / "reward.py", script.encode())
    if program == "trl" and isinstance(objective, Grpo):
        text = json.dumps(grpo_settings(recipe, objective), indent=2)
        write_atomic(folder / SETTINGS, f"{text}\n".encode())
        write_atomic(folder / "train.py", TRAIN.format(model=recipe.model.name).encode())
    return Written(folder, len(mix.examples), tuple(_notes(recipe, objective, program, mix.examples)))


def grpo_settings(recipe: Recipe, objective: Grpo) -> dict[str, Any]:
    """What TRL's GRPOConfig calls the recipe's settings. Its batch sizes count answers, ours count prompts."""
    train = recipe.train
    same = (
        "learning_rate", "num_train_epochs", "max_steps", "gradient_accumulation_steps", "lr_scheduler_type",
        "weight_decay", "max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "gradient_checkpointing",
        "logging_steps", "seed",
    )  # fmt: skip
    return {
        **{name: getattr(train, name) for name in same},
        "warmup_steps": train.warmup_ratio,  # below 1 it is a share
        "per_device_train_batch_size": train.per_device_train_batch_size * objective.samples,
        "num_generations": objective.samples,
        "max_completion_length": objective.max_new_tokens,
        "temperature": objective.temperature,
        "top_p": objective.top_p,
        "num_iterations": objective.epochs,
        "beta": objective.kl,
        "epsilon": objective.clip,
        "epsilon_high": objective.high,
        "loss_type": LOSSES[objective.loss_mean],
        "scale_rewards": "group" if objective.std else "none",
    }


def _notes(recipe: Recipe, objective: OnPolicy, program: str, examples: Sequence[Example]) -> list[str]:
    """What is not handed over, or not taken."""
    found: list[str] = []
    bare = sum(not example.images for example in examples)
    if program == "trl" and 0 < bare < len(examples):
        found.append(
            f"{bare:,} of {len(examples):,} prompts show no picture: TRL 1.16's GRPOTrainer fails on a batch that has"
            " prompts with pictures and prompts without; write them apart"
        )
    if recipe.model.adapter:
        found.append(
            f"the recipe goes on from adapter {recipe.model.adapter}: merge it into the model first (vlmend merge)"
        )
    if program != "trl" or not isinstance(objective, Grpo):
        found.append("how it is optimized is said there: only GRPO's settings for TRL are written (grpo.json)")
        return found
    if objective.kl and (objective.kl_in, objective.kl_kind) != ("loss", "k3"):
        found.append(f"kl_in {objective.kl_in} and kl_kind {objective.kl_kind}: TRL's KL is k3 in the loss")
    if objective.minibatches > 1:
        found.append("minibatches: steps_per_generation is what TRL has")
    if recipe.train.projector_learning_rate is not None:
        found.append("projector_learning_rate: TRL has one rate for all")
    if objective.entropy:
        found.append("entropy: TRL's GRPOTrainer has no such term")
    return found


def _processor(name: str, revision: str | None, *, trusted: bool) -> tuple[Any, Any]:
    """Tokenizer and generation config of a model, whose weights are not read."""
    from transformers import AutoProcessor, GenerationConfig

    folder = locate(name)
    at: dict[str, Any] = {"revision": revision}
    try:
        processor: Any = AutoProcessor.from_pretrained(folder, trust_remote_code=trusted, **at)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"the processor of {name} does not load: {' '.join(str(error).split())}") from error
    try:
        generation: Any = GenerationConfig.from_pretrained(folder, **at)
    except OSError:  # not every model has one
        generation = None
    return getattr(processor, "tokenizer", processor), generation
