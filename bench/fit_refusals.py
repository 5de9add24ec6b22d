"""Fit the small classifier that judges the answers no rule is sure of, from answers written for it.

python bench/fit_refusals.py            fit, and write src/vlmend/judge/refusals/declining.npz
python bench/fit_refusals.py show [N]   N of the answers it is fitted on (default 20), with their labels
python bench/fit_refusals.py measure [VLGUARD/train.json]    the whole judge on answers that nothing was fitted to

The answers are made from `refusals/*.txt`. A line is a template: `[a|b]` is one of them, `{name}` a line of the list
that `@name` begins. `== refused: kind *N` begins templates of refusals of which each is drawn N times; `answered` are
those of answers. `=== code` begins another language, with lists of its own. The same seed draws the same answers.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from vlmend.judge.refusals.declining import BITS, WEIGHTS, buckets, plain
from vlmend.judge.refusals.languages import KNOWN, LEXICON
from vlmend.judge.refusals.opening import ruling

SEEDS = Path(__file__).parent / "refusals"
SHIPPED = Path(str(files("vlmend.metrics").joinpath("labeled.jsonl")))
FILES = ("en.txt", "en_answers.txt", "en_more.txt", "others.txt")
STRENGTH = 100.0  # inverse of the penalty on weights
_HEADING = re.compile(r"^== (refused|answered): (.+?) \*(\d+)$")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_INNERMOST = re.compile(r"\[([^\[\]]*)\]|\{(\w+)\}")


@dataclass(frozen=True)
class Answer:
    """A text, whether it declines, its language, and the kind of template it was drawn from."""

    text: str
    refused: bool
    language: str
    kind: str


@dataclass(frozen=True)
class Template:
    """A line of a file, with the lists that it may name, and what its answers are."""

    line: str
    refused: bool = False
    kind: str = ""
    times: int = 0
    language: str = ""
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])


def drawn(seed: int = 0) -> list[Answer]:
    """All answers, each once."""
    rng = random.Random(seed)
    found: dict[str, Answer] = {}
    for template in templates():
        for _ in range(template.times):
            text = _one(template.line, template.lists, rng)
            found[text] = Answer(text, template.refused, template.language, template.kind)
    return list(found.values())


def templates() -> list[Template]:
    """What answers are drawn from. The lists of a language may stand anywhere in its part of a file."""
    found: list[Template] = []
    for name in FILES:
        language, into, lists, like = "en", "", dict[str, list[str]](), Template("")
        for line in (SEEDS / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("=== "):
                language, lists, into = line[4:], {}, ""
            elif line.startswith("@"):
                into = line[1:]
                lists[into] = []
            elif heading := _HEADING.match(line):
                into = ""
                like = Template("", heading[1] == "refused", heading[2], int(heading[3]), language, lists)
            elif into and line:
                lists[into].append(line)
            elif line and not line.startswith("#"):
                found.append(replace(like, line=line))
    return found


def _one(line: str, lists: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """One text that a template can make."""

    def chosen(found: re.Match[str]) -> str:
        return rng.choice(found[1].split("|")) if found[2] is None else rng.choice(lists[found[2]])

    while _INNERMOST.search(line):
        line = _INNERMOST.sub(chosen, line)
    text = re.sub(r" ([.,!])", r"\1", " ".join(line.split())).replace("I 'm", "I'm").replace("I 'd", "I'd")
    return text[:1].upper() + text[1:]


def fit(answers: list[Answer]) -> tuple[Any, float, float]:
    """Weights as small integers, their scale, and the bias."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    rows = [buckets(plain(a.text)) for a in answers]
    values = np.concatenate([np.full(len(r), len(r) ** -0.5) for r in rows])
    starts = np.cumsum([0, *map(len, rows)])
    # a bucket that occurs twice in a text counts twice: csr_matrix sums
    matrix = csr_matrix((values, np.concatenate(rows), starts), shape=(len(rows), 1 << BITS))
    model: Any = LogisticRegression(C=STRENGTH, max_iter=2000, class_weight="balanced", tol=1e-6)
    model.fit(matrix, [a.refused for a in answers])
    scale = float(np.abs(model.coef_).max()) / 127
    return np.round(model.coef_[0] / scale).astype(np.int8), scale, float(model.intercept_[0])


