"""Makes torchvision importable where its build expects another torch: only its transforms are needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path


def works(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def main() -> None:
    for module in ("torchaudio", "torchcodec"):  # transformers imports them where they lie, working or not
        if importlib.util.find_spec(module) and not works(module):
            found = importlib.util.find_spec(module)
            if found and found.origin:
                Path(found.origin).parent.rename(Path(found.origin).parent.with_name(f"{module}.unused"))
    found = importlib.util.find_spec("torchvision")
    if found and found.origin and not works("torchvision"):
        for name in (
            "_meta_registrations.py",
            "_autograd_registrations.py",
        ):  # of compiled operators that are not there
            (Path(found.origin).parent / name).write_text("")
    assert works("torchvision.transforms.v2"), "torchvision does not work in this environment"


if __name__ == "__main__":
    main()
