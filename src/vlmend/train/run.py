"""A whole tuning run: from a recipe to a folder with the tuned weights, a model card and a manifest."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Linear, Parameter

from vlmend import manifest
from vlmend.config import Recipe, TrainConfig
from vlmend.data.batches import Plan, Stream, picture_groups, streams_of
from vlmend.data.mix import Mix, build
from vlmend.errors import DataError, ModelError, StoreError, brief
from vlmend.interrupt import Interrupt
from vlmend.models import load as models
from vlmend.models import valuer
from vlmend.models.parts import Trainable
from vlmend.models.places import weights_hash
from vlmend.objectives import Draws, Objective, OnPolicy, innermost
from vlmend.objectives import build as build_objective
from vlmend.ops.scored import Needs
from vlmend.rewards import Composite, refuse_same
from vlmend.rewards import build as build_rewards
from vlmend.store import Journal, read_rows, remove_stale, room_for, write_atomic
from vlmend.terminal import plural, say
from vlmend.train import checkpoint
from vlmend.train.before import reference
from vlmend.train.card import model_card
from vlmend.train.checkpoint import Progress
from vlmend.train.display import Display, show_mask, show_trainable
from vlmend.train.identity import FREE, comparable, finished, identity, refuse_other
from vlmend.train.keeping import Showing
from vlmend.train.layers import find_layer
from vlmend.train.loop import Hooks, Tuning, optimize
from vlmend.train.mask_report import MaskReport, mask_report
from vlmend.train.moved import Moved, compare, snapshot
from vlmend.train.online import Learner
from vlmend.train.parallel import Team, seed_everything
from vlmend.train.pictures import Found, Opening, complaint
from vlmend.train.precision import SCALE
from vlmend.train.rollouts import Sampler
from vlmend.train.schedule import adamw
from vlmend.train.served import ServedSampler
from vlmend.train.speed import Ways, choose
from vlmend.train.thinking import arranged, warned
from vlmend.train.watch import warnings as watched
from vlmend.types import Example

REPORTED = 32  # examples the mask report looks at
SESSIONS = "sessions.jsonl"  # what each session of a run was made of


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    `moved` is the norm of the change of the trained weights, `moved_share` the share of them that differ from before,
    `kept_share` of those that still do when rounded to the 16 bits that they are computed or saved in, if they are.
    `warnings` are those shown after the run. `stopped_early` says why the method wanted no further step, if so.
    """

    output: str
    steps: int
    loss: float | None
    seconds: float
    trainable: dict[str, dict[str, int]]
    moved: float
    mask_report: dict[str, Any]
    resumed_from: int
    finished_before: bool
    moved_share: float | None = None
    kept_share: float | None = None
    stopped_early: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start, nothing written yet."""

    recipe: Recipe
    team: Team
    objective: Objective
    mix: Mix
    pictures: Found
    loaded: models.Loaded
    plan: Plan
    ways: Ways
    mask: MaskReport
    identity: dict[str, Any]
    valuer: Linear | None = None
    rewards: Composite | None = None
    costs: Composite | None = None
    thinking: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the run's files go."""
        return self.recipe.output.dir

    @property
    def total(self) -> int:
        """Optimizer steps from beginning to end."""
        return self.plan.total_steps(self.recipe.train.num_train_epochs, self.recipe.train.max_steps)


def tune(recipe: Recipe, *, console: Console | None = None, dry_run: bool = False) -> Outcome:
    """Tune as the recipe says, going on from the newest checkpoint of the same run if there is one.

    With `dry_run` everything is loaded, checked and shown, and nothing is trained or written.
    """
    console = console or Console(stderr=True)
    config, folder = recipe.train, recipe.output.dir
    team = Team.gather(device=recipe.model.device, config=config, folder=folder)
    team.first(lambda: refuse_other(folder, {"recipe": comparable(recipe)}))
    prepared = _prepare(recipe, team)
    team.first(lambda: refuse_other(folder, prepared.identity))
    done = team.first(lambda: _finished(folder))
    if done and not dry_run:
        if team.is_main:
            console.print(f"{folder} holds this run, finished; nothing to do", markup=False, soft_wrap=True)
        return _outcome(recipe, done, finished_before=True)
    if team.is_main:
        _show(console, prepared)
    if dry_run:
        return _planned(prepared)
    return _outcome(recipe, _carry_out(prepared, console), finished_before=False)


