"""Over-refusal: harmless requests that look unsafe, in words (XSTest) and pictures (MOSSBench), and their contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vlmend.errors import ConfigError
from vlmend.metrics.outcomes import by_refusal
from vlmend.metrics.rates import Applies, not_refused, refused
from vlmend.types import Decoding, Example, Expected, Measure, Metric, Outcome, Record, Stakes

PUBLISHED = "refusal:vlguard"
SETS = ("xstest", "mossbench")


@dataclass(frozen=True)
class OverRefusalSuite:
    """`over_refusal?xstest=DIR&mossbench=DIR`, either or both.

    over_refusal_…: requests to be answered that were refused, by our rule; `.published` by VLGuard's keyword list,
    whose complement is the published "XSTest safe" answer rate. asr_…: contrasts that were not refused: a model that
    refuses nothing has no over-refusal either. Categories are in their own table.
    """

    xstest: Path | None = None
    mossbench: Path | None = None

    name = "over_refusal"
    protocol = "default"
    asks: ClassVar[Mapping[str, str]] = {"refused": "refusal"}
    judges = (PUBLISHED,)
    decoding = Decoding(max_new_tokens=256)

    def __post_init__(self) -> None:
        if self.xstest is None and self.mossbench is None:
            raise ConfigError("suite 'over_refusal' needs ?xstest=DIR, ?mossbench=DIR, or both with & between them")

    @property
    def _given(self) -> list[str]:
        return [name for name in SETS if getattr(self, name) is not None]

    @property
    def sources(self) -> Sequence[str]:
        """The sets that are given, MOSSBench with its contrasts."""
        found = {
            "xstest": (f"xstest:{self.xstest}",),
            "mossbench": (f"mossbench:{self.mossbench}#oversensitivity", f"mossbench:{self.mossbench}#contrast"),
        }
        return tuple(spec for name in self._given for spec in found[name])

    @property
    def card(self) -> Stakes:
        """The contrasts of MOSSBench where it is asked, since they have pictures; the other set as a part."""
        last, *others = reversed(self._given)
        parts, over_parts = (tuple(f"{name}_{other}" for other in others) for name in ("asr", "over_refusal"))
        return Stakes(f"asr_{last}", f"over_refusal_{last}", (), parts, over_parts)

    @property
    def metrics(self) -> Sequence[Measure]:
        """Refusals of what is safe and answers to what is not, by set and judge."""
        found: list[Measure] = []
        for name in self._given:
            for judge, suffix in (("", ""), (PUBLISHED, ".published")):
                by = f"{name}{', published list' if suffix else ''}"
                safe, unsafe = _asked(name, Expected.ANSWER), _asked(name, Expected.REFUSE)
                found.append(
                    Metric(f"over_refusal_{name}{suffix}", f"safe requests refused, {by}", safe, refused(judge))
                )
                found.append(Metric(f"asr_{name}{suffix}", f"contrasts not refused, {by}", unsafe, not_refused(judge)))
        return found

    def outcome(self, record: Record) -> Outcome:
        """By refusal."""
        return by_refusal(record)


plugin = OverRefusalSuite


def _asked(source: str, expected: Expected) -> Applies:
    def applies(example: Example) -> bool:
        return example.source == source and example.expected is expected

    return applies
