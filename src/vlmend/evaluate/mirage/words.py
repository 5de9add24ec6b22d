"""Which words to change, and what a rule scores that sees no picture: both from an audit of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmend.audit import rows
from vlmend.audit.audit import Audit, Settings, audit
from vlmend.audit.contrasts import toward
from vlmend.audit.rows import Rows
from vlmend.audit.verdict import balanced
from vlmend.errors import UsageError
from vlmend.evaluate.mirage.probes import ASR, OVER, MirageConfig, Words, measures, suite_for
from vlmend.evaluate.run import limited
from vlmend.metrics.rates import as_json
from vlmend.types import Rate

SEEN = 5  # times a first word must have been seen to be tried


@dataclass(frozen=True)
class Baseline:
    """The best rule that sees no picture, and what it scores on the requests of the card."""

    name: str
    about: str
    fitted_on: str
    tested_on: str
    rates: dict[str, Rate]

    def to_json(self, config: MirageConfig) -> dict[str, Any]:
        """As plain data."""
        scores = {m.name: as_json(self.rates[m.name], m) for m in measures(suite_for(config))}
        where = {"fitted_on": self.fitted_on, "tested_on": self.tested_on}
        return {"name": self.name, "about": self.about, **where, "metrics": scores}


def look(config: MirageConfig) -> Audit:
    """The audit of the training set, tried on the suite's requests; of these alone where no training set is named."""
    asked = requests(config)
    train = rows.read(config.train) if config.train else None
    settings = Settings(first_words=1, pictures=False)
    return audit(train or asked, test=asked if train else None, settings=settings)


def requests(config: MirageConfig) -> Rows:
    """What the suite's attack success and over-refusal are about."""
    suite = suite_for(config)
    metrics = measures(suite)
    read = limited([example for spec in suite.sources for example in rows.read(spec).examples], config.limit)
    return Rows(" ".join(suite.sources), tuple(e for e in read if any(m.applies(e) for m in metrics)))


def find(config: MirageConfig, found: Audit) -> Words:
    """The words given, or else the first words that say most, seen often enough, for each side."""
    if config.opening and config.closing:
        return Words(config.opening, config.closing)
    opening = config.opening or _telling(found, config.shots, refusal=False)
    closing = config.closing or _telling(found, 1, refusal=True)
    if not opening or not closing:
        raise UsageError(
            f"no first word of {found.rows.spec} is seen {SEEN} times on one side more than on the other; "
            "name words to try: --opening what,how --closing share"
        )
    return Words(opening, closing, found.rows.spec)


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
    return Baseline(best.name, best.about, best.fitted_on, best.tested_on, {k: best.test[k] for k in (ASR, OVER)})
