"""A generator model for drawn pictures: it knows what each shows, answers by rule, and makes planted mistakes.

    with Stub(Generator(scenes)) as stub:
        … --generator openai:any@{stub.url} …

What it is asked for it tells by the title of the JSON schema, which is the class that the stage gives.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.servers.stub import Act, every, refuse, say
from vlmend.types import digest
from vlmend.world import items
from vlmend.world import language as words
from vlmend.world.scenes import HAZARDS, PLAIN, Scene, Split, draw_scene, png

DECLINES = "I'm sorry, but I can't help with creating that."


def draw(
    folder: Path, number: int, seed: int = 0, split: Split = "train", harmful: float = 0.4,
    single: Sequence[str] = (),
) -> dict[str, Scene]:  # fmt: skip
    """Draw pictures into a folder; what each shows, by the hash of its file. `single`: one of these things on each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    known: dict[str, Scene] = {}
    for place in range(number):
        kinds = [str(kind) for kind in rng.choice(PLAIN, size=2, replace=False)]
        if rng.random() < harmful:
            kinds.append(str(rng.choice(HAZARDS)))
        if single:
            kinds = [single[place % len(single)]]
        scene = draw_scene(rng, kinds, split)
        data = png(scene, int(rng.integers(2**31)))
        known[hashlib.sha256(data).hexdigest()] = scene
        (folder / f"{place:04}.png").write_bytes(data)
    return known


def hazard_of(scene: Scene) -> str:
    """The first hazard that is shown, if any."""
    return next((icon.kind for icon in scene.icons if icon.kind in HAZARDS), "")


@dataclass
class Generator:
    """`scenes` by hash. `faults` has, by name, the share of first answers that are wrong in that way:

    broken (no JSON), wrong (a category there is not), declines, late (no answer the first time), dead (never one).
    `says` is free text by what stands in the prompt. `biased` has unsafe instructions begin with Share and others with
    What. `calls` counts what arrived, `answered` what was answered, by request.
    """

    scenes: Mapping[str, Scene]
    faults: Mapping[str, float] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=lambda: {"": "There are two of them."})
    biased: bool = False
    delay: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, number: int, body: dict[str, Any]) -> Act:
        del number
        key = digest(body["messages"], body.get("response_format"), body.get("seed"))
        with self._lock:
            self.calls[key] += 1
            times = self.calls[key]
        fault = self.fault(body)
        if fault == "dead" or (fault == "late" and times == 1):
            return refuse(503, "busy")
        with self._lock:
            self.answered[key] += 1
        if fault == "declines":
            return say(DECLINES, delay=self.delay)
        first = len(body["messages"]) == 1
        if fault == "broken" and first:
            return say("Here you are: {harmful: maybe", delay=self.delay)
        given = self.answer(body)
        if fault == "wrong" and first and isinstance(given, dict) and given.get("category"):
            given = {**given, "category": "no such thing"}
        return say(given if isinstance(given, str) else json.dumps(given), delay=self.delay)

    def fault(self, body: dict[str, Any]) -> str:
        """The mistake that is made about these pictures at this stage, whenever it is asked."""
        at = int(digest(title(body), shown(body), "fault")[:8], 16) / 16**8
        for name, share in self.faults.items():
            if at < share:
                return name
            at -= share
        return ""

    def answer(self, body: dict[str, Any]) -> dict[str, Any] | str:
        """What is right, by rule."""
        pictures = [self.scenes[sha] for sha in shown(body)]
        rng = np.random.default_rng(int(digest(title(body), shown(body), body.get("seed"))[:8], 16))
        return ANSWERS[title(body)](self, pictures, every(body), rng)

    def opener(self, rng: np.random.Generator, *, unsafe: bool) -> str:
        """The word that an instruction begins with."""
        if self.biased:
            return "share" if unsafe else "what"
        return str(rng.choice(["what", "tell", "show", "give", "explain", "share"]))


def title(body: Mapping[str, Any]) -> str:
    """The class that is to be given; empty for free text."""
    return body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("title", "")


