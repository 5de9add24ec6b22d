"""Unlearning on tiny models of two families: what it does to the model, and that no detail of batching changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from tests.models import tiny
from tests.models.conftest import noise
from tests.train.conftest import log_of, ready, tune
from vlmend.config import Recipe, parse_recipe
from vlmend.data.batches import streams_of
from vlmend.errors import ConfigError, ModelError
from vlmend.ops.scored import Look
from vlmend.ops.unlearning import control_vector
from vlmend.train import run as running
from vlmend.train.layers import capture, find_layer
from vlmend.train.loop import Tuning, accumulate, encode, take_step
from vlmend.train.reference import Live, key, originals, untuned
from vlmend.train.scoring import Forward, Micro, count_totals, looked_at
from vlmend.types import Example, Image, Message, Role

FULL = {"tune": "full", "train": ["language_model", "projector"]}
BESIDE = {"train": ["language_model", "projector"]}
ANSWERS = ("It bursts.", "Two rings.", "The star is over there, to the left.", "No.")


@pytest.fixture(scope="module", params=["llava", "qwen2_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five unsafe requests, each forgotten, refused and decoupled, and three to retain."""
    place = tmp_path_factory.mktemp("rows")
    for i in range(13):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(place / f"{i}.png")
    found: list[dict[str, Any]] = []
    for i in range(5):
        asked = {"prompt": f"{'How? ' * (i % 3)}{i}", "pair": f"p{i}", "images": [f"{i}.png"]}
        found.append({**asked, "id": f"forget{i}", "answer": ANSWERS[i % 4], "role": "forget"})
        found.append({**asked, "id": f"refuse{i}", "answer": "Sorry, no.", "role": "safety"})
        harmless = {"images": [f"{5 + i}.png"], "answer": ANSWERS[(i + 1) % 4]}
        found.append({**asked, **harmless, "id": f"decouple{i}", "role": "decouple"})
    for i in range(3):
        one = {"prompt": f"What? {i}", "images": [f"{10 + i}.png"], "answer": ANSWERS[i].upper()}
        found.append({**one, "id": f"retain{i}", "role": "retain"})
    path = place / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


Make = Callable[..., Recipe]


@pytest.fixture
def make(folder: Path, rows: Path, tmp_path: Path) -> Make:
    """`make("npo", out="x", beta=0.5, model={…}, train={…})`."""

    def recipe(
        name: str,
        out: str = "out",
        model: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        where: dict[str, Any] | None = None,
        **method: Any,
    ) -> Recipe:
        steps = {"learning_rate": 0.02, "per_device_train_batch_size": 3, "max_steps": 6, "logging_steps": 1}
        return parse_recipe(
            {
                "model": {"name": str(folder), "device": "cpu", "lora": {"r": 4, "lora_alpha": 8}, **(model or {})},
                "method": {"name": name, **method},
                "data": {"mix": [{"source": f"jsonl:{rows}", "where": where or {}}]},
                "train": {**steps, **(train or {})},
                "output": {"dir": str(tmp_path / out)},
            }
        )

    return recipe


def start(recipe: Recipe) -> Tuning:
    """A run about to take its first step, its reference with it."""
    run = ready(recipe)
    needs = run.objective.needs
    if needs.reference:
        kept = {} if recipe.model.tune == "lora" else originals(run.trained)
        run.reference = Live(run.before, kept)
    return run


