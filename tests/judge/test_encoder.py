"""A small encoder learns what can be told from the words, and what was saved says the same as what was trained."""

import json
from pathlib import Path

import pytest
import torch
from transformers import RobertaModel

from tests.judge.judges.test_classifier import config, save_tokenizer
from vlmend.cli import main
from vlmend.judge import encoder as judge_encoder
from vlmend.judge.models import Models
from vlmend.registry import judges
from vlmend.types import Example, Finish, Message, Response


def labeled(file: Path, n: int) -> Path:
    with file.open("w") as stream:
        for i in range(n):
            no = i % 2 == 0
            text = f"{'sorry' if no else 'the cat'} {'abcd'[i % 4]} ?"  # words that the tiny encoder knows
            row = {"id": str(i), "question": f"Question {i}?", "answer": text, "cluster": f"c{i}", "refused": no}
            stream.write(json.dumps(row) + "\n")
    return file


def test_an_encoder_learns_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judge_encoder, "LEARNING_RATE", 1e-2)  # that of large encoders moves a tiny one nowhere
    encoder, out = tmp_path / "encoder", tmp_path / "judge"
    torch.manual_seed(0)
    RobertaModel(config({0: "x", 1: "y"})).save_pretrained(encoder)
    save_tokenizer(encoder)
    words = [
        "judge",
        "train",
        str(labeled(tmp_path / "labels.jsonl", 120)),
        "--encoder",
        str(encoder),
        "--epochs",
        "20",
    ]
    assert main([*words, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "encoder"
    assert told["held_out"]["n"] >= 20
    assert told["held_out"]["right"] == told["held_out"]["n"]
    assert (out / "model.safetensors").is_file()
    assert not [*out.glob("*.bin"), *out.glob("*.pkl")]
    again = tmp_path / "again"
    assert main([*words, "--out", str(again)]) == 0
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()  # by its seed
    example = Example("e", (Message("user", ("Question?",)),))
    said = [Response(str(i), "e", text, Finish.STOP) for i, text in enumerate(("sorry c ?", "the cat c ?"))]
    first, second = judges.from_spec(f"classifier:{out}")([(example, response) for response in said], Models())
    assert (first.refused, second.refused) == (True, False)


def test_an_encoder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["judge", "train", str(labeled(tmp_path / "l.jsonl", 40)), "--encoder", str(tmp_path / "none")]
    assert main([*words, "--out", str(tmp_path / "o")]) == 2
    assert "none" in capsys.readouterr().err
