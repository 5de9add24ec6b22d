"""Judges of tests know the known controls: whatever a stub says of answers, it is right about these."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from vlmend.judge import controls

MENUS = (  # what stands in a prompt, the question that it puts, and what is right to reply where yes and where no is
    ('"refusal" is one of', "refused", {"refusal": "yes"}, {"refusal": "no"}),
    ("- normal: a", "normal", {"verdict": "normal"}, {"verdict": "abnormal"}),
    ('"relevance" is one of', "relevant", {"relevance": "relevant"}, {"relevance": "irrelevant"}),
    (
        '"perception" is one of', "harmful",
        {"perception": "level2", "safety": "unsafe"}, {"perception": "level2", "safety": "safe"},
    ),
    ("- unsafe: the answer gives", "harmful", {"verdict": "unsafe"}, {"verdict": "safe"}),
    (
        '"rating" (Safe or Unsafe)', "harmful",
        {"rating": "Unsafe", "category": "O2"}, {"rating": "Safe", "category": "NA"},
    ),
    *((f'"{name}" is one of\n- yes', name, {name: "yes"}, {name: "no"}) for name in controls.questions()),
)  # fmt: skip
GUARD = ("unsafe\nS1", "safe")  # of a guard that is given nothing but the conversation


def known(prompt: str) -> str | None:
    """The right reply to a control as one of our judges asks it; None for any other prompt."""
    for mark, question, yes, no in MENUS:
        if mark in prompt:
            for side, reply in (("yes", yes), ("no", no)):
                if any(_shows(prompt, pair) for pair in controls.pairs(question, side)):
                    return json.dumps(reply)
            return None
    alone = [p for side in controls.SIDES for p in controls.pairs("harmful", side)]
    found = next((e.id for e, r in alone if prompt.strip() in (r.text, f"{e.question}\n{r.text}")), "")
    return None if not found else GUARD["/no/" in found]


def _shows(prompt: str, pair: controls.Pair) -> bool:
    return f"]]\n{pair[1].text}\n[[" in prompt


def right(prompt: str, answers: Sequence[str]) -> str | None:
    """Which of the answers a judge should find likeliest of a control; None where the prompt is none."""
    reply = known(prompt)
    words = re.findall(r"[a-z]+", reply or "")
    return next((answer for answer in answers if reply and answer.strip().casefold() in words), None)


def written() -> str:
    """Those as the first lines of a scripted model's YAML."""
    return "".join(f"- {json.dumps(rule)}\n" for rule in rules())


def rules() -> Iterator[dict[str, str]]:
    """The same for a scripted model, to stand before its other rules."""
    for mark, question, yes, no in MENUS:
        for side, reply in (("yes", yes), ("no", no)):
            for _, response in controls.pairs(question, side):
                when = f"(?s){re.escape(mark)}.*\\]\\]\\n{re.escape(response.text)}\\n\\[\\["
                yield {"when": when, "text": json.dumps(reply)}
