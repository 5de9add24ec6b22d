"""Load any image-text-to-text model of transformers, with or without an adapter, and save what was tuned."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlmend.config import LoraSettings, ModelConfig
from vlmend.errors import ModelError
from vlmend.models.codec import Codec
from vlmend.models.parts import Trainable, count, language_linears, owner
from vlmend.models.places import adapter_folder, locate, weights_hash
from vlmend.types import digest

BASE_FILE = "vlmend_base.json"  # beside an adapter: hash of the weights it was tuned on
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Loaded:
    """A model with the codec that goes with it.

    `fingerprint` hashes weights, adapter, codec and precision; `base` the weights without the adapter.
    """

    model: Any
    codec: Codec
    fingerprint: str
    base: str
    trainable: Trainable

    @property
    def has_adapter(self) -> bool:
        """Whether an unmerged adapter is attached, so that `disable_adapter()` gives the model before tuning."""
        return hasattr(self.model, "disable_adapter")


def load(config: ModelConfig, *, for_training: bool = False) -> Loaded:
    """Load for inference (eval mode, adapter merged where that is exact), or prepare for tuning (see ModelConfig).

    Raises ModelError with one line when the model or adapter is missing, is not image-text-to-text, or does not fit.
    """
    folder = locate(config.name)
    adapter = adapter_folder(config.adapter) if config.adapter else None
    model, processor = _base(config, folder, for_training)
    codec = Codec(processor, model.config, model.generation_config)
    base = weights_hash(folder, config.revision)
    added = weights_hash(str(adapter), None) if adapter else None
    fingerprint = digest(base, added, codec.fingerprint, str(model.dtype), config.quantization)
    if adapter:
        _check_base(adapter, base, config.name)
        model = _attach(model, adapter, config, for_training)
    if for_training:
        model = _prepare(model, config)
    else:
        model.requires_grad_(False)
        model.eval()
    return Loaded(model, codec, fingerprint, base, count(model))


def save(loaded: Loaded, folder: Path) -> None:
    """Write a PEFT adapter folder or a full model folder that plain peft / transformers load, processor included."""
    loaded.model.save_pretrained(folder)
    loaded.codec.processor.save_pretrained(folder)
    if loaded.has_adapter:
        (folder / BASE_FILE).write_text(json.dumps({"base_weights": loaded.base}) + "\n", encoding="utf-8")


def device_of(name: str) -> torch.device:
    """`auto` is this process's accelerator where there is one, else the CPU."""
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ModelError(f"no device {name!r}; known: auto, cpu, cuda, cuda:0, mps …") from error
    from accelerate import PartialState

    device: Any = PartialState().device
    return device


def _base(config: ModelConfig, folder: str, for_training: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    common: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, "revision": config.revision}
    device = device_of(config.device)
    settings: dict[str, Any] = {"dtype": _dtype(config, device, for_training)}
    if config.attn_implementation != "auto":
        settings["attn_implementation"] = config.attn_implementation
    if config.quantization != "none":
        settings["quantization_config"] = _quantization(config.quantization)
        settings["device_map"] = {"": device}
    model: Any
    try:
        found = AutoConfig.from_pretrained(folder, **common)
        if type(found) not in AutoModelForImageTextToText._model_mapping and not config.trust_remote_code:  # pyright: ignore[reportPrivateUsage]
            raise ModelError(f"{config.name} is a {found.model_type} model, which does not take pictures and text")
        model = AutoModelForImageTextToText.from_pretrained(folder, **common, **settings)
        processor = AutoProcessor.from_pretrained(folder, **common)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"model {config.name} does not load: {_first_line(error)}") from error
    if config.quantization == "none":
        model.to(device)
    return model, processor


def _dtype(config: ModelConfig, device: torch.device, for_training: bool) -> torch.dtype | str:
    """`auto`: fp32 on a CPU and for weights that are tuned in full, else what the checkpoint was saved in."""
    if config.dtype != "auto":
        return DTYPES[config.dtype]
    if device.type == "cpu" or (for_training and config.tune == "full"):
        return torch.float32
    return "auto"


def _quantization(kind: str) -> Any:
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )  # fmt: skip


def _prepare(model: Any, config: ModelConfig) -> Any:
    """Freeze everything, then open what the recipe names."""
    if config.tune == "full":
        if config.quantization != "none":
            raise ModelError("tune: full cannot train quantized weights; use tune: lora")
        model.requires_grad_(False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(owner(name) in config.train)
    elif not hasattr(model, "disable_adapter"):
        model = _with_lora(model, config)
    trained = count(model)
    idle = [module for module in config.train if not trained.trained.get(module)]
    if idle:
        raise ModelError(f"nothing to train in {', '.join(idle)}; this model has {', '.join(trained.total)}")
    model.train()
    return model


def _with_lora(model: Any, config: ModelConfig) -> Any:
    from peft import get_peft_model, prepare_model_for_kbit_training

    if config.quantization != "none":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    model.requires_grad_(False)
    with _quiet_peft():
        return get_peft_model(model, lora_config(model, config))


def lora_config(model: nn.Module, config: ModelConfig) -> Any:
    """peft's LoraConfig: adapters on the language model, other named modules tuned in full beside them."""
    from peft import LoraConfig

    lora: LoraSettings = config.lora
    linears = language_linears(model)
    if lora.target_modules == "language":
        targets = sorted(linears) if "language_model" in config.train else []
    else:
        targets = sorted(lora.target_modules)
    beside = [m for m in config.train if m != "language_model"]
    return LoraConfig(
        r=lora.r, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout, use_rslora=lora.use_rslora,
        target_modules=targets, modules_to_save=_top_modules(model, beside) or None, task_type="CAUSAL_LM",
    )  # fmt: skip


def _top_modules(model: nn.Module, parts: list[Any]) -> list[str]:
    """The outermost modules that belong to the named parts."""
    tops: list[str] = []
    for name, _ in model.named_modules():
        if owner(name) in parts and not any(name.startswith(f"{top}.") for top in tops):
            tops.append(name)
    return tops


def _check_base(adapter: Path, base: str, name: str) -> None:
    """Refuse an adapter of ours that was tuned on other weights, even where its shapes would fit."""
    try:
        known = json.loads((adapter / BASE_FILE).read_text(encoding="utf-8"))["base_weights"]
    except FileNotFoundError:
        return
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{adapter / BASE_FILE} is damaged") from error
    if known != base:
        raise ModelError(f"adapter {adapter} does not fit {name}: it was tuned on other weights ({known[:12]}…)")


def _attach(model: Any, folder: Path, config: ModelConfig, for_training: bool) -> Any:
    """Put an adapter on, by its own config; refuse one whose weights do not all find their place."""
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict
    from safetensors import safe_open

    try:
        with _quiet_peft():
            tuned = PeftModel.from_pretrained(model, str(folder), is_trainable=for_training)
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            saved = set(file.keys())
    except (ValueError, RuntimeError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"adapter {folder} does not fit {config.name}: {_first_line(error)}") from error
    lost = saved ^ set(get_peft_model_state_dict(tuned))
    if lost:
        raise ModelError(
            f"adapter {folder} does not fit {config.name}: {len(lost)} weights differ, such as {min(lost)}"
        )
    exact = model.dtype == torch.float32 and config.quantization == "none"
    return tuned.merge_and_unload() if exact and not for_training else tuned


@contextmanager
def _quiet_peft() -> Generator[None]:
    """Without what peft warns of and we check ourselves, and what newer transformers say about peft's own calls."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*missing adapter keys.*")
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def _first_line(error: BaseException) -> str:
    """The gist of a library's many-line message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