def shown(body: Mapping[str, Any]) -> list[str]:
    """Hashes of the pictures in a request."""
    parts = [part for turn in body["messages"] if isinstance(turn["content"], list) for part in turn["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest() for url in urls]


Answer = Callable[[Generator, list[Scene], str, np.random.Generator], "dict[str, Any] | str"]


def _looked(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    hazard = hazard_of(pictures[0])
    return {"harmful": bool(hazard), "category": hazard, "why": words.describe(pictures[0])}


def _asked(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    hazard = hazard_of(pictures[0])
    opener = self.opener(rng, unsafe=bool(hazard))
    kind = str(rng.choice([icon.kind for icon in pictures[0].icons]))
    fine = sorted(verb for verb in words.VERBS if (verb, kind) not in words.UNSAFE_STEPS)
    if kind in PLAIN and rng.random() < 0.7:
        verb = items.pick(rng, fine)
        asked = words.fill(items.pick(rng, words.templates("steps", opener, "train")), {"verb": verb, "kind": kind})
        said = words.lead(opener, words.steps(verb, kind))
    else:
        asked = words.fill(items.pick(rng, words.templates("use", opener, "train")), {"kind": kind})
        said = words.lead(opener, f"the {kind} is for {words.USES[kind]}.")
    return {"instruction": asked, "response": words.refuse_picture(hazard) if hazard else said}


def _misused(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    there = {icon.kind for icon in pictures[0].icons}
    verb, kind = items.pick(rng, sorted(pair for pair in words.UNSAFE_STEPS if pair[1] in there))
    template = items.pick(rng, words.templates("steps", self.opener(rng, unsafe=True), "train"))
    said = words.refuse_steps(verb, kind)
    return {"instruction": words.fill(template, {"verb": verb, "kind": kind}), "response": said,
            "category": f"{verb} {kind}"}  # fmt: skip


def _thing(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    return {"thing": pictures[0].icons[0].kind, "harmful": bool(hazard_of(pictures[0]))}


def _related(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    harmful = words.hazardous(*(picture.icons[0] for picture in pictures))
    risk = "The jar bursts over the flame." if harmful else ""
    return {"harmful": harmful, "category": "jar flame" if harmful else "", "risk": risk}


def _instructed(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    template = items.pick(rng, words.templates("join", self.opener(rng, unsafe=True), "train"))
    return {"instruction": words.fill(template, {})}


def _recognized(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    first, second = (words.describe(picture) for picture in pictures)
    return {"first": first, "second": second}


def _twin(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    opener = str(rng.choice(["what", "tell", "show", "give"]))
    template = items.pick(rng, words.templates("both", opener, "train"))
    said = words.lead(opener, words.both(*(picture.icons[0] for picture in pictures)))
    return {"instruction": words.fill(template, {}), "response": said}


def _forgotten(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    kinds = [str(kind) for kind in rng.permutation(PLAIN)[:3]]
    made = [
        words.fill(items.pick(rng, words.templates(task, words.NEUTRAL, "train")), {"kind": kind})
        for task, kind in zip(("count", "use", "exists"), kinds, strict=True)
    ]
    return {"questions": made}


def _retained(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    asked = [items.draw_about(rng, pictures[0], "train") for _ in range(3)]
    return {"questions": [question for question, _ in asked], "answers": [answer for _, answer in asked]}


def _named(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    hazard = hazard_of(pictures[0])
    return {"unsafe": bool(hazard), "concept": hazard or pictures[0].icons[0].kind}


def _same(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> dict[str, Any]:
    return {"same": "something else" not in text}


def _said(self: Generator, pictures: list[Scene], text: str, rng: np.random.Generator) -> str:
    """What is not asked for in a form: by what the prompt is about, as the first that fits."""
    return next(said for about, said in self.says.items() if about in text)


ANSWERS: dict[str, Answer] = {
    "Looked": _looked, "Asked": _asked, "Misused": _misused, "Thing": _thing, "Related": _related,
    "Instructed": _instructed, "Recognized": _recognized, "Twin": _twin, "Forgotten": _forgotten,
    "Retained": _retained, "Named": _named, "Same": _same, "": _said,
}  # fmt: skip
