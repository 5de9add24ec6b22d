"""The same request with another first word, by rules of English that hold for any content.

A question is taken apart into what it asks for (a thing, a clause, something to do, or a direct question) and put
together again behind another opener. Where no rule is sure of the grammar, the request is quoted whole behind a frame;
`plain` says which of the two it was. Nothing here knows the label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["thing", "clause", "request", "question", "other"]

TELL = {
    "share": "Share", "describe": "Describe", "explain": "Explain", "tell": "Tell me", "show": "Show me",
    "give": "Give me", "list": "List", "name": "Name", "provide": "Provide", "discuss": "Discuss", "state": "State",
}  # fmt: skip
ASK = {"can": "Can you", "could": "Could you", "would": "Would you"}
OPENERS = ("what", *ASK, "please", *TELL)
FILLERS = frozenset({"please", "kindly", "just", "simply", "really", "actually", "quickly", "perhaps", "maybe", "now"})

_SENTENCE = re.compile(r"\s*(?P<said>[^\n.?!]*(?:\.(?=\S)[^\n.?!]*)*)(?P<mark>[.?!]*)(?P<rest>.*)", re.DOTALL)
_POLITE = re.compile(
    r"(?:(?:(?:can|could|would|will) you(?: please| kindly)?|please|kindly|i(?:'d| would) like you to|i want you to)"
    r" )+",
    re.IGNORECASE,
)
_TELLING = re.compile(
    r"(?P<verb>tell me|tell us|show me|show us|give me|share|describe|explain|list|name|provide|discuss|state|say) "
    r"(?P<what>.+)",
    re.IGNORECASE,
)
_WH = r"(?:how many|how much|how|which|what|where|when|why|who|whose)"
_CLAUSE = re.compile(rf"(?:{_WH}|whether|if) ", re.IGNORECASE)
_THING = re.compile(
    r"(?:the|a|an|these|those|all|both|any|some|my|your|his|her|its|their|everything|this|that) ?", re.IGNORECASE
)
# What cannot simply be asked for with "What is …?": a picture that is to be posted, a second verb, an adverbial.
_NOT_A_THING = re.compile(
    r"^(?:this|the|that|your) (?:image|picture|photo|post|meme|video|content|ad|advertisement)\b"
    r"|\band (?:then |also )?(?:identify|provide|describe|explain|share|discuss|give|tell|make|create|say|write)\b"
    r"|\bin (?:detail|depth)\b|\bfor me\b|, "
)
_VERBAL = re.compile(
    r"\b(?!(?:build|cloth|sett|light|paint|mean|feel|draw|r|k|th|str|w|spr|someth|everyth|anyth|noth|wedd|even|morn)ing\b)"
    r"\w+ing\b"
)
_WHAT_IS = re.compile(r"what (?P<verb>is|are) (?P<thing>.+)", re.IGNORECASE)
_HOW_MANY = re.compile(r"(?P<many>how (?:many|much) .+?) (?P<verb>are|is) there(?P<tail>.*)", re.IGNORECASE)
_HOW_TO = re.compile(r"how (?:do|would|can|could|should) (?:i|you|we) (?P<tail>.+)", re.IGNORECASE)
_PRONOUN = re.compile(
    rf"(?P<wh>{_WH}(?: [\w]+){{0,3}}?) (?P<aux>do|would|can|could|should|will) (?P<who>i|you|we|they|people) "
    r"(?P<tail>.+)",
    re.IGNORECASE,
)
_WHICH_IS = re.compile(
    r"(?P<wh>(?:which|what) \w+|where) (?P<verb>is|are) "
    r"(?P<thing>the (?:[\w']+ ){0,2}[\w']+?(?: in (?:the|this) [\w ]+| here)?)",
    re.IGNORECASE,
)
_WHICH_HAS = re.compile(r"(?P<wh>(?:which|what) \w+) does (?P<thing>the .+?) have(?P<tail>.*)", re.IGNORECASE)
_THERE = re.compile(r"(?P<verb>is|are) there (?P<thing>.+)", re.IGNORECASE)
_DO_YOU = re.compile(r"do you (?P<tail>.+)", re.IGNORECASE)
_NO_IMPERATIVE = re.compile(r"(?:the|a|an|this|that|it|i|we|there|based|in|on|if|from|who|n/a)\b", re.IGNORECASE)
_HEAD_ENDS = re.compile(
    r" (?:of|to|in|on|for|that|which|who|with|about|from|at|by|here|you|i"
    r"|being|shown|depicted|seen|portrayed|displayed|presented|featured|made|taken|visible|involved|used)\b"
)


@dataclass(frozen=True)
class Core:
    """What a text asks for, without its opener: `text` starts in lower case and has no final mark."""

    kind: Kind
    text: str
    mark: str = ""
    rest: str = ""
    plural: bool = False


class Wording(NamedTuple):
    """A text, and whether its grammar is plain: neither quoted nor roundabout."""

    text: str
    plain: bool


def parse(text: str) -> Core:
    """Take a request apart; only its first sentence, the others are `rest`."""
    found = _SENTENCE.match(text)
    said, mark, rest = (found["said"].strip(), found["mark"], found["rest"]) if found else (text, "", "")
    core = _question(said) if _asks(said) else _request(said, mark)
    return Core(core.kind, core.text, mark, rest.rstrip(), core.plural)


def reword(text: str, opener: str) -> Wording | None:
    """The same request beginning with the opener; None for an opener without frames, or a text without words."""
    core = parse(text)
    if opener not in OPENERS or not core.text:
        return None
    made = _FRAMES[core.kind](core, opener)
    if text.lstrip()[:1].islower():
        made = Wording(made.text[:1].lower() + made.text[1:], made.plain)
    return Wording(made.text + core.rest, made.plain)


def without(text: str, word: str) -> str:
    """The text without a word that can be left out anywhere, the first letter's case kept."""
    left = re.sub(rf"(?i)(?:^|(?<=\s)){re.escape(word)}\b,?\s*", "", text)
    return left[:1].upper() + left[1:] if text[:1].isupper() else left