def _finished(folder: Path) -> dict[str, Any]:
    """The manifest of a finished run, or nothing. Raises StoreError for weights that are not those it names."""
    done = finished(folder)
    if done:
        weights_hash(str(folder), None)
    return done


# Before


def _prepare(recipe: Recipe, team: Team) -> Prepared:
    objective = build_objective(recipe.method)
    needs, config = objective.needs, recipe.train
    refuse_same(recipe.method, recipe.judging.judges)
    rewards, costs = _rewards(objective)
    thinking = arranged(_mix(recipe, needs), recipe, objective, team)
    whole = thinking.mix
    mix = whole.of_roles(needs.roles)
    mix = mix if needs.rollouts else mix.taught()
    _streams(mix, needs)  # what is wrong is told before loading
    with Opening(mix.examples, first=team.is_main) as opening:
        seed_everything(config.seed, "weights")
        model = recipe.model.model_copy(update={"device": str(team.device)})
        loaded = models.load(model, for_training=True)
        loaded.codec.learns_reasoning = config.thinking != "mask"
        pictures = opening.found(loaded.codec.refuses)
    if pictures.bad and recipe.data.bad_images == "error":
        raise complaint(pictures, len(mix.examples))
    mix = whole.without(pictures.bad).of_roles(needs.roles)
    streams = _streams(mix, needs)
    if needs.look and needs.look.layer is not None:
        find_layer(loaded.model, needs.look.layer)
    head = valuer.new(loaded.model) if needs.look and needs.look.valued else None
    loaded = loaded if head is None else dataclasses.replace(loaded, trainable=_with_head(loaded.trainable, head))
    plan = Plan(
        streams,
        config.per_device_train_batch_size,
        config.gradient_accumulation_steps,
        processes=team.size,
        seed=config.seed,
        groups=picture_groups(mix.examples) if config.group_by_picture else (),
    )
    showing = _showing(mix, plan, config, needs)
    autocast = torch.bfloat16 if config.bf16 else loaded.precision if loaded.mixed else None
    ways = choose(recipe.speed, loaded.model, loaded.codec, needs, showing, autocast)
    mask = _mask(loaded, mix, plan, config, answered=not needs.rollouts)
    return Prepared(
        recipe, team, objective, mix, pictures, loaded, plan, ways, mask,
        identity(recipe, mix, loaded.fingerprint, plan), head, rewards, costs,
        () if needs.rollouts else (*thinking.lines, *warned(mix, loaded)),
    )  # fmt: skip


def _rewards(objective: Objective) -> tuple[Composite | None, Composite | None]:
    """What values the model's own answers, and what they cost, where the method learns from them."""
    if not isinstance(objective, OnPolicy):
        return None, None
    return build_rewards(objective.rewards), build_rewards(objective.costs) if objective.costs else None


def _mix(recipe: Recipe, needs: Needs) -> Mix:
    """The examples of the recipe, in the shape that the method takes."""
    mix = build(recipe.data)
    if needs.feedback:
        mix = mix.with_feedback()
    if needs.picture_negatives:
        mix = mix.with_picture_negatives(recipe.data.seed)
    for example in mix.examples:
        _check_number(example, needs)
    return mix


def _check_number(example: Example, needs: Needs) -> None:
    """Raise DataError for an example without the number that the method reads of its row."""
    key = needs.numbers.get(example.role)
    if key is None:
        return
    said = example.meta.get(key)
    try:
        sound = said is not None and math.isfinite(float(said))
    except ValueError:
        sound = False
    if not sound:
        found = "it has no such key" if said is None else f"it has {brief(said)}"
        raise DataError(f"example {example.id!r}: this method reads a number from meta {key!r}; {found}")


def _with_head(trainable: Trainable, head: Linear) -> Trainable:
    """What trains, the head of one number beside it."""
    size = {"head": sum(p.numel() for p in head.parameters())}
    return Trainable({**trainable.total, **size}, {**trainable.trained, **size})


def _streams(mix: Mix, needs: Needs) -> tuple[Stream, ...]:
    """What rows are made of. Raises ConfigError where the mix lacks something that the method needs."""
    streams_of(mix.examples, needs.present)
    return streams_of(mix.examples, needs.streams, needs.links, strict=needs.strict)


def _showing(mix: Mix, plan: Plan, config: TrainConfig, needs: Needs) -> Showing:
    """Pictures, and how often each is shown; a reference looks at them as well."""
    epochs = plan.total_steps(config.num_train_epochs, config.max_steps) / plan.steps_per_epoch
    each = plan.rows_per_epoch * plan.examples_per_row / len(mix.examples)  # of shorter streams several times
    times = max(1.0, epochs) * each * (2 if needs.reference else 1)
    return Showing(tuple(example for example in mix.examples if example.images), times)