def shift(run: Tuning, by: float = 0.05) -> None:
    """Move every trained weight, so that the model is no longer its reference."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in run.trained.values():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))


def answers(run: Tuning, role: Role) -> torch.Tensor:
    """(E,) log-probability of each answer of a role."""
    examples = [example for example in run.examples if example.role is role]
    if not examples:
        return torch.zeros(0)
    batch = run.codec.encode_training(examples)
    with torch.no_grad():
        scored = Forward(run.model.eval())(Micro(batch, (1.0,) * len(examples)), count_totals([], run.team))
    run.model.train()
    return scored.answer_logps


def pieces(run: Tuning, groups: list[list[int]]) -> list[Micro]:
    """Examples by index as micro-batches, each all compared."""
    window: list[Micro] = []
    roles = run.objective.needs.reference
    for group in groups:
        examples = [run.examples[i] for i in group]
        batch = run.codec.encode_training(examples)
        weights = tuple(1.0 + 0.5 * (i % 2) for i in group)
        wanted = [place for place, example in enumerate(examples) if example.role in roles]
        compared = None
        if wanted:
            some = run.codec.encode_training([examples[place] for place in wanted])
            compared = Micro(some, tuple(weights[place] for place in wanted))
        window.append(Micro(batch, weights, compared=compared))
    return window


def gradients(run: Tuning, window: list[Micro]) -> tuple[torch.Tensor, dict[str, float]]:
    for p in run.trained.values():
        p.grad = None
    values = accumulate(run, window)
    every = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in run.trained.values()]
    return torch.cat([g.flatten() for g in every]).double(), values


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("ga", {"pd": True}),
    ("gd", {"pd": True}),
    ("kl", {"pd": True}),
    ("po", {"pd": True}),
    ("po", {"reduction": "pooled"}),
    ("npo", {"pd": True, "alpha_npo": 0.5}),
    ("npo", {"reduction": "token_mean_sample"}),
    ("simnpo", {"pd": True}),
    ("rmu", {"layer": 1, "pd": True, "alpha_hidden": 1.0, "scale": "adaptive"}),
    ("rmu", {"layer": "layers.0", "positions": "answer"}),
]


@pytest.mark.parametrize(("name", "settings"), METHODS, ids=lambda value: value if isinstance(value, str) else "")
def test_one_batch_of_all_roles_is_the_sum_of_passes_of_one(make: Make, name: str, settings: dict[str, Any]) -> None:
    """So neither padding nor order nor what else is in a pass changes a gradient."""
    run = start(make(name, model=BESIDE, **settings))
    shift(run)
    everything = list(range(len(run.examples)))
    whole, one = gradients(run, pieces(run, [everything]))
    by_role = [[i for i in everything if run.examples[i].role is role] for role in Role]
    apart, two = gradients(run, pieces(run, [group for group in by_role if group]))
    alone, three = gradients(run, pieces(run, [[i] for i in reversed(everything)]))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-4, abs=1e-5)
    assert one["loss"] == pytest.approx(three["loss"], rel=1e-4, abs=1e-5)
    assert (whole - apart).norm() <= 1e-5 * whole.norm()
    assert (whole - alone).norm() <= 1e-5 * whole.norm()
    assert whole.norm() > 0


def changes(recipe: Recipe, steps: int = 8) -> tuple[float, float]:
    """How much likelier the forgotten and the retained answers are after some steps; nan where there are none."""
    run = start(recipe)
    roles = (Role.FORGET, Role.RETAIN)
    before = [answers(run, role) for role in roles]
    for step in range(steps):
        take_step(run, encode(run, step))
        run.progress.step += 1
    forget, retain = ((answers(run, role) - old).mean().item() for role, old in zip(roles, before, strict=True))
    return forget, retain


EFFECTS: dict[str, dict[str, Any]] = {"gd": {}, "npo": {"alpha": 20.0}, "simnpo": {"beta": 0.01}, "dpo": {"beta": 1.0}}


@pytest.mark.parametrize("name", EFFECTS)
def test_the_forgotten_becomes_unlikely_and_the_retained_does_not(make: Make, name: str) -> None:
    forget, retain = changes(make(name, train={"per_device_train_batch_size": 5}, **EFFECTS[name]))
    assert forget < -0.5
    assert retain > 0 or name == "dpo"  # which uses none to retain


def test_kl_holds_what_is_retained_better_than_plain_ascent(make: Make) -> None:
    """Much of it, for the divergence is flat where it starts."""
    train = {"per_device_train_batch_size": 5, "learning_rate": 0.004}
    free = start(make("kl", alpha=1e-9, train=train))
    held = start(make("kl", alpha=3000.0, train=train))
    drifts, losses = list[float](), list[float]()
    for run in (free, held):
        before, forgotten = answers(run, Role.RETAIN), answers(run, Role.FORGET)
        for step in range(12):
            take_step(run, encode(run, step))
            run.progress.step += 1
        drifts.append((answers(run, Role.RETAIN) - before).abs().mean().item())
        losses.append((answers(run, Role.FORGET) - forgotten).mean().item())
    assert losses[0] < -0.2
    assert drifts[1] < 0.5 * drifts[0]


def test_the_divergence_is_taken_where_answer_tokens_are_foretold(make: Make) -> None:
    """Against transformers' logits of each example alone: what predicts a token stands one place before it."""
    run = start(make("kl", model=BESIDE))
    shift(run)
    [micro] = encode(run, 0)
    _, values = gradients(run, [micro])
    found: list[torch.Tensor] = []
    for example in micro.batch.examples:
        if example.role is Role.RETAIN:
            batch = run.codec.encode_training([example])
            with torch.no_grad():
                now = run.model(**batch.inputs).logits[0].double().log_softmax(-1)
            with untuned(run.model, {}) as model:
                was = model(**batch.inputs).logits[0].double().log_softmax(-1)
            told = [t - 1 for t, label in enumerate(batch.labels[0].tolist()) if label != -100]
            found.append((was.exp() * (was - now)).sum(-1)[told])
    assert values["parts/retain"] == pytest.approx(torch.cat(found).mean().item(), rel=1e-4)


