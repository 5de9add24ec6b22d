"""Load any image-text-to-text model of transformers, with or without an adapter, and save what was tuned."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from inspect import signature
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from vlmend.config import LoraSettings, ModelConfig, Module
from vlmend.errors import ModelError, nearest
from vlmend.models.codec import Codec
from vlmend.models.original import is_original
from vlmend.models.parts import Trainable, count, language_linears, outermost, owner
from vlmend.models.places import BASE_FILE, adapter_folder, check_base, locate, tuned_on, weights_hash
from vlmend.saving import write_model
from vlmend.types import digest

NATIVE = {  # what to do about published checkpoints that transformers' classes do not load, by their model type
    "internvl_chat": "use a checkpoint in transformers' format, such as OpenGVLab/InternVL3-8B-hf",
    "llava_llama": "`vlmend convert DIR --out OUT` makes one of it that transformers' LLaVA loads",
    "llava_qwen": "use a checkpoint in transformers' format, such as llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "phi3_v": "vLLM serves it (vllm serve … --trust-remote-code), then it is openai:NAME@URL",
    "deepseek_vl_v2": "vLLM serves it (with --hf-overrides, see docs/models.md), then it is openai:NAME@URL",
    "minicpmv": "vLLM serves it (vllm serve … --trust-remote-code), then it is openai:NAME@URL",
}
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
WRAPPED = {"shieldgemma2": "model"}  # saved as a classifier around the model that takes pictures and text
DECLARED_AS = ("AutoModelForVision2Seq", "AutoModelForCausalLM", "AutoModel")  # by code older than the proper name
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Loaded:
    """A model with the codec that goes with it.

    `fingerprint` hashes weights, adapter, codec and precision; `base` the weights without the adapter. `precision` is
    what passes are meant to be computed in; in tuning, weights may be held finer than that (`mixed`), and passes are to
    run under autocast. `notes` are what was said about the adapter: they belong into the manifest of what is done with
    the model.
    """

    model: Any
    codec: Codec
    fingerprint: str
    base: str
    trainable: Trainable
    notes: tuple[str, ...] = ()
    precision: torch.dtype = torch.float32
    mixed: bool = False

    @property
    def has_adapter(self) -> bool:
        """Whether an unmerged adapter is attached, so that `disable_adapter()` gives the model before tuning."""
        return hasattr(self.model, "disable_adapter")


def load(config: ModelConfig, *, for_training: bool = False) -> Loaded:
    """Load for inference (eval mode, adapter merged where that is exact), or prepare for tuning (see ModelConfig).

    In tuning, whatever is trained is held in fp32. Tuning in full goes on from an adapter by merging it first.

    Raises ModelError with one line when the model or adapter is missing, is not image-text-to-text, or does not fit.
    """
    folder = locate(config.name)
    adapter = adapter_folder(config.adapter) if config.adapter else None
    device, in_full = device_of(config.device), for_training and config.tune == "full"
    model, processor = _base(config, folder, device, _dtype(config, device, for_training))
    codec = Codec(processor, model.config, model.generation_config, config.family)
    codec.family.prepare(model)
    base = weights_hash(folder, config.revision)
    added = weights_hash(str(adapter), None) if adapter else None
    fingerprint = digest(base, added, codec.fingerprint, str(model.dtype), config.quantization)
    precision: torch.dtype = DTYPES[config.dtype] if in_full and config.dtype != "auto" else model.dtype
    notes: tuple[str, ...] = ()
    if adapter:
        notes = tuple(filter(None, (check_base(adapter, base, config.name), _other_words(adapter, codec))))
        for note in notes:
            _say(note)
        model = _attach(model, adapter, config, trained=for_training and not in_full)
    if for_training:
        model = _prepare(model, config)
        mixed = _hold_finely(model, precision)
    else:
        model.requires_grad_(False)
        model.eval()
        mixed = False
    if config.quantization == "none":
        model.to(device)
    return Loaded(model, codec, fingerprint, base, count(model), notes, precision, mixed)


def check(config: ModelConfig) -> None:
    """Raise ModelError where `load` would for what is not there or not of a kind that it loads. Reads no weights."""
    folder = locate(config.name)
    if config.adapter:
        adapter_folder(config.adapter)
    try:
        _kind(config, folder)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelError(f"model {config.name} does not load: {_first_line(error)}") from error


def save(loaded: Loaded, folder: Path, dtype: str = "auto") -> None:
    """Write a PEFT adapter folder or a full model folder that plain peft / transformers load, processor included.

    What was tuned is saved as it is held, in fp32, and the config of a whole model says so, for who loads it by its
    config would else round what was learned away. With another `dtype` all that is saved is rounded to it first, in
    place.
    """
    if dtype != "auto":
        _round(loaded.model, DTYPES[dtype], all_of_it=not loaded.has_adapter)
    if loaded.has_adapter:
        loaded.model.save_pretrained(folder)
    else:
        write_model(loaded.model, folder)
    loaded.codec.processor.save_pretrained(folder)
    if loaded.has_adapter:
        note = {"base_weights": loaded.base, "codec": loaded.codec.fingerprint, "family": asdict(loaded.codec.family)}
        (folder / BASE_FILE).write_text(json.dumps(note) + "\n", encoding="utf-8")
    else:
        _declare(folder / "config.json", _finest(loaded.model))


def _round(model: nn.Module, dtype: torch.dtype, *, all_of_it: bool) -> None:
    for parameter in model.parameters():
        if parameter.is_floating_point() and (all_of_it or parameter.requires_grad):
            parameter.data = parameter.data.to(dtype)


def _finest(model: nn.Module) -> torch.dtype:
    """The widest of the types that weights are held in."""
    return max((p.dtype for p in model.parameters() if p.is_floating_point()), key=lambda dtype: dtype.itemsize)


def _declare(config: Path, dtype: torch.dtype) -> None:
    """Have the config of a saved model, and those within it, say what it is to be loaded in."""
    tree = json.loads(config.read_text(encoding="utf-8"))
    for section in (tree, *(value for value in tree.values() if isinstance(value, dict))):
        if "dtype" in section:
            section["dtype"] = str(dtype).removeprefix("torch.")
    config.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def device_of(name: str) -> torch.device:
    """`auto` is this process's accelerator where there is one, else the CPU. Raises ModelError for one not here."""
    if name != "auto":
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ModelError(f"no device {name!r}; known: auto, cpu, cuda, cuda:0, mps …") from error
        if not usable(device):
            raise ModelError(f"device {name!r} is not there; auto takes what there is, and cpu always is")
        return device
    from accelerate import PartialState

    device: Any = PartialState().device
    return device


