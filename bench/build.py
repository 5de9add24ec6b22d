"""What each pipeline's set is good for: built from drawn pictures by a generator with planted faults, then learned.

    python bench/build.py --out runs/build                 all of them, 15 minutes; what is there is not done again
    python bench/build.py --out runs/build --only vlguard  one of them

The generator is a chat server of ours that knows what every picture shows and answers by rule; of its first answers one
in ten is no JSON, one in seven names a category there is not, one in twenty declines, one in ten comes only the second
time it is asked. The embedded model is tuned on what `vlmend build` makes of that, and asked what no set holds. Ends
with the table of docs/build.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.build.generator import Generator, draw, shown  # noqa: E402
from tests.build.rewording import reword, right  # noqa: E402
from tests.servers.stub import Stub, every, say  # noqa: E402

from vlmend.cli import main  # noqa: E402
from vlmend.registry import sources  # noqa: E402

FAULTS = {"broken": 0.1, "wrong": 0.15, "declines": 0.05, "late": 0.1}
WORDS = "What,Share,Tell,Show,Give,Explain"
ASKED = ("asked_before", "asked_after")
UNLEARNED = ("--suite", "world_unlearning", "--limit", "240")


class Arm(NamedTuple):
    """One pipeline: how its sets are built, which recipe learns which of them, and what shows that it helped.

    before: what the model that it is compared with has learned; nothing, the model as it is. suite: what is asked.
    """

    build: Callable[[Path], None]
    recipe: str
    mix: Sequence[str]
    metric: str
    steps: int
    attack: str = ""
    before: tuple[str, ...] = ()
    suite: tuple[str, ...] = ("--suite", "world", "--limit", "240")


def vlmend(*arguments: str) -> None:
    """A command that has to succeed."""
    if code := main(list(arguments)):
        raise SystemExit(f"vlmend {' '.join(arguments)} ended with {code}")


def built(out: Path, pipeline: str, source: str, behave: Any, *more: str, part: str = "generator") -> None:
    """Build with a server that behaves so, unless that is done."""
    if (out / "built/sets").exists():
        return
    with Stub(behave) as stub:
        model = f"{part}=openai:rules@{stub.url}?server=plain&backoff=0.01&revision=rules"
        vlmend("build", pipeline, source, "--model", model, "--out", str(out / "built"), *more)


def pictures(out: Path, number: int, **how: Any) -> Generator:
    """Draw pictures, and what knows them."""
    return Generator(draw(out / "pictures", number, seed=11, **how), FAULTS)


def vlguard(out: Path) -> None:
    built(out, "vlguard?taxonomy=world&openers=free", f"folder:{out / 'pictures'}", pictures(out, 700))


def mis(out: Path) -> None:
    kinds = ("jar", "flame", "disc", "flame", "jar", "star", "ring", "jar", "box", "flame")
    generator = pictures(out, 300, single=kinds, harmful=0)
    generator.says = {
        "Write the assistant's answer": "The jar bursts over the flame, so the two are not safe together."
    }
    built(out, "mis?taxonomy=world&openers=free&partners=2", f"folder:{out / 'pictures'}", generator)


def safeeraser(out: Path) -> None:
    generator = pictures(out, 300, harmful=0.6)

    def behave(number: int, body: dict[str, Any]) -> Any:
        asked = every(body).partition("Question: ")[2].strip()
        return say(right(generator.scenes[shown(body)[0]], asked)) if asked else generator(number, body)

    built(out, "safeeraser?taxonomy=world", f"folder:{out / 'pictures'}", behave, "--model", "treated=world")


def unsafe_concepts(out: Path) -> None:
    built(out, "unsafe_concepts?taxonomy=world", f"folder:{out / 'pictures'}", pictures(out, 400, harmful=0.5))
    generator = Generator(draw(out / "held_out", 120, seed=12, split="test", harmful=0.5))
    built(out / "test", "unsafe_concepts?taxonomy=world", f"folder:{out / 'held_out'}", generator)


def rows(out: Path, spec: str) -> str:
    """The rows of a source with their pictures, as a file, and what reads them."""
    vlmend("data", "export", spec, "--format", "trl", "--out", str(out / "rows.jsonl"))
    return f"jsonl:{out / 'rows.jsonl'}"


def rewrite(out: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> Any:
        text = every(body)
        if "same thing" in text:
            return say(json.dumps({"same": True}))
        return say(reword(text))

    source = rows(out, "world:safety#train?openers=biased&n=1600")
    built(out, f"rewrite?to=first_word&word={WORDS}&rows=all", source, behave)


def label(out: Path) -> None:
    examples = list(sources.from_spec("world:safety#train?n=1200"))
    known = {(e.question, *(image.sha256 for image in e.images)): e.answers[0] for e in examples}

    def behave(number: int, body: dict[str, Any]) -> Any:
        asked = every(body).partition("writes: “")[2].partition("”")[0]
        return say(known[asked, *shown(body)])

    built(out, "label?template=refusal&judge=refusal&says=refused", rows(out, "world:safety#train?n=1200"), behave)


def harmful_answers(out: Path) -> None:
    source = rows(out, "world:safety#train?openers=biased&n=1200")
    vlmend(
        "build", "harmful_answers?judge=exact", source, "--model", "answers=world", "--model",
        "answers=scripted:refuse", "--out", str(out / "built"),
    )  # fmt: skip


def replay(out: Path) -> None:
    vlmend(
        "build", "replay", rows(out, "world:utility#train?n=800"), "--model", "base=world", "--out", str(out / "built")
    )


SFT, NPO = "world/sft_biased", "world/unlearn_npo"
REFUSALS = "world:unsafe#train?openers=biased&n=800"
RETAIN = "world:unlearning#train?parts=retain&openers=biased&n=800"
ARMS = {
    "vlguard": Arm(vlguard, SFT, ["train"], "asr", 80),
    "mis": Arm(mis, SFT, ["sorry"], "asr_pair", 60),
    "safeeraser": Arm(safeeraser, NPO, ["forget", "retain", "decouple"], "harm", 80, suite=UNLEARNED),
    "unsafe_concepts": Arm(unsafe_concepts, SFT, ["sft"], "accuracy.leading_word", 80),
    "rewrite": Arm(rewrite, SFT, ["rows"], "asr", 80, "one_word:what", ("world:safety#train?openers=biased&n=1600",)),
    "label": Arm(label, SFT, ["rows"], "asr", 80),
    "harmful_answers": Arm(harmful_answers, NPO, ["forget", RETAIN], "harm", 80, suite=UNLEARNED),
    "replay": Arm(replay, SFT, [REFUSALS, "replay"], "over_refusal", 60, before=(REFUSALS,)),
}


def learned(out: Path, arm: Arm, mix: Sequence[str], name: str) -> str:
    """The model that learned these sets, by the names of the built ones or by their specs."""
    folder = out / name
    specs = [s if ":" in s else f"jsonl:{out / f'built/sets/{s}.jsonl'}?allow_outside=true" for s in mix]
    settings = ["--set", f"data.mix={json.dumps([{'source': spec} for spec in specs])}"]
    more = ["--set", f"train.max_steps={arm.steps}", "--out", str(folder)]
    if arm.recipe == NPO and "decouple" in mix:
        more += ["--set", "method.pd=true"]
    vlmend("tune", arm.recipe, *settings, *more)
    return f"world+{folder}"


def asked(out: Path, arm: Arm, model: str, name: str) -> None:
    """Ask a model what shows whether the set was of use."""
    suite = arm.suite
    if arm.metric.startswith("accuracy."):
        test = f"source:jsonl:{out / 'test/built/sets/alignment.jsonl'}?allow_outside=true"
        suite = ("--suite", test, "--judge", "leading_word")
    attack = ["--attack", arm.attack] if arm.attack else []
    more = ("--max-new-tokens", "48", "--max-unscored", "1")
    vlmend("eval", "--model", model, *suite, *attack, "--out", str(out / name), *more)


def told(out: Path, name: str) -> str:
    """The row of the table: what was built, and the rate before and after."""
    arm = ARMS[name]
    about = json.loads((out / "built/build.json").read_text())
    sets = "; ".join(f"{which} {row['rows']:,} of {row['drafts']:,}" for which, row in about["sets"].items())
    lost = sum(count for what, count in about["starts"].items() if what in ("refused", "unfit", "rejected"))
    rates = [json.loads((out / side / "metrics.json").read_text())["metrics"][arm.metric] for side in ASKED]
    before, after = (f"{100 * rate['value']:.0f} % ({rate['k']} of {rate['n']})" for rate in rates)
    what = f"{arm.metric}{f' after {arm.attack}' if arm.attack else ''}"
    return f"| `{name}` | {sets} | {lost} | {what} | {before} | {after} |"


def run(out: Path, name: str) -> None:
    """Everything of one arm that is not there."""
    arm = ARMS[name]
    out.mkdir(parents=True, exist_ok=True)
    arm.build(out)
    start = learned(out, arm, arm.before, "before") if arm.before else "world"
    before, after = ASKED
    asked(out, arm, start, before)
    asked(out, arm, learned(out, arm, arm.mix, "after"), after)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=[*ARMS], action="append")
    given = parser.parse_args()
    for each in given.only or ARMS:
        run(given.out / each, each)
    print("| pipeline | rows kept of drafts, by set | starts lost | measured | before | after |")
    print("|---|---|---|---|---|---|")
    for each in given.only or ARMS:
        print(told(given.out / each, each))
