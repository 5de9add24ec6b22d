"""Another evaluator is started as it is told, once, and what it wrote becomes runs; a real one is in tests/peers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.errors import StoreError, UsageError
from vlmend.evaluate.bridge import Wanted, run
from vlmend.store import Run
from vlmend.world import WEIGHTS

# An interpreter with as much of lmms-eval as is asked of it: its version, and a results file of what it was given.
STANDIN = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
if sys.argv[1] == "-c":
    print("0.7.3"); sys.exit()
given = dict(zip(sys.argv[3::2], sys.argv[4::2]))
with open(Path(__file__).with_name("calls"), "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("OPENAI_API_KEY", "")]) + "\\n")
if "fails" in given["--tasks"]:
    sys.exit(3)
out = Path([b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--output_path"][0]) / "m"
out.mkdir(parents=True)
tasks = [b for a, b in zip(sys.argv, sys.argv[1:]) if a == "--tasks"][0].split(",")
(out / "1_results.json").write_text(json.dumps({{
    "results": {{task: {{"acc,none": 0.25}} for task in tasks}}, "configs": {{task: {{}} for task in tasks}},
    "model_name": "m",
}}))
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    file = tmp_path / "env" / "python"
    file.parent.mkdir()
    file.write_text(STANDIN)
    file.chmod(0o755)
    return str(file)


def calls(python: str) -> list[tuple[list[str], str]]:
    file = Path(python).with_name("calls")
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_a_model_is_measured_once_and_its_tasks_become_runs(python: str, tmp_path: Path) -> None:
    words = ["utility", "run", "world", "--tasks", "one,two", "--python", python, "--device", "cpu", "--limit", "7"]
    words += ["--batch-size", "4", "--model-arg", "max_frames_num=1", "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main(words) == 0
        for task in ("one", "two"):
            found = Run.open(tmp_path / "out" / task)
            assert found.metrics()["metrics"]["acc"]["value"] == 0.25
            assert found.settings()["model"] == "world"
    [(command, _)] = calls(python)
    assert command[:4] == ["-m", "lmms_eval", "--model", "llava_hf"]
    settings = dict(item.split("=", 1) for item in after(command, "--model_args").split(","))
    assert settings == {
        "pretrained": str(WEIGHTS), "device": "cpu", "device_map": "cpu", "dtype": "float32", "max_frames_num": "1",
    }  # fmt: skip
    assert (after(command, "--limit"), after(command, "--batch_size"), after(command, "--tasks")) == (
        "7",
        "4",
        "one,two",
    )
    assert "--log_samples" in command


def test_another_command_in_the_same_folder_is_refused(python: str, tmp_path: Path) -> None:
    run("world", Wanted(["one"], python, device="cpu"), tmp_path / "out", print)
    with pytest.raises(StoreError, match="another command"):
        run("world", Wanted(["two"], python, device="cpu"), tmp_path / "out", print)
    assert len(calls(python)) == 1


def test_what_was_broken_off_is_asked_again(python: str, tmp_path: Path) -> None:
    wanted = Wanted(["fails"], python, device="cpu")
    for _ in range(2):
        with pytest.raises(UsageError, match="ended with 3"):
            run("world", wanted, tmp_path / "out", print)
    assert len(calls(python)) == 2


def test_a_served_model_has_its_key_in_the_environment_only(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    monkeypatch.setenv("MINE", "secret-of-mine")
    address = "openai:qwen@http://localhost:8000/v1"
    run(address, Wanted(["one"], python), tmp_path / "a", print)
    run(f"{address}?key_env=MINE", Wanted(["one"], python), tmp_path / "b", print)
    (first, none), (second, mine) = calls(python)
    assert (none, mine) == ("none", "secret-of-mine")  # the key of OpenAI goes nowhere else
    assert after(first, "--model_args") == after(second, "--model_args")
    assert after(first, "--model_args") == "model_version=qwen,base_url=http://localhost:8000/v1"
    assert "secret" not in json.dumps([first, second])


def test_a_dry_run_starts_nothing(python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["utility", "run", "world", "--tasks", "one", "--python", python, "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert "lmms_eval" in capsys.readouterr().err.replace("\n", "")
    assert calls(python) == []
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_one_line(tmp_path: Path, python: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--tasks", "one", "--out", str(tmp_path / "out")]
    for words, says in {
        ("world", "--python", sys.executable): "lmms-eval is not installed",
        ("world", "--python", str(tmp_path / "nowhere")): "cannot be started",
        ("world", "--with", "VLMEvalKit"): "utility import",
        ("world", "--python", python, "--model-arg", "x"): "KEY=VALUE",
        ("openai:m@http://localhost:1/v1?seed=3", "--python", python): "key_env",
    }.items():
        assert main(["utility", "run", *words, *common]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert says in said[-1]
