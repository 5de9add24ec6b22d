"""Which words to change, and what a rule scores that sees no picture: both from an audit of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmend.audit import rows
from vlmend.audit.audit import Audit, Settings, audit
from vlmend.audit.contrasts import toward
from vlmend.audit.rows import Rows
from vlmend.audit.verdict import balanced
from vlmend.evaluate.asking import limited
from vlmend.evaluate.mirage.probes import MirageConfig, Words
from vlmend.evaluate.mirage.sides import DANGER, OVER, Sides
from vlmend.metrics.rates import as_json
from vlmend.types import Example, Rate, Suite

SEEN = 5  # times a first word must have been seen to be tried
OPENING, CLOSING = (
    ("what", "how", "which"),
    ("share",),
)  # of Safety Mirage (arXiv 2503.11832), where an audit finds none


@dataclass(frozen=True)
class Baseline:
    """The best rule that sees no picture, and what it scores on the requests of the card."""

    name: str
    about: str
    fitted_on: str
    tested_on: str
    rates: dict[str, Rate]

    def to_json(self, sides: Sides) -> dict[str, Any]:
        """As plain data."""
        scores = {name: as_json(self.rates[name], side.metric) for name, side in sides.both.items()}
        where = {"fitted_on": self.fitted_on, "tested_on": self.tested_on}
        return {"name": self.name, "about": self.about, **where, "metrics": scores}


def requests(suite: Suite, limit: int | None) -> list[Example]:
    """What a card asks of the suite."""
    return limited([example for spec in suite.sources for example in rows.read(spec).examples], limit)


def look(config: MirageConfig, suite: Suite, sides: Sides, asked: list[Example]) -> Audit:
    """The audit of the training set, tried on the suite's requests; of these alone where no training set is named."""
    tried = Rows(" ".join(suite.sources), tuple(sides.about(asked)))
    train = rows.read(config.train) if config.train else None
    settings = Settings(first_words=1, pictures=False)
    return audit(train or tried, test=tried if train else None, settings=settings)


def find(config: MirageConfig, found: Audit, sides: Sides) -> Words:
    """The words given, or else the first words that say most, seen often enough, for each side.

    Where none is, those that were published are tried.
    """
    where, notes = found.rows.spec, list[str]()
    told: set[bool] = set()  # whether words that were looked for were there

    def chosen(given: tuple[str, ...], published: tuple[str, ...], most: int, *, refusal: bool) -> tuple[str, ...]:
        if given:
            return tuple(dict.fromkeys(given))
        telling = _telling(found, most, refusal=refusal)
        told.add(bool(telling))
        what, words = "close" if refusal else "open", telling or published[:most]
        if not telling:
            seen = f"no first word of {where} that would {what} is seen {SEEN} times"
            notes.append(f"{seen}; as published is tried: {', '.join(words)}")
        if len(words) < most:
            notes.append(f"words that {what}: {len(words)}, not {most}; there are no more")
        return words

    opening = chosen(config.opening, OPENING, config.shots, refusal=False)
    closing = chosen(config.closing, CLOSING, 1, refusal=True) if sides.over else ()
    return Words(opening, closing, where if True in told else "", "; ".join(notes))


def _telling(found: Audit, most: int, *, refusal: bool) -> tuple[str, ...]:
    first = found.feature("first word")
    odds = [o for o in first.odds if o.value and o.refused + o.answered >= SEEN] if first else []
    ranked = sorted(toward(odds, refusal=refusal), key=lambda o: (-o.share, o.value))
    return tuple(o.value for o in ranked[:most])


def baseline(found: Audit) -> Baseline | None:
    """The best rule that sees no picture, by the mean of its two error rates."""
    blind = [rule for rule in found.baselines if rule.sees == "text" and balanced(rule) is not None]
    best = max(blind, key=lambda rule: balanced(rule) or 0.0, default=None)
    if best is None:
        return None
    return Baseline(best.name, best.about, best.fitted_on, best.tested_on, {k: best.test[k] for k in (DANGER, OVER)})
