"""A budget that holds while requests are on their way: each counts at the most it can use until its use is known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from vlmend.errors import UsageError
from vlmend.money import Budget, Purse, Usage, estimate, load_prices
from vlmend.servers.outcome import Again, Answered, Outcome
from vlmend.types import Message


class Costed(Protocol):
    """What is known of a request before it is sent."""

    @property
    def prompt(self) -> Sequence[Message]: ...
    @property
    def longest(self) -> int:
        """The most tokens that its answers can have together."""
        ...


J = TypeVar("J", bound=Costed)


class Account:
    """One model's spending. A request whose fate is unknown counts as if it had used the most it could."""

    def __init__(self, model: str, purse: Purse) -> None:
        self.model, self.purse = model, purse
        self._reserved: dict[int, Usage] = {}
        purse.check(model)

    @classmethod
    def opened(cls, model: str, budget: str, prices: Path | None) -> Account:
        """One with a purse of its own, as the options `budget` and `prices` have it."""
        return cls(model, Purse(load_prices(prices), Budget.parse(budget) if budget else None))

    def reserve(self, job: Costed) -> bool:
        """Set aside the most that a request can use, if that fits."""
        most = estimate(job.prompt, job.longest)[1]
        wanted = [*self._reserved.values(), most]
        if self.purse.room(self.model, wanted) < len(wanted):
            return False
        self._reserved[id(job)] = most
        return True

    def settle(self, job: Costed, outcome: Outcome) -> None:
        """Replace what was set aside by what was used: nothing where no model ran."""
        most = self._reserved.pop(id(job), None) or estimate(job.prompt, job.longest)[1]
        self.purse.pay(self.model, _used(outcome, most))

    async def trial(self, job: J, ask: Callable[[J], Awaitable[Outcome]]) -> Outcome | None:
        """What becomes of a request that finds out whether the server is well; None where it cannot be afforded."""
        if not self.reserve(job):
            return None
        found = await ask(job)
        self.settle(job, found)
        return found

    def spent(self) -> UsageError:
        """What to say when nothing more can be afforded."""
        used = self.purse.spent.get(self.model, Usage())
        return UsageError(
            f"the budget of {self.purse.budget} does not reach for another request: {used.calls} calls, {used.input} + "
            f"{used.output} tokens are spent. What was answered is kept; go on with a larger --budget"
        )


def _used(outcome: Outcome, most: Usage) -> Usage:
    if isinstance(outcome, Answered):
        reply = outcome.reply
        return Usage(1, reply.prompt_tokens, reply.tokens) if reply.prompt_tokens or reply.tokens else most
    if isinstance(outcome, Again):
        return Usage() if outcome.unreached else Usage(1) if outcome.busy else most
    return Usage(1) if outcome.sent else Usage()
