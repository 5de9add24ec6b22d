"""The world's requests with another first word: what a model would be asked for, by the templates they are made of."""

from __future__ import annotations

from functools import cache
from itertools import product

from vlmend.world import language as words
from vlmend.world.scenes import KINDS, Scene


@cache
def known() -> dict[str, tuple[str, tuple[tuple[str, str], ...], int]]:
    """By text in lower case: the task, what its blanks hold, and the number of its template."""
    found: dict[str, tuple[str, tuple[tuple[str, str], ...], int]] = {}
    for task in words.TASKS:
        slots = [("kind", kind) for kind in KINDS]
        for opener, (_, kind), verb in product(
            (words.NEUTRAL, *words.openers_of(task)), slots, words.VERBS if task == "steps" else ("",)
        ):
            filled = {"kind": kind, "kinds": words.plural(kind), "verb": verb}
            for number, template in enumerate(words.templates(task, opener, "train")):
                text = words.fill(template, filled)
                found.setdefault(text.lower(), (task, tuple(filled.items()), number))
    return found


def right(scene: Scene, question: str) -> str:
    """What is right to say to a question about a scene; to one that is not of the world's, what it shows."""
    task, slots, _ = known().get(question.lower(), ("describe", (), 0))
    kind = dict(slots).get("kind", "")
    if task == "count":
        return words.count(kind, len(scene.of(kind))).capitalize()
    if task == "exists":
        return words.exists(kind, bool(scene.of(kind))).capitalize()
    if task == "use":
        return f"The {kind} is for {words.USES[kind]}."
    return words.sentence(words.describe(scene))


def reword(prompt: str) -> str:
    """The request in a prompt of the pipeline `rewrite`, beginning with the word that the prompt asks for."""
    word = prompt.partition("begins with the word “")[2].partition("”")[0].lower()
    request = prompt.partition("Request: ")[2].partition("\n")[0].strip()
    if request.lower() not in known():
        return request
    task, slots, number = known()[request.lower()]
    if word not in words.openers_of(task):
        return request
    templates = words.templates(task, word, "train")
    return words.fill(templates[number % len(templates)], dict(slots))
