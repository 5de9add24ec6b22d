"""Tuning: examples per second and memory of vlmend, of the published computations written plainly, and of TRL.

    python bench/tune.py                            all cases, sized for some ten minutes on two idle CPU cores
    python bench/tune.py --quick --case sft8        does it run? says nothing about speed
    python bench/tune.py --check                    do all compute the same losses and gradients?
    python bench/tune.py --variant "no prefix=speed.shared_prefix=false"   a row of vlmend with an idea switched off
    python bench/tune.py --size wide --case npo8 --case kl8                memory, in proportions near 7B's
    python bench/tune.py --device cuda --size 7b    LLaVA-1.5-7B's dimensions, bf16, LoRA r=128, with MFU

First, on a tiny model, every way's loss and gradients on the same weights and rows are compared with vlmend's in fp32.
Then each way works in a process of its own, on a CPU side by side and in turns: round by round each does the same
optimizer steps on the same new pictures. Timed is everything from files to updated weights, decoding and encoding
included; not timed are imports, loading, saving, and one step to warm up. Ratios are taken within rounds.

Weights are random and data noise; shapes.py says which proportions of 7B a thin model keeps. Each picture is seen in
one epoch only, so what vlmend computes once per picture or answer is paid in full: more epochs would flatter it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import shapes
import torch
import transformers
from tuning import cases, flops
from tuning.cases import CASES, Case
from tuning.job import Data, Job, Way, forget_peak, memory

from vlmend.errors import VlmendError

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("vlmend", "torch", "transformers", "peft", "trl")
TOLERANCE = 1e-4
FORKS = multiprocessing.get_context("forkserver")  # libraries are loaded once, processes still have nothing in common
LOADED = [
    "tuning.plain",
    "tuning.ours",
    "tuning.peer",
    "PIL.JpegImagePlugin",
    "transformers.models.llava.modeling_llava",
]
PEER_BATCH = 8  # TRL's default
PLAIN, OURS, PEER = "plain", "vlmend", "TRL"


@dataclass
class Row:
    """One way in one case: what it is told, and what came of it; a peak is over what the process had before."""

    who: str
    kind: str
    job: Job
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0
    problem: str = ""


def make(kind: str, job: Job) -> Way:
    """The one who does it; only what it needs is imported."""
    if kind == PLAIN:
        from tuning.plain import Plain

        return Plain(job)
    if kind == PEER:
        from tuning.peer import Peer

        return Peer(job)
    from tuning.ours import Ours

    return Ours(job)


def rows_of(case: Case, job: Job, given: argparse.Namespace) -> list[Row]:
    """The published way first, the same with another batch, TRL where it has the method, vlmend and its variants."""
    other = 1 if case.batch > 1 else min(8, case.step)
    rows = [
        Row(f"plain, as published (batch {case.batch})", PLAIN, replace(job, batch=case.batch)),
        Row(f"plain, batch {other}", PLAIN, replace(job, batch=other)),
    ]
    if case.peer:
        rows.append(Row(f"TRL {case.peer.upper()}Trainer", PEER, replace(job, batch=given.peer_batch)))
        if importlib.util.find_spec("trl") is None:
            rows[-1].problem = "not installed: pip install 'vlmend[bench]'"
    variants = [("vlmend", "")] + [item.partition("=")[::2] for item in given.variant]
    for name, settings in variants:
        own = tuple(given.set) + tuple(filter(None, settings.split(",")))
        rows.append(Row(name if name == OURS else f"vlmend, {name}", OURS, replace(job, settings=own)))
    return rows


# Are they the same?


def check(case: Case, given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The largest relative difference from vlmend's loss and gradients, by who, all on a tiny model in fp32."""
    model = shapes.save(case.shape("tiny"), folder / ("deep" if case.deep else "model"), "cpu")
    job = Job(case.name, "tiny", model, folder)
    file = cases.write(cases.steps(case, 1, 0)[0], folder / case.name, 0)
    rows = [row for row in rows_of(case, job, given) if not row.problem]
    others = [row for row in rows if row.kind != OURS]
    found: dict[str, float] = {}
    for own in (row for row in rows if row.kind == OURS):
        step = make(OURS, own.job).step(file, ())
        gradient = torch.cat([g.flatten() for g in step.gradients])
        for row in others if own.who == OURS else others[:1]:
            there = make(row.kind, row.job).step(file, step.weights)
            apart = torch.cat([g.flatten() for g in there.gradients]) - gradient
            worst = max(abs(there.loss - step.loss) / abs(step.loss), float(apart.norm() / gradient.norm()))
            found[row.who if own.who == OURS else f"{own.who} ({row.who})"] = worst
    return found


