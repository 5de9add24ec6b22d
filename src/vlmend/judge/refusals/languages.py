"""Which language an answer is in, as far as that decides whether a rule may judge it.

By script, then by common words. A language that is not among those known is said by name where a few of its words are,
and as unknown where not: nobody shall take a refusal for an answer because they cannot read it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

HEAD = 240  # letters that are looked at
FEW = 4  # words below which nothing can be said of a text that nobody knows a word of
SHARE = 0.2  # of its words that have to be known
COMMON = Path(__file__).with_name("common.txt")  # words that tell a language apart, those of unknown ones by name
LEXICON = Path(__file__).with_name("lexicon.txt")  # the words of the answers that the classifier was fitted on

KNOWN: Mapping[str, str] = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "pl": "Polish", "ru": "Russian", "tr": "Turkish", "zh": "Chinese", "ja": "Japanese",
    "ko": "Korean", "ar": "Arabic", "hi": "Hindi",
}  # fmt: skip

# Letters that only languages have which are not known; of each a text needs more than one, or be short.
LETTERS: Mapping[str, re.Pattern[str]] = {
    "Vietnamese": re.compile("[ạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹơư]"),
    "Persian or Urdu": re.compile("[پچژگکیٹڈڑںےہھ]"),
    "Ukrainian": re.compile("[іїєґ]"),
    "Serbian or Macedonian": re.compile("[јљњћђџѓќ]"),
    "Belarusian": re.compile("[ў]"),
    "a Turkic or other language in Cyrillic": re.compile("[әғқңөұүһҳҷӯ]"),
    "Czech or Slovak": re.compile("[ěřůďťň]"),
    "Hungarian": re.compile("[őű]"),
    "Romanian": re.compile("[șțăţ]"),
    "Latvian or Lithuanian": re.compile("[āēģīķļņšūėųį]"),
}
_SCRIPTS = (  # the last code point of a stretch, and what stands there; "" is no letter of any script
    (0x24F, "Latin"), (0x2AF, "Latin"), (0x36F, ""), (0x3FF, "Greek"), (0x52F, "Cyrillic"), (0x58F, "Armenian"),
    (0x5FF, "Hebrew"), (0x6FF, "Arabic"), (0x74F, "Syriac"), (0x77F, "Arabic"), (0x8FF, "other"), (0x97F, "Devanagari"),
    (0x9FF, "Bengali"), (0xA7F, "Gurmukhi"), (0xAFF, "Gujarati"), (0xB7F, "Odia"), (0xBFF, "Tamil"),
    (0xC7F, "Telugu"), (0xCFF, "Kannada"), (0xD7F, "Malayalam"), (0xDFF, "Sinhala"), (0xE7F, "Thai"), (0xEFF, "Lao"),
    (0xFFF, "Tibetan"), (0x109F, "Burmese"), (0x10FF, "Georgian"), (0x11FF, "Hangul"), (0x139F, "Ethiopic"),
    (0x13FF, "Cherokee"), (0x177F, "other"), (0x17FF, "Khmer"), (0x18AF, "Mongolian"), (0x1DFF, "other"),
    (0x1EFF, "Latin"), (0x1FFF, "Greek"), (0x2DFF, ""), (0x303F, ""), (0x30FF, "Kana"), (0x318F, "Hangul"),
    (0x31FF, "Kana"), (0x4DBF, "Han"), (0x9FFF, "Han"), (0xABFF, "other"), (0xD7FF, "Hangul"), (0xF8FF, ""),
    (0xFAFF, "Han"), (0xFDFF, "Arabic"), (0xFEFF, "Arabic"), (0xFF64, "Latin"), (0xFFDC, "Kana"), (0xFFFF, ""),
    (0x1FFFF, ""), (0x3FFFF, "Han"), (0x10FFFF, ""),
)  # fmt: skip
_OF_SCRIPT = {"Han": "zh", "Kana": "ja", "Hangul": "ko"}
_VOTED = {"Latin": ("en", "de", "es", "fr", "it", "pt", "nl", "pl", "tr"), "Cyrillic": ("ru",), "Arabic": ("ar",),
          "Devanagari": ("hi",)}  # fmt: skip
_ENGLISH = (
    " the ",
    " is ",
    " and ",
    " of ",
    " i ",
    "i'm ",
    " that ",
    "can't ",
    "cannot ",
    " with ",
    " it ",
    " to ",
    "there ",
)
_CODE = re.compile(r"```.*?(?:```|$)|`[^`]*`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class Language(NamedTuple):
    """A known language's code; or none, with the name of an unknown one; or neither, where there is little to read."""

    code: str
    unknown: str = ""


