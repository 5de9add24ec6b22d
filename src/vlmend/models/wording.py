"""What a chat template writes for a conversation, checked: every text and picture of it, in order and whole.

A template is asked once per shape of conversation (roles, kinds of parts, white space at their ends), with words of
ours in place of the texts: what it writes around them, what it leaves out, moves or says twice shows there. What it
writes for a real conversation of that shape has to be the same around that conversation's own texts. Where it is not,
the template looks into texts, and they are searched for one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

from vlmend.errors import ModelError
from vlmend.reasoning import pieces
from vlmend.types import Image, Message

Conversation = Sequence[Message]
Chat = list[dict[str, Any]]
WORD = "Zq{:06d}vX"
WORDS = re.compile(r"Zq(\d{6})vX")
LISTED = 900_000  # words from here on stand where only a list that is printed as a list shows them
SHAPES = 4096  # shapes that are remembered
REASONING = "the chat template leaves out the reasoning of earlier turns"
FORGOTTEN = (
    "the chat template shows the reasoning of an earlier turn in a prompt and leaves it out once that is answered: "
    "answers are learned without it"
)
MOVED = "the chat template moves pictures within their turn, before or behind its text"


class Place(NamedTuple):
    """Where words of a conversation stand in it: turn, part, which words of the part; whether they are reasoning."""

    turn: int
    part: int
    number: int
    reasoning: bool


class Cut(NamedTuple):
    """A text part as its words, and the white space and tags before, between and after them; which are reasoning."""

    around: tuple[str, ...]
    words: tuple[str, ...]
    thoughts: tuple[bool, ...]


class Unfaithful(Exception):
    """A template does not say what a conversation says: what it does, and to which part of which turn."""

    def __init__(self, what: str, turn: int, part: int | None = None) -> None:
        super().__init__(what)
        self.what, self.turn, self.part = what, turn, part


@dataclass(frozen=True)
class Written:
    """A rendered conversation: places of its words in order, and what the template wrote before, between and after.

    pieces: one more than places. as_text: turns whose content the template takes as one text, not as a list of parts.
    exact: whether the template writes the same for all conversations of this shape. unsure: places that could also be
    elsewhere in the text.
    """

    places: tuple[Place, ...]
    pieces: tuple[str, ...]
    words: tuple[str, ...]
    as_text: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    exact: bool = True
    unsure: frozenset[Place] = frozenset()

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(chain.from_iterable(zip(self.pieces, (*self.words, ""), strict=True)))

    def spans(self) -> list[tuple[int, int]]:
        """[start, end) of the words at each place."""
        both = chain.from_iterable(zip(map(len, self.pieces), map(len, self.words), strict=False))
        ends = list(accumulate(both))
        return list(zip(ends[::2], ends[1::2], strict=True))


# roles, and for each part what is around its words and which are reasoning; None for a picture
Shape = tuple[tuple[str, tuple[tuple[tuple[str, ...], tuple[bool, ...]] | None, ...]], ...]


@dataclass
class Wording:
    """A chat template, asked through `render`. `closing` is written behind every answer; `marks` may mean a picture."""

    render: Callable[[Chat, bool], str]
    closing: str
    ends: tuple[str, ...]
    marks: tuple[str, ...]
    _known: dict[tuple[Shape, bool], Written | Unfaithful] = field(default_factory=dict[Any, Any])
    _mark: str | None = None

    def written(self, conversation: Conversation, answering: bool) -> Written:
        """The conversation as the template writes it. Raises Unfaithful where it says something else."""
        cuts = _cuts(conversation, self.closing)
        own = self._around(_shape(conversation, cuts), answering)
        said = _said(cuts)
        text = self.render(chat(conversation, self.closing, own.as_text), answering)
        made = replace(own, words=tuple(said[place] for place in own.places))
        return made if made.text == text else self._searched(text, conversation, said, own)

    def taught(
        self, conversation: Conversation, written: Written, *, thoughts: bool = True
    ) -> Iterator[tuple[int, int, str]]:
        """[start, end) in the text of each answer that is learned, its end token included, and what is to be noted.

        An answer begins where the prompt that asks for it ends, or without its `thoughts` at its first word. Raises
        Unfaithful where the finished conversation goes on differently from that prompt.
        """
        spans, shape = written.spans(), _shape(conversation, _cuts(conversation, self.closing))
        for turn, message in enumerate(conversation):
            if message.role != "assistant" or not message.supervised:
                continue
            before = [i for i, place in enumerate(written.places) if place.turn < turn]
            own = [i for i, place in enumerate(written.places) if place.turn == turn]
            after = len(before) + len(own)
            asked = conversation[:turn]
            prompt = self._around(shape[:turn], True) if written.exact else self.written(asked, answering=True)
            note = _agree(prompt, written, len(before), turn)
            begin = spans[len(before) - 1][1] if before else 0
            start = begin + len(prompt.pieces[-1])
            if not written.pieces[len(before)].startswith(prompt.pieces[-1]):
                raise Unfaithful("renders a finished turn differently from the prompt it answers:", turn)
            last = spans[own[-1]][1] if own else start
            rest = written.pieces[after] if own else written.pieces[after][len(prompt.pieces[-1]) :]
            if {*written.places[max(0, len(before) - 1) : after + 1]} & written.unsure:
                raise Unfaithful("looks into texts, so that it cannot be told where it renders", turn)
            if not thoughts and own and written.places[own[0]].reasoning:
                start = next((spans[i][0] for i in own if not written.places[i].reasoning), last)
            yield start, last + _to_end(rest, self.ends), note

    @property
    def mark(self) -> str:
        """What the template writes for a picture; empty where that is none of the texts that may be."""
        if self._mark is None:
            self._mark = self._looked_for()
        return self._mark

    def _looked_for(self) -> str:
        def probe(*picture: dict[str, str]) -> str:
            return self.render([{"role": "user", "content": [*picture, {"type": "text", "text": "?"}]}], True)

        try:
            shown, plain = probe({"type": "image"}), probe()
        except ModelError:
            return ""
        if shown == plain:
            return self.marks[0] if self.marks else ""
        return next((mark for mark in self.marks if shown.count(mark) > plain.count(mark)), "")

    def _around(self, shape: Shape, answering: bool) -> Written:
        """What the template writes around the words of any conversation of a shape."""
        key = shape, answering
        if key not in self._known:
            if len(self._known) >= SHAPES:
                self._known.clear()
            self._known[key] = self._asked(shape, answering)
        found = self._known[key]
        if isinstance(found, Unfaithful):
            raise Unfaithful(found.what, found.turn, found.part)
        return found

    def _asked(self, shape: Shape, answering: bool) -> Written | Unfaithful:
        """The template's answer for a shape: with lists of parts, or else with texts where a turn is nothing else."""
        plain = [turn for turn, (_, parts) in enumerate(shape) if None not in parts]
        system = [turn for turn in plain if shape[turn][0] == "system"]
        failures: list[Unfaithful | ModelError] = []
        for as_text in dict.fromkeys(map(frozenset[int], ((), plain, system))):
            try:
                return self._tried(shape, answering, as_text)
            except (Unfaithful, ModelError) as error:
                failures.append(error)
        if isinstance(failures[0], ModelError):
            raise failures[0]
        return failures[0]

    def _tried(self, shape: Shape, answering: bool, as_text: frozenset[int]) -> Written:
        places: list[Place] = []
        turns: Chat = []
        for turn, (role, parts) in enumerate(shape):
            content: list[dict[str, Any]] = []
            for part, kind in enumerate(parts):
                listed = {"listed": WORD.format(LISTED + turn)}
                if kind is None:
                    content.append({"type": "image", **listed})
                    continue
                around, thoughts = kind
                text = around[0]
                for number, (thought, after) in enumerate(zip(thoughts, around[1:], strict=True)):
                    text += WORD.format(len(places)) + after
                    places.append(Place(turn, part, number, thought))
                content.append({"type": "text", "text": text, **listed})
            plain = "\n".join(str(block["text"]) for block in content) if turn in as_text else content
            turns.append({"role": role, "content": plain})
        text = self.render(turns, answering)
        pieces = WORDS.split(text)
        found = [int(number) for number in pieces[1::2]]
        _check_words(places, found, len(shape))
        between, there = tuple(pieces[::2]), tuple(places[number] for number in found)
        notes = [REASONING] if len(there) < len(places) else []
        if self._moves_pictures(shape, there, between):
            notes.append(MOVED)
        return Written(there, between, ("",) * len(there), as_text, tuple(notes))

    def _moves_pictures(self, shape: Shape, there: Sequence[Place], between: Sequence[str]) -> bool:
        """Whether pictures stand elsewhere in their turn. Raises Unfaithful where one is missing or in another turn."""
        shown = [(turn, at) for turn, (_, parts) in enumerate(shape) for at, kind in enumerate(parts) if kind is None]
        if not shown or not self.mark:
            return False
        at = [i for i, piece in enumerate(between) for _ in range(piece.count(self.mark))]
        if len(at) < len(shown):
            turn, part = shown[len(at)] if not at else _missing(shown, at, there)
            raise Unfaithful("drops a picture of", turn, part)
        if len(at) > len(shown):
            raise Unfaithful("shows more pictures than there are:", *shown[-1])
        moved = False
        for (turn, part), before in zip(shown, at, strict=True):
            if any(p.turn > turn for p in there[:before]) or any(p.turn < turn for p in there[before:]):
                raise Unfaithful("shows elsewhere a picture of", turn, part)
            first = [place.part < part for place in there if place.turn == turn]
            moved = moved or sum(first) != sum(place.turn == turn for place in there[:before])
        return moved

    def _searched(self, text: str, conversation: Conversation, said: Mapping[Place, str], own: Written) -> Written:
        """Where the words are in a text that is not written as words of ours would be."""
        first: dict[Place, int] = {}
        position = 0
        for place, words in said.items():
            start = text.find(words, position)
            if start < 0 and place.reasoning and place.turn < len(conversation) - 1:
                continue
            if start < 0:
                raise Unfaithful("drops or changes words of", place.turn, place.part)
            first[place], position = start, start + len(words)
        unsure, limit = set[Place](), len(text)
        for place in reversed(first):
            start = text.rfind(said[place], 0, limit)
            if start != first[place]:
                unsure.add(place)
            limit = start
        bounds = [(start, start + len(said[place])) for place, start in first.items()]
        edges = [0, *chain.from_iterable(bounds), len(text)]
        between = tuple(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
        pictures = sum(len(message.images) for message in conversation)
        if self.mark and pictures != sum(piece.count(self.mark) for piece in between):
            raise Unfaithful("drops or adds a picture in the conversation that ends with", len(conversation) - 1)
        notes = {*own.notes} - {REASONING} | ({REASONING} if len(first) < len(said) else set())
        return Written(
            tuple(first), between, tuple(said[place] for place in first), own.as_text, tuple(sorted(notes)), False,
            frozenset(unsure),
        )  # fmt: skip


def chat(conversation: Conversation, closing: str, as_text: frozenset[int], *, pictures: bool = False) -> Chat:
    """The conversation as transformers' templates expect it: turns of typed parts, or of a text where so named."""
    turns: Chat = []
    for turn, message in enumerate(conversation):
        end = closing if message.role == "assistant" else ""
        texts = [part.strip() + end if message.role == "assistant" else part for part in _texts(message)]
        if turn in as_text:
            turns.append({"role": message.role, "content": "\n".join(texts)})
            continue
        left = iter(texts)
        content = [
            ({"type": "image", "image": part.open()} if pictures else {"type": "image"})
            if isinstance(part, Image)
            else {"type": "text", "text": next(left)}
            for part in message.parts
        ]
        turns.append({"role": message.role, "content": content})
    return turns


def _texts(message: Message) -> list[str]:
    return [part for part in message.parts if isinstance(part, str)]


def _cuts(conversation: Conversation, closing: str) -> list[list[Cut | None]]:
    """Every part of every turn; None for a picture."""
    return [
        [
            None if isinstance(part, Image) else _cut(part, closing if m.role == "assistant" else None)
            for part in m.parts
        ]
        for m in conversation
    ]


def _cut(text: str, closing: str | None) -> Cut:
    """A text part of a user, or of an assistant, who may have reasoned and whose text is followed by `closing`."""
    around, words, thoughts = [""], list[str](), list[bool]()
    for kind, said in [("answer", text)] if closing is None else pieces(text.strip()):
        bare = said.strip() if kind != "tag" else ""
        lead, _, trail = said.partition(bare) if bare else (said, "", "")
        around[-1] += lead
        if bare:
            words.append(bare)
            thoughts.append(kind == "reasoning")
            around.append(trail)
    around[-1] += closing or ""
    return Cut(tuple(around), tuple(words), tuple(thoughts))


def _shape(conversation: Conversation, cuts: Sequence[Sequence[Cut | None]]) -> Shape:
    return tuple(
        (message.role, tuple(cut and (cut.around, cut.thoughts) for cut in turn))
        for message, turn in zip(conversation, cuts, strict=True)
    )


def _said(cuts: Sequence[Sequence[Cut | None]]) -> dict[Place, str]:
    """The words at each place, in the order of the conversation."""
    return {
        Place(turn, part, number, thought): words
        for turn, parts in enumerate(cuts)
        for part, cut in enumerate(parts)
        if cut is not None
        for number, (words, thought) in enumerate(zip(cut.words, cut.thoughts, strict=True))
    }


def _check_words(places: Sequence[Place], found: Sequence[int], turns: int) -> None:
    """Raise Unfaithful unless every place was found once and in order, but for reasoning of turns before the last."""
    for number in found:
        if number >= LISTED:
            raise Unfaithful("prints a list of parts as it stands instead of the words of", number - LISTED)
    for number, place in enumerate(places):
        if number not in found and not (place.reasoning and place.turn < turns - 1):
            what = "drops the reasoning of" if place.reasoning else "drops or changes words of"
            raise Unfaithful(what, place.turn, place.part)
        if found.count(number) > 1:
            raise Unfaithful("says twice the words of", place.turn, place.part)
    for earlier, later in pairwise(found):
        if earlier > later:
            raise Unfaithful("moves the words of", places[later].turn, places[later].part)


def _missing(shown: Sequence[tuple[int, int]], at: Sequence[int], there: Sequence[Place]) -> tuple[int, int]:
    """The first picture of a turn that has fewer places than pictures."""
    turns = [next((p.turn for p in reversed(there[:i])), 0) for i in at]
    after = [next((p.turn for p in there[i:]), len(there)) for i in at]
    for turn, part in shown:
        if not any(low <= turn <= high for low, high in zip(turns, after, strict=True)):
            return turn, part
    return shown[len(at)]


def _agree(prompt: Written, written: Written, before: int, turn: int) -> str:
    """What is to be noted of a prompt that the finished conversation does not begin with. Raises Unfaithful.

    Only reasoning may make the difference.
    """
    if prompt.places == written.places[:before] and prompt.pieces[:-1] == written.pieces[:before]:
        return ""
    there = {*written.places[:before]}
    plain = [place for place in prompt.places if not place.reasoning]
    if plain == [p for p in written.places[:before] if not p.reasoning] and {*prompt.places} > there:
        return FORGOTTEN
    raise Unfaithful("renders what comes before a finished turn differently from the prompt it answers:", turn)


def _to_end(rest: str, ends: Sequence[str]) -> int:
    """How far the first end token in a text reaches; 0 without one."""
    found = [(at, len(end)) for end in ends if (at := rest.find(end)) >= 0]
    return sum(min(found)) if found else 0
