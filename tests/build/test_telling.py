"""What a run tells, and what it spends: every start has its reason, every call its payer, every number its head."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.build.generator import Generator, draw
from tests.build.test_run import command, report
from tests.servers.stub import Act, Stub, say
from vlmend.build import prompts
from vlmend.build.drafts import made
from vlmend.cli import main
from vlmend.data import read
from vlmend.errors import ConfigError

TRUNCATED, BROKEN, EMPTY = "0001t.png", "0002b.png", "0004e.png"


def spoil(folder: Path) -> None:
    """Three files that are no pictures beside those that are: one is found out by decoding it only."""
    whole = (folder / "0001.png").read_bytes()
    (folder / TRUNCATED).write_bytes(whole[: len(whole) // 2])
    (folder / BROKEN).write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / EMPTY).write_bytes(b"")


class ByName(Generator):
    """Says who was asked how often, too."""

    def __call__(self, number: int, body: dict[str, Any]) -> Act:
        self.named[body["model"]] += 1
        return super().__call__(number, body)

    @property
    def named(self) -> Counter[str]:
        return self.__dict__.setdefault("_named", Counter())


def other(stub: Stub) -> str:
    return f"openai:other@{stub.url}?backoff=0.01&server=plain"


def test_what_is_no_picture_is_unfit_for_good_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 6)
    spoil(tmp_path / "p")
    generator = Generator(scenes)
    with Stub(generator) as stub:
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
        assert told["starts"] == {"done before": 0, "made": 6, "unfit": 3}
        assert {"kind": "unfit", "stage": "start", "count": 3}.items() <= told["lost"][0].items()
        lost = {each.start: each.losses[0].why for each in made(tmp_path / "run") if each.losses}
        assert set(lost) == {TRUNCATED, BROKEN, EMPTY}
        assert all(name in why for name, why in lost.items())
        calls = sum(generator.calls.values())
        again = report(capsys, command(stub, tmp_path / "p", tmp_path / "run"))
    assert again["starts"] == {"done before": 9}
    assert again["lost"] == told["lost"]
    assert sum(generator.calls.values()) == calls


def test_a_picture_that_is_none_costs_its_neighbors_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 8, harmful=1)
    with Stub(Generator(scenes)) as stub:
        words = ["--model", "treated=scripted:comply"]
        pipeline = "safeeraser?taxonomy=world"
        well = report(capsys, command(stub, tmp_path / "p", tmp_path / "well", *words, pipeline=pipeline))
        (tmp_path / "p" / BROKEN).write_bytes(b"no picture")
        told = report(capsys, command(stub, tmp_path / "p", tmp_path / "run", *words, pipeline=pipeline))
        dry = main([*command(stub, tmp_path / "p", tmp_path / "dry", *words, "--dry-run", pipeline=pipeline)])
    assert dry == 0
    out = capsys.readouterr().out
    assert "8 starts" in out
    assert f"1 cannot be shown, such as {BROKEN}" in out
    assert told["starts"] == {**well["starts"], "unfit": 1}
    assert told["calls"] == well["calls"]


def test_every_number_stands_under_its_own_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = draw(tmp_path / "p", 6)
    (tmp_path / "p" / "again.png").write_bytes((tmp_path / "p/0000.png").read_bytes())
    with Stub(Generator(scenes)) as stub:
        words = command(stub, tmp_path / "p", tmp_path / "run")
        told = report(capsys, words)
        assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    row = told["sets"]["train"]
    assert row["drafts"] > row["rows"]
    head = next(line for line in lines if "drafts" in line)
    found = next(line for line in lines if line.strip().startswith("train "))
    for name, number in (("drafts", row["drafts"]), ("kept", row["rows"])):
        end = head.index(name) + len(name)  # numbers end where their head does
        assert found[:end].split()[-1] == str(number)
    assert head.split()[0] == "set"


def test_a_second_generator_is_asked_within_the_limit_and_from_the_same_purse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 12)
    generator = ByName(scenes)
    with Stub(generator) as stub:
        words = command(stub, tmp_path / "p", tmp_path / "run", "--limit", "4", "--second", other(stub))
        told = report(capsys, words)
        first = dict(generator.named)
        assert first["other"] == 4
        assert first["gen"] == sum(told["calls"]["asked"].values())
        assert sorted(each["calls"] for each in told["cost"]["models"].values()) == sorted(first.values())
        looked = [row for row in told["agreement"] if row["stage"] == "look"]
        assert [row["asked"] for row in looked] == [4] * len(looked)
        report(capsys, words)
        assert dict(generator.named) == first
        planned = report(capsys, [*words[:-2], "--second", other(stub), "--dry-run"])
        assert any("other" in name for name in planned["models"])
        few = command(stub, tmp_path / "p", tmp_path / "few", "--limit", "4", "--second", other(stub))
        asked = first["gen"] + 2
        generator.named.clear()
        assert main([*few, "--budget", f"{asked}calls"]) == 2
    assert "does not reach" in capsys.readouterr().err
    assert sum(generator.named.values()) <= asked


def test_a_command_that_cannot_be_meant_leaves_the_folder_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 2)
    generator = Generator(scenes)
    with Stub(generator) as stub:
        words = command(stub, tmp_path / "p", tmp_path / "run")
        assert main([*words, "--second", "nosuch"]) == 2
        assert "nosuch" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
        assert not generator.calls
        assert main(command(stub, tmp_path / "none", tmp_path / "run")) == 2
        report(capsys, words)
        capsys.readouterr()
        assert main([*words[:4], other(stub), *words[5:]]) == 2
    error = capsys.readouterr().err
    assert f"generator is openai:gen@{stub.url}" in error
    assert "openai:other@" in error
    assert len(error.strip().splitlines()) == 1


def test_what_a_model_says_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "p", 1)
    said = {"harmful": True, "category": "\x1b[31mred\x07", "why": "w", "seen": "s"}
    with Stub(lambda number, body: say(json.dumps(said))) as stub:
        assert main(command(stub, tmp_path / "p", tmp_path / "run")) == 0
    out = capsys.readouterr().out
    assert "unfit at look: 1" in out
    assert "\x1b" not in out
    assert "\x07" not in out


@pytest.mark.parametrize(
    ("old", "new"),
    [("{policy}", "{policy:>9}"), ("{policy}", "{policy!r}"), ("{policy}", "{policy"), ("{", "{nothing}{")],
)
def test_prompts_that_cannot_be_filled_are_told_before_anything_is_asked(tmp_path: Path, old: str, new: str) -> None:
    shipped = (prompts.FOLDER / "vlguard.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(shipped.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"own\.yaml"):
        prompts.load("vlguard", tmp_path / "own.yaml")


def test_prompts_in_another_encoding_are_told(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"version: 1\nlook: \xff\n")
    with pytest.raises(ConfigError, match=r"own\.yaml cannot be read"):
        prompts.load("vlguard", tmp_path / "own.yaml")


@pytest.mark.parametrize(("rows", "passed"), [("world:utility?n=4", 0), ("world:safety?n=8", None)])
def test_rows_that_a_pipeline_does_not_begin_with_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, passed: int | None
) -> None:
    words = ["build", "replay?judge=", rows, "--model", "base=scripted:comply", "--out", str(tmp_path / "run")]
    told = report(capsys, words)
    all_ = [*read(rows)]
    over = sum(row.expected != "answer" for row in all_)
    assert told["starts"].get("passed over", 0) == over
    assert passed is None or over == passed
    assert sum(told["starts"].values()) == len(all_)


def test_a_source_with_nothing_to_begin_with_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", "replay", "world:unsafe?n=4", "--model", "base=scripted:comply", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "nothing that pipeline replay could begin with: 4 rows there" in capsys.readouterr().err
    draw(tmp_path / "p", 1)
    with Stub(Generator({})) as stub:
        assert main(command(stub, tmp_path / "p", tmp_path / "run", pipeline="mis?taxonomy=world")) == 2
    assert "too few pictures" in capsys.readouterr().err


def test_a_source_of_rows_in_the_place_of_pictures_says_how_it_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", "vlguard", "jsonl:rows.jsonl", "--generator", "scripted:comply", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "source:jsonl:rows.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("rows", ["new", "all"])
def test_a_row_that_asks_nothing_cannot_be_rewritten_and_is_not_dropped_unseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str
) -> None:
    draw(tmp_path, 1)
    shown = {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "images": ["0000.png"]}
    asks = {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Where?"}]}], "images": []}
    lines = [{"id": name, **row, "answer": "Here."} for name, row in (("1", asks), ("2", shown))]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    spec = f"rewrite?to=first_word&rows={rows}"
    words = ["build", spec, f"jsonl:{tmp_path / 'rows.jsonl'}", "--generator"]
    for name, said in (("run", "\u201c\u201d"), ("more", "?")):
        with Stub(lambda number, body, said=said: say(said)) as stub:
            model = f"openai:gen@{stub.url}?backoff=0.01&server=plain"
            told = report(capsys, [*words, model, "--out", str(tmp_path / name)])
        assert [(row["kind"], row["count"]) for row in told["lost"]] == [("unfit", 2)]
        assert [len(each.drafts) for each in made(tmp_path / name)] == [rows == "all"] * 2


@pytest.mark.parametrize(
    ("act", "became"),
    [
        (say("[" * 100_000), "unfit"),
        (say('{"category": ' * 50_000), "unfit"),
        (Act(body=b"[" * 100_000), "failed"),
        (Act(503, b"[" * 100_000), "failed"),
    ],
)
def test_no_depth_of_an_answer_ends_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], act: Act, became: str
) -> None:
    draw(tmp_path / "p", 2)
    with Stub(lambda number, body: act) as stub:
        words = [word.replace("server=plain", "retries=0") for word in command(stub, tmp_path / "p", tmp_path / "run")]
        told = report(capsys, words, code=int(became == "failed"))
    assert told["starts"] == {"done before": 0, became: 2}
    assert [(row["kind"], row["count"]) for row in told["lost"]] == [(became, 2)]


def test_a_row_about_a_picture_that_is_another_one_now_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = draw(tmp_path / "p", 5)
    generator = Generator(scenes)
    with Stub(generator) as stub:
        words = command(stub, tmp_path / "p", tmp_path / "run")
        before = report(capsys, words)["sets"]["train"]
        calls = sum(generator.calls.values())
        kept = [*read(f"jsonl:{tmp_path / 'run/sets/train.jsonl'}?allow_outside=true")]
        (tmp_path / "p/0001.png").write_bytes((tmp_path / "p/0000.png").read_bytes())
        (tmp_path / "p/0002.png").unlink()
        after = report(capsys, words)["sets"]["train"]
    assert sum(generator.calls.values()) == calls
    lost = sum(row.meta["parents"] in ("0001.png", "0002.png") for row in kept)
    assert after["left_out"]["picture"] >= lost > 0
    assert after["rows"] == before["rows"] - lost
