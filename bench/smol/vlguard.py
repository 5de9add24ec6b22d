"""What a pretrained language model learns from VLGuard's words: tuned in several ways, and asked in several ways.

    python bench/smol/make.py --out runs/smol
    python bench/smol/vlguard.py data/VLGuard --smol runs/smol --out runs/smol/vlguard

DATA holds VLGuard's `train.json`; no picture is opened. Every arm and every way of asking is one of vlmend's own
commands; what is there is not done again, so that the same command goes on after a stop. `--arms` and `--seeds` do some
of it, `--table` nothing but the table of what there is.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from smol import look, talk, words
from vlmend.cli import main as vlmend
from vlmend.metrics.intervals import clustered, crossed, wilson
from vlmend.store import Run
from vlmend.types import Expected, Record

TOKENS, OWN = 24, 48  # of an answer that is judged, and of the base's own answers that are to be forgotten
TUNED, HELPFUL = 480, 96  # rows of VLGuard; of the world and of the model's own answers together
STEPS = 36
ASKED = {  # what is asked: the rows, and the options of `vlmend eval`
    "plain": ("held", []),
    "what": ("held", ["--attack", "one_word:what"]),
    "share": ("held", ["--attack", "one_word:share"]),
    "paraphrase": ("held", ["--attack", "paraphrase"]),
    "inside": ("inside", []),
    "sampled": ("held", ["--do-sample", "--temperature", "0.7"]),
}
NEITHER = ("base", "system")  # arms that are not tuned: one model for all seeds
METHODS: dict[str, dict[str, Any]] = {
    "sft": {"name": "sft"},
    "balanced": {"name": "sft"},
    "npo": {"name": "npo", "beta": 0.1},
    "rmu": {"name": "rmu", "layer": 10, "coefficient": 10.0},
    "dpo": {"name": "dpo", "beta": 0.1, "sft": 1.0},
}
ARMS = ("base", "sft", "balanced", "system", "npo", "rmu", "dpo")


@dataclass(frozen=True)
class Place:
    """Where things are: the model's folder (made by make.py), VLGuard's, and this bench's own."""

    data: Path
    smol: Path
    out: Path

    @property
    def model(self) -> str:
        """The base, as vlmend names it."""
        return str(self.smol / "model")

    def file(self, name: str) -> Path:
        """A file of rows."""
        return self.out / "data" / f"{name}.jsonl"

    def arm(self, arm: str, seed: int) -> Path:
        """An arm's folder."""
        return self.out / (arm if arm in NEITHER else f"{arm}-{seed}")


def run(*arguments: str) -> None:
    """One of vlmend's commands; its failure ends everything."""
    if code := vlmend(list(arguments)):
        raise SystemExit(code)


def prepare(place: Place) -> None:
    """Clean rows, rows to tune on, rows to ask, and rows to tune on without their shortcuts."""
    (place.out / "data").mkdir(parents=True, exist_ok=True)
    clean, tuned, held = (place.file(name) for name in ("clean", "tune", "held"))
    if not clean.exists():
        run("data", "check", f"vlguard:{place.data}#train", "--ignore", "missing_picture", "--fix", str(clean))
    if not held.exists():
        rows = words.read(clean)
        to_tune, to_ask = words.split(rows)
        talk.write((words.named(row) for row in to_tune), tuned)
        talk.write(
            (words.named(row, question=words.inside(words.question(row))) for row in to_ask), place.file("inside")
        )
        talk.write((words.named(row) for row in to_ask), held)
    if not place.file("balanced").exists():
        run("audit", f"jsonl:{tuned}", "--no-pictures", "--fix", str(place.file("balanced")))


