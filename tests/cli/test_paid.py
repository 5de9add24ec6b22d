"""What asking costs is said before and after, and a dry run asks nothing and leaves nothing behind."""

import json
from pathlib import Path

import pytest

from tests.evaluate.conftest import write
from tests.servers.stub import Stub, asked, say
from vlmend.cli import main


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    data = write(tmp_path / "VLGuard", safe=3, unsafe=3)
    return ["generate", "--suite", f"vlguard:{data}#test", "--out", str(tmp_path / "run")]


def test_dry_run_then_run_then_nothing_left(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\nmodels: {tiny: {input: 10, output: 20}}")
    with Stub(lambda n, b: say(f"to {asked(b)}")) as stub:
        model = ["--model", f"openai:tiny@{stub.url}?server=plain", "--prices", str(prices)]
        assert main([*words, *model, "--dry-run", "--json"]) == 0
        (before,) = json.loads(capfd.readouterr().out)["models"].values()
        assert stub.bodies == []
        assert not (tmp_path / "run").exists()
        assert before["calls"] > 0
        assert before["cost"] < before["most_cost"]

        assert main([*words, *model, "--budget", "2calls"]) == 2
        told = capfd.readouterr().err
        assert "spent: 2 calls, 20 + 6 tokens, 0.00 EUR" in told
        assert "budget of 2 calls" in told

        assert main([*words, *model, "--dry-run"]) == 0
        assert f"{before['calls'] - 2} calls (2 answers are there)" in capfd.readouterr().out
        assert main([*words, *model]) == 0
        assert len(stub.bodies) == before["calls"]
        capfd.readouterr()
        assert main([*words, *model, "--dry-run"]) == 0
        assert "nothing to ask" in capfd.readouterr().out


def test_an_unknown_price_is_said(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--model", "openai:unheard-of", "--dry-run"]) == 0
    assert "unknown cost (no price in" in capfd.readouterr().out


def test_options_for_servers_are_refused_elsewhere(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--model", "scripted:refuse", "--budget", "2calls"]) == 2
    assert "--budget is for models on servers" in capfd.readouterr().err
