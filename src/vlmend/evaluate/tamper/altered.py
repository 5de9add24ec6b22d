"""Tampered models: an adapter scaled down, weights rounded, answers begun for the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmend.backends.hf import Hf
from vlmend.errors import ModelError
from vlmend.types import Decoding, Example, Likelihood, Message, Response, digest

if TYPE_CHECKING:
    from torch import Tensor

    from vlmend.models.load import Loaded

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # of every weight in an adapter's file


def scaled_adapter(adapter: Path, alpha: float, base: str, loading: dict[str, Any], out: Path) -> Path:
    """A copy of an adapter that changes the model `alpha` times as much: W + alpha (W' - W), W' with the adapter.

    LoRA's change is B A, so B is scaled. What an adapter holds in whole is moved back toward the base. 0 gives the
    base's outputs and 1 the adapter's, exactly.
    """
    import torch
    from safetensors.torch import save_file

    from vlmend.models.weights import read_tensors

    saved = read_tensors(adapter / WEIGHTS)
    whole = [name for name in saved if "lora_" not in name]
    before = _weights(base, loading) if whole else {}
    made: dict[str, Tensor] = {}
    for name, weight in saved.items():
        if name in whole:
            made[name] = torch.lerp(before[name.removeprefix(PREFIX)].to(weight), weight, alpha)
        else:
            made[name] = weight * alpha if "lora_B" in name or "lora_embedding_B" in name else weight
    out.mkdir(parents=True, exist_ok=True)
    for path in adapter.glob("*.json"):
        shutil.copy(path, out / path.name)
    (out / "manifest.json").unlink(missing_ok=True)  # that of the run, not of the copy
    save_file(made, out / WEIGHTS, metadata={"format": "pt"})
    return out


def _weights(model: str, loading: dict[str, Any]) -> dict[str, Tensor]:
    from vlmend.config import ModelConfig
    from vlmend.models.load import load

    return load(ModelConfig.from_spec(model, **loading)).model.state_dict()


@dataclass(frozen=True)
class Rounded(Hf):
    """A model whose linear layers have weights of `bits` bits: each row rounded to the nearest of evenly spaced values.

    w = s round(w / s), s = max|w| / (2^(bits-1) - 1) over the row. An adapter is merged before, so that what was tuned
    is rounded too. The layer that gives the logits is left alone, as bitsandbytes does. Rounding to 4 bits brings back
    much of what language models were made to forget (Zhang et al. 2024, arXiv 2410.16454).
    """

    bits: int = 8

    @cached_property
    def _loaded(self) -> Loaded:
        loaded = super()._loaded
        if self.quantization != "none":
            raise ModelError("its weights are quantized already")
        model = loaded.model.merge_and_unload() if loaded.has_adapter else loaded.model
        _round(model, self.bits)
        return replace(loaded, model=model, fingerprint=digest(loaded.fingerprint, "rounded", self.bits))


def _round(model: Any, bits: int) -> None:
    import torch

    head = model.get_output_embeddings()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                step = module.weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
                module.weight.copy_((module.weight / step.clamp(min=1e-30)).round() * step)


@dataclass(frozen=True)
class Begun(Hf):
    """A model whose every answer is begun for it: it goes on after `opening`, which is part of what it said.

    An answer to which it adds nothing says nothing. Likelihoods of given answers are those of the model left alone, so
    there are none here.
    """

    opening: str = "Sure,"

    @cached_property
    def _loaded(self) -> Loaded:
        from vlmend.models.codec import Codec

        loaded = super()._loaded
        opening, codec, model = self.opening, loaded.codec, loaded.model

        class Opened(Codec):
            """The model's own conversation text, with the opening after the words that ask for an answer."""

            def __init__(self) -> None:
                super().__init__(codec.processor, model.config, model.generation_config, asdict(codec.family))
                self._template += "{% if add_generation_prompt %}{{ " + json.dumps(self._start()) + " }}{% endif %}"

            def _start(self) -> str:
                """What stands between the prompt and the end of the opening in a conversation that has it."""
                asked = (Message("user", ("?",)),)
                prompt = self.text(asked, answering=True)
                whole = self.text((*asked, Message("assistant", (opening,))), answering=False)
                end = whole.rfind(opening) + len(opening)
                if not whole.startswith(prompt) or end <= len(prompt):
                    raise ModelError("the conversation text of this model does not let an answer be begun")
                return whole[len(prompt) : end]

        return replace(loaded, codec=Opened(), fingerprint=digest(loaded.fingerprint, "begun", opening))

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """Answers with their opening."""
        for response in super().generate(examples, decoding):
            text = response.text
            yield replace(response, text=f"{self.opening} {text}") if text else response

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        """None."""
        for example, answers in asked:
            for answer in answers:
                yield Likelihood(example.id, answer, None, why="the answer was begun for the model")