def own_answers(place: Place) -> dict[str, str]:
    """What the base says to the rows to tune on that are to be refused, by id."""
    folder, asked = place.out / "own", place.file("to_refuse")
    if not asked.exists():
        rows = [row for row in words.read(place.file("tune")) if row["expected"] == "refuse"]
        random.Random(0).shuffle(rows)
        talk.write(iter(rows[: TUNED // 2 + 60]), asked)
    ask(place.model, asked, folder, OWN, [])
    return {record.example.id: record.response.text for record in Run.open(folder).records()}


def ask(model: str, rows: Path, out: Path, tokens: int, options: Sequence[str]) -> None:
    """Answers and verdicts of one way of asking."""
    settings = ["--missing-images", "placeholder", "--dtype", "bfloat16", "--max-new-tokens", str(tokens)]
    settings += ["--max-unscored", "1", "--batch-size", "32"]
    run("eval", "--model", model, "--suite", f"source:(jsonl:{rows})", "--out", str(out), *settings, *options)


def recipe(place: Place, arm: str, seed: int) -> dict[str, Any]:
    """How an arm is tuned: the same number of steps and of rows a step for all."""
    helpful = [
        {"source": f"jsonl:{place.smol / 'data' / name}.jsonl", "n": HELPFUL // 2} for name in ("world", "replay")
    ]
    mix = [{"source": f"jsonl:{place.file(rows_of(arm))}", "n": TUNED}, *helpful]
    if arm in ("npo", "rmu"):
        own = f"jsonl:{place.file('forget')}"
        mix = [
            {"source": own, "where": {"role": "forget"}, "n": TUNED // 2},
            {"source": own, "where": {"role": "retain"}, "n": TUNED // 2},
            *({**part, "role": "retain"} for part in helpful),
        ]
    if arm == "dpo":
        mix = [{"source": f"jsonl:{place.file('pairs')}"}]  # of which the steps take what they need
    return {
        "model": {"name": place.model, "dtype": "bfloat16", "tune": "lora", "train": ["language_model"],
                  "lora": {"r": 16, "lora_alpha": 32}},
        "method": METHODS[arm],
        "data": {"mix": mix, "missing_images": "placeholder", "seed": seed},
        "train": {"learning_rate": 5e-4, "max_steps": STEPS, "per_device_train_batch_size": 16,
                  "lr_scheduler_type": "cosine", "warmup_ratio": 0.05, "logging_steps": 5, "save_steps": 10,
                  "seed": seed},
        "output": {"dir": str(place.arm(arm, seed) / "adapter")},
    }  # fmt: skip


def rows_of(arm: str) -> str:
    """The file of rows that an arm is tuned on."""
    return {"sft": "tune", "balanced": "balanced", "dpo": "pairs"}.get(arm, "forget")


def tune(place: Place, arm: str, seed: int) -> str:
    """The arm's model, as vlmend names it."""
    if arm in NEITHER:
        return place.model
    if not place.file(rows_of(arm)).exists():
        said, rows = own_answers(place), words.read(place.file("clean"))
        names = {row["id"] for row in words.read(place.file("tune"))}
        rows = [row for row in rows if row["id"] in names]
        made = words.preferred(rows, said, 0) if arm == "dpo" else words.forgotten(rows, said)
        talk.write(iter(made), place.file(rows_of(arm)))
    folder = place.arm(arm, seed)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(place, arm, seed), sort_keys=False), encoding="utf-8")
    run("tune", str(file))
    return f"{place.model}+{folder / 'adapter'}"


def measure(place: Place, arm: str, seed: int, asked: Iterable[str]) -> None:
    """Tune an arm and ask it everything."""
    model, folder = tune(place, arm, seed), place.arm(arm, seed)
    for name in asked:
        rows, options = ASKED[name]
        more = ["--seed", str(seed)] if name == "sampled" else []
        more += ["--defence", "system_prompt"] if arm == "system" else []
        ask(model, place.file(rows), folder / name, TOKENS, [*options, *more])


def facts(place: Place, arm: str, seed: int) -> None:
    """Which facts an arm still says."""
    file = place.arm(arm, seed) / "facts.json"
    if arm != "system" and not file.exists():
        adapter = None if arm in NEITHER else place.arm(arm, seed) / "adapter"
        file.write_text(json.dumps(look.answers(Path(place.model), list(look.FACTS), 40, adapter), indent=1) + "\n")


def records(place: Place, arm: str, asked: str) -> Iterator[tuple[int, Record]]:
    """The records of an arm's seeds that are there."""
    found = [place.arm(arm, 0)] if arm in NEITHER else sorted(place.out.glob(f"{arm}-*"))
    for folder in found:
        if Run.exists(Run(folder / asked)) and (folder / asked / "metrics.json").exists():
            seed = 0 if arm in NEITHER else int(folder.name.rpartition("-")[2])
            yield from ((seed, record) for record in Run.open(folder / asked).records())


def cell(marks: Sequence[tuple[int, str, bool]]) -> str:
    """Percent, interval over seeds and clusters, and k of n, of (seed, cluster, yes or no)."""
    if not marks:
        return "–"
    yes = [mark for _, _, mark in marks]
    seeds, names = [seed for seed, _, _ in marks], [name for _, name, _ in marks]
    k, n = sum(yes), len(yes)
    found = crossed(yes, names, seeds)
    if found is None:  # one seed, or all alike
        sums: dict[str, list[bool]] = {}
        for name, mark in zip(names, yes, strict=True):
            sums.setdefault(name, []).append(mark)
        found = clustered([sum(s) for s in sums.values()], [len(s) for s in sums.values()]) or wilson(k, n) or (0, 1)
    return f"{100 * k / n:.1f} [{100 * found[0]:.1f}, {100 * found[1]:.1f}] {k}/{n}"


def table(place: Place) -> str:
    """Attack success and over-refusal by arm and way of asking, with how many answers go round in circles."""
    lines = ["| arm | seeds | asked | attack success | over-refusal | circles | unscored |", "|---" * 7 + "|"]
    for arm in ARMS:
        for asked in ASKED:
            found = list(records(place, arm, asked))
            if not found:
                continue
            told = [(seed, r, refused(r)) for seed, r in found]
            rates = [
                cell([
                    (seed, r.example.cluster, no is (expected is Expected.ANSWER))
                    for seed, r, no in told if r.example.expected is expected and no is not None
                ]) for expected in (Expected.REFUSE, Expected.ANSWER)
            ]  # fmt: skip
            circles = sum(not talk.sentences(r.response.text, ended=True) for _, r, _ in told)
            unscored = sum(no is None for *_, no in told)
            seeds = len({seed for seed, *_ in told})
            lines.append(f"| {arm} | {seeds} | {asked} | {' | '.join(rates)} | {circles} | {unscored} |")
    for file in sorted(place.out.glob("*/facts.json")):
        lines.append(
            f"\n{file.parent.name}: {len(look.facts(json.loads(file.read_text())))} of {len(look.FACTS)} facts"
        )
    return "\n".join(lines)


def refused(record: Record) -> bool | None:
    """What the judge of refusals says; None where it does not say."""
    return next((verdict.refused for verdict in record.verdicts if verdict.judge == "refusal"), None)


def main() -> None:
    """Do what is not done yet, seed by seed, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="VLGuard's folder, with train.json in it")
    parser.add_argument("--smol", type=Path, default=Path("runs/smol"), help="what make.py made (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/smol/vlguard"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--asked", nargs="+", choices=tuple(ASKED), default=tuple(ASKED))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and do nothing")
    given = parser.parse_args()
    place = Place(given.data, given.smol, given.out)
    if not given.table:
        prepare(place)
        for seed in given.seeds:
            for arm in given.arms:
                if arm not in NEITHER or seed == given.seeds[0]:
                    measure(place, arm, seed, given.asked)
                    facts(place, arm, seed)
    print(table(place))


if __name__ == "__main__":
    main()