def test_po_makes_the_refusal_likely(make: Make) -> None:
    run = start(make("po"))
    before = answers(run, Role.SAFETY)
    for step in range(4):
        take_step(run, encode(run, step))
        run.progress.step += 1
    assert (answers(run, Role.SAFETY) > before + 0.5).all()
    assert all(example.role in (Role.SAFETY, Role.RETAIN) for example in run.examples)


@pytest.mark.parametrize("model", [BESIDE, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("name", ["npo", "kl"])
def test_at_the_start_the_model_is_its_reference_and_stays_it_for_good(
    make: Make, name: str, model: dict[str, Any]
) -> None:
    run = start(make(name, model=model))
    window = encode(run, 0)
    _, values = gradients(run, window)
    flat = values["parts/forget"] if name == "npo" else values["parts/retain"]
    assert flat == pytest.approx(20 * np.log(2) if name == "npo" else 0.0, rel=1e-4, abs=1e-5)
    assert run.reference is not None
    totals = count_totals(window, run.team, run.objective.needs.look)
    before = run.reference(window[0], totals)
    tuned = {n: p.detach().clone() for n, p in run.trained.items()}
    shift(run)
    after = run.reference(window[0], totals)
    assert before is not None
    assert after is not None
    assert torch.allclose(before.logps, after.logps, atol=1e-5)
    moved = run.forward(window[0], totals).only(*run.objective.needs.reference)
    assert not torch.allclose(moved.logps, after.logps, atol=1e-2)
    assert all(not torch.equal(p, tuned[n]) for n, p in run.trained.items())  # what was put aside is back
    assert run.model.training


@pytest.mark.parametrize("name", ["npo", "dpo"])
@pytest.mark.parametrize("model", [BESIDE, FULL], ids=["lora", "full"])
def test_a_cached_reference_is_the_live_one(make: Make, name: str, model: dict[str, Any]) -> None:
    outcomes: list[dict[str, torch.Tensor]] = []
    for kind in ("live", "cached"):
        recipe = make(name, kind, model=model, train={"reference": kind, "num_train_epochs": 2, "max_steps": -1})
        tune(recipe)
        kept = list(recipe.output.dir.glob("reference-*.jsonl"))
        assert len(kept) == (kind == "cached")
        outcomes.append(load_file(next(recipe.output.dir.glob("*model.safetensors"))))
    one, two = outcomes
    assert max(float((one[n] - two[n]).abs().max()) for n in one) < 1e-4


@pytest.mark.parametrize(("steps", "cached"), [(1, False), (4, True)])
def test_what_is_compared_again_in_later_epochs_is_computed_once(make: Make, steps: int, cached: bool) -> None:
    """Five forgotten examples, three rows a step: two steps are an epoch."""
    recipe = make("npo", train={"max_steps": steps})
    tune(recipe)
    assert bool(list(recipe.output.dir.glob("reference-*.jsonl"))) is cached


def test_cached_values_are_the_model_s_own(make: Make) -> None:
    recipe = make("npo", model=FULL)
    run = ready(recipe)
    live = {}
    for example in run.examples:
        if example.role is Role.FORGET:
            batch = run.codec.encode_training([example])
            with torch.no_grad():
                live[key(example)] = Forward(run.model.eval())(Micro(batch, (1.0,)), count_totals([], run.team)).logps
    tune(recipe)  # auto: cached, because full tuning has no adapter to take off
    kept = [json.loads(line) for line in (recipe.output.dir / "reference-0.jsonl").read_text().splitlines()]
    assert {row["key"] for row in kept} == set(live)
    for row in kept:
        assert torch.allclose(torch.tensor(row["logps"]), live[row["key"]], atol=1e-4)


def test_a_cached_value_is_that_of_the_same_picture_question_and_answer(make: Make) -> None:
    example = next(e for e in ready(make("npo")).examples if e.images)
    picture = example.images[0]

    def changed(make: Callable[[], bytes]) -> Example:
        turns = [
            replace(m, parts=tuple(Image(make=make) if p is picture else p for p in m.parts)) for m in example.prompt
        ]
        return replace(example, prompt=tuple(turns))

    asked_otherwise = replace(example, prompt=(*example.prompt, Message("user", ("Really?",))))
    others = [changed(lambda: noise(99)), asked_otherwise, replace(example, answers=("Something else.",))]
    assert len({key(e) for e in (example, *others)}) == 4
    assert picture.path is not None
    assert key(changed(picture.path.read_bytes)) == key(example), "bytes, not names"


def test_a_cache_is_filled_up_not_made_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make("npo", model=FULL, train={"max_steps": 2})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "optimize", die)
        with pytest.raises(KeyboardInterrupt):
            tune(recipe)
    file = recipe.output.dir / "reference-0.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert len(lines) == 5
    marked = json.loads(lines[0])
    marked["logps"] = [value - 1 for value in marked["logps"]]
    file.write_text(json.dumps(marked) + "\n" + "".join(lines[1:3]) + lines[3][:20])
    tune(recipe)
    again = [json.loads(line) for line in file.read_text().splitlines()]
    assert again[0] == marked  # kept as it was
    assert sorted(row["key"] for row in again) == sorted(json.loads(line)["key"] for line in lines)


def test_rmu_moves_the_named_weights_and_not_a_bit_more(make: Make, folder: Path) -> None:
    pattern = "*layers.[01].mlp.down_proj.weight"
    recipe = make("rmu", layer=1, model={"tune": "full", "parameters": pattern}, alpha_hidden=1.0)
    tune(recipe)
    before, after = (
        AutoModelForImageTextToText.from_pretrained(place).state_dict() for place in (folder, recipe.output.dir)
    )
    moved = sorted(name for name in before if not torch.equal(before[name], after[name]))
    assert len(moved) == 2
    assert all(name.endswith("mlp.down_proj.weight") and "layers" in name for name in moved)
    manifest = json.loads((recipe.output.dir / "manifest.json").read_text())
    assert len(manifest["trained"]) == 2
    drawn = load_file(recipe.output.dir / "drawn.safetensors")
    assert torch.equal(drawn["control"], control_vector(32, "gaussian", 42))


@pytest.mark.parametrize("positions", ["answer", "text", "no_bos", "no_pad", "all"])
def test_rmu_pulls_at_the_named_positions_only(make: Make, positions: str) -> None:
    run = start(make("rmu", layer=1, positions=positions, alpha=0.0, train={"per_device_train_batch_size": 5}))
    window, seen = encode(run, 0), list[torch.Tensor]()

    def keep(module: object, inputs: object, output: Any) -> None:
        del module, inputs
        seen.append(output[0] if isinstance(output, tuple) else output)
        seen[0].retain_grad()

    find_layer(run.model, 1).register_forward_hook(keep)
    gradients(run, window)
    assert seen[0].grad is not None
    pulled = seen[0].grad.abs().sum(-1) > 0
    look = run.objective.needs.look
    assert look is not None
    batch, feed = window[0].batch, window[0].parts[0].feed if window[0].parts else None
    real, pictures = batch.inputs["attention_mask"].bool(), batch.image_mask
    if feed is not None:  # the examples were put together: back to their own rows
        pulled = pulled.flatten()[feed.place] & real
    assert torch.equal(pulled, looked_at(batch, look))
    assert pulled.any()
    assert bool(pulled[~real].any()) is (positions == "all")
    assert bool(pulled[pictures].any()) is (positions not in ("answer", "text"))


def test_the_states_looked_at_are_those_of_transformers(make: Make) -> None:
    run = start(make("rmu", layer=0))
    batch = encode(run, 0)[0].batch
    with torch.no_grad():
        theirs = run.model(**batch.inputs, output_hidden_states=True).hidden_states[1]
        look = Look(frozenset(Role), "all", layer=0)
        ours = Forward(run.model, look)(Micro(batch, (1.0,) * len(batch.examples)), count_totals([], run.team))
    assert torch.allclose(ours.states, theirs.flatten(0, 1), atol=1e-6)


def test_checkpointed_layers_give_the_same_gradient(make: Make) -> None:
    found: list[torch.Tensor] = []
    for checkpointing in (False, True):
        run = start(make("rmu", layer=0, train={"gradient_checkpointing": checkpointing}))
        found.append(gradients(run, encode(run, 0))[0])
    assert (found[0] - found[1]).norm() <= 1e-5 * found[0].norm()


def test_runs_of_several_epochs_retain_to_the_end(make: Make) -> None:
    """Three to retain run dry at the second step of two: a published trainer does nothing from there on."""
    recipe = make("gd", train={"num_train_epochs": 3, "max_steps": -1, "per_device_train_batch_size": 2})
    run = start(recipe)
    assert run.total == 9
    for step in range(run.total):
        roles = [example.role for micro in encode(run, step) for example in micro.batch.examples]
        assert roles.count(Role.FORGET) == roles.count(Role.RETAIN) >= 1
    tune(recipe)
    entries = log_of(recipe.output.dir)
    assert len(entries) == 9
    assert all(entry["parts"]["retain"] > 0 for entry in entries)
    rates = [entry["lr"] for entry in entries]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert json.loads((recipe.output.dir / "manifest.json").read_text())["lr_at_end"] == 0.0


def test_a_decouple_example_is_beside_the_one_it_belongs_to(make: Make) -> None:
    for name, leader in (("npo", Role.FORGET), ("po", Role.SAFETY)):
        run = start(make(name, pd=True, train={"per_device_train_batch_size": 2}))
        for step in range(6):
            for micro in encode(run, step):
                asked = {e.meta["pair"]: e.question for e in micro.batch.examples if e.role is leader}
                decoupled = {e.meta["pair"]: e.question for e in micro.batch.examples if e.role is Role.DECOUPLE}
                assert asked == decoupled
                assert asked


def test_what_a_method_does_not_use_is_left_out_and_said(make: Make) -> None:
    outcome, shown = tune(make("npo"), dry_run=True)
    assert outcome.steps == 0
    assert "5 decouple examples left out: npo does not use that role" in shown
    assert "a row: forget (5), retain (3)" in shown
    _, shown = tune(make("npo", pd=True), dry_run=True)
    assert "a row: forget + decouple (5), retain (3)" in shown


def test_a_mix_that_lacks_a_role_is_refused_by_name(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"needs examples of the role retain.*forget 5"):
        tune(make("gd", where={"role": ["forget", "safety"]}))
    with pytest.raises(ConfigError, match="needs examples of the role safety or utility or retain"):
        tune(make("sft", where={"role": "forget"}))
    with pytest.raises(ConfigError, match="role decouple"):
        tune(make("ga", pd=True, where={"role": "forget"}))


def test_pairs_that_are_not_whole_are_refused_by_id(make: Make) -> None:
    examples = ready(make("dpo", pd=True)).examples
    roles, links = ((Role.FORGET,), (Role.SAFETY,), (Role.DECOUPLE,)), {Role.DECOUPLE: Role.FORGET}
    without = [example for example in examples if example.id != "forget3"]
    with pytest.raises(ConfigError, match=r"'decouple3' belongs to no forget example.*pairing: random"):
        streams_of(without, roles, links)
    assert len(streams_of(without, roles)) == 3
    lonely = [example for example in examples if example.id != "refuse2"]
    with pytest.raises(ConfigError, match=r"'forget2' has 0 partners of the role safety"):
        streams_of(lonely, roles[:2], {Role.SAFETY: Role.FORGET}, strict=True)


def test_what_cannot_be_is_refused_before_anything_runs(make: Make) -> None:
    with pytest.raises(ConfigError, match="compares hidden states or whole distributions"):
        tune(make("kl", train={"reference": "cached"}))
    with pytest.raises(ConfigError, match=r"layer 7 means no module.*layers\.1"):
        tune(make("rmu", "other"))
    with pytest.raises(ModelError, match="no weight of language_model is named"):
        tune(make("rmu", "third", layer=1, model={"tune": "full", "parameters": "*.mlp.down.weight"}))
    with pytest.raises(ModelError, match="goes with tune: full"):
        tune(make("rmu", "fourth", layer=1, model={"parameters": "*.mlp.down_proj.weight"}))


def test_ascent_stops_where_it_was_told_to(make: Make) -> None:
    free = make("ga", "free", train={"max_steps": 12})
    tune(free)
    losses = [-entry["parts"]["forget"] for entry in log_of(free.output.dir)]
    assert len(losses) == 12
    limit = (losses[3] + losses[4]) / 2
    bounded = make("ga", "bounded", train={"max_steps": 12, "save_steps": 2}, stop=limit)
    outcome, _ = tune(bounded)
    assert outcome.steps == next(i for i, loss in enumerate(losses, start=1) if loss >= limit)
    manifest = json.loads((bounded.output.dir / "manifest.json").read_text())
    assert "method.stop" in manifest["stopped_early"]
    assert tune(bounded)[0].finished_before


@pytest.mark.parametrize("at", ["the last checkpoint", "the end"])
def test_a_run_that_had_enough_does_not_go_on_when_it_is_resumed(
    make: Make, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Killed after the step that was enough, before anything was written of its end."""
    train = {"max_steps": 12, "save_steps": 1}
    whole, killed = (make("ga", out, train=train, stop=1e-6) for out in ("whole", "killed"))
    expected, shown = tune(whole)
    assert expected.steps == 1
    assert "method.stop" in expected.stopped_early
    assert "stopped after step 1: the forgotten answers' loss reached" in shown

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running, "_check_moved" if at == "the last checkpoint" else "_write", die)
        with pytest.raises(KeyboardInterrupt):
            tune(killed)
    outcome, _ = tune(killed)
    assert (outcome.resumed_from, outcome.steps, outcome.stopped_early) == (1, 1, expected.stopped_early)
    one, two = (load_file(recipe.output.dir / "adapter_model.safetensors") for recipe in (whole, killed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert len(log_of(killed.output.dir)) == 1


def test_the_reference_of_a_second_adapter_is_the_first(make: Make) -> None:
    """Tuning goes on from an adapter: with it off, the model would be the base, which is not what it is compared to."""
    first = make("sft", "first", train={"max_steps": 3})
    tune(first)
    second = make("npo", "second", model={"adapter": str(first.output.dir)}, train={"max_steps": 1})
    tune(second)
    (entry,) = log_of(second.output.dir)
    assert entry["parts"]["forget"] == pytest.approx(20 * np.log(2), rel=1e-4)


def test_capture_finds_one_layer_or_says_what_there_is(make: Make) -> None:
    run = start(make("ga"))
    with pytest.raises(ConfigError, match="means 2 modules"):
        find_layer(run.model, "self_attn")
    with pytest.raises(ConfigError, match=r"Did you mean 'layers\.1'"):
        find_layer(run.model, "layer.1")
    with capture(run.model, None) as seen:
        assert seen == []
    assert replace(run).total == 6


def test_what_is_learned_of_an_example_is_part_of_its_reference() -> None:
    said = Message("assistant", ("Red.",))
    example = Example("a", (Message("user", ("Hi",)), said, Message("user", ("So?",))), ("Blue.",))
    unlearned = replace(example, prompt=(example.prompt[0], replace(said, supervised=False), example.prompt[2]))
    assert key(example) != key(unlearned)
