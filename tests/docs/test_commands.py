"""Every command that a page or a recipe's comment shows is run, page by page and in order, at a small size.

Models and data that a reader brings are stood in for by the embedded model, by samples of the published layouts and by
a server of our own, so no command needs to be left out; one of a kind that is not known here fails.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.docs.pages import PAGES, RECIPES, ROOT, Block, Command, blocks, comments, recorded
from tests.published import lay_out
from tests.servers.stub import Act, Stub, say
from vlmend import cli
from vlmend.build.decisions import run_id
from vlmend.build.drafts import made
from vlmend.cli import demo, main
from vlmend.front.server import Front
from vlmend.report.review import Decision, write_decisions
from vlmend.world import WEIGHTS

SHOWN = [(path, found) for path in (*PAGES, *RECIPES) if (found := blocks(path, "sh") or comments(path))]

# What stands for the reader's own. The rest of what a page names is there, or made by a command further up.
WORDS = {
    r"\[(-[^\]…]*)\]": r"\1",  # optional, so it is given
    r"\[[^\]]*…\]": "",  # once more of the same
    r"vlmend eval … ": "vlmend eval --model world --suite 'vlguard:data/VLGuard#test' --out runs/more ",
    r" …$": " --suite world --out runs/more",
    r"--format F --out O": "--format trl --out rows_trl.jsonl",
    r"sample NAME --out DIR": "sample vlguard --out sampled",
    r"--out DIR": "--out runs/made",
    r" --set method.server=\S+": "",  # a vLLM, which tests/engines has
    r"openai:NAME@http://localhost:8000/v1": "openai:tiny@{server}",
    r"http://127.0.0.1:8000/v1": "{server}",
    r"openai:gpt-4o\b": "openai:gpt-4o@{server}",
    r"\b(MODEL|BASE)\b": "world",
    r"\bSUITE\b": "world",
    r"\b(SOURCE|OTHER)\b": "vlguard:data/VLGuard#train",
    r"\bRESULTS\b": "lmms",
    r"\bRECIPE\b": "mixes/safeeraser",
    r"\bRUN\b": "runs/given",
    r"\bDIR\b": "data/VLGuard",
    r"\bn=7680\b": "n=400",
    r"unlearn_\{[a-z,]*\} --base": "unlearn_npo --grid train.max_steps=1",
    r"pd=false,true --grid train.seed=0,1,2": "pd=true --grid train.seed=0",
    r"unlearn_sft world/pref_\{dpo,kto\} world/rl_\{start,ppo,grpo\} --grid train.seed=0,1,2": (
        "pref_kto --grid train.max_steps=1 --grid train.seed=0 --limit 4"
    ),
    r"n=60\b": "n=4",
    r"sweep --file (sweeps/\w+)": (
        r"sweep unsafe_concepts/sft --file \1 --grid train.max_steps=1 --workers 2"
        " --grid train.per_device_train_batch_size=1 --grid train.gradient_accumulation_steps=1"
        " --suite 'unsafe_concepts:data/UnsafeConcepts?ask=perception' --condition again='mme:data/MME?category=OCR'"
        " --metric perception --safety perception --utility perception --limit 8"
    ),
    r"(tune vlguard_posthoc)": r"\1 --set data.mix.1.n=8",  # the sample has 16 conversations
    # a start of two steps samples nothing that differs
    r"(tune world/(?:rl_(?:grpo|rloo|ppo)|concepts_ppo)\b)": r"\1 --set method.temperature=3.0"
    " --set method.max_new_tokens=48 --set 'method.rewards=[length]'",
    r"(export rl world/rl_grpo)": r"\1 --set data.mix.0.n=8",
    # a model that was tuned for two steps answers nothing right, so that nothing of its own could be kept
    r"(tune world/thinker)$": r"\1 --set data.mix.0.n=8 --set data.mix.1.n=8 --set data.mix.2.n=8",
    r"(tune world/thinker_safety\b)": r"\1 --set data.mix.0.n=8",
    r"thinking=none,keep_own --grid train.max_steps=30,100": "thinking=mask --grid train.max_steps=1",
    r"train.seed=0,1,2 --suite 'reasoning:\(world\?n=100": "train.seed=0 --suite 'reasoning:(world?n=3",
    r"--thinking-budget 24": "--thinking-budget 4",
    r"&as_coded=true": "",  # an option of LLaVA-1.5 alone, which the embedded model is not
}
MORE = {  # options that make a command smaller; they stand last, and the last one counts
    "tune": ("--set", "train.max_steps=2", "--set", "train.per_device_train_batch_size=2"),
    "eval": ("--limit", "4", "--max-new-tokens", "8", "--max-unscored", "1"),
    "paper": ("--limit", "2", "--max-new-tokens", "4", "--max-unscored", "1", "--judge-controls", "none"),
    "generate": ("--limit", "4", "--max-new-tokens", "8"),
    "reward": ("--data", "world:preference#test?n=4"),
    "mirage": ("--limit", "12", "--samples", "1", "--max-new-tokens", "8", "--opening", "what", "--closing", "share"),
    "tamper": ("--limit", "4", "--relearn", "0,1", "--steps", "1", "--adapter", "0", "--quantize", "8",
               "--max-new-tokens", "8"),
}  # fmt: skip
YOURS = {"json": "mine.jsonl", "yaml": "mine.yaml"}  # as what a reader keeps rows and a recipe that a page shows
FOUND_SOMETHING = ("data check",)  # exit code 1 is as good as 0
NEEDS = {"export inspect": "inspect_ai"}  # a package that is not always there: then the command must say so


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of any page may have: pictures, a model, an adapter, a run, conversations."""
    top = tmp_path_factory.mktemp("given")
    lay_out(top)
    (top / "llava-hf").mkdir()
    (top / "llava-hf" / "llava-1.5-7b-hf").symlink_to(WEIGHTS)
    rows = [
        {"id": f"{i}", "prompt": f"{opener} number {i}?", "answer": answer, "expected": expected}
        for i in range(40)
        for opener, answer, expected in [[("What is", "A ring.", "answer"), ("Can you", "I can't.", "refuse")][i % 2]]
    ]
    for name in ("conversations.jsonl", "rows.jsonl"):
        (top / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (top / "pics").mkdir()
    Image.new("RGB", (24, 24), "green").save(top / "pics" / "1.png")
    (top / ".venv" / "bin").mkdir(parents=True)
    (top / ".venv" / "bin" / "activate").touch()
    (top / "lmms").mkdir()
    (top / "lmms" / "1_results.json").write_text(
        json.dumps({"results": {"mme": {"mme_cognition_score,none": 290.5}}, "configs": {"mme": {}}, "model_name": "m"})
    )
    here = Path.cwd()
    os.chdir(top)
    try:
        assert sized(["tune", "world/sft_biased", "--out", "runs/tuned"]) == 0
        assert sized(["eval", "--model", "world", "--suite", "world", "--out", "runs/given"]) == 0
    finally:
        os.chdir(here)
    shutil.copytree(top / "runs" / "tuned", top / "out" / "safer")
    return top


@pytest.fixture
def folder(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it beside the repository's recipes, where this test then is."""
    shutil.copytree(given, tmp_path, symlinks=True, dirs_exist_ok=True)
    for name in ("bench", ".pre-commit-config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").mkdir()  # a page may be written anew
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Front, "run", Front.end)  # it listens, and ends as if a signal had come
    monkeypatch.setattr(demo, "FULL", demo.Size((demo.BIASED, demo.BALANCED), examples=320, steps=2, n=8, samples=0))
    return tmp_path


@pytest.fixture
def server() -> Iterator[str]:
    """Gives what it is asked for: an object where the request has a schema, else a sentence."""

    def behave(number: int, body: dict[str, Any]) -> Act:
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return say("It is a ring." if schema is None else json.dumps(fitting(schema)))

    with Stub(behave, models={"tiny": "vllm", "gpt-4o": "vllm"}) as stub:
        yield stub.url


def fitting(schema: dict[str, Any]) -> Any:
    """A value that a JSON schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: fitting(part) for name, part in schema["properties"].items()}
    return {"string": "because", "integer": schema.get("minimum", 1), "number": 1, "boolean": True}[schema["type"]]


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: str(page[0].relative_to(ROOT)))
def test_what_a_page_shows_runs(
    page: tuple[Path, list[Block]], folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, name in YOURS.items():
        for block in blocks(page[0], kind):
            (folder / name).write_text(block.text)
    for block in page[1]:
        for command in recorded(smaller(block, server), folder):
            run(command, monkeypatch)


def smaller(block: Block, server: str) -> Block:
    text = block.text
    for pattern, word in WORDS.items():
        text = re.sub(pattern, word.replace("{server}", server), text, flags=re.M)
    return Block(block.page, block.line, block.kind, text)


def sized(words: list[str]) -> int:
    """The command line, at a small size."""
    more = MORE.get(words[0], ())
    if "--answers" in words:  # which are as long as they are
        more = ("--max-unscored", "1")
    return main([*words, *more])


def run(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it here, or fail with its place."""
    words = command.arguments
    match command.program:
        case "vlmend":
            decide(words)
            code = sized(words)
            named = " ".join(words[:2])
            expected = {0, 1} if named in FOUND_SOMETHING else {0}
            if named in NEEDS and importlib.util.find_spec(NEEDS[named]) is None:
                expected = {2}
            assert code in expected, f"{command.where}: vlmend {' '.join(words)} ended with {code}"
        case "python":
            assert words[0].startswith("bench/"), f"{command.where}: which script is {words[0]}?"
            monkeypatch.setattr(sys, "argv", words)
            monkeypatch.setattr(cli, "main", sized)  # for scripts that are rows of commands
            runpy.run_path(words[0], run_name="__main__")
        case "make":
            subprocess.run(["make", "--directory", str(ROOT), "--dry-run", *words], check=True, capture_output=True)
        case "pre-commit":
            assert words == ["install"], f"{command.where}: pre-commit {words}?"
            assert Path(".pre-commit-config.yaml").is_file()
        case other:
            pytest.fail(f"{command.where}: there is no test of how to run {other!r}")


def decide(words: list[str]) -> None:
    """Write the files of decisions that a command names: all drafts of its run are accepted."""
    for file in (after for before, after in pairwise(words) if before == "--decisions"):
        out = Path(words[1])
        accepted = {f"{draft.set}/{draft.row.id}": Decision("accept") for each in made(out) for draft in each.drafts}
        write_decisions(accepted, Path(file), run=run_id(out))
