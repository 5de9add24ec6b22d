"""Pages in a real browser, where there is one: nothing reaches beyond the edge of a phone or a wide screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report.pages import rate, record, table
from vlmend.report import build
from vlmend.report.gallery import Column, gallery
from vlmend.report.page import Banner, Bars, Finding, Findings, Gallery, Grid, Prose, Provenance, Rates

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (320, 390, 768, 1280)
LONG = "averyveryverylongwordwithoutanyplacetobreakit" * 4

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no browser here")


def measure(page: str, folder: Path) -> dict[str, int]:
    """How wide the page's content is in frames of several widths."""
    inner = html.escape(page, quote=True)
    frames = "".join(f'<iframe width="{w}" height="900" style="border:0" srcdoc="{inner}"></iframe>' for w in WIDTHS)
    script = """<script>onload = () => { const out = {}; for (const f of document.querySelectorAll("iframe"))
    out[f.width] = f.contentDocument.documentElement.scrollWidth;
    document.body.innerHTML = "<pre>" + JSON.stringify(out) + "</pre>"; }</script>"""
    file = folder / "frames.html"
    file.write_text(f"<!doctype html><body>{frames}{script}", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += [
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command = [str(BROWSER), *options, "--virtual-time-budget=3000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout)
    assert found, done.stdout[:500]
    return json.loads(found[1])


def test_nothing_overflows(tmp_path: Path) -> None:
    answers = [Column(f"model {i} {LONG}", [record("a", LONG * 3, refused=i == 0)]) for i in range(4)]
    sections = (
        Banner(LONG),
        Findings((Finding(LONG, tuple((f"step {i}", rate(i, 200, i)) for i in range(4)), LONG),)),
        Rates(table()),
        Bars(table()),
        Prose(LONG, (LONG,)),
        Grid("Grid", tuple(f"column {i}" for i in range(12)), (tuple(LONG[:20] for _ in range(12)),)),
        Gallery("Said", gallery(answers, veil=True)),
        Provenance({LONG: {"key": LONG}}),
    )
    page = build(LONG, sections, tmp_path / "report.html", lead=LONG).read_text(encoding="utf-8")
    widths = measure(page.replace("<details>", "<details open>"), tmp_path)
    assert widths == {str(width): width for width in WIDTHS}
