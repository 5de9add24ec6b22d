"""What calls cost: tokens estimated before, counted after, and a budget that is never crossed.

Prices come from a file that everyone can edit (`prices.yaml`); a model without a price has no cost, which is said, and
cannot be given a budget in money. Models that run here, or on a server of this machine, cost nothing.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from vlmend import plain_yaml
from vlmend.errors import ConfigError, UsageError
from vlmend.types import Image, Message

SHIPPED = Path(__file__).with_name("prices.yaml")
MILLION = 1_000_000
PICTURE = (765, 1_700)  # tokens of a picture of a million pixels with the usual providers: typical, and the most
FRAME = 16  # tokens of roles and separators around a conversation
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Price:
    """Money for a million tokens read and a million tokens written."""

    input: float
    output: float


@dataclass(frozen=True)
class Usage:
    """Calls made and tokens read and written."""

    calls: int = 0
    input: int = 0
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.calls + other.calls, self.input + other.input, self.output + other.output)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.calls - other.calls, self.input - other.input, self.output - other.output)

    def cost(self, price: Price) -> float:
        """In the currency of the price file."""
        return (self.input * price.input + self.output * price.output) / MILLION


@dataclass(frozen=True)
class Prices:
    """Prices by model name; a name may be a pattern such as `gpt-4o-2024-*`, the longest that fits counts."""

    models: Mapping[str, Price] = field(default_factory=dict[str, Price])
    currency: str = "USD"
    path: Path = SHIPPED

    def of(self, model: str) -> Price | None:
        """The price of a model spec; nothing for what runs here, None where it is not known."""
        name, url = served(model)
        if not name:
            return Price(0.0, 0.0)
        fitting = [known for known in self.models if fnmatchcase(name, known)]
        if fitting:
            return self.models[max(fitting, key=len)]
        return Price(0.0, 0.0) if urlsplit(url).hostname in LOOPBACK else None


def served(model: str) -> tuple[str, str]:
    """Name and address of a model on a server (`openai:NAME@URL`), or two empty strings for one that runs here."""
    backend, colon, rest = model.partition(":")
    if backend != "openai" or not colon:
        return "", ""
    name, _, url = rest.partition("?")[0].partition("@")
    return name, url


def load_prices(path: Path | None = None) -> Prices:
    """The prices of a file; of $VLMEND_PRICES, or those that are shipped, when none is named."""
    named = path or (Path(os.environ["VLMEND_PRICES"]) if os.environ.get("VLMEND_PRICES") else SHIPPED)
    try:
        text = named.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"price file {named} cannot be read: {error.strerror}") from error
    data = plain_yaml.parse(text, f"price file {named}")
    try:
        models = {str(name): Price(float(p["input"]), float(p["output"])) for name, p in data["models"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"price file {named} should have 'models: {{NAME: {{input: 2.5, output: 10}}}}', per million tokens"
        ) from error
    bad = [n for n, p in models.items() if not (math.isfinite(p.input + p.output) and min(p.input, p.output) >= 0)]
    if bad:
        raise ConfigError(f"price file {named}: the price of {bad[0]!r} is not a number of at least 0")
    return Prices(models, str(data.get("currency", "USD")), named)


def estimate(prompt: Sequence[Message], longest: int) -> tuple[Usage, Usage]:
    """One call to a model, before it is made: about what it uses, and the most it can use.

    A token is about four letters of English, one of most other characters, and never less than a byte.
    """
    texts = [message.text for message in prompt]
    pictures = sum(isinstance(part, Image) for message in prompt for part in message.parts)
    plain = sum(len(t.encode("ascii", "ignore")) for t in texts)
    other = sum(map(len, texts)) - plain
    most = sum(len(t.encode("utf-8", "replace")) for t in texts)
    typical, largest = PICTURE
    about = Usage(1, FRAME + math.ceil(plain / 4) + other + typical * pictures, max(1, longest // 4))
    return about, Usage(1, FRAME * (1 + len(texts)) + most + largest * pictures, longest)


Unit = Literal["money", "calls", "tokens"]
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)(?P<scale>[kM]?)\s*(?P<unit>calls?|tokens?|[A-Za-z]{3}|\$|€)?")


@dataclass(frozen=True)
class Budget:
    """At most so much money, or so many calls or tokens."""

    amount: float
    unit: Unit = "money"

    @classmethod
    def parse(cls, text: str) -> Budget:
        """`2.50`, `500calls` or `2Mtokens`."""
        match = _AMOUNT.fullmatch(text.strip().removeprefix("$"))
        if match is None:
            raise UsageError(f"a budget is money (2.50), calls (500calls) or tokens (2Mtokens), not {text!r}")
        number = float(match["number"]) * {"": 1, "k": 1_000, "M": MILLION}[match["scale"]]
        unit = (match["unit"] or "").removesuffix("s")
        return cls(number, "calls" if unit == "call" else "tokens" if unit == "token" else "money")

    def __str__(self) -> str:
        return f"{self.amount:.2f}" if self.unit == "money" else f"{self.amount:g} {self.unit}"


@dataclass
class Purse:
    """What was spent, and what may be. `dry` spends nothing and adds up estimates instead."""

    prices: Prices = field(default_factory=Prices)
    budget: Budget | None = None
    dry: bool = False
    known: int = 0  # questions whose answer was there already
    spent: dict[str, Usage] = field(default_factory=dict[str, Usage])  # by model
    expected: dict[str, tuple[Usage, Usage]] = field(default_factory=dict[str, tuple[Usage, Usage]])  # about, at most
    beyond: dict[str, float] = field(default_factory=dict[str, float])  # by model: how far a call went beyond its most

    def check(self, model: str) -> None:
        """Raise UsageError when a budget in money cannot be kept because nobody knows the price."""
        if self.budget and self.budget.unit == "money" and self.prices.of(model) is None:
            raise UsageError(
                f"no price is known for {served(model)[0]!r}, so a budget in money cannot be kept; "
                f"add it to {self.prices.path} or name a file with --prices, or give --budget in calls or tokens"
            )

    def room(self, model: str, most: Sequence[Usage]) -> int:
        """How many of these calls, in order, fit into what is left, should each use the most it can."""
        if self.budget is None:
            return len(most)
        factor = 1.0 if self.budget.unit == "calls" else self.beyond.get(model, 1.0)
        left = self.budget.amount - sum(self._measure(name, usage) for name, usage in self.spent.items())
        for count, usage in enumerate(most):
            left -= self._measure(model, usage) * factor
            if left < 0:
                return count
        return len(most)

    def _measure(self, model: str, usage: Usage) -> float:
        if self.budget is None or self.budget.unit == "money":
            price = self.prices.of(model)
            return usage.cost(price) if price else 0.0
        return usage.calls if self.budget.unit == "calls" else usage.input + usage.output

    def pay(self, model: str, usage: Usage, most: Usage | None = None) -> None:
        """Add what a call used; what it used beyond its most, later calls may use too."""
        self.spent[model] = self.spent.get(model, Usage()) + usage
        for used, limit in ((usage.input, most.input), (usage.output, most.output)) if most else ():
            self.beyond[model] = max(self.beyond.get(model, 1.0), used / max(1, limit))

    def expect(self, model: str, about: Usage, most: Usage) -> None:
        """Add what a call would use."""
        before = self.expected.get(model, (Usage(), Usage()))
        self.expected[model] = before[0] + about, before[1] + most

    def cost(self) -> float | None:
        """What was spent in money; None where a price is not known."""
        prices = {model: self.prices.of(model) for model in self.spent}
        if None in prices.values():
            return None
        return sum(usage.cost(prices[model] or Price(0, 0)) for model, usage in self.spent.items())

    @property
    def billed(self) -> list[str]:
        """The models on servers that were asked: what runs here costs nothing, so nobody gets a bill for it."""
        return [model for model in self.spent if served(model)[0]]

    def lines(self) -> list[str]:
        """The same for people, a line for each model."""
        rows = self.to_json()["models"]
        lines = [self._line(model, rows[model]) for model in (rows if self.dry else self.billed)]
        if self.known:
            lines.append(f"{self.known:,} replies were known and not asked for again")
        return lines or ["nothing to pay: no server is asked"]

    def _line(self, model: str, row: Mapping[str, Any]) -> str:
        text = f"{model}: {row['calls']:,} calls, {row['input_tokens']:,} tokens in, {row['output_tokens']:,} out"
        if not served(model)[0]:
            return f"about {text}; it runs here and costs nothing"
        if row["cost"] is None:
            return f"{text}; no price is known (add it to {self.prices.path})"
        text = f"{text}: {row['cost']:.4f} {self.prices.currency}"
        return f"about {text}, at most {row['most_cost']:.4f}" if self.dry else text

    def to_json(self) -> dict[str, Any]:
        """Spent, or in a dry run expected, by model."""
        rows: dict[str, Any] = {}
        for model in self.expected if self.dry else self.spent:
            price = self.prices.of(model)
            about, most = self.expected[model] if self.dry else (self.spent[model], self.spent[model])
            row: dict[str, Any] = {"calls": about.calls, "input_tokens": about.input, "output_tokens": about.output}
            row["cost"] = about.cost(price) if price else None
            if self.dry:
                row |= {"most_tokens": most.input + most.output, "most_cost": most.cost(price) if price else None}
            rows[model] = row
        return {"dry": self.dry, "known": self.known, "currency": self.prices.currency, "models": rows}
