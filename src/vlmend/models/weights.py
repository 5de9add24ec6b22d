"""Files of weights: read whole, or refused in one line that names the file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vlmend.errors import StoreError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file by name, on the CPU.

    Raises StoreError for one that is cut, pickled or not there.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise StoreError(f"there is no {path}") from error
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} is damaged or no safetensors file ({reason})") from error