def usable(device: torch.device) -> bool:
    """Whether this machine has a device, and tensors on it have values."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError):  # what PyTorch raises differs by device
        return False
    return device.type != "meta"


def _base(config: ModelConfig, folder: str, device: torch.device, dtype: torch.dtype | str) -> tuple[Any, Any]:
    """Model, still where it was read unless it is quantized, and processor."""
    from transformers import AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    common: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, "revision": config.revision}
    settings: dict[str, Any] = {"dtype": dtype}
    if config.attn_implementation != "auto":
        settings["attn_implementation"] = config.attn_implementation
    if config.quantization != "none":
        settings["quantization_config"] = _quantization(config.quantization)
        settings["device_map"] = {"": device}
    model: Any
    try:
        model, told = _kind(config, folder).from_pretrained(folder, output_loading_info=True, **common, **settings)
        processor = AutoProcessor.from_pretrained(folder, **common)
    except ModelError:
        raise
    except (OSError, ValueError, ImportError, SafetensorError, UnpicklingError, RuntimeError) as error:
        raise ModelError(f"model {config.name} does not load: {_first_line(error)}") from error
    if within := WRAPPED.get(model.config.model_type):
        model = getattr(model, within)
    if missing := sorted(told["missing_keys"]):  # transformers draws such weights at random, and says so in passing
        raise ModelError(
            f"model {config.name} does not load: its files lack {len(missing):,} of its weights, such as {missing[0]}"
        )
    return model, processor


def _kind(config: ModelConfig, folder: str) -> Any:
    """The class to load with: transformers' own for pictures and text, or one of the repository's where code may run.

    Raises ModelError where there is none.
    """
    from transformers import (
        CONFIG_MAPPING,
        AutoModelForImageClassification,
        AutoModelForImageTextToText,
        PreTrainedConfig,
    )

    if config.trust_remote_code:
        _say(f"trust_remote_code: {config.name} may run code from its own repository on this machine")
    declared: dict[str, Any] = PreTrainedConfig.get_config_dict(folder, revision=config.revision)[0]
    kind, own = declared.get("model_type", ""), declared.get("auto_map", {})
    if kind in WRAPPED:
        return AutoModelForImageClassification
    if is_original(declared):
        raise ModelError(f"{config.name} is a checkpoint in LLaVA's own format; {NATIVE['llava_llama']}")
    takes_pictures: Any = AutoModelForImageTextToText._model_mapping  # pyright: ignore[reportPrivateUsage]
    if kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] in takes_pictures:
        return AutoModelForImageTextToText
    if config.trust_remote_code and own:
        return _own_kind(config, folder, kind, own)
    code = "; code from its own repository runs only with trust_remote_code" if own else ""
    native = _native(kind)
    raise ModelError(
        f"{config.name} is a {kind or 'nameless'} model, and transformers has no class for it that takes pictures and"
        f" text{native}{code}"
    )


def _own_kind(config: ModelConfig, folder: str, kind: str, own: Mapping[str, str]) -> Any:
    """The class of a repository's own code that takes pictures and text, whatever it is declared as."""
    from transformers import AutoModelForImageTextToText
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    if "AutoModelForImageTextToText" in own:
        return AutoModelForImageTextToText
    for name in DECLARED_AS:
        if name in own:
            found: Any = get_class_from_dynamic_module(own[name], folder, revision=config.revision)
            if hasattr(found, "generate") and "pixel_values" in signature(found.forward).parameters:
                return found
    models = [name for name in own if name.startswith("AutoModel")]
    raise ModelError(
        f"{config.name}: its own code has no class that takes pictures and text as transformers' do (pixel_values"
        f" beside input_ids); it declares {', '.join(models) or 'no model'}{_native(kind)}; or a server may run it:"
        " openai:NAME@URL"
    )


