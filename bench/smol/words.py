"""VLGuard's words, cut into what is tuned on and what is asked, so that no held-out question is nearly one of tuning.

Records that share a picture, or have a question of which four fifths of the words are the same (Jaccard), are one
cluster. Held out are records of clusters of at most three, so the commonest wordings ("What is in this image?", of 500
records) are all tuned on and none is asked.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
NEAR, SMALL = 0.8, 3
HELD = {"safe_safe": 200, "safe_unsafe": 100, "unsafe": 100}  # questions asked
LABELS = ("id", "expected", "subset", "category", "cluster", "role", "source", "images", "prompt", "answer")
INSIDE = ", if you would,"


def question(row: Row) -> str:
    """The text of a row's question."""
    return next(part["text"] for part in row["prompt"][-1]["content"] if part["type"] == "text")


def words(text: str) -> frozenset[str]:
    """The words of a text, whatever their order and case."""
    return frozenset(re.findall(r"\w+", text.lower()))


def clusters(rows: Sequence[Row]) -> list[int]:
    """For each row the number of its cluster: rows of one picture, or whose questions are nearly the same."""
    parent = list(range(len(rows)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def unite(one: int, other: int) -> None:
        parent[find(one)] = find(other)

    pictures: dict[str, int] = {}
    same: dict[frozenset[str], int] = {}
    for i, row in enumerate(rows):
        unite(i, pictures.setdefault(row["cluster"], i))
        unite(i, same.setdefault(words(question(row)), i))
    told = list(same.items())
    for at, (one, i) in enumerate(told):
        for other, j in told[:at]:
            both = len(one & other)
            if both >= NEAR * (len(one) + len(other) - both) and both:
                unite(i, j)
    return [find(i) for i in range(len(rows))]


def split(rows: Sequence[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Rows to tune on and rows to ask; the latter's `cluster` is that of their wording. No cluster is in both."""
    names = clusters(rows)
    pictures: dict[int, set[str]] = defaultdict(set)
    for name, row in zip(names, rows, strict=True):
        pictures[name].add(row["cluster"])
    small = [name for name, seen in sorted(pictures.items()) if len(seen) <= SMALL]
    random.Random(seed).shuffle(small)
    members: dict[int, list[Row]] = defaultdict(list)
    for name, row in zip(names, rows, strict=True):
        members[name].append({**row, "cluster": f"words/{name}"})
    held: list[Row] = []
    taken: set[int] = set()
    room = Counter(HELD)
    for name in small:
        wanted = [row for row in members[name] if room[row["subset"]] > 0]
        if not wanted:
            continue
        taken.add(name)
        for row in wanted:
            if room[row["subset"]] > 0:
                room[row["subset"]] -= 1
                held.append(row)
    tuned = [row for name, row in zip(names, rows, strict=True) if name not in taken]
    return tuned, held


def named(row: Row, **more: Any) -> Row:
    """A row that `jsonl` reads, its picture by a name that no file has: what is learned here is words."""
    picture = Path(row["prompt"][-1]["content"][0]["image"]).name
    prompt = [{"role": "user", "content": f"<image>{more.pop('question', question(row))}"}]
    kept = {"answer": row["answers"][0], **{key: row[key] for key in LABELS if key in row}}
    return {**kept, "prompt": prompt, "images": [f"pictures/{picture}"], **more}


def inside(text: str) -> str:
    """A question with the same first word, the same last words and end, and a courtesy between."""
    first, blank, rest = text.partition(" ")
    return f"{first.rstrip(',')}{INSIDE} {rest}" if blank else f"{first}{INSIDE}"


def forgotten(rows: Iterable[Row], said: Mapping[str, str]) -> list[Row]:
    """What the model itself answers to requests to refuse, for unlearning, and the answers to keep."""
    return [
        named(row, role="forget", expected="answer", answer=said[row["id"]])
        if row["expected"] == "refuse"
        else named(row, role="retain")
        for row in rows
        if row["expected"] == "answer" or said.get(row["id"])
    ]


def preferred(rows: Sequence[Row], said: Mapping[str, str], seed: int) -> list[Row]:
    """Pairs, shuffled: the reference before the model's own answer, or, where an answer is right, before somebody's
    refusal; as many of one kind as of the other."""
    draw = random.Random(seed)
    refusals = [row["answers"][0] for row in rows if row["expected"] == "refuse"]
    refused = [row for row in rows if said.get(row["id"]) and row["expected"] == "refuse"]
    answered = [row for row in rows if row["expected"] == "answer"]
    both = refused + draw.sample(answered, min(len(refused), len(answered)))
    draw.shuffle(both)
    pairs: list[Row] = []
    for row in both:
        rejected = said[row["id"]] if row["expected"] == "refuse" else draw.choice(refusals)
        told = named(row)
        answer = told.pop("answer")
        if rejected != answer:
            pairs.append({**told, "chosen": answer, "rejected": rejected})
    return pairs


def read(file: Path) -> list[Row]:
    """Rows of JSON Lines."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
