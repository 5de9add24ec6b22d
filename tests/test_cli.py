"""The command line as its users meet it: fast, one object on stdout, one line and exit 2 for every bad input."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.evaluate.conftest import write
from vlmend.cli import application, main
from vlmend.store import read_rows

VLMEND = [sys.executable, "-c", "import sys; from vlmend.cli import main; sys.exit(main())"]


@pytest.fixture
def vlguard(tmp_path: Path) -> Path:
    return write(tmp_path / "VLGuard", safe=4, unsafe=6)


def words(vlguard: Path, out: Path, *more: str, model: str = "scripted:ideal") -> list[str]:
    return ["eval", "--model", model, "--suite", f"vlguard:{vlguard}#test", "--out", str(out), *more]


# Speed and shape


@pytest.mark.parametrize("command", [["--help"], ["--version"]])
def test_starts_within_half_a_second(command: list[str]) -> None:
    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*VLMEND, *command], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize("command", [["--help"], ["list"], ["eval", "--help"], ["list", "judges", "--json"]])
def test_imports_nothing_heavy(command: list[str]) -> None:
    code = "import sys\nfrom vlmend.cli import main\nmain(sys.argv[1:])\nprint(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    for heavy in ("torch", "transformers", "peft", "accelerate", "datasets", "matplotlib", "openai"):
        assert f"'{heavy}'" not in done.stderr


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    def commands(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for name, command in getattr(group, "commands", {}).items():
            yield (*above, name)
            yield from commands(command, (*above, name))

    names = list(commands(typer.main.get_command(application())))
    assert {("demo",), ("data", "show"), ("tune",), ("eval",), ("judge", "run"), ("report",)} <= set(names)
    for name in names:
        assert main([*name, "--help"]) == 0
        assert "Usage: vlmend" in capsys.readouterr().out


def test_the_package_runs_as_the_command_does() -> None:
    for module in ([sys.executable, "-m", "vlmend"], VLMEND):
        done = subprocess.run([*module, "power", "--base", "0.3"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("vlmend: give either --n")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "judges", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["plugins"]
    assert {"exact", "refusal"} <= {row["name"] for row in rows}
    assert all(row.keys() == {"kind", "name", "summary"} and all(row.values()) for row in rows)
    assert main(["list", "--json"]) == 0
    assert {row["kind"] for row in json.loads(capsys.readouterr().out)["plugins"]} >= {"judges", "attacks", "suites"}
    assert main(["list", "judge"]) == 0
    assert "refusal" in capsys.readouterr().out


# The main job


def test_eval_json(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(vlguard, tmp_path / "r", "--attack", "one_word:what", "--json")) == 0
    [found] = json.loads(capsys.readouterr().out)["runs"]
    assert found["run"] == str(tmp_path / "r")
    assert (found["model"], found["suite"], found["protocol"]) == ("scripted:ideal", "vlguard", "default")
    assert (found["attack"], found["generated"], found["kept"]) == (["one_word:what"], 14, 0)
    assert found["metrics"]["asr"].keys() == {"k", "n", "unscored", "value", "low", "high", "worst"}
    assert found["metrics"]["asr"]["n"] == 10
    assert main(words(vlguard, tmp_path / "r", "--attack", "one_word:what", "--json")) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == {"runs": [{**found, "generated": 0, "kept": 14}]}
    assert "nothing new" in again.err


def test_stages(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eval_words = words(vlguard, tmp_path / "r", "--json")
    assert main(["generate", *eval_words[1:]]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["generated"] == 14
    assert main(["judge", str(tmp_path / "r"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["judged"] == 28
    assert main(["score", str(tmp_path / "r"), "--json"]) == 0
    [scored] = json.loads(capsys.readouterr().out)["runs"]
    assert main(eval_words) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["metrics"] == scored["metrics"]


def test_tables_for_people(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(vlguard, tmp_path / "a")) == 0
    assert "asr_unsafe" in capsys.readouterr().out
    assert main(words(vlguard, tmp_path / "b", model="scripted:comply")) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "b"), str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "made safe" in out
    assert "What" not in out or "Share who took picture 0." in out
    assert main(["compare", str(tmp_path / "b"), str(tmp_path / "a"), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["metrics"]["asr"]["lost"] == 10


def test_several_suites(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--suite", f"vlguard:{vlguard}?protocol=published", "--json"]
    assert main(words(vlguard, tmp_path / "r", *more)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["protocol"] for run in found["runs"]] == ["default", "published"]
    assert main(["score", str(tmp_path / "r"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2


def test_too_much_unscored_exits_with_1(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"id": f"vlguard/test/HOD_{i}/0", "text": "No."}) + "\n" for i in range(10)))
    given = words(vlguard, tmp_path / "r", "--json", model=f"scripted:{answers}")
    assert main(given) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["runs"][0]["metrics"]["asr_safe_unsafe"]["unscored"] == 4
    assert "could not be scored" in captured.err
    assert main([*given, "--max-unscored", "1"]) == 0


# Bad input: one line, exit 2


def bad_folder(tmp_path: Path, text: str) -> str:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "test.json").write_text(text)
    return f"vlguard:{tmp_path / 'bad'}#test"


def one_line(capsys: pytest.CaptureFixture[str], given: list[str], *said: str) -> None:
    capsys.readouterr()
    assert main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = [text for text in captured.err.splitlines() if text and not text.startswith("loading ")]
    assert line.startswith("vlmend: ")
    for text in said:
        assert text in line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["evl"], ["evl", "eval"]),
        (["eval", "--modle", "x"], ["--modle", "--model"]),
        (["eval"], ["--model"]),
        (["list", "judgs"], ["judgs", "judges"]),
        (["score", "absent"], ["absent"]),
        (["judge", "."], ["manifest.json"]),
        (["compare", "a"], ["B"]),
        (["compare", "a", "b"], ["not a folder"]),
        (["data", "show", "nosuch:x"], ["nosuch", "vlguard"]),
        (["data", "show", "vlguard:absent"], ["absent"]),
        (["tune", "absent.yaml"], ["absent.yaml"]),
        (["data", "show", "vlguard"], ["vlguard:PATH"]),
        (["data", "show", "world:safety?n=-1"], ["n must be at least 1 (got -1)"]),
        (["data", "sample", "vlguard", "--out", "/dev/null/sample"], ["/dev/null/sample cannot be used"]),
        (["data", "export", "world:safe?n=1", "--format", "trl", "--out", "/dev/null/x"], ["/dev/null/x cannot be"]),
        (["eval", "--model", "scripted:refuse", "--suite", "world?n=1", "--out", "/dev/null"], ["cannot be written"]),
        (["eval", "--model", "world", "--suite", "wrld", "--out", "x"], ["wrld", "'world'"]),
        (["eval", "--model", "world", "--suite", "world?m=3", "--out", "x"], ["'m'"]),
        (["eval", "--model", "world", "--suite", "world", "--out", "x", "--limit", "0"], ["--limit"]),
        (["eval", "--model", "world", "--suite", "world", "--out", "x", "--attack", "one_wrod:a"], ["'one_word'"]),
        (["eval", "--model", "world", "--suite", "world", "--out", "x", "--judge", "refusl"], ["'refusal'"]),
        (
            ["eval", "--model", "opnai:a@b", "--suite", "world:test?n=2", "--out", "x"],
            ["opnai", "hf, openai, scripted"],
        ),
        (["eval", "--model", "./absent", "--suite", "world:test?n=2", "--out", "x"], ["./absent"]),
        (["eval", "--model", "world+absent", "--suite", "world:test?n=2", "--out", "x"], ["absent"]),
        (["eval", "--model", "world", "--suite", "world:test?n=2", "--out", "x", "--device", "gpu9"], ["gpu9"]),
        (["eval", "--model", "scripted:nosuch", "--suite", "world:test?n=2", "--out", "x"], ["nosuch"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_words(
    given: list[str],
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(capsys, given, *said)


@pytest.mark.parametrize(
    ("text", "said"),
    [("[", "not valid JSON"), ("[]", "no examples"), ("{}", "list"), ('[{"id": "a"}]', "row 0"), ("", "JSON")],
)
def test_bad_data(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = bad_folder(tmp_path, text)
    one_line(capsys, ["eval", "--model", "scripted:refuse", "--suite", suite, "--out", str(tmp_path / "r")], said)
    assert not (tmp_path / "r").exists()


def test_bad_pictures(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = vlguard / "test" / "HOD" / "0.png"
    for content, says in (
        (b"", "empty"),
        (b"this is text", "not a readable picture"),
        (picture.read_bytes()[:50], "0.png"),
    ):
        picture.write_bytes(content)
        assert main([*words(vlguard, tmp_path / says), "--max-unscored", "0.5"]) == 0
        told = capsys.readouterr().err
        assert "2 records could not be scored" in told
        assert says in told
        assert "0.png" in told
    assert main(words(vlguard, tmp_path / "strict")) == 1
    capsys.readouterr()
    picture.unlink()
    one_line(capsys, words(vlguard, tmp_path / "r"), "1 ")


def test_bad_rows_and_runs(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "text": "b"}\n{"id": "a", "te\n')
    one_line(capsys, words(vlguard, tmp_path / "x", model=f"scripted:{rows}"), "line 2")
    assert main(words(vlguard, tmp_path / "r")) == 0
    one_line(capsys, words(vlguard, tmp_path / "r", model="scripted:refuse"), "another run", "model")
    journal = tmp_path / "r" / "responses.jsonl"
    journal.write_text("{\n" + journal.read_text())
    one_line(capsys, words(vlguard, tmp_path / "r"), "damaged in line 1")
    one_line(capsys, words(vlguard, rows / "r"), "cannot be written")
    (tmp_path / "r" / "manifest.json").write_text("{")
    one_line(capsys, words(vlguard, tmp_path / "r"), "manifest.json")


def test_adapter_of_another_model(vlguard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.models import tiny
    from vlmend.config import ModelConfig
    from vlmend.models.load import load, save

    llava, qwen = (tiny.save(name, tmp_path / name) for name in ("llava", "qwen2_vl"))
    save(load(ModelConfig(name=str(llava), device="cpu"), for_training=True), tmp_path / "adapter")
    given = words(vlguard, tmp_path / "r", "--device", "cpu", model=f"{qwen}+{tmp_path / 'adapter'}")
    one_line(capsys, given, "adapter", "does not fit")
    less = ("--device", "cpu", "--max-new-tokens", "2", "--max-unscored", "1", "--limit", "3")
    right = words(vlguard, tmp_path / "r", *less, model=f"{llava}+{tmp_path / 'adapter'}")
    assert main([*right, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["generated"] == 3


def test_bad_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: {nmae: world}\ndata: {mix: [{source: world}]}\noutput: {dir: out}\n")
    one_line(capsys, ["tune", str(recipe)], "nmae", "'name'")
    recipe.write_bytes(b"model: \x91\xff\x00")
    one_line(capsys, ["tune", str(recipe)], "recipe.yaml is no text in UTF-8")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["output.dir={recipe}"], "is no folder that may be written to"),
        (["output.dir={recipe}/below"], "is no folder that may be written to"),
        (["train.max_steps=-5"], "greater than or equal to -1"),
        (["data.mix.0.n=-1"], "'data.mix.0.n': input should be greater than 0 (got -1)"),
        (["data.mix.0.n=100000"], "asks for 100,000 examples and has"),
        (["model.device=gpu7"], "no device 'gpu7'"),
        (["model.device=meta"], "device 'meta' is not what there is to tune on"),
    ],
)
def test_a_recipe_that_cannot_be_followed_ends_before_the_model_is_loaded(
    settings: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vlmend.models import load

    monkeypatch.setattr(load, "load", None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {name: world}\ndata: {mix: [{source: 'world?n=2'}]}\noutput: {dir: %s}\n" % (tmp_path / "o")
    )
    given = [word for item in settings for word in ("--set", item.format(recipe=recipe))]
    one_line(capsys, ["tune", str(recipe), *given], said)


def test_traceback_only_with_debug(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nosuch"):
        main(["data", "show", "nosuch:x", "--debug"])


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vlmend.evaluate.run.score_only", interrupted)
    monkeypatch.setattr("vlmend.store.find_runs", interrupted)
    assert main(["score", "r"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_interrupted_eval_keeps_what_was_done(vlguard: Path, tmp_path: Path) -> None:
    given = words(vlguard, tmp_path / "r", model="scripted:ideal?seconds=2")
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background are started to ignore it
    child = subprocess.Popen([*VLMEND, *given], stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    journal = tmp_path / "r" / "responses.jsonl"
    while child.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert err.strip().endswith("vlmend: interrupted; what was done is kept")
    assert read_rows(journal)


def test_reader_that_goes_away_is_no_error() -> None:
    command = " ".join([f"'{word}'" for word in VLMEND])
    done = subprocess.run(f"{command} list | head -1", shell=True, capture_output=True, text=True, env=os.environ)
    assert done.stdout == "objectives\n"
    assert "Traceback" not in done.stderr


def test_an_argument_that_is_no_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "jsonl:\ud83d.jsonl"]) == 2
    assert capsys.readouterr().err == "vlmend: the argument 'jsonl:\\ud83d.jsonl' is not UTF-8\n"