def _native(kind: str) -> str:
    return f"; {NATIVE[kind]}" if kind in NATIVE else ""


def _say(text: str) -> None:
    """What must not be missed, on stderr."""
    sys.stderr.write(f"vlmend: {text}\n")


def _dtype(config: ModelConfig, device: torch.device, for_training: bool) -> torch.dtype | str:
    """What weights are read in. `auto`: fp32 on a CPU, else what the checkpoint was saved in.

    fp32, whatever the recipe says, for tuning in full: nothing that an earlier run learned is rounded away, and what
    stays frozen is lowered afterwards.
    """
    if for_training and config.tune == "full":
        return torch.float32
    if config.dtype != "auto":
        return DTYPES[config.dtype]
    return torch.float32 if device.type == "cpu" else "auto"


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
            named = not config.parameters or any(fnmatchcase(name, pattern) for pattern in config.parameters)
            parameter.requires_grad_(named and owner(name) in config.train)
        _check_patterns(model, config)
    elif config.parameters:
        raise ModelError("model.parameters goes with tune: full; with lora, lora.target_modules names what is adapted")
    elif not hasattr(model, "disable_adapter"):
        model = _with_lora(model, config)
    trained = count(model)
    idle = [module for module in config.train if not trained.trained.get(module)]
    if idle:
        raise ModelError(f"nothing to train in {', '.join(idle)}; this model has {', '.join(trained.total)}")
    model.train()
    return model