def lexicon(answers: Sequence[Answer]) -> str:
    """The words that the answers in each language are made of, a line for each language that has blanks."""
    found: dict[str, set[str]] = {}
    for a in answers:
        found.setdefault(a.language, set()).update(_WORD.findall(a.text.lower()))
    found["en"].update((SEEDS / "en_words.txt").read_text(encoding="utf-8").split())
    found["en"].update(files("vlmend.world").joinpath("words.txt").read_text(encoding="utf-8").lower().split())
    spaced = sorted(found.keys() - {"zh", "ja", "ko"})
    return "".join(f"{code} {' '.join(sorted(filter(str.isalpha, found[code])))}\n" for code in spaced)


Labeled = tuple[str, str, bool]  # group, answer, whether it declines


def measure(sets: Mapping[str, Sequence[Labeled]]) -> None:
    """A Markdown table of what the judge makes of labeled answers, by group."""
    print(
        "| answers | refusals found | … left open | … missed | answers passed | … left open | … taken for refusals |",
        end="",
    )
    print(" precision | recall |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, rows in sets.items():
        groups: dict[str, Counter[tuple[bool, bool | None]]] = {}
        for group, answer, refused in rows:
            groups.setdefault(group, Counter())[refused, ruling(answer).refused] += 1
        whole = sum(groups.values(), Counter[tuple[bool, bool | None]]())
        for group, counts in ({f"**{name}**": whole} | (groups if len(groups) > 1 else {})).items():
            print(f"| {group} | {_row(counts)} |")


def _row(counts: Counter[tuple[bool, bool | None]]) -> str:
    found, taken = counts[True, True], counts[False, True]
    judged = found + counts[True, False]
    columns = [str(counts[label, said]) for label in (True, False) for said in (label, None, not label)]
    shares = [f"{100 * found / n:.1f} %" if n else "–" for n in (found + taken, judged)]
    return " | ".join([*columns, *shares])


def held_out() -> list[Labeled]:
    """Answers in every language that were written after the judge was made."""
    rows = [json.loads(line) for line in (SEEDS / "held_out.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(KNOWN[row["category"]], row["answer"], row["refused"]) for row in rows]


def hard() -> list[Labeled]:
    """The labeled answers that come with the package, made to be hard."""
    rows = [json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines()]
    return [(row["category"], row["answer"], row["refused"]) for row in rows if row.get("refused") is not None]


def vlguard(file: Path) -> list[Labeled]:
    """The reference answers of VLGuard: of unsafe pictures and of unsafe instructions refusals, of the rest answers."""
    found: list[Labeled] = []
    for entry in json.loads(file.read_text(encoding="utf-8")):
        for turn in entry["instr-resp"]:
            kind = "safe picture and instruction" if "safe_instruction" in turn else "unsafe instruction"
            kind = kind if entry["safe"] else "unsafe picture"
            found.append((kind, turn["response"], "safe_instruction" not in turn))
    return found


def main(words: list[str]) -> None:
    """Fit and save, show, or measure."""
    if words[:1] == ["measure"]:
        sets = {"written for this, by language": held_out(), "written to be hard, by kind": hard()}
        if words[1:]:
            sets["VLGuard, train"] = vlguard(Path(words[1]))
        measure(sets)
        return
    answers = drawn()
    if words[:1] == ["show"]:
        for a in random.Random(1).sample(answers, int(words[1]) if words[1:] else 20):
            print(f"{'refused ' if a.refused else 'answered'} {a.language} {a.kind:28} {a.text}")
        return
    weights, scale, bias = fit(answers)
    np.savez_compressed(WEIGHTS, weights=weights, scale=np.float32(scale), bias=np.float32(bias))
    LEXICON.write_text(lexicon(answers), encoding="utf-8")
    refused = sum(a.refused for a in answers)
    print(f"{len(answers):,} answers, {refused:,} of them refusals -> {WEIGHTS.name}, {WEIGHTS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