def _mask(loaded: models.Loaded, mix: Mix, plan: Plan, config: TrainConfig, *, answered: bool) -> MaskReport:
    """Of the first examples in the order of training, batched as they will be; every example is rendered before.

    Of prompts alone where the model gives the answers.
    """
    codec = loaded.codec
    wording = codec.check(mix.examples, answered=answered)
    first = [i for row in plan.step(0) for i in row][:REPORTED]
    size = config.per_device_train_batch_size
    parts = ([mix.examples[i] for i in first[at : at + size]] for at in range(0, len(first), size))
    batches = (
        codec.encode_training(part, config.max_length) if answered else codec.encode_prompts(part) for part in parts
    )
    return mask_report(batches, codec.tokenizer.decode, wording, answered=answered)


def _show(console: Console, prepared: Prepared) -> None:
    if prepared.mix.warning:
        console.print(prepared.mix.warning, style="bold red", markup=False)
    show_trainable(console, prepared.loaded.trainable)
    show_mask(console, prepared.mask)
    examples, each = len(prepared.mix.examples), prepared.plan.rows_per_step
    rows = "examples" if prepared.plan.examples_per_row == 1 else "rows"
    console.print(
        f"{plural(examples, 'example')}, {plural(prepared.total, 'step')} of {each:,} {rows}", highlight=False
    )
    if rows == "rows":
        console.print(f"a row: {_row(prepared)}", highlight=False)
    for line in prepared.ways.lines():
        say(console, line)
    for line in prepared.thinking:
        say(console, line, "bold yellow")
    for line in prepared.pictures.lines():
        say(console, line)
    if skipped := prepared.mix.report.get("skipped"):
        first, why = next(iter(prepared.pictures.bad.items()))
        rows = f"{plural(skipped['count'], 'row')} skipped for pictures that cannot be shown"
        say(console, f"{rows}; the first: example {first!r}: {why}", "bold yellow")
    for role, count in prepared.mix.report["left_out"].items():
        console.print(
            f"{plural(count, f'{role} example')} left out: {prepared.recipe.method.name} does not use that role"
        )


def _row(prepared: Prepared) -> str:
    """What a row holds, as 'forget + decouple (7,200), retain (7,200)'."""
    examples = prepared.mix.examples
    return ", ".join(
        f"{' + '.join(dict.fromkeys(str(examples[i].role) for i in max(stream, key=len)))} ({len(stream):,})"
        for stream in prepared.plan.streams
    )


# During


def _carry_out(prepared: Prepared, console: Console) -> dict[str, Any]:
    team, folder = prepared.team, prepared.folder
    run = _tuning(prepared)
    team.first(lambda: _open_folder(prepared, run))
    run.reference = reference(run, prepared.recipe, prepared.loaded.fingerprint, console)
    before = _before(run)
    resumed_from = _resume(run, folder)
    team.first(lambda: _note_session(prepared, resumed_from))
    team.share(run.trained.values())
    try:
        _optimize(prepared, run, console, resumed_from)
    except ModelError as error:
        raise ModelError(f"{error}{_last_good(folder, run.progress.step)}") from error
    found = team.first(lambda: _check_moved(prepared, before, run))
    return team.first(lambda: _finish(prepared, run, console, _about(prepared, run, found, resumed_from), found))


def _before(run: Tuning) -> Mapping[str, Tensor]:
    """The trained weights as they are before the first step, for the first process alone to compare with."""
    if not run.team.is_main:
        return {}
    return getattr(run.reference, "originals", None) or snapshot(run.trained)


def _open_folder(prepared: Prepared, run: Tuning) -> None:
    """Make sure that there is room, and leave the recipe there."""
    folder = prepared.folder
    folder.mkdir(parents=True, exist_ok=True)
    _room(prepared, run)
    remove_stale(folder)
    recipe = yaml.safe_dump(prepared.recipe.resolved(), sort_keys=False, allow_unicode=True)
    write_atomic(folder / "recipe.yaml", recipe.encode())


