"""Other evaluators, started on a model of ours: lmms-eval in an environment of its own, on a folder or a served model.

Nothing of it runs in this process. It writes its results below the run's folder; `evaluate.imported` reads them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmend.config import ModelConfig
from vlmend.errors import ModelError, StoreError, UsageError, nearest
from vlmend.models.merge import merge
from vlmend.models.places import locate
from vlmend.servers.address import OPENAI_KEY, Address, check_variable, key_of
from vlmend.store import read_json, write_atomic

CLASSES = {  # what lmms-eval 0.7.3 calls the models that it loads, by transformers' type
    "llava": "llava_hf", "llava_next": "llava_hf", "qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl", "internvl": "internvl_hf", "gemma3": "gemma3", "mllama": "llama_vision",
}  # fmt: skip
TAKES_DTYPE = ("llava_hf", "llama_vision")
RESULTS, COMMAND, MERGED = "lmms-eval", "command.json", "merged"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured: tasks of lmms-eval, and how it is started.

    `python` is the interpreter of the environment that has it, `include` a folder of further tasks, `kind` the name
    that it has for models of this sort, `more` further settings of that model, `key=value`.
    """

    tasks: Sequence[str]
    python: str = sys.executable
    limit: int | None = None
    batch_size: int = 1
    device: str = "auto"
    include: Path | None = None
    kind: str = ""
    more: Sequence[str] = ()


def run(model: str, wanted: Wanted, out: Path, say: Callable[[str], None], *, dry: bool = False) -> Path:
    """Have lmms-eval measure the model, and return the folder of its results; what the same command found is kept.

    Raises UsageError where it is not there or ends with an error, StoreError where the folder has another command's
    results.
    """
    version = _version(wanted.python)
    results = out / RESULTS
    command = _command(model, wanted, out, results, say, dry=dry)
    say(shlex.join(command))
    if dry:
        return results
    noted = out / COMMAND
    before = read_json(noted) if noted.exists() else {}
    now = {"command": command[1:], "version": version}
    if before and {key: before.get(key) for key in now} != now:
        raise StoreError(f"{out} holds the results of another command ({noted}); choose another folder")
    if before.get("finished"):
        say(f"{out}: lmms-eval has answered this before; nothing is asked again")
        return results
    shutil.rmtree(results, ignore_errors=True)  # of a run that was broken off
    write_atomic(noted, [json.dumps(now).encode()])
    ended = subprocess.run(command, stdout=2, env=_environment(model), check=False)
    if ended.returncode:
        raise UsageError(f"lmms-eval ended with {ended.returncode}; what it said is above")
    write_atomic(noted, [json.dumps({**now, "finished": True}).encode()])
    return results


def _version(python: str) -> str:
    """The version of lmms-eval in an interpreter's environment. Raises UsageError where there is none."""
    asked = "from importlib.metadata import version; print(version('lmms-eval'))"
    try:
        found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"--python {python} cannot be started: {error.strerror}") from error
    if found.returncode:
        raise UsageError(
            f"lmms-eval is not installed for {python}; give it an environment of its own, as its other packages may not"
            " fit ours: uv venv lmms && uv pip install --python lmms lmms-eval, then --python lmms/bin/python"
        )
    return found.stdout.strip()


def _command(
    model: str, wanted: Wanted, out: Path, results: Path, say: Callable[[str], None], *, dry: bool
) -> list[str]:
    kind, settings = _served(model) if model.startswith("openai:") else _local(model, wanted, out, say, dry=dry)
    settings |= _pairs(wanted.more)
    told = [
        wanted.python, "-m", "lmms_eval", "--model", kind, "--model_args", _joined(settings),
        "--tasks", ",".join(wanted.tasks), "--batch_size", str(wanted.batch_size), "--log_samples",
        "--output_path", str(results),
    ]  # fmt: skip
    told += ["--limit", str(wanted.limit)] if wanted.limit else []
    return told + (["--include_path", str(wanted.include)] if wanted.include else [])


def _served(model: str) -> tuple[str, dict[str, str]]:
    """A model on a server; the key is in the environment and never in the command."""
    address, _ = _address(model)
    return "openai", {"model_version": address.name, "base_url": address.url}


def _address(model: str) -> tuple[Address, str]:
    """Where the server is, and which environment variable has its key. Raises UsageError for any other option."""
    spec, _, options = model.removeprefix("openai:").partition("?")
    name, _, variable = options.partition("=")
    if options and (name != "key_env" or "&" in options):
        raise UsageError(f"{model}: of a server's options only key_env=NAME is passed on to lmms-eval")
    check_variable(variable)
    return Address.parse(spec), variable


def _local(
    model: str, wanted: Wanted, out: Path, say: Callable[[str], None], *, dry: bool
) -> tuple[str, dict[str, str]]:
    """A folder or a hub id; an adapter is merged into its base first, as these classes load none."""
    config = ModelConfig.from_spec(model)
    place = locate(config.name)
    if config.family:
        say(f"family options ({', '.join(config.family)}) are ours: lmms-eval asks with the model's own template")
    kind = wanted.kind or _kind(place, config)
    if config.adapter:
        folder = out / MERGED
        if not dry and not (folder / "manifest.json").exists():
            say(f"merging {config.adapter} into {config.name} …")
            merge(config, folder)
        place = str(folder)
    if kind == "vllm":
        return kind, {"model": place}
    device = _device(wanted.device)
    settings = {"pretrained": place, "device": device, "device_map": device}
    if kind in TAKES_DTYPE and device == "cpu":
        settings["dtype"] = "float32"
    if config.revision:
        settings["revision"] = config.revision
    return kind, settings


def _kind(place: str, config: ModelConfig) -> str:
    from transformers import PreTrainedConfig

    try:
        declared = PreTrainedConfig.get_config_dict(place, revision=config.revision)[0]
    except (OSError, ValueError) as error:
        raise ModelError(f"model {config.name} does not load: {str(error).splitlines()[0]}") from error
    kind = str(declared.get("model_type", ""))
    if kind not in CLASSES:
        raise UsageError(
            f"{config.name} is a {kind or 'nameless'} model; which of lmms-eval's models loads it? say"
            f" --as NAME, such as vllm.{nearest(kind, CLASSES)} Known by type: {', '.join(CLASSES)}"
        )
    return CLASSES[kind]


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _pairs(given: Sequence[str]) -> dict[str, str]:
    for item in given:
        if "=" not in item or "," in item:
            raise UsageError(f"--model-arg {item}: should be KEY=VALUE, without a comma")
    return dict(item.split("=", 1) for item in given)


def _joined(settings: Mapping[str, str]) -> str:
    for key, value in settings.items():
        if "," in value:
            raise UsageError(f"{key}={value}: lmms-eval parts its settings by commas, so none may have one in it")
    return ",".join(f"{key}={value}" for key, value in settings.items())


def _environment(model: str) -> Mapping[str, str]:
    """The environment; what their client takes for a key is that of this server, or a word where it wants none."""
    if not model.startswith("openai:"):
        return os.environ
    return {**os.environ, OPENAI_KEY: key_of(*_address(model)) or "none"}
