"""Where models and adapters lie, and what their files are. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlmend.errors import ModelError
from vlmend.manifest import file_hash
from vlmend.types import digest

EMBEDDED = "world"
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's max_lora_rank may be


def locate(name: str) -> str:
    """A model name as transformers takes it: the embedded model's folder, a folder, or a Hugging Face id."""
    if name == EMBEDDED:
        from vlmend.world import WEIGHTS

        return str(WEIGHTS)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            hint = "; it holds an adapter, so write BASE+ADAPTER" if (path / "adapter_config.json").exists() else ""
            raise ModelError(f"model folder {name} has no config.json{hint}")
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"no model {name!r}: it is neither {EMBEDDED!r}, nor a folder, nor a Hugging Face id (owner/name)"
        )
    return name


def adapter_folder(name: str) -> Path:
    """Folder of an adapter. Raises ModelError when it holds none."""
    path = Path(name).expanduser()
    if not (path / "adapter_config.json").is_file():
        what = "has no adapter_config.json" if path.is_dir() else "does not exist"
        raise ModelError(f"adapter folder {name} {what}")
    return path


def vllm_rank(folder: Path) -> int:
    """vLLM's `max_lora_rank` for an adapter. Raises ModelError for one that it would not load, or only in part."""
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"adapter {folder} has no LoRA configuration that can be read") from error
    if whole := config.get("modules_to_save"):
        raise ModelError(
            f"adapter {folder} holds whole modules ({', '.join(whole)}), which vLLM does not load; merge it first"
        )
    fitting = [allowed for allowed in VLLM_RANKS if allowed >= rank]
    if not fitting:
        raise ModelError(f"adapter {folder} has rank {rank}; vLLM loads up to {VLLM_RANKS[-1]}")
    return fitting[0]


def weights_hash(folder: str, revision: str | None) -> str:
    """Hash of all weight files of a folder or of a downloaded Hugging Face model."""
    path = Path(folder)
    if not path.is_dir():
        from huggingface_hub import snapshot_download

        path = Path(snapshot_download(folder, revision=revision, local_files_only=True))
    return digest([[p.name, file_hash(p)] for p in _weight_files(path)])


def _weight_files(folder: Path) -> Iterator[Path]:
    names = ("*.safetensors", "pytorch_model*.bin", "config.json", "adapter_config.json")
    yield from sorted({p for pattern in names for p in folder.glob(pattern)})