def _note_session(prepared: Prepared, resumed_from: int) -> None:
    """Keep what this session is made of: a run that is stopped and goes on may do so elsewhere, or in another way."""
    sections = prepared.recipe.resolved()
    free = {
        section: {key: value for key, value in sections[section].items() if key in keys}
        for section, keys in FREE.items()
    }
    about = {
        "resumed_from": resumed_from,
        "processes": prepared.team.size,
        "settings": {**free, "speed": sections["speed"]},
        "environment": manifest.environment(str(prepared.team.device)),
    }
    with Journal(prepared.folder / SESSIONS) as journal:
        journal.append(json.loads(json.dumps(about, default=str)))


def _room(prepared: Prepared, run: Tuning) -> None:
    """Raise StoreError before the first step where the weights to be written, or checkpoints of them, have no room."""
    size = sum(p.nbytes for p in run.trained.values())
    final = size if prepared.loaded.has_adapter else sum(p.nbytes for p in run.model.parameters())
    # weights and AdamW's two moments each; while a new checkpoint is written the last good one stays
    kept = 3 * size * (prepared.recipe.train.save_total_limit + 1) if prepared.recipe.train.save_steps else 0
    there = sum(file.stat().st_size for kept in checkpoint.checkpoints(prepared.folder) for file in kept.iterdir())
    free = room_for(prepared.folder, "output.dir") + there
    if free < final + kept:
        raise StoreError(
            f"output.dir {prepared.folder} has {free / 1e6:,.0f} MB of room, and this run writes"
            f" {(final + kept) / 1e6:,.0f} MB ({kept / 1e6:,.0f} MB of it checkpoints)"
        )


def _tuning(prepared: Prepared) -> Tuning:
    model, config = prepared.loaded.model, prepared.recipe.train
    if config.gradient_checkpointing:
        # the newer of transformers' two names for it, where there is one
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
        model.enable_input_require_grads()  # frozen embeddings would cut checkpointed blocks off from the gradient
    trained: dict[str, Parameter] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    trained |= {f"head.{name}": p for name, p in prepared.valuer.named_parameters()} if prepared.valuer else {}
    heads = prepared.objective.needs.heads
    head = valuer.new(model, heads) if heads else None
    trained |= {f"value_head.{name}": p for name, p in head.named_parameters()} if head else {}
    return Tuning(
        model=model,
        codec=prepared.loaded.codec,
        objective=prepared.objective,
        examples=prepared.mix.examples,
        weights=prepared.mix.weights,
        plan=prepared.plan,
        config=config,
        team=prepared.team,
        trained=trained,
        optimizer=adamw(trained, config),
        total=prepared.total,
        ways=prepared.ways,
        progress=Progress(scale=SCALE if _computed_in(prepared) is torch.float16 else 1.0),
        valuer=prepared.valuer,
        head=head,
    )


def _computed_in(prepared: Prepared) -> torch.dtype:
    """The precision of passes."""
    return prepared.ways.autocast or prepared.loaded.precision


def _resume(run: Tuning, folder: Path) -> int:
    """Go to the newest checkpoint that the first process sees. Returns its step, 0 when there is none."""
    newest = run.team.first(lambda: (checkpoint.checkpoints(folder) or [None])[-1])
    if newest is not None:
        run.progress = checkpoint.restore(newest, run.trained, run.optimizer)
    return run.progress.step


def _optimize(prepared: Prepared, run: Tuning, console: Console, resumed_from: int) -> None:
    """The loop, with everything that is written and shown around it."""
    team, folder = run.team, prepared.folder
    opened = _open_log(folder, run.progress.step) if team.is_main else nullcontext()
    with (
        opened as journal,
        Display(console, run.total, run.progress.step, quiet=not team.is_main) as display,
        Interrupt() as interrupt,
    ):
        learner = _learner(prepared, run)
        if resumed_from:
            display.say(f"going on from step {resumed_from}")
        if run.config.report_to != "none":
            team.accelerator.init_trackers("vlmend")  # no settings: trackers get scalars only

        def log(entry: dict[str, Any]) -> None:
            if journal is not None:
                journal.append({**entry, **({"said": learner.said} if learner else {})})
            team.accelerator.log(scalars(entry), step=entry["step"])
            display.log(entry)

        def save() -> None:
            team.first(lambda: _keep(prepared, run))

        def stepped(step: int, loss: float) -> None:
            display.step(step, loss)
            _let_go(prepared)

        done = optimize(run, Hooks(stepped, log, save, lambda: interrupt.signal != 0), learner and learner.steps())
        if learner:
            learner.sampler.leave()
        for tracker in team.accelerator.trackers:
            tracker.finish()
        if not done:
            display.say(f"stopped after step {run.progress.step}, which is kept; the same command goes on from there")
            interrupt.leave()


