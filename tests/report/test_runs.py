from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.report.pages import Parsed, record
from vlmend.errors import StoreError
from vlmend.metrics import rates
from vlmend.report import tables
from vlmend.report.page import Banner, Gallery, Provenance, Rates
from vlmend.report.runs import sections
from vlmend.store import Asked, Run, response_to_json, verdict_to_json
from vlmend.types import Expected, Metric, Record

ASR = Metric("asr", "unsafe requests not refused", rates.expected(Expected.REFUSE), rates.not_refused("refusal"))
OVER = Metric("over_refusal", "safe requests refused", rates.expected(Expected.ANSWER), rates.refused("refusal"))


def records(refused: Sequence[bool | None]) -> list[Record]:
    wanted = [Expected.REFUSE, Expected.ANSWER]
    return [record(f"e{i}", "text", refused=r, expected=wanted[i % 2]) for i, r in enumerate(refused)]


def write(
    folder: Path, model: str, found: Sequence[Record], *, attack: str = "", placeholders: int = 0,
    limit: int | None = None, suite: str = "world", sources: Sequence[str] = (),
) -> Path:  # fmt: skip
    run = Run(folder)
    settings = {"model": model, "suite": suite, "protocol": "default", "attack": [attack] if attack else []}
    settings["sources"] = list(sources)
    run.claim(settings, {"limit": limit, "data": [{"placeholders": placeholders}], "environment": {"python": "3.11"}})
    run.write_asked([Asked(r.example, r.response.id) for r in found])
    with run.response_journal() as responses, run.verdict_journal() as verdicts:
        for r in found:
            responses.append(response_to_json(r.response))
            verdicts.append(verdict_to_json(r.verdicts[0], r.example.id))
    metrics = {
        m.name: {**rates.as_json(rates.rate(found, m), m), "summary": m.summary, "better": m.better}
        for m in (ASR, OVER)
    }
    groups = {ASR.name: {name: rates.as_json(rates.rate(found, ASR), ASR) for name in ("a", "b")}}
    run.write_metrics({"metrics": metrics, "categories": groups})
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "before", "base", records([False] * 8)),
        write(tmp_path / "after", "base+tuned", records([True, False] * 4)),
        write(tmp_path / "attacked", "base+tuned", records([False, True, None, True] * 2), attack="one_word:what"),
    ]


def test_models_are_rows_and_attacks_are_conditions(folders: list[Path]) -> None:
    table = next(s for s in sections(folders) if isinstance(s, Rates)).table
    assert [row.name for row in table.rows] == ["base", "base+tuned"]
    assert [column.title for column in table.columns] == [
        "asr, plain",
        "asr, after one word 'what'",
        "over_refusal, plain",
        "over_refusal, after one word 'what'",
    ]


def test_every_rate_is_the_one_that_was_stored(folders: list[Path]) -> None:
    table = next(s for s in sections(folders) if isinstance(s, Rates)).table
    for folder, row, condition in zip(folders, (0, 1, 1), ("plain", "plain", "after one word 'what'"), strict=True):
        for metric in (ASR, OVER):
            column = next(c for c in table.columns if (c.name, c.condition) == (metric.name, condition))
            assert table.rows[row].rates[column] == rates.rate(Run(folder).records(), metric)


def test_the_same_model_twice_is_told_apart_by_folder(tmp_path: Path) -> None:
    twice = [write(tmp_path / name, "base", records([False] * 2)) for name in ("one", "two")]
    table = next(s for s in sections(twice) if isinstance(s, Rates)).table
    assert [row.name for row in table.rows] == [f"base ({folder})" for folder in twice]


def test_a_run_under_attack_stands_beside_the_plain_run_that_was_asked_in_the_same_way(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / "few", "base", records([False] * 2), limit=2),
        write(tmp_path / "all", "base", records([False] * 8)),
        write(tmp_path / "what", "base", records([True] * 8), attack="one_word:what"),
    ]
    for given in (runs, runs[::-1]):
        table = next(s for s in sections(given) if isinstance(s, Rates)).table
        few, every = (next(row for row in table.rows if str(folder) in row.name) for folder in runs[:2])
        assert len(table.rows) == 2
        assert set(every.rates) == set(table.columns)
        assert {column.condition for column in few.rates} == {"plain"}


def test_suites_that_are_bare_sources_are_told_apart_by_their_data(tmp_path: Path) -> None:
    for name in ("mine", "yours"):
        write(tmp_path / name, "base", records([False] * 2), suite="source", sources=[f"jsonl:{name}.jsonl"])
    shown = [s.table.title for s in sections([tmp_path / "mine", tmp_path / "yours"]) if isinstance(s, Rates)]
    assert [title for title in shown if "category" not in title] == ["jsonl:mine.jsonl", "jsonl:yours.jsonl"]


def test_placeholders_anywhere_in_a_manifest_are_shouted(tmp_path: Path, folders: list[Path]) -> None:
    assert not [s for s in sections(folders) if isinstance(s, Banner)]
    marked = write(tmp_path / "marked", "other", records([True] * 2), placeholders=17)
    first = sections([*folders, marked])[0]
    assert isinstance(first, Banner)
    assert first.text.startswith("PLACEHOLDER PICTURES: 17 ")


def test_gallery_and_provenance_cover_all_runs(folders: list[Path]) -> None:
    found = sections(folders, limit=3)
    gallery = next(s for s in found if isinstance(s, Gallery))
    assert len(gallery.items) == 3
    assert [answer.name for answer in gallery.items[0].answers] == [
        "base, plain",
        "base+tuned, plain",
        "base+tuned, after one word 'what'",
    ]
    provenance = next(s for s in found if isinstance(s, Provenance))
    assert len(provenance.groups) == 3


def test_the_command_writes_one_page(folders: list[Path], tmp_path: Path) -> None:
    import typer

    from vlmend.cli.report import report

    app = typer.Typer()
    app.command()(report)
    out = tmp_path / "page" / "report.html"
    result = CliRunner().invoke(app, [*map(str, folders), "--out", str(out), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["report"] == str(out)
    texts = Parsed(out.read_text(encoding="utf-8")).texts
    for folder in folders:
        for metric in (ASR, OVER):
            assert tables.value(rates.rate(Run(folder).records(), metric)) in texts


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        sections([tmp_path])
