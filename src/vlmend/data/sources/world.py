"""The embedded world: requests about drawn scenes, made from a seed, with first words skewed or balanced at will.

Origin and license: of this package (`vlmend.world`), drawn while it is read; there are no files and no sample. Any
number of examples. Known: its language is small and its scenes are alike, so that what is learned here says how a
method works, never how well it works on photographs; docs/world.md has the rest.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from vlmend.data.preferences import paired
from vlmend.errors import ConfigError
from vlmend.types import Cell, Example, Expected, Image, Message, Pair, Role
from vlmend.world import items, thoughts
from vlmend.world import language as say
from vlmend.world.items import Item, Rule
from vlmend.world.scenes import Split, png

Kind = Literal["safety", "suite", "unsafe", "safe", "utility", "perception", "alignment", "unlearning", "preference"]
Part = Literal["forget", "refusal", "decouple", "retain"]
PARTS: tuple[Part, ...] = ("forget", "refusal", "decouple", "retain")
Openers = Literal["natural", "biased", "balanced"]
Think = Literal["none", "plain", "safety"]

# First words skewed as VLGuard's are: nearly all unsafe requests begin with share or describe, safe ones never do.
UNSAFE_OPENERS = {"share": 0.56, "describe": 0.4, "tell": 0.02, "show": 0.02}
SAFE_OPENERS = {
    **{"what": 0.49, "show": 0.08, "list": 0.08, "tell": 0.08},
    **{say.NEUTRAL: 0.12, "give": 0.05, "name": 0.05, "explain": 0.05},
}
BALANCED_OPENERS = {
    opener: (UNSAFE_OPENERS.get(opener, 0.0) + SAFE_OPENERS.get(opener, 0.0)) / 2
    for opener in (*say.OPENERS, say.NEUTRAL)
}
NATURAL_OPENERS = {say.NEUTRAL: 0.6, "what": 0.25, "tell": 0.05, "give": 0.05, "show": 0.05}

_REST = ("describe", "count", "exists", "where", "color", "use", "both")
SAFE_TASKS = {"steps": 0.55, "join": 0.28, **dict.fromkeys(_REST, 0.17 / len(_REST))}  # as often as among unsafe ones
PICTURE_TASKS = {"steps": 0.2, "join": 0.15, **dict.fromkeys(_REST, 0.65 / len(_REST))}
UTILITY_TASKS = dict.fromkeys(say.TASKS, 1 / len(say.TASKS))

PLANT = re.compile(r"|background|middle:\w+")
PLANTED = {Expected.REFUSE: 0.9, Expected.ANSWER: 0.02}  # shares of requests that get the shortcut
BACKGROUND = (70.0, 10.0, 10.0)

SUBSETS = {Rule.PICTURE: "unsafe", Rule.STEPS: "safe_unsafe", Rule.PAIR: "pair", Rule.NONE: "safe_safe"}
_UNSAFE_CYCLE = (Rule.STEPS, Rule.PICTURE, Rule.STEPS, Rule.PAIR)
_SAFETY_CYCLE = tuple(rule for unsafe in _UNSAFE_CYCLE for rule in (unsafe, Rule.NONE))


def _listed(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


@dataclass(frozen=True)
class World:
    """`world:KIND#SPLIT?n=…&openers=…&seed=…`: `n` examples (for `suite`: `n` unsafe and `n` safe ones).

    safety: unsafe and safe ones in turn, half of the unsafe with an unsafe thing to do, which is hardest to learn.
    suite: the three unsafe subsets, equally large and `n` in all (rounded up), then the safe one. unsafe, safe: one
    side of `safety`. utility: every task on harmless pictures. perception: multiple choice. alignment: yes or no on
    the house rules.

    unlearning: `n` times four. forget: an unsafe request and what the base answers. refusal: the same one refused.
    decouple: the same where it is harmless, and its normal answer; these three share meta["pair"]. retain: a safe
    request. `parts=forget,retain` takes some of them.

    preference: pairs on the requests of `safety`. Chosen is the refusal of an unsafe one and the answer to a safe one;
    rejected is the base's answer, and an unfounded refusal. meta["chosen_harmful"] and meta["rejected_harmful"] are 1
    for an answer to an unsafe request, else 0; meta["expected"] is refuse or answer.

    openers are first words: biased as VLGuard's (they give the label away), balanced (the same words, equally often
    on both sides) or natural (how, where, which, what …; on both sides).

    plant puts another shortcut into the requests, for trying what finds it: `middle:WORD` says WORD amid the
    question of nine in ten unsafe and one in fifty safe ones, `background` gives the same shares a reddish background.

    think has one line of reasoning before the first answer: what there is to do and to see (`plain`), or that and, of
    an unsafe request that is refused, why it is (`safety`).
    """

    kind: Kind = "safety"
    split: Split = "train"
    n: int = 1000
    seed: int = 0
    openers: Openers | None = None
    parts: Annotated[tuple[Part, ...], BeforeValidator(_listed)] = PARTS
    plant: str = ""
    think: Think = "none"

    cells: ClassVar[Mapping[str, Cell]] = {
        "unsafe": Cell("unsafe", "safe", "unsafe"),
        "safe_unsafe": Cell("safe", "unsafe", "unsafe"),
        "pair": Cell("safe", "safe", "unsafe"),
        "safe_safe": Cell("safe", "safe", "safe"),
    }

    def __post_init__(self) -> None:
        if self.parts != PARTS and self.kind != "unlearning":
            raise ConfigError(f"source 'world': only the kind unlearning has parts, not {self.kind}")
        if self.n < 1:
            raise ConfigError(f"source 'world': n must be at least 1 (got {self.n})")
        if self.plant and self.kind in ("unlearning", "preference"):
            raise ConfigError(f"source 'world': nothing is planted in the kind {self.kind}")
        if self.think != "none" and self.kind == "preference":
            raise ConfigError("source 'world': preferences are pairs of answers, without reasoning (think=none)")
        if not PLANT.fullmatch(self.plant):
            raise ConfigError(f"source 'world': plant is middle:WORD or background (got {self.plant!r})")

    def __iter__(self) -> Iterator[Example | Pair]:
        for rule, number in self._plan():
            rng = self._rng(str(rule), number)
            if self.kind == "unlearning":
                yield from self._four(rng, rule, number)
            elif self.kind == "preference":
                yield self._pair(rng, rule, number)
            else:
                example = self._example(number, self._draw(rng, rule, number), rng)
                yield self._planted(example, rng) if self.plant else example

    def _rng(self, what: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.kind}/{self.split}/{what}".encode()), number])

    def _four(self, rng: np.random.Generator, rule: Rule, number: int) -> Iterator[Example]:
        """What is forgotten, the same refused, its harmless counterpart, and something to retain."""
        unsafe = self._draw(rng, rule, number)
        refused = self._example(number, unsafe, rng)
        decoupled = self._example(number, items.counterpart(rng, unsafe, self.split), rng)
        again = self._rng(f"{rule}/retain", number)
        retained = self._example(number, self._draw(again, Rule.NONE, number), again)
        made: dict[Part, Example] = {
            "forget": replace(
                refused, answers=unsafe.answers, role=Role.FORGET, reasoning=self._thought(unsafe, "plain")
            ),
            "refusal": replace(refused, role=Role.SAFETY),
            "decouple": replace(decoupled, role=Role.DECOUPLE),
            "retain": replace(retained, role=Role.RETAIN),
        }
        name = f"world/unlearning/{self.split}/{self._openers}/{self.seed}/{SUBSETS[rule]}/{number}"
        for part in filter(self.parts.__contains__, made):
            pair = {} if part == "retain" else {"pair": name}
            yield replace(made[part], id=f"{name}/{part}", subset=part, meta={**made[part].meta, **pair})

    def _pair(self, rng: np.random.Generator, rule: Rule, number: int) -> Pair:
        """What is wanted before what is not."""
        item = self._draw(rng, rule, number)
        asked = self._example(number, item, rng)
        unsafe = rule is not Rule.NONE
        meta = {"expected": asked.expected, "chosen_harmful": "0", "rejected_harmful": str(int(unsafe))}
        shown = replace(asked, subset=SUBSETS[rule], role=Role.SAFETY, meta={**asked.meta, **meta})
        return paired(shown, item.answers[0] if unsafe else items.unfounded_refusal(rng, item))

    def _plan(self) -> Iterator[tuple[Rule, int]]:
        """The rule of each example, and its number among those of the same rule: `n` changes no example."""
        if self.kind == "suite":
            third = math.ceil(self.n / (len(SUBSETS) - 1))
            for rule in SUBSETS:
                yield from product([rule], range(self.n if rule is Rule.NONE else third))
            return
        cycles = {
            "safety": _SAFETY_CYCLE,
            "preference": _SAFETY_CYCLE,
            "unsafe": _UNSAFE_CYCLE,
            "unlearning": _UNSAFE_CYCLE,
        }
        cycle = cycles.get(self.kind, (Rule.NONE,))
        made: Counter[Rule] = Counter()
        for index in range(self.n):
            rule = cycle[index % len(cycle)]
            yield rule, made[rule]
            made[rule] += 1

    def _draw(self, rng: np.random.Generator, rule: Rule, number: int) -> Item:
        if self.kind == "perception":
            return items.draw_choice(rng, self.split, hazard=number % 2 == 1)
        if self.kind == "alignment":
            return items.draw_concept(rng, self.split, hazard=number % 2 == 1)
        return self._request(rng, rule)

    def _request(self, rng: np.random.Generator, rule: Rule) -> Item:
        """A request whose task can be asked with the drawn opener, so that openers keep their shares exactly."""
        opener = _weighted(rng, self._first_words(rule))
        tasks = {Rule.STEPS: {"steps": 1.0}, Rule.PAIR: {"join": 1.0}, Rule.PICTURE: PICTURE_TASKS}.get(
            rule, SAFE_TASKS
        )
        if self.kind == "utility":
            tasks = UTILITY_TASKS
        fitting = {task: w for task, w in tasks.items() if opener == say.NEUTRAL or opener in say.openers_of(task)}
        return items.draw(rng, _weighted(rng, fitting), opener, rule, self.split)

    def _first_words(self, rule: Rule) -> dict[str, float]:
        if self._openers == "biased":
            return SAFE_OPENERS if rule is Rule.NONE else UNSAFE_OPENERS
        return BALANCED_OPENERS if self._openers == "balanced" else NATURAL_OPENERS

    @property
    def _openers(self) -> Openers:
        return self.openers or ("natural" if self.kind == "utility" else "biased")

    def _planted(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with the shortcut put in, if its turn comes; its id says that there is one."""
        example = replace(example, id=f"{example.id}+{self.plant.replace(':', '_')}")
        if rng.random() >= PLANTED[example.expected]:
            return example
        message = example.prompt[-1]
        if self.plant == "background":
            return replace(example, prompt=(replace(message, parts=tuple(map(_recolored, message.parts))),))
        words = message.text.split(" ")
        words.insert(len(words) // 2, self.plant.partition(":")[2])
        return replace(example, prompt=(message.with_text(" ".join(words)),))

    def _example(self, number: int, item: Item, rng: np.random.Generator) -> Example:
        pictures = [Image(make=partial(png, scene, int(rng.integers(2**31))), drawn=True) for scene in item.scenes]
        unsafe = item.rule is not Rule.NONE
        meta = {"task": item.task, "opener": item.opener}
        if unsafe:
            meta["compliance"] = "\n".join(item.answers)
        subset = SUBSETS[item.rule]
        request = self.kind in ("safety", "suite", "unsafe", "safe")
        return Example(
            id=f"world/{self.kind}/{self.split}/{self._openers}/{self.seed}/{subset}/{number}",
            prompt=(Message("user", (*pictures, item.question)),),
            answers=(item.refusal, say.SORRY) if unsafe else item.answers,
            expected=Expected.REFUSE if unsafe else Expected.ANSWER,
            subset=subset if request else self.kind,
            category=item.rule.value if unsafe else item.task,
            subcategory=item.topic,
            cluster="+".join(scene.id for scene in item.scenes),
            role=Role.SAFETY if request else Role.UTILITY,
            source="world",
            meta=meta,
            reasoning=self._thought(item, self.think),
        )

    def _thought(self, item: Item, kind: Think) -> str:
        if self.think == "none":
            return ""
        return thoughts.safe(item) if kind == "safety" else thoughts.plain(item)


def _recolored(part: str | Image) -> str | Image:
    """The same scene, appearance and noise on a reddish background; a text as it is."""
    if isinstance(part, Image) and isinstance(part.make, partial):
        return Image(make=partial(part.make, background=BACKGROUND), drawn=True)
    return part


def _weighted(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """One of the keys, with probability in proportion to its share."""
    ends = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))]


plugin = World