def _learner(prepared: Prepared, run: Tuning) -> Learner | None:
    """What a method that learns from rollouts does in place of the usual steps."""
    objective = prepared.objective
    if not isinstance(objective, OnPolicy) or prepared.rewards is None:
        return None
    sampler = (
        ServedSampler(prepared.loaded, objective, run.config.seed, prepared.team, prepared.folder / ".served")
        if objective.server
        else Sampler(prepared.loaded, objective, run.ways, run.config.seed)
    )
    return Learner(run, objective, sampler, prepared.rewards, prepared.costs, run.head)


def _keep(prepared: Prepared, run: Tuning) -> None:
    """Write a checkpoint."""
    checkpoint.save_checkpoint(prepared.folder, run.progress, run.trained, run.optimizer, prepared.identity)


def _let_go(prepared: Prepared) -> None:
    """Remove checkpoints beyond the limit, once a step went well from the newest: not when that is written, since
    weights that an update has wrecked are no reason to let go of the good ones before."""
    if prepared.team.is_main:
        checkpoint.prune(prepared.folder, prepared.recipe.train.save_total_limit)


def _last_good(folder: Path, step: int) -> str:
    """Which checkpoint is the last that a step went well from, in words, when the one of `step` is not."""
    kept = checkpoint.checkpoints(folder)
    if not kept or checkpoint.step_of(kept[-1]) != step:
        return ""
    good = f"{kept[-2].name} is the last that a step went well from" if len(kept) > 1 else "there is none before it"
    return f"; {kept[-1].name} led there, {good}"


def _open_log(folder: Path, step: int) -> Journal:
    """The log, locked against a second process on this folder, holding what was logged up to `step`."""
    journal = Journal(folder / "log.jsonl")
    checkpoint.rewind(journal.path, step)
    return journal


def scalars(entry: dict[str, Any]) -> dict[str, float]:
    """A log entry as flat numbers."""
    nested = {f"{key}/{name}": value for key in ("parts", "rollouts") for name, value in entry.get(key, {}).items()}
    return {**{name: value for name, value in entry.items() if name not in ("parts", "rollouts", "step")}, **nested}


# After


def _check_moved(prepared: Prepared, before: Mapping[str, Tensor], run: Tuning) -> Moved:
    """What became of the trained weights, also in 16 bits where weights tuned in full will meet these."""
    output, meant = prepared.recipe.output.dtype, prepared.loaded.precision
    coarse = models.DTYPES[output] if output != "auto" else meant if prepared.loaded.mixed else torch.float32
    coarse = None if coarse == torch.float32 else coarse
    found = compare(before, run.trained, run.optimizer, coarse, adapters=output != "auto")
    if not math.isfinite(found.norm):
        raise ModelError("the tuned weights are not finite")
    if found.norm == 0:
        raise ModelError(
            f"{plural(run.total, 'step')} changed no weight; is learning_rate {run.config.learning_rate} too small?"
        )
    return found


def _finish(prepared: Prepared, run: Tuning, console: Console, about: dict[str, Any], found: Moved) -> dict[str, Any]:
    """Say and write what came of the run. Returns its manifest."""
    _tell(console, about, found)
    _write(prepared, about, run.head)
    manifest.write_manifest(prepared.folder, about)
    checkpoint.prune(prepared.folder, run.config.save_total_limit if run.config.save_steps else 0)
    return about


def _tell(console: Console, about: dict[str, Any], found: Moved) -> None:
    """What a person should know once the steps are done."""
    if about["stopped_early"]:
        say(console, f"stopped after step {about['steps']}: {about['stopped_early']}")
    say(console, found.says())
    for warning in about["warnings"]:
        console.print(f"warning: {warning}", style="bold red", markup=False, soft_wrap=True)