NEUTRAL = Language("")  # numbers, code, a name: the same in every language


def language(text: str) -> Language:
    """The language of a text's first letters."""
    head = _CODE.sub(" ", text) if "`" in text or "://" in text else text
    head = head[:HEAD]
    if head.isascii() and sum(map(head.__contains__, _ENGLISH)) > 2:
        return Language("en")  # as the vote below would say, many times faster
    script = "Latin" if head.isascii() else _script(head)
    if script in _OF_SCRIPT:
        return Language(_OF_SCRIPT[script])
    if script not in _VOTED:
        return Language("", f"a language in {script} script") if script else NEUTRAL
    return _voted(head, script)


def _script(head: str) -> str:
    """What most letters are of; those of scripts without blanks between words weigh more, and kana make Japanese."""
    found: Counter[str] = Counter()
    for letter, times in Counter(head).items():
        if letter.isalpha() or ord(letter) > 0x2FF:
            found[_place(ord(letter))] += times
    weighed = {name: n * (3 if name in _OF_SCRIPT else 1) for name, n in found.items() if name}
    if found["Kana"] * 8 >= found["Han"] and found["Kana"] and found["Han"]:
        weighed["Kana"] = weighed["Kana"] + weighed.pop("Han")
    return max(weighed, key=weighed.__getitem__, default="")


def _place(point: int) -> str:
    return next(name for last, name in _SCRIPTS if point <= last)


def _voted(head: str, script: str) -> Language:
    """By the words of it that each language has."""
    written = _WORD.findall(head)
    if not written:
        return NEUTRAL
    words = [word.lower().replace("’", "'") for word in written]
    if not head.isascii():
        lowered = head.lower()
        for name, letters in LETTERS.items():
            if len(letters.findall(lowered)) > len(words) // 12 and _best(words, script)[0] != "pl":
                return Language("", name)
    best, hits = _best(words, script)
    common = [word for word in written[1:] if not word[0].isupper()]  # without names
    if hits and hits >= SHARE * (len(common) + 1):
        return Language(best) if best in KNOWN else Language("", best)
    return NEUTRAL if len(common) < FEW - 1 else Language("", "a language it does not know")


def _best(words: list[str], script: str) -> tuple[str, int]:
    """The language with most of the words; of several with as many, the first."""
    votes: Counter[str] = Counter()
    of = vocabulary()
    for word in words:
        votes.update(of.get(word, ()))
    known = {code for codes in _VOTED.values() for code in codes} - set(_VOTED[script])
    allowed = [code for code in (*_VOTED[script], *votes) if votes[code] and code not in known]
    best = max(allowed, key=votes.__getitem__, default="")
    return best, votes[best]


@cache
def vocabulary() -> Mapping[str, tuple[str, ...]]:
    """The languages that each word is of."""
    found: dict[str, list[str]] = {}
    for file, sep in ((COMMON, ": "), (LEXICON, " ")):
        for line in file.read_text(encoding="utf-8").splitlines():
            code, _, words = line.partition(sep)
            for word in words.split():
                found.setdefault(word, []).append(code)
    return {word: tuple(dict.fromkeys(codes)) for word, codes in found.items()}
