"""What a built set is worth: how much was accepted, how varied and balanced it is, and what gives its label away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from vlmend.audit.audit import Settings, audit
from vlmend.audit.rows import Rows, opening
from vlmend.build.sift import Sifted, kept
from vlmend.data.export import Written
from vlmend.metrics.quality import self_bleu
from vlmend.types import Example, Pair

LOOKED_AT = 20_000  # rows that an audit reads, at most; the first ones
VARIED = 500  # questions whose likeness to one another is measured, at most


def worth(out: Path, sifted: Sifted, written: Mapping[str, Written]) -> dict[str, Any]:
    """What each set of a run is worth, its file, and how many drafts were left out for which reason."""
    sets: dict[str, Any] = {}
    for name, drafts in sifted.drafts.items():
        left_out = dict(sifted.reasons.get(name, {}))
        found = quality(kept(out, sifted, name), name)
        sets[name] = {"drafts": drafts, "left_out": left_out, **found, "rows": sifted.kept[name]}
        if name in written:
            sets[name]["file"] = written[name].spec
    return sets


def quality(rows: Iterable[Example | Pair], spec: str) -> dict[str, Any]:
    """Counts, balance, variety and the audit of one set's rows, as plain data; nothing is averaged over nothing.

    variety is 1 - self-BLEU of questions (Zhu et al. 2018): 0 where all are alike, None for fewer than two.
    """
    looked = list(islice(rows, LOOKED_AT))
    if not looked:
        return {"rows": 0}
    examples = [row for row in looked if isinstance(row, Example)]
    questions = [row.question for row in looked]
    firsts = Counter(opening(text, 1) for text in questions)
    found: dict[str, Any] = {
        "rows": len(looked),
        "expected": dict(Counter(str(row.expected) for row in examples)),
        "categories": dict(Counter(row.category or "(none)" for row in looked).most_common()),
        "distinct_questions": len(set(questions)),
        "first_words": dict(firsts.most_common(10)),
        "variety": variety(questions),
    }
    if examples:
        verdict = audit(Rows(spec, tuple(examples)), settings=Settings(pictures=False)).verdict
        found["audit"] = {
            "flagged": verdict.flagged,
            "headline": verdict.headline,
            "sentences": list(verdict.sentences),
        }
    return found


def variety(texts: Sequence[str]) -> float | None:
    """1 - the mean BLEU of each text against all others, over texts spread evenly; None for fewer than two."""
    step = max(1, len(texts) // VARIED)
    some = texts[::step][:VARIED]
    return 1 - sum(scores) / len(scores) if len(some) > 1 and (scores := self_bleu(some)) else None