def _hold_finely(model: nn.Module, precision: torch.dtype) -> bool:
    """Hold what is trained in fp32. Returns whether passes need autocast then, to be computed in `precision`.

    In 16 bits a weight of 0.02 has neighbors 1e-4 apart: a step of 1e-6 is rounded away, and so are gradients that are
    added up. A model to be tuned in full was read in fp32, and its frozen weights are lowered where all that is trained
    are linear layers, whose products autocast gives in 16 bits: next to norms and embeddings of another type than their
    own, models of transformers fail. The weights of an adapter do not count, for peft casts its inputs.
    """
    if precision == torch.float32:
        return False
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.data = parameter.data.float()
    if hasattr(model, "disable_adapter"):
        coarse = any(p.dtype == precision for p in model.parameters())
        return coarse and not all("lora_" in name for name in trained)
    linear = {p for m in model.modules() if isinstance(m, LINEAR) for p in m.parameters(recurse=False)}
    if linear >= set(trained.values()):
        always: Sequence[str] = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad and not any(kept in name for kept in always):
                parameter.data = parameter.data.to(precision)
    return True


def _check_patterns(model: nn.Module, config: ModelConfig) -> None:
    """Raise ModelError for a pattern that names no parameter of the parts that are tuned."""
    names = [name for name, _ in model.named_parameters() if owner(name) in config.train]
    for pattern in config.parameters:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(
                f"model.parameters: no weight of {', '.join(config.train)} is named {pattern!r}."
                f"{nearest(pattern, names)} Names look like {names[0] if names else 'nothing'}"
            )


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
    beside: list[Module] = [m for m in config.train if m != "language_model"]
    return LoraConfig(  # no task_type: without one peft writes which class the adapter is for
        r=lora.r, lora_alpha=lora.lora_alpha, lora_dropout=lora.lora_dropout, use_rslora=lora.use_rslora,
        target_modules=targets, modules_to_save=outermost(model, *beside) or None,
    )  # fmt: skip


def _other_words(adapter: Path, codec: Codec) -> str:
    """What to say where an adapter was tuned on other words or pixels: it may be meant, and must not go unseen."""
    known = tuned_on(adapter)
    if known is None or known["codec"] in (None, codec.fingerprint):
        return ""
    return (
        f"adapter {adapter} was tuned with another conversation text or picture preparation "
        f"(family options then {known['family']}, now {asdict(codec.family)})"
    )


def _attach(model: Any, folder: Path, config: ModelConfig, *, trained: bool) -> Any:
    """Put an adapter on, by its own config; refuse one whose weights do not all find their place.

    One that goes on being `trained` stays on, in fp32: what it learned is not rounded to the precision of the base.
    """
    from peft import PeftConfig, PeftModel
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    try:
        with _quiet_peft():
            own = PeftConfig.from_pretrained(str(folder))
            own.base_model_name_or_path = model.name_or_path  # where peft looks for the vocabulary it goes with
            tuned: Any = PeftModel.from_pretrained(model, str(folder), is_trainable=trained, config=own)
        saved = load_file(folder / "adapter_model.safetensors")
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"adapter {folder} does not fit {config.name}: {_first_line(error)}") from error
    lost = set(saved) ^ set(get_peft_model_state_dict(tuned))
    if lost:
        raise ModelError(
            f"adapter {folder} does not fit {config.name}: {len(lost)} weights differ, such as {min(lost)}"
        )
    if trained and model.dtype != torch.float32:
        _round(tuned, torch.float32, all_of_it=False)
        set_peft_model_state_dict(tuned, saved)
    exact = model.dtype == torch.float32 and config.quantization == "none"
    return tuned.merge_and_unload() if exact and not trained else tuned


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
