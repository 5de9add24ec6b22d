"""Steer a model away from harm: directions found in what its layers compute on a few examples, without a gradient.

Two forms. `add`: x + s v at a layer, v the difference of the means of harmful and harmless examples at the last token
of the prompt. `closed`: W' = W + s v w^T for a layer's last matrix W, with w orthogonal to all that it read on the
harmless examples, so that they stay where they are, and w a = 1 on the harmful ones, as far as that goes. The second is
a change of weights, which any engine loads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vlmend import manifest
from vlmend.config import ModelConfig
from vlmend.errors import ConfigError, DataError, UsageError
from vlmend.models.folder import refuse_full, write_whole
from vlmend.models.load import Loaded, load
from vlmend.models.parts import language_linears
from vlmend.types import Example, Expected

How = Literal["closed", "add"]
FILE = "steering.safetensors"
MOST = 100  # examples
POSITIONS = 16  # of each harmless prompt, at which the closed form keeps still as well as it can
RIDGE = 1e-3  # of the mean square of what is read


@dataclass(frozen=True)
class Steering:
    """By layer, v (d) as the layer puts out, and w (width of what its last matrix reads); `separation` tells by how
    many standard deviations harmful and harmless examples lie apart along v.
    """

    model: str
    base: str
    data: str
    harmful: int
    harmless: int
    v: Sequence[Tensor]
    w: Sequence[Tensor]
    separation: tuple[float, ...]

    @property
    def layer(self) -> int:
        """Where they lie farthest apart."""
        return max(range(len(self.separation)), key=self.separation.__getitem__)


def fit(loaded: Loaded, examples: Sequence[Example], *, name: str, data: str) -> Steering:
    """Directions of every layer from at most 100 examples. Raises DataError where one side is missing."""
    harmful = [e for e in examples if e.expected is not Expected.ANSWER]
    harmless = [e for e in examples if e.expected is Expected.ANSWER]
    for what, some in (("harmful", harmful), ("harmless", harmless)):
        if len(some) < 2:
            raise DataError(
                f"steering needs at least two {what} examples, and {data} has {len(some)} among what is read"
            )
    bad, good = (_seen(loaded, some[: MOST // 2]) for some in (harmful, harmless))
    v: list[Tensor] = []
    w: list[Tensor] = []
    apart: list[float] = []
    for (put_bad, read_bad, _), (put_good, read_good, beside) in zip(bad, good, strict=True):
        direction = put_bad.mean(0) - put_good.mean(0)
        along = [put @ direction / direction.norm() for put in (put_bad, put_good)]
        spread = (along[0].var() + along[1].var()).div(2).sqrt().clamp_min(1e-12)
        apart.append(float((along[0].mean() - along[1].mean()) / spread))
        v.append(direction.float())
        w.append(orthogonal_reader(read_bad, read_good, beside).float())
    counts = min(len(harmful), MOST // 2), min(len(harmless), MOST // 2)
    return Steering(name, loaded.base, data, *counts, v, w, tuple(apart))


def orthogonal_reader(harmful: Tensor, harmless: Tensor, beside: Tensor) -> Tensor:
    """w (k) with harmless (n, k) w = 0, and harmful (m, k) w close to 1 and beside (p, k) w close to 0.

    The least squares of both under a ridge, among the w that are orthogonal to all harmless rows. Raises DataError
    where no such w is left.
    """
    basis = torch.linalg.svd(harmless.double(), full_matrices=False)
    kept = basis.Vh[basis.S[0] * 1e-10 < basis.S]
    rows = torch.cat([harmful, beside]).double()

    def outside(x: Tensor) -> Tensor:
        for _ in range(2):  # the second time takes what rounding left
            x = x - (x @ kept.T) @ kept
        return x

    free = outside(rows)
    target = torch.cat([torch.ones(len(harmful)), torch.zeros(len(beside))]).double()
    ridge = RIDGE * float(rows.square().sum(1).mean())
    found = outside(
        torch.linalg.solve(free @ free.T + ridge * torch.eye(len(rows), dtype=torch.float64), target) @ free
    )
    if float((harmful.double() @ found).mean()) < 1e-6:
        raise DataError("no direction reads the harmful examples and none of the harmless: take fewer of them")
    return found


def _seen(loaded: Loaded, examples: Sequence[Example]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """By layer: what it puts out (n, d) and its last matrix reads (n, k) at the last token, and (p, k) at others."""
    model = loaded.model
    blocks = layers(model)
    put: list[list[Tensor]] = [[] for _ in blocks]
    read: list[list[Tensor]] = [[] for _ in blocks]
    beside: list[list[Tensor]] = [[] for _ in blocks]
    handles: list[Any] = []
    for at, (block, matrix) in enumerate(blocks):

        def keep_output(module: nn.Module, inputs: Any, output: Any, at: int = at) -> None:
            del module, inputs
            put[at].append((output[0] if isinstance(output, tuple) else output)[0, -1].detach().cpu().double())

        def keep_input(module: nn.Module, inputs: Any, at: int = at) -> None:
            del module
            rows = inputs[0][0].detach().cpu().double()
            read[at].append(rows[-1])
            places = torch.linspace(0, len(rows) - 2, min(POSITIONS, len(rows) - 1)).long()
            beside[at].append(rows[places])

        handles += [block.register_forward_hook(keep_output), matrix.register_forward_pre_hook(keep_input)]
    try:
        with torch.inference_mode():
            for example in examples:
                model(**loaded.codec.encode_prompts([example]).to(model.device).inputs, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return [(torch.stack(p), torch.stack(r), torch.cat(b)) for p, r, b in zip(put, read, beside, strict=True)]


def layers(model: nn.Module) -> list[tuple[nn.Module, nn.Linear]]:
    """Each layer of the language model, and the last matrix in it, which writes into what the layer puts out."""
    by_layer: dict[str, list[str]] = {}
    for name in language_linears(model):
        if found := re.search(r"^(.*\.layers\.\d+)\.", name):
            by_layer.setdefault(found[1], []).append(name)
    found_: list[tuple[nn.Module, nn.Linear]] = []
    for layer, names in by_layer.items():
        matrix = model.get_submodule(names[-1])
        if not isinstance(matrix, nn.Linear) or type(matrix.weight) is not nn.Parameter:
            raise UsageError(f"steering changes plain matrices, and {names[-1]} is none")
        found_.append((model.get_submodule(layer), matrix))
    if not found_:
        raise UsageError("steering finds no layers in this model's language part")
    return found_


@contextmanager
def steered(model: Any, steering: Steering, layer: int, strength: float, how: How) -> Generator[None]:
    """The model with a direction added at one layer; afterwards as it was."""
    block, matrix = layers(model)[layer]
    v, w = (t[layer].to(matrix.weight) for t in (steering.v, steering.w))

    def add(module: nn.Module, inputs: Any, output: Any) -> Any:
        del module, inputs
        return (output[0] + strength * v, *output[1:]) if isinstance(output, tuple) else output + strength * v

    def closed(module: nn.Module, inputs: Any, output: Any) -> Any:
        del module
        return output + strength * (inputs[0] @ w)[..., None] * v

    handle = block.register_forward_hook(add) if how == "add" else matrix.register_forward_hook(closed)
    try:
        yield
    finally:
        handle.remove()


def save(steering: Steering, out: Path) -> dict[str, Any]:
    """Write a folder, whole or not at all. Returns its manifest."""
    from safetensors.torch import save_file

    from vlmend.store.files import write_atomic

    refuse_full(out)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"{kind}.{at}": t.contiguous() for kind in "vw" for at, t in enumerate(getattr(steering, kind))}
    part = out / f".{FILE}.part"
    save_file(tensors, part)
    write_atomic(out / FILE, [part.read_bytes()])
    part.unlink()
    about = {key: value for key, value in vars(steering).items() if key not in ("v", "w")}
    told = {
        "kind": "steering", **about, "layer": steering.layer, "environment": manifest.environment("cpu"),
        "weights": {FILE: manifest.file_hash(out / FILE)},
    }  # fmt: skip
    manifest.write_manifest(out, told)
    return told


def read(folder: Path) -> Steering:
    """What `save` wrote. Raises ConfigError where the folder holds no steering."""
    from safetensors.torch import load_file

    try:
        told: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if told.get("kind") != "steering":
            raise ConfigError(f"{folder} holds no steering, but {told.get('kind', 'something else')}")
        tensors = load_file(folder / FILE)
        count = len(tensors) // 2
        v, w = ([tensors[f"{kind}.{at}"] for at in range(count)] for kind in "vw")
        return Steering(
            told["model"], told["base"], told["data"], told["harmful"], told["harmless"], v, w,
            tuple(told["separation"]),
        )  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{folder} holds no steering that `vlmend steer fit` wrote: {error}") from error


def checked_layer(steering: Steering, layer: int) -> int:
    """The layer that is meant; -1 for the one where examples lie farthest apart. Raises ConfigError."""
    if not -1 <= layer < len(steering.v):
        raise ConfigError(f"steering has layers 0 to {len(steering.v) - 1}, not {layer}; -1 is the one it found best")
    return steering.layer if layer == -1 else layer


def refuse_other(steering: Steering, weights: str) -> None:
    """Raise UsageError for a model of other weights than the steering was fitted on."""
    if steering.base != weights:
        raise UsageError(f"the steering was fitted on {steering.model}, and this model has other weights")


def export(folder: Path, out: Path, *, strength: float = 1.0, layer: int = -1) -> dict[str, Any]:
    """Write the model that a steering was fitted on with the closed form in its weights. Returns the manifest.

    What its last matrix reads is changed in float32, and written in the precision of the model.
    """
    refuse_full(out)
    steering = read(folder)
    at = checked_layer(steering, layer)
    config = ModelConfig.from_spec(steering.model, dtype="float32", device="cpu")
    loaded = load(config)
    refuse_other(steering, loaded.base)
    if loaded.has_adapter:
        raise UsageError(f"{steering.model} has an adapter that is not merged; `vlmend merge` it, and fit on that")
    _, matrix = layers(loaded.model)[at]
    with torch.no_grad():
        matrix.weight += strength * torch.outer(steering.v[at], steering.w[at])
    about = {
        "kind": "steered", "base": steering.model, "base_weights": loaded.base, "strength": strength, "layer": at,
        "steering": manifest.file_hash(folder / FILE), "family": asdict(loaded.codec.family),
    }  # fmt: skip
    return write_whole(loaded.model, loaded.codec.processor, out, about)
