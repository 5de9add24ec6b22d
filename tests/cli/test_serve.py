"""What `vlmend serve` prints is a command of the installed transformers, or of vLLM by its documented flags."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from vlmend.cli import main
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


def test_an_adapter_of_another_base_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "base_model_name_or_path": "someone/other"}')
    assert main(["serve", f"world+{tmp_path}"]) == 0
    assert "names someone/other as its base and is put on world" in capsys.readouterr().err
    (tmp_path / "vlmend_base.json").write_text('{"base_weights": "of something else"}')
    assert main(["serve", f"world+{tmp_path}"]) == 2
    assert "was tuned on other weights" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["wrld"], ["world+nowhere"], ["world+{tmp}", "--with", "transformers"]])
def test_what_cannot_be_served_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 8}')
    assert main(["serve", *(w.replace("{tmp}", str(tmp_path)) for w in words)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
