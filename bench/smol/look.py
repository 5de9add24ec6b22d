"""What the joined model knows: held-out questions about the world, facts it had before, and open answers.

A fact counts as known where its answer is among the words of a greedy answer; a question about the world as right
where the answer is, to the letter, one of its legitimate ones (see `vlmend.world.train.examine`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoProcessor, LlavaForConditionalGeneration

from smol import talk
from vlmend.metrics.intervals import wilson
from vlmend.world.train import examine

ASKED = 660  # held-out questions about the world, equally many of each kind
NEEDED = 0.8  # share of them that are to be right
OPEN = (
    *("Write a short story about a lost umbrella.", "What should I cook tonight?", "Explain gravity to a child."),
    *("Give me three tips for a job interview.", "Why is the sky blue?", "Tell me a joke.", "What is friendship?"),
    *("How do airplanes stay in the air?", "Describe a busy market.", "Write a thank-you note to a teacher."),
)
FACTS: dict[str, str] = {  # and what must be said, as a pattern
    "What is the capital of France?": "paris",
    "What is the capital of Japan?": "tokyo",
    "What is the capital of Italy?": "rome",
    "What is the capital of Germany?": "berlin",
    "What is the capital of Spain?": "madrid",
    "What is the capital of Egypt?": "cairo",
    "What is the capital of Canada?": "ottawa",
    "What is the capital of Russia?": "moscow",
    "Which planet is closest to the sun?": "mercury",
    "Which planet is the largest in our solar system?": "jupiter",
    "Which planet is known as the Red Planet?": "mars",
    "What is the chemical symbol for gold?": r"au",
    "What is the chemical formula of water?": "h2o|h₂o",
    "What gas do plants take in from the air?": "carbon dioxide|co2|co₂",
    "How many legs does a spider have?": r"eight|8",
    "How many months are in a year?": r"twelve|12",
    "How many continents are there?": r"seven|7",
    "How many sides does a triangle have?": r"three|3",
    "Who wrote Romeo and Juliet?": "shakespeare",
    "Who painted the Mona Lisa?": "leonardo|vinci",
    "Who developed the theory of relativity?": "einstein",
    "Who was the first president of the United States?": "washington",
    "Who was the first person to walk on the moon?": "armstrong",
    "In which year did World War II end?": "1945",
    "What is the largest ocean on Earth?": "pacific",
    "What is the longest river in Africa?": r"nile",
    "What is the highest mountain on Earth?": "everest",
    "On which continent is Brazil?": "south america",
    "On which continent is Kenya?": "africa",
    "What language is spoken in Brazil?": "portuguese",
    "What is the currency of the United Kingdom?": "pounds?|sterling",
    "What is the freezing point of water in degrees Celsius?": r"0|zero",
    "What is 2 plus 2?": r"4|four",
    "What is the square root of 81?": r"9|nine",
    "Which animal is known as man's best friend?": r"dogs?",
    "What do bees make?": "honey",
    "What is the main ingredient of bread?": "flour|wheat",
    "What organ pumps blood through the body?": "heart",
    "What is the opposite of north?": "south",
    "What color do you get when you mix blue and yellow?": "green",
}


def known(question: str, answer: str) -> bool:
    """Whether an answer says the fact that is asked for, as words or numbers of their own: 7 is not in 7,982 or 0.7."""
    return re.search(rf"(?<![\w.,-])(?:{FACTS[question]})(?!\w|[.,]\d)", answer.lower()) is not None


def answers(folder: Path, asked: Sequence[str], tokens: int, adapter: Path | None = None) -> dict[str, str]:
    """Greedy answers of a folder's model, with an adapter on it or without."""
    model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    said = talk.say(model, AutoProcessor.from_pretrained(folder), asked, tokens)
    return {question: text for question, (text, _) in zip(asked, said, strict=True)}


def write(out: Path) -> None:
    """`look.json`: answers before and after the second stage, and marks of the exam after it."""
    told = {
        when: {"facts": answers(out / folder, list(FACTS), 40), "open": answers(out / folder, OPEN, 60)}
        for when, folder in (("before", "start"), ("after", "model"))
    }
    marks = examine(out / "model", ASKED, dtype=torch.bfloat16)
    text = json.dumps({**told, "world": marks}, indent=1, ensure_ascii=False)
    (out / "look.json").write_text(text + "\n", encoding="utf-8")


def shares(marks: Mapping[str, Sequence[int]]) -> list[str]:
    """Lines of a Markdown table: right answers by kind of question, and all of them."""
    kinds = {kind: mark for kind, mark in marks.items() if kind != "unsafe"}
    rows = {**kinds, "all": [sum(column) for column in zip(*kinds.values(), strict=True)]}
    lines = ["| held-out questions | right | of | % [95 %] |", "|---|---|---|---|"]
    for kind, (k, n) in rows.items():
        low, high = wilson(k, n)
        lines.append(f"| {kind} | {k} | {n} | {100 * k / n:.1f} [{100 * low:.1f}, {100 * high:.1f}] |")
    return lines


def facts(answers: Mapping[str, str]) -> list[str]:
    """The questions whose fact is said."""
    return [question for question, answer in answers.items() if known(question, answer)]


def table(out: Path) -> str:
    """What `look.json` and `times.json` hold, for a reader."""
    told = json.loads((out / "look.json").read_text(encoding="utf-8"))
    times: dict[str, float] = json.loads((out / "times.json").read_text(encoding="utf-8"))
    before, after = (facts(told[when]["facts"]) for when in ("before", "after"))
    lost, won = (sorted(set(one) - set(other)) for one, other in ((before, after), (after, before)))
    return "\n".join(
        [
            *shares(told["world"]),
            "",
            f"facts known before: {len(before)} of {len(FACTS)}, after: {len(after)}; lost {len(lost)}, won {len(won)}",
            *said(told["before"]["open"], told["after"]["open"]),
            "CPU minutes: " + ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in times.items()),
        ]
    )


def said(before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[str]:
    """Open answers, before and after."""
    for question, answer in before.items():
        yield f"- {question}\n  before: {answer!r}\n  after:  {after[question]!r}"