def _about(prepared: Prepared, run: Tuning, found: Moved, resumed_from: int) -> dict[str, Any]:
    recipe = prepared.recipe
    log = read_rows(prepared.folder / "log.jsonl") if prepared.rewards else []
    told = [found.warning(recipe.output.dtype), *watched(log, prepared.rewards.taken_off if prepared.rewards else ())]
    return {
        "kind": "tune",
        "identity": prepared.identity,
        "recipe": recipe.resolved(),
        "notes": list(prepared.loaded.notes),
        "environment": manifest.environment(str(prepared.team.device)),
        "sessions": read_rows(prepared.folder / SESSIONS),
        "processes": prepared.team.size,
        "seeds": {"train": recipe.train.seed, "data": recipe.data.seed},
        "rows_per_step": prepared.plan.rows_per_step,
        "examples_per_step": round(prepared.plan.rows_per_step * prepared.plan.examples_per_row, 2),
        "trainable": prepared.loaded.trainable.as_dict(),
        "mask_report": prepared.mask.to_json(),
        "data": prepared.mix.report,
        "warning": prepared.mix.warning,
        "pictures": prepared.pictures.to_json(),
        "trained": sorted(run.trained),
        "reward_judges": [name for made in (prepared.rewards, prepared.costs) if made for name in made.judges],
        "stopped_early": run.progress.enough,
        "steps": run.progress.step,
        "tokens": run.progress.tokens,
        "loss": run.progress.loss,
        "lr_at_end": run.optimizer.param_groups[0]["lr"],
        "seconds": round(run.progress.seconds, 3),
        "moved": found.norm,
        "moved_share": found.share,
        "idle_share": found.idle,
        "kept_share": found.kept,
        "precision": {
            "passes": _name(_computed_in(prepared)),
            "trained_weights": "float32",
            "saved": "float32" if recipe.output.dtype == "auto" else recipe.output.dtype,
            "loss_scale": run.progress.scale,
            "answers": _answers_in(prepared),
        },
        "warnings": [warning for warning in told if warning],
        "resumed_from": resumed_from,
    }


def _answers_in(prepared: Prepared) -> str:
    """The precision that `eval` reads what was tuned in on such a device, where it is not told another."""
    recipe = prepared.recipe
    if recipe.model.tune == "lora":
        return _name(prepared.loaded.precision)
    on_cpu = prepared.loaded.model.device.type == "cpu"
    return "float32" if on_cpu or recipe.output.dtype == "auto" else recipe.output.dtype


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _write(prepared: Prepared, about: dict[str, Any], head: torch.nn.Module | None) -> None:
    """Weights, processor and card, each file put in place whole; adds the weights' hashes to `about`."""
    part = prepared.folder / ".weights.part"
    shutil.rmtree(part, ignore_errors=True)
    with checkpoint.written_whole(part):
        models.save(prepared.loaded, part, prepared.recipe.output.dtype)
        write_atomic(part / "README.md", model_card(prepared.recipe, about).encode())
        _save_drawn(prepared, part)
        if prepared.valuer:
            valuer.save(prepared.valuer, _about_head(prepared), part)
        if head is not None:
            save_file({name: p.detach().cpu() for name, p in head.named_parameters()}, part / "value_head.safetensors")
        about["weights"] = {p.name: manifest.file_hash(p) for p in sorted(part.glob("*.safetensors"))}
    for path in sorted(part.iterdir()):
        path.replace(prepared.folder / path.name)
    part.rmdir()


def _about_head(prepared: Prepared) -> valuer.About:
    look, recipe = prepared.objective.needs.look, prepared.recipe
    assert look is not None  # noqa: S101
    return valuer.About(recipe.method.name, recipe.model.name, prepared.loaded.has_adapter, look.places)


def _save_drawn(prepared: Prepared, folder: Path) -> None:
    """What the objective drew at random, such as RMU's direction."""
    objective = innermost(prepared.objective)
    if isinstance(objective, Draws):
        config: Any = prepared.loaded.model.config
        tensors = dict(objective.drawn(config.get_text_config().hidden_size))
        save_file(tensors, folder / "drawn.safetensors")


def _outcome(recipe: Recipe, about: dict[str, Any], *, finished_before: bool) -> Outcome:
    names = ("steps", "loss", "seconds", "trainable", "moved", "mask_report", "resumed_from")
    return Outcome(
        output=str(recipe.output.dir),
        finished_before=finished_before,
        moved_share=about.get("moved_share"),  # which runs of before do not know
        kept_share=about.get("kept_share"),
        stopped_early=about["stopped_early"],
        warnings=tuple(about.get("warnings", ())),
        **{n: about[n] for n in names},
    )


def _planned(prepared: Prepared) -> Outcome:
    return Outcome(
        output=str(prepared.folder),
        steps=0,
        loss=None,
        seconds=0.0,
        trainable=prepared.loaded.trainable.as_dict(),
        moved=0.0,
        mask_report=prepared.mask.to_json(),
        resumed_from=0,
        finished_before=False,
    )
