"""The trial of docs/mirage.md on VLGuard's texts: tune on four fifths of train, ask the last fifth, plain and attacked.

    python bench/vlguard_mirage.py data/VLGuard --out runs/world/vlguard

Missing pictures are stood in for by placeholders. Ends with the page's table; run again, it does nothing but print it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from vlmend.cli import main as vlmend
from vlmend.recipes import FOLDER
from vlmend.store import Run

RECIPE = FOLDER / "world" / "vlguard.yaml"
ASKED = {"plain": None, "after *what*": "one_word:what", "after *share*": "one_word:share"}
METRICS = ("asr_unsafe", "asr_safe_unsafe", "asr", "over_refusal")


def steps(data: Path, out: Path) -> Iterator[list[str]]:
    """The commands, one for tuning and one for each way of asking."""
    source = f"data.mix.0.source=vlguard:{data}#train[:80%]"
    yield [
        "tune",
        str(RECIPE),
        "--set",
        "data.missing_images=placeholder",
        "--set",
        source,
        "--out",
        str(out / "adapter"),
    ]
    for number, attack in enumerate(ASKED.values()):
        asked = ["--model", f"world+{out / 'adapter'}", "--suite", f"vlguard:{data}#train[80%:]"]
        more = [
            "--missing-images",
            "placeholder",
            "--max-new-tokens",
            "96",
            "--max-unscored",
            "0.05",
            *(["--attack", attack] if attack else []),
        ]
        yield ["eval", *asked, *more, "--out", str(folder(out, number))]


def folder(out: Path, number: int) -> Path:
    """Where the answers to one way of asking go."""
    return out / ("plain", "what", "share")[number]


def table(out: Path) -> str:
    """Percent, 95 % interval and k/n by metric and way of asking, as Markdown."""
    lines = [f"| | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|"]
    for number, name in enumerate(ASKED):
        rates = json.loads((Run.open(folder(out, number)).folder / "metrics.json").read_text())["metrics"]
        cells = [
            f"{100 * r['value']:.1f} [{100 * r['low']:.1f}, {100 * r['high']:.1f}] {r['k']}/{r['n']}"
            for r in (rates[metric] for metric in METRICS)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Do what is not done yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="VLGuard's folder, train.json in it or in its data/.")
    parser.add_argument("--out", type=Path, default=Path("runs/world/vlguard"))
    given = parser.parse_args()
    for words in steps(given.data, given.out):
        if code := vlmend(words):
            raise SystemExit(code)
    print(table(given.out))


if __name__ == "__main__":
    main()