def check_all(chosen: Sequence[Case], given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every case, shown as it comes. Exits with 1 when one differs: there would be nothing to compare."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            found[case.name] = check(case, given, Path(folder))
            for who, worst in found[case.name].items():
                say(f"{case.name}: {who} differs from vlmend by {worst:.1e}")
    bad = [f"{c}: {who}" for c, by in found.items() for who, worst in by.items() if not worst <= TOLERANCE]
    if bad:
        say(f"not the same computation (more than {TOLERANCE:g} apart): {'; '.join(bad)}")
        sys.exit(1)
    return found


# How fast?


def serve(row: Row, threads: int, rounds: Connection) -> None:
    """In a process of its own: for each round, the seconds it took and the peak so far."""
    with (row.job.folder / "output.txt").open("a") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
    torch.set_num_threads(threads)
    forget_peak(row.job.device)
    before = memory(row.job.device)
    try:
        way = make(row.kind, row.job)
        while (data := rounds.recv()) is not None:
            rounds.send((way.seconds(data), memory(row.job.device) - before))
    except BaseException as error:
        rounds.send(f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        raise


def prepare(folder: Path, threads: int) -> None:
    """What processes start from: libraries, a number of threads, and nothing kept from earlier runs."""
    own = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "VLMEND_CACHE": str(folder / "cache")}
    os.environ.update(own, PYTHONPATH=str(Path(__file__).parent), PYTHONWARNINGS="ignore")
    FORKS.set_forkserver_preload(LOADED)


@contextmanager
def process(row: Row, threads: int) -> Iterator[Connection]:
    """One who waits for rounds; ends when it is let go of."""
    row.job.folder.mkdir(parents=True, exist_ok=True)
    here, there = FORKS.Pipe()
    running = FORKS.Process(target=serve, args=(row, threads, there))
    running.start()
    there.close()
    try:
        yield here
        if not row.problem:
            here.send(None)
            running.join()
    finally:
        running.kill()
        running.join()


def ask(row: Row, rounds: Connection, data: Data) -> None:
    """One round. Who fails says why in the table, and is asked no more."""
    try:
        with suppress(OSError):  # gone before it was asked, it may have said why
            rounds.send(data)
        told = rounds.recv()
    except (EOFError, OSError):
        told = "failed: the process is gone (out of memory?)"
    if isinstance(told, str):
        row.problem = told
        say(f"{row.job.case}: {row.who} {told}")
        return
    seconds, peak = told
    row.seconds.append(seconds)
    row.peak = max(row.peak, peak)


def measure(case: Case, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All ways in turns, round by round, each round on pictures of its own."""
    shape = case.shape(given.size)
    deep = case.deep and shape != shapes.SIZES[given.size]
    model = shapes.save(shape, (given.models or folder) / f"{given.size}{'-deep' * deep}", given.device)
    rows = rows_of(case, Job(case.name, given.size, model, folder, given.device, clock=given.clock), given)
    for number, row in enumerate(rows):
        row.job = replace(row.job, folder=folder / case.name / str(number))
    with ExitStack() as kept:
        aside = given.device == "cpu"  # elsewhere two would not fit beside one another
        running = {
            row.who: kept.enter_context(process(row, given.threads)) for row in rows if aside and not row.problem
        }
        for number in range(given.repeats):
            data = write(case, given, folder / case.name / f"round-{number}", number)
            for row in (row for row in rows if not row.problem):
                if aside:
                    ask(row, running[row.who], data)
                else:
                    with process(row, given.threads) as alone:
                        ask(row, alone, data)
    return summary(case, rows, given)


def write(case: Case, given: argparse.Namespace, folder: Path, number: int) -> Data:
    """The rows of a round."""
    apart, first, *timed = cases.steps(case, given.steps + 2, number)
    parts = {"apart": apart, "first": first, "timed": [unit for step in timed for unit in step]}
    files = {name: cases.write(units, folder / name, 3 * number + i) for i, (name, units) in enumerate(parts.items())}
    return Data(**files, steps=given.steps)


# What came of it


def summary(case: Case, rows: Sequence[Row], given: argparse.Namespace) -> dict[str, Any]:
    """One case as plain data."""
    shape, steps = case.shape(given.size), cases.steps(case, given.steps + 2, 0)[2:]
    examples = sum(case.examples(step) for step in steps)
    tokens = sum(one.tokens for step in steps for one in flops.asked(shape, step))
    base, own = rows[0].seconds, next(row.seconds for row in rows if row.who == OURS)
    device = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    told: list[dict[str, Any]] = []
    for row in rows:
        entry: dict[str, Any] = {"who": row.who, "problem": row.problem, "seconds": row.seconds}
        if row.seconds:
            middle = statistics.median(row.seconds)
            needed = flops.operations(shape, case.method, steps[0], shared=row.kind == OURS)
            entry |= {
                "examples_per_second": examples / middle, "tokens_per_second": tokens / middle,
                "over_plain": ratio(base, row.seconds), "vlmend_over": ratio(row.seconds, own),
                "peak_mib": row.peak, "mfu": flops.utilization(needed, len(steps), middle, device),
            }  # fmt: skip
        told.append(entry)
    return {"case": case.name, "about": case.about, "examples": examples, "tokens": tokens, "rows": told}


def ratio(slower: Sequence[float], faster: Sequence[float]) -> dict[str, float] | None:
    """How many times as fast, within rounds: median, least and most. None where one has not done all rounds."""
    each = [a / b for a, b in zip(slower, faster, strict=False)]
    if not each or len(slower) != len(faster):
        return None
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown, one line for each way in each case."""
    measured = any(row.get("mfu") for case in found for row in case["rows"])
    heads = ["case", "who", "examples/s", "tokens/s", "× plain (min–max)", "vlmend × (min–max)", "peak MiB"]
    heads += ["MFU"] * measured
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 2}{'--:|' * (len(heads) - 2)}"]
    for case in found:
        for row in case["rows"]:
            cells = [case["case"], row["who"]]
            if row["problem"]:
                lines.append(f"| {' | '.join([*cells, row['problem']])} {'|' * (len(heads) - 2)}")
                continue
            cells += [f"{row['examples_per_second']:.2f}", f"{row['tokens_per_second']:,.0f}"]
            cells += [span(row["over_plain"]), span(row["vlmend_over"]), f"{row['peak_mib']:,.0f}"]
            cells += [f"{row['mfu']:.1%}" if row["mfu"] else "–"] * measured
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def span(value: dict[str, float] | None) -> str:
    """2.31 (2.25–2.40)."""
    return "–" if value is None else f"{value['median']:.2f} ({value['min']:.2f}–{value['max']:.2f})"


def report(found: Sequence[dict[str, Any]], about: dict[str, Any]) -> str:
    """The page: what was run where, the table, what its words mean."""
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    cases_ = "\n".join(f"- `{case['case']}`: {case['about']}; {case['examples']} examples a round" for case in found)
    worst = max((value for by in about["check"].values() for value in by.values()), default=None)
    same = "Not checked." if worst is None else f"Losses and gradients of all agree within {worst:.1e}."
    return f"""# bench/tune.py

`{about["command"]}`; {about["device"]}; {about["threads"]} threads, {about["clock"]} seconds; {versions}.

{table(found)}

{cases_}

Medians of {about["repeats"]} rounds in turns. *× plain*: times as fast as the published way; *vlmend ×*: vlmend is so
many times as fast as this row. Tokens are those of each example alone, picture and all, whoever computes them how
often. Peak: over what the process had before the model. {same}
"""


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="repeat for more; default: all")
    parser.add_argument("--size", choices=sorted(shapes.SIZES), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--steps", type=int, default=1, help="optimizer steps that are timed in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor: for busy machines")
    parser.add_argument("--peer-batch", type=int, default=PEER_BATCH, help="units of TRL's forward passes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="a setting of vlmend's, in all rows"
    )
    parser.add_argument("--variant", action="append", default=[], metavar="NAME=A.B=C,…", help="one more row of vlmend")
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round of one step; writes no results")
    parser.add_argument("--check", action="store_true", help="only compare losses and gradients")
    parser.add_argument("--models", type=Path, help="where models are made and kept; default: nowhere")
    parser.add_argument("--out", type=Path, default=RESULTS / "tune", help="results, without .md and .json")
    return parser.parse_args()


def main() -> None:
    """Check, measure, print the table and keep it."""
    given = arguments()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)  # what libraries say to one another
    transformers.utils.logging.disable_progress_bar()
    if given.quick:
        given.size, given.repeats, given.steps = "tiny", 1, 1
    chosen = [CASES[name] for name in given.case or CASES]
    try:
        same = check_all(chosen, given)
    except VlmendError as error:  # a setting that there is not
        say(str(error))
        sys.exit(2)
    if given.check:
        return
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), given.threads)
        for case in chosen:
            found.append(measure(case, given, Path(folder)))
            say(table(found[-1:]))
    installed = [name for name in PACKAGES if importlib.util.find_spec(name)]
    about = {
        "command": f"python bench/tune.py {' '.join(sys.argv[1:])}".strip(),
        "device": torch.cuda.get_device_name() if given.device != "cpu" else f"CPU ({platform.machine()})",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in installed}},
        "size": given.size, "threads": given.threads, "clock": given.clock, "repeats": given.repeats, "check": same,
    }  # fmt: skip
    print(report(found, about))
    if not given.quick:
        given.out.with_suffix(".md").write_text(report(found, about), encoding="utf-8")
        given.out.with_suffix(".json").write_text(json.dumps({**about, "cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
