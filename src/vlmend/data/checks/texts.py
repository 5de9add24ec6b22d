"""Defects of questions and reference answers that the texts alone give away."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from vlmend.data.checks.finding import Finding, Item, answers, found, quote
from vlmend.types import Example, Expected, Role

Declines = Callable[[str], bool | None]  # whether a text declines, None where unclear: the rule belongs to the caller
SHARED = 10  # examples that share an answer before it is called boilerplate
SENTENCE = 5  # words that such an answer has at least: "yes" and "two red cubes" are shared with good reason

_IMAGE = re.compile(
    r"<\|?/?(?:[a-z]+[_-])*(?:image|img|imgpad|imagehere|vision|video)(?:[\d_-][\w-]*)?\|?>"
    r"|\[/?img(?:_(?:break|end))?\]|<im_(?:patch|start|end|col)>|<row_\d+_col_\d+>",
    re.IGNORECASE,
)
_CONTROL = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|eom_id|(?:start|end)_header_id|begin_of_text|end_of_text|end|user"
    r"|assistant|system)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<end_of_utterance>|</s>"
)
_OPTION = re.compile(r"^\(?[A-J][.:)] (.+)$", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")
# What is left of UTF-8 that was read as Windows-1252 and written again, or of bytes that were replaced.
_GARBLED = re.compile("\ufffd|[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bf\u00bd|\u00f0\u0178|\x00")
_MARKS = re.compile(r"[\W_]+")
_PLACEHOLDER = {"n a", "todo", "tbd", "fixme", "placeholder", "null", "nan", "undefined", "lorem ipsum"}
# What may well be an answer, but is no question.
_NO_QUESTION = {
    *("na", "none", "nil", "not applicable", "not available", "no question", "no instruction", "unknown", "empty"),
    *("xxx", "test", "string", "question", "instruction"),
}


def check_texts(items: Sequence[Item], declines: Declines) -> Iterator[Finding]:
    """Everything that is found in texts."""
    yield from encoding(items)
    yield from tokens(items)
    yield from empty(items)
    yield from placeholders(items)
    yield from refusals(items, declines)
    yield from boilerplate(items)
    yield from options(items)


def plain(text: str) -> str:
    """The words of a text without case, punctuation and spacing, for comparison; the text itself if it has none."""
    words = _MARKS.sub(" ", unicodedata.normalize("NFKC", text).casefold().replace("’", "'")).strip()
    return words or text.strip()


def questions(item: Item) -> list[str]:
    """What the user says, turn by turn."""
    return [message.text for message in item.prompt if message.role == "user"]


def encoding(items: Sequence[Item]) -> Iterator[Finding]:
    """Texts that no UTF-8 file can hold, and texts that were decoded wrongly once."""
    lone = [item.id for item in items if any(_SURROGATE.search(text) for text in _texts(item))]
    yield from found("non_utf8", lone, "{n} examples have half of a surrogate pair, which UTF-8 cannot hold")
    hits = [(item.id, text) for item in items for text in _texts(item) if _GARBLED.search(text)]
    yield from _quoted("garbled_text", hits, "{n} examples have characters that were decoded wrongly")


def tokens(items: Sequence[Item]) -> Iterator[Finding]:
    """Texts that hold what stands for a picture, or for a turn, in some model's vocabulary."""
    for kind, pattern, what in (("image_token", _IMAGE, "a picture"), ("control_token", _CONTROL, "a turn")):
        hits = [(item.id, hit[0]) for item in items for text in _texts(item) if (hit := pattern.search(text))]
        yield from _quoted(kind, hits, f"{{n}} examples have a token that stands for {what} in the text")


def empty(items: Sequence[Item]) -> Iterator[Finding]:
    """Questions and answers that are missing where others have one; where none has, that is the set's design."""
    asked = {item.id for item in items if item.question.strip()}
    answered = {item.id for item in items if answers(item) and all(text.strip() for text in answers(item))}
    for kind, there, what in (("empty_question", asked, "question"), ("empty_answer", answered, "reference answer")):
        if there:
            absent = [item.id for item in items if item.id not in there]
            yield from found(kind, absent, f"{{n}} examples have no {what}, {len(there):,} have one")


def placeholders(items: Sequence[Item]) -> Iterator[Finding]:
    """Questions and answers that say nothing, such as N/A."""
    asked = [(i.id, text) for i in items for text in questions(i) if _stands_in(text, _PLACEHOLDER | _NO_QUESTION)]
    yield from _quoted("placeholder_question", asked, "{n} questions are placeholders")
    said = [(i.id, text) for i in items for text in answers(i) if _stands_in(text, _PLACEHOLDER)]
    yield from _quoted("placeholder_answer", said, "{n} reference answers are placeholders")


def refusals(items: Sequence[Item], declines: Declines) -> Iterator[Finding]:
    """First answers that refuse where an answer is expected, and the reverse. What is to be forgotten may comply."""
    told = [i for i in items if isinstance(i, Example) and i.answers and i.role is not Role.FORGET]
    refused = {i.id: declines(i.answers[0]) for i in told}
    wrong = [(i.id, i.answers[0]) for i in told if i.expected is Expected.ANSWER and refused[i.id]]
    yield from _quoted("unexpected_refusal", wrong, "{n} references look like refusals where an answer is expected")
    right = [(i.id, i.answers[0]) for i in told if i.expected is Expected.REFUSE and refused[i.id] is False]
    yield from _quoted("missing_refusal", right, "{n} references look like answers where a refusal is expected")


def boilerplate(items: Sequence[Item]) -> Iterator[Finding]:
    """Sentences that many examples have as their first answer."""
    said = [(item.id, answers(item)[0]) for item in items if answers(item)]
    times = Counter(plain(text) for _, text in said)
    many = {text for text, n in times.items() if n >= SHARED and len(text.split()) >= SENTENCE}
    hits = [(name, text) for name, text in said if plain(text) in many]
    hits.sort(key=lambda hit: -times[plain(hit[1])])
    yield from _quoted(
        "boilerplate_answer", hits, f"{{n}} answers are one of {len(many):,} that {SHARED} or more share"
    )


def options(items: Sequence[Item]) -> Iterator[Finding]:
    """Questions with lettered options two of which are alike: fewer to choose from, or two that are right."""
    hits: list[tuple[str, str]] = []
    for item in items:
        told = [match[1].strip() for match in _OPTION.finditer(item.question)]
        again = next((text for text in told if told.count(text) > 1), None)
        if again is not None:
            hits.append((item.id, again))
    yield from _quoted("repeated_option", hits, "{n} questions have an option twice")


def _stands_in(text: str, words: set[str]) -> bool:
    """Whether a text that is not empty has nothing but such words, or no words at all."""
    bare = plain(text)
    return bare in words or (bare.isascii() and bool(bare) and not any(character.isalnum() for character in bare))


def _texts(item: Item) -> list[str]:
    return [*(message.text for message in item.prompt), *answers(item)]


def _quoted(kind: str, hits: Sequence[tuple[str, str]], message: str) -> Iterator[Finding]:
    """A finding whose message ends with the first of the texts."""
    if hits:
        yield from found(kind, (name for name, _ in hits), f"{message}, such as {quote(hits[0][1])}")
