"""Compiles and loads the device of `fake.cpp`, once per machine, process and PyTorch.

A process has room for one such device and never gets rid of it: call `load` only in one that does nothing else.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

import torch

NAME = "fake"
SOURCE = Path(__file__).with_suffix(".cpp")


def compiler() -> str | None:
    """Path of a C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")


def compiled() -> Path:
    """The library, compiled unless it is there already; of several processes one compiles and the others wait."""
    found = compiler()
    if found is None:
        raise RuntimeError("no C++ compiler")
    identity = hashlib.sha256(SOURCE.read_bytes() + f"{torch.__version__} {torch.__file__} {found}".encode())
    folder = Path(tempfile.gettempdir()) / f"vlmend-fake-device-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to someone else")
    library = folder / f"{identity.hexdigest()[:16]}.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            part = library.with_suffix(".part")
            _compile(found, part)
            part.replace(library)
    return library


def _compile(found: str, library: Path) -> None:
    """Without optimization or debug information, which takes some fifteen seconds."""
    inside = Path(torch.__file__).parent
    includes = [f"-I{inside / 'include'}", f"-I{inside / 'include/torch/csrc/api/include'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = [found, "-std=c++20", "-O0", "-g0", "-w", "-shared", "-fPIC", abi, *includes, str(SOURCE)]
    command += ["-o", str(library), f"-L{inside / 'lib'}", "-lc10", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the fake device does not compile: {done.stderr[:2000]}")


def load() -> None:
    """Make `torch.device("fake")` one that works."""
    torch.ops.load_library(str(compiled()))
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module())
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)


def _module() -> ModuleType:
    """What PyTorch looks for as `torch.fake`. Random numbers are the CPU's."""
    made = ModuleType(f"torch.{NAME}")
    vars(made).update(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        set_device=lambda device: None,
        synchronize=lambda device=None: None,
        manual_seed_all=lambda seed: None,
        _is_in_bad_fork=lambda: False,
        get_rng_state=lambda device=None: torch.get_rng_state(),
        set_rng_state=lambda state, device=None: torch.set_rng_state(state),
        get_amp_supported_dtype=lambda: [torch.bfloat16],
    )
    return made
