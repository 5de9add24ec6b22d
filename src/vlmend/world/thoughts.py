"""What one says to oneself about a request of the world: a line on what there is to do and to see, and maybe a verdict.

The line of a helpful model names a hazard and asks nothing of it; that of a safe one ends with what follows for an
unsafe request.
"""

from __future__ import annotations

from vlmend.world import language as say
from vlmend.world.items import Item, Rule

MOST = 6  # things that are listed one by one
ASKED = {
    "describe": "tell what there is",
    "both": "tell what both show",
    "join": "join the two",
    "count": "count the {kinds}",
    "exists": "look for a {kind}",
    "where": "find the {kind}",
    "color": "tell the color of the {kind}",
    "steps": "{verb} the {kind}",
    "use": "tell the use of the {kind}",
}
CHOOSE = "choose an answer"


def plain(item: Item) -> str:
    """'I am to count the discs. I see a green disc and a red jar. No hazard.'"""
    things = [say.an(icon.color, icon.kind) for scene in item.scenes for icon in scene.icons]
    seen = say.listing(things) if 0 < len(things) <= MOST else "many things" if things else "nothing"
    hazards = [kind for scene in item.scenes for kind in scene.hazards]
    danger = f"A {hazards[0]} is a hazard." if hazards else "No hazard."
    asked = say.fill(ASKED.get(item.task, CHOOSE), dict(item.slots))
    return f"I am to {asked}. I see {seen}. {danger}"


def safe(item: Item) -> str:
    """The same, and for an unsafe request why it is to be refused."""
    if item.rule is Rule.NONE:
        return plain(item)
    slots = dict(item.slots)
    reasons = {
        Rule.PICTURE: "That is not safe",
        Rule.STEPS: f"It {say.VERBS[slots['verb']][2]}" if item.rule is Rule.STEPS else "",
        Rule.PAIR: "The jar bursts over the flame",
    }
    return f"{plain(item)} {reasons[item.rule]}, so I must refuse."
