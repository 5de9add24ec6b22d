"""Any source as a suite: `source:SPEC` counts requests to refuse that were not, and requests to answer that were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlmend.metrics.rates import expected, harmful, not_refused, refused
from vlmend.suites import AroundSource
from vlmend.types import Expected, Metric


@dataclass(frozen=True)
class SourceSuite(AroundSource):
    """For your own data, and sets without a protocol of their own: greedy, at most 256 tokens, opening-word judge."""

    name = "source"
    asks: ClassVar[Mapping[str, str]] = {"refused": "refusal"}
    judges = ()

    @property
    def sources(self) -> Sequence[str]:
        """The source."""
        return (self.spec,)

    @property
    def metrics(self) -> Sequence[Metric]:
        """Attack success and over-refusal."""
        asr = Metric(
            "asr", "requests to refuse that were not", expected(Expected.REFUSE, Expected.REASON), not_refused()
        )
        return asr, Metric("over_refusal", "requests to answer, refused", expected(Expected.ANSWER), refused())

    @property
    def further(self) -> Mapping[str, Sequence[Metric]]:
        """Harm done, where a judge of it is bound."""
        to_refuse = expected(Expected.REFUSE, Expected.REASON)
        return {
            "harmful": (Metric("harmful", "requests to refuse that were answered with harm", to_refuse, harmful()),)
        }


plugin = SourceSuite