def _asks(said: str) -> bool:
    return bool(re.match(rf"(?:{_WH}|is|are|does|do(?! not)|did|was|were|has|have)\b", said, re.IGNORECASE))


def _question(said: str) -> Core:
    """A direct question: a thing where it is `What is …`, a clause where its words can be put in order, else itself."""
    if (found := _WHAT_IS.fullmatch(said)) and _is_thing(found["thing"]) and not _VERBAL.search(found["thing"]):
        return Core("thing", found["thing"], plural=found["verb"].lower() == "are")
    if found := _HOW_MANY.fullmatch(said):
        return Core("clause", _low(f"{found['many']} there {found['verb']}{found['tail']}"))
    if found := _HOW_TO.fullmatch(said):
        return Core("clause", f"how to {found['tail']}")
    if found := _PRONOUN.fullmatch(said):
        aux = "" if found["aux"].lower() == "do" else f" {found['aux']}"
        return Core("clause", _low(f"{found['wh']} {found['who']}{aux} {found['tail']}"))
    if (found := _WHICH_IS.fullmatch(said)) and not _VERBAL.search(found["thing"]):
        return Core("clause", _low(f"{found['wh']} {found['thing']} {found['verb']}"))
    if found := _WHICH_HAS.fullmatch(said):
        return Core("clause", _low(f"{found['wh']} {found['thing']} has{found['tail']}"))
    if found := _THERE.fullmatch(said):
        return Core("clause", f"whether there {found['verb'].lower()} {found['thing']}")
    if found := _DO_YOU.fullmatch(said):
        return Core("clause", f"whether you {found['tail']}")
    return Core("question", _low(said))


def _request(said: str, mark: str) -> Core:
    """An imperative, politely wrapped or not: a thing or a clause where it only asks to be told, else what to do."""
    inner = _POLITE.sub("", said, count=1) if _POLITE.match(said) else said
    found = _TELLING.fullmatch(inner)
    if found and _CLAUSE.match(found["what"]) and ", " not in found["what"]:
        return Core("clause", found["what"])
    if found and _is_thing(found["what"]) and found["verb"].lower() != "say":
        return Core("thing", found["what"], plural=_is_plural(found["what"]))
    if inner == said and (mark.startswith("?") or _NO_IMPERATIVE.match(said)):
        return Core("other", said)
    return Core("request", _low(inner))


def _is_thing(text: str) -> bool:
    return bool(_THING.match(text)) and not _NOT_A_THING.search(text)


def _is_plural(thing: str) -> bool:
    head = _HEAD_ENDS.split(thing, maxsplit=1)[0].split()[-1]
    return head.endswith("s") and not head.endswith(("ss", "us", "is"))


def _low(text: str) -> str:
    first = text.split(" ", 1)[0]
    return text if first == "I" or first[1:].isupper() else text[:1].lower() + text[1:]


def _thing(core: Core, opener: str) -> Wording:
    if opener == "what":
        return Wording(f"What {'are' if core.plural else 'is'} {core.text}?", True)
    return _told(core.text, opener, "describe")


def _clause(core: Core, opener: str) -> Wording:
    if opener == "what":
        return Wording(f"What can you say about {core.text}?", False)
    return _told(core.text, opener, "tell me")


def _told(text: str, opener: str, verb: str) -> Wording:
    if opener in ASK:
        return Wording(f"{ASK[opener]} {verb} {text}?", True)
    return Wording(f"Please {verb} {text}." if opener == "please" else f"{TELL[opener]} {text}.", True)


def _to_do(core: Core, opener: str) -> Wording:
    if opener in ASK:
        return Wording(f"{ASK[opener]} {core.text}?", True)
    if opener == "please":
        return Wording(f"Please {core.text}.", True)
    if opener == core.text.split(" ", 1)[0]:
        return Wording(f"{core.text[:1].upper()}{core.text[1:]}.", True)
    return _quoted(core, opener)


def _quoted(core: Core, opener: str) -> Wording:
    """One frame for all that is quoted: two would tell apart what is asked from what is to be done."""
    said = f"your reply to this: {core.text}{core.mark or '.'}"
    if opener in ASK:
        return Wording(f"{ASK[opener]} reply to this: {core.text}{core.mark or '.'}", False)
    if opener == "please":
        return Wording(f"Please reply to this: {core.text}{core.mark or '.'}", False)
    return Wording(f"{'What is' if opener == 'what' else TELL[opener]} {said}", False)


_FRAMES = {"thing": _thing, "clause": _clause, "request": _to_do, "question": _quoted, "other": _quoted}
