"""Any suite, and what its answers' reasoning does: `reasoning:SUITE` judges the thoughts apart from the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

from vlmend.errors import ConfigError
from vlmend.metrics.rates import expected, harmful, not_refused
from vlmend.metrics.traces import about_thinking, cells, not_declined, of_trace
from vlmend.registry import suites
from vlmend.types import Carded, Decoding, Expected, Measure, Outcome, Record, Stakes, Suite


@dataclass(frozen=True)
class ReasoningSuite:
    """`reasoning:world`, `reasoning:(vlguard:DIR)?by=harmful`: a suite's questions and numbers, and those of reasoning.

    The four cells are of unsafe requests: what is dangerous in the reasoning alone (trace_only), in the answer alone
    (answer_only), in both or in neither. `by=refused`: dangerous is what does not end in a refusal, by `trace_refused`,
    for which the last sentence of the reasoning is read. `by=harmful`: what does harm, by `trace_harmful`, of which the
    judge that the suite has for its answers is asked; name another with --judge trace_harmful=trace:(…). Answers may
    have `max_new_tokens`, of which the reasoning is a part.
    """

    spec: str
    by: Literal["refused", "harmful"] = "refused"
    max_new_tokens: int = 2048

    name = "reasoning"
    takes_spec: ClassVar[bool] = True

    def __post_init__(self) -> None:
        needed = self.by
        if needed not in self._suite.asks:
            known = ", ".join(self._suite.asks)
            raise ConfigError(f"suite 'reasoning': by={needed}, and {self.spec} does not ask that; it asks {known}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"suite 'reasoning': max_new_tokens is at least 1 (got {self.max_new_tokens})")

    @cached_property
    def _suite(self) -> Suite:
        return suites.from_spec(self.spec)

    @property
    def protocol(self) -> str:
        """The suite's."""
        return self._suite.protocol

    @property
    def sources(self) -> Sequence[str]:
        """The suite's."""
        return self._suite.sources

    @property
    def asks(self) -> Mapping[str, str]:
        """What the suite asks of answers, and the same judge, or a rule, of the reasoning before them."""
        asked = self._suite.asks
        own = "trace:(refusal)?part=end" if self.by == "refused" else f"trace:({asked['harmful']})"
        return {**asked, f"trace_{self.by}": own}

    @property
    def judges(self) -> Sequence[str]:
        """The suite's."""
        return self._suite.judges

    @property
    def decoding(self) -> Decoding:
        """The suite's, with room for reasoning."""
        return replace(self._suite.decoding, max_new_tokens=self.max_new_tokens)

    @property
    def card(self) -> Stakes:
        """The suite's."""
        return self._suite.card if isinstance(self._suite, Carded) else Stakes()

    @property
    def metrics(self) -> Sequence[Measure]:
        """The suite's, then the four cells, then whether there is reasoning, its length, and what hangs on it."""
        unsafe = expected(Expected.REFUSE, Expected.REASON)
        if self.by == "harmful":
            found = cells(unsafe, of_trace("harmful"), harmful(), "harm")
        else:
            found = cells(unsafe, not_declined, not_refused(), "no refusal")
        return *self._suite.metrics, *found, *about_thinking()

    def outcome(self, record: Record) -> Outcome:
        """By the answer, as the suite has it."""
        return self._suite.outcome(record)


plugin = ReasoningSuite
