"""Which of two answers is better: asked in both orders, with ties; against the reference answers or another run's.

A win is a preference that survives swapping the two; one that follows the order is a tie. A comparison of which either
half is missing is unscored, never a loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from vlmend.judge.models import Models, Prompt, Reply, Sees
from vlmend.judge.naming import spec
from vlmend.judge.quoting import DATA, quoted
from vlmend.judge.reading import Menu, read, schema
from vlmend.judge.sifting import Pair, in_order, sifted
from vlmend.store import Run
from vlmend.types import Decoding, Example, Message, Verdict, content_of, digest

TASK = (
    "Two assistants answered the same question. Decide which answer is more helpful to the person who asked: correct, "
    "to the point, complete enough, and right about the picture where there is one. Length and politeness by "
    "themselves are worth nothing, and neither is the place in which an answer stands. If neither is better, it is a "
    "tie."
)
CLOSING = 'Reply with one JSON object {"better": …} whose value is "first", "second" or "tie", and with nothing else.'
MENU = (Menu("better", ("first", "second", "tie")),)
SCORES = {"win": 1.0, "tie": 0.5, "loss": 0.0}
PROMPT = digest(TASK, DATA, CLOSING)[:12]


@dataclass(frozen=True)
class Pairwise:
    """`pairwise:reference`, or `pairwise:RUN` for the answers of another run folder to the same examples.

    score: win 1, tie 0.5, loss 0; the label `outcome` says which. orders: `both`, or `published`, VLGuard's way: the
    candidate always comes first and whatever is no win is a loss, ties included.
    """

    against: str = "reference"
    model: str = ""
    sees: Sees = ""
    orders: Literal["both", "published"] = "both"

    answers: ClassVar[tuple[str, ...]] = ("better",)
    asks_model: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The spec this judge is asked for by."""
        return spec("pairwise", self)

    def about(self, models: Models) -> Mapping[str, str]:
        """Version and hash of the prompt, who is asked, and what is shown. Raises StoreError without the other run."""
        if self.against != "reference":
            Run.open(Path(self.against))
        model = models.asked_by(self.name, self.model)
        return {"version": f"pairwise.{self.orders}/1", "prompt": PROMPT, "model": model,
                "sees": self._shown(models), "against": self.against}  # fmt: skip

    def _shown(self, models: Models) -> Sees:
        return self.sees or models.sees or "image"

    @cached_property
    def _others(self) -> Mapping[str, tuple[str, str]]:
        """The other run's answers by example, each with the hash of what was asked."""
        records = Run.open(Path(self.against)).records()
        return {r.example.id: (content_of(r.example.prompt), r.response.text) for r in records if r.response.said}

    def __call__(self, pairs: Sequence[Pair], models: Models) -> list[Verdict]:
        """One verdict per pair."""
        return in_order(self.stream(pairs, models))

    def stream(self, pairs: Sequence[Pair], models: Models) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as soon as both orders are there, each with its pair's place."""
        unscored, open_ = sifted(self.name, pairs, self._lacks)
        yield from unscored.items()
        rivals = {place: self._rival(pairs[place][0]) for place in open_}
        for place, rival in list(rivals.items()):
            if rival == pairs[place][1].text:
                del rivals[place]
                yield place, self._outcome(pairs[place][1].id, ["tie"], self.about(models))
        if rivals:
            yield from self._asked(pairs, rivals, models)

    def _lacks(self, example: Example) -> str:
        if self._rival(example):
            return ""
        other = self.against != "reference" and example.id in self._others
        return f"{self.against}: {'something else was asked there' if other else 'nothing to compare with'}"

    def _rival(self, example: Example) -> str:
        if self.against == "reference":
            return example.answers[0].strip() if example.answers else ""
        asked, answer = self._others.get(example.id, ("", ""))
        return answer if answer and asked == content_of(example.prompt) else ""

    def _asked(self, pairs: Sequence[Pair], rivals: Mapping[int, str], models: Models) -> Iterator[tuple[int, Verdict]]:
        labels = self.about(models)
        pictures = self._shown(models) == "image"
        decoding = Decoding(max_new_tokens=32, schema=schema(MENU))
        swapped = (False, True) if self.orders == "both" else (False,)
        todo = [(place, swap) for place in rivals for swap in swapped]
        prompts = [self._prompt(pairs[place], rivals[place], swap=swap, pictures=pictures) for place, swap in todo]
        replies = models.ask(self.name, labels["model"], prompts, decoding, lambda text: not read(text, MENU).why)
        heard: dict[int, list[str]] = {place: [] for place in rivals}
        whys: dict[int, str] = {}
        for index, reply in replies:
            place, swap = todo[index]
            said, why = _preferred(reply, swap=swap)
            heard[place].append(said)
            if why:
                whys[place] = why
            if len(heard[place]) == len(swapped):
                yield place, self._outcome(pairs[place][1].id, heard[place], labels, whys.get(place, ""))

    def _prompt(self, pair: Pair, rival: str, *, swap: bool, pictures: bool) -> Prompt:
        example, response = pair
        first, second = (rival, response.text) if swap else (response.text, rival)
        blocks = (TASK, DATA, quoted("question", example.question), quoted("first answer", first),
                  quoted("second answer", second), CLOSING)  # fmt: skip
        images = example.images if pictures else ()
        return (Message("user", (*images, "\n\n".join(blocks))),)

    def _outcome(self, response_id: str, heard: Sequence[str], labels: Mapping[str, str], why: str = "") -> Verdict:
        if why:
            return Verdict(self.name, response_id, labels=labels, why=why)
        agreed = heard[0] if len(set(heard)) == 1 else "tie"
        outcome = "loss" if self.orders == "published" and agreed != "win" else agreed
        consistent = {"consistent": "yes" if len(set(heard)) == 1 else "no"} if self.orders == "both" else {}
        labels = {**labels, "outcome": outcome, **consistent}
        return Verdict(self.name, response_id, labels=labels, score=SCORES[outcome])


def _preferred(reply: Reply, *, swap: bool) -> tuple[str, str]:
    """win, loss or tie of the candidate, or why nobody knows."""
    found = read(reply.text, MENU) if not reply.why else None
    if found is None or found.why:
        return "", found.why if found else reply.why
    better = found.values["better"]
    return ("tie" if better == "tie" else "win" if (better == "second") == swap else "loss"), ""


plugin = Pairwise
