"""Where models and adapters lie, and what their files are. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlmend.errors import DataError, ModelError
from vlmend.manifest import file_hash
from vlmend.types import digest

EMBEDDED = "world"
BASE_FILE = "vlmend_base.json"  # beside an adapter of ours: what it was tuned on
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


def tuned_on(adapter: Path) -> dict[str, Any] | None:
    """What an adapter of ours was tuned on; None for one of others. Raises ModelError where that cannot be read."""
    path = adapter / BASE_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {"codec": None, "family": None, **known, "base_weights": str(known["base_weights"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged") from error


def check_base(adapter: Path, weights: str, name: str) -> str:
    """What to say of an adapter on the model `name` with these weights (their hash); empty where they go together.

    An adapter of ours says what weights it was tuned on: on others it is a ModelError, even where its shapes would fit.
    One of others only names its base, which may have been moved or tuned since: where nothing shows that it is this
    model, that is what to say.
    """
    ours = tuned_on(adapter)
    if ours is None:
        return _other_name(adapter, weights, name)
    if ours["base_weights"] != weights:
        raise ModelError(
            f"adapter {adapter} does not fit {name}: it was tuned on other weights ({ours['base_weights'][:12]}…)"
        )
    return ""


def _other_name(adapter: Path, weights: str, name: str) -> str:
    """See `check_base`: by the names alone, and by the weights where the named base is a folder here."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        named = str(config.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{adapter / 'adapter_config.json'} is damaged") from error
    there, here = Path(named).expanduser(), Path(locate(name)).resolve()
    cached = f"models--{named.replace('/', '--')}" in here.parts  # a folder of the Hugging Face cache
    if named in ("", name) or cached or there.resolve() == here:
        return ""
    with suppress(ModelError, DataError):  # what cannot be read shows nothing
        if (there / "config.json").is_file() and weights_hash(str(there), None) == weights:
            return ""
    return f"adapter {adapter} names {named} as its base and is put on {name}: nothing shows that it is the same"


def vllm_rank(folder: Path) -> int:
    """vLLM's `max_lora_rank` for an adapter. Raises ModelError for one that it would not load, or only in part."""
    try:
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        rank = max([int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"adapter {folder} has no LoRA configuration that can be read") from error
    if whole := config.get("modules_to_save"):
        raise ModelError(
            f"adapter {folder} holds whole modules ({', '.join(whole)}), which vLLM does not load;"
            " `vlmend merge` makes one folder of adapter and base"
        )
    try:
        return vllm_fitting(rank)
    except ModelError as error:
        raise ModelError(f"adapter {folder}: {error}; `vlmend merge` makes one folder of adapter and base") from error


def vllm_fitting(rank: int) -> int:
    """The least of the ranks vLLM allows that `rank` fits in. Raises ModelError where there is none."""
    fitting = [allowed for allowed in VLLM_RANKS if allowed >= rank]
    if not fitting:
        raise ModelError(f"vLLM loads adapters up to rank {VLLM_RANKS[-1]}, not {rank}")
    return fitting[0]


# of an adapter's configuration, what says where it came from rather than what it does
PROVENANCE = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision")


def weights_hash(folder: str, revision: str | None) -> str:
    """Hash of all weight files of a folder or of a downloaded Hugging Face model.

    Raises ModelError where the folder's own manifest says that the weights were others.
    """
    path = Path(folder)
    if not path.is_dir():
        from huggingface_hub import snapshot_download

        path = Path(snapshot_download(folder, revision=revision, local_files_only=True))
    hashes = {p.name: file_hash(p) for p in _weight_files(path)}
    _refuse_changed(path, hashes)
    config = path / "adapter_config.json"
    if config.name in hashes:
        hashes[config.name] = _adapter_hash(config)
    return digest([[name, found] for name, found in hashes.items()])


def _refuse_changed(folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise ModelError where a folder of tuned weights, given by their hashes, holds others than its manifest names."""
    try:
        told: dict[str, str] = json.loads((folder / "manifest.json").read_text(encoding="utf-8")).get("weights", {})
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / 'manifest.json'} is damaged") from error
    for name, expected in told.items():
        if name not in hashes:
            raise ModelError(f"{folder} lacks {name}, which its manifest names; restore it, or tune again")
        if hashes[name] != expected:
            raise ModelError(
                f"{folder / name} is not what was tuned: its hash is {hashes[name][:12]}… where the manifest has"
                f" {expected[:12]}…; restore it, or tune again"
            )


def _adapter_hash(path: Path) -> str:
    """Hash of what an adapter's configuration means: peft writes its lists of names in another order each time."""
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        meant = {key: _sorted(value) for key, value in config.items() if key not in PROVENANCE}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged") from error
    return digest(meant)


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else value


def _weight_files(folder: Path) -> Iterator[Path]:
    names = ("*.safetensors", "pytorch_model*.bin", "config.json", "adapter_config.json")
    yield from sorted({p for pattern in names for p in folder.glob(pattern)})
