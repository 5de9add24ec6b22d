"""Conversation ↔ tensors, through the model's own processor and chat template.

The same codec serves tuning, generation and scoring, so that they cannot disagree about a template. Text is never
changed, nothing is ever cut: what does not fit is an error that names the example, and so is what a chat template
drops, moves or changes (`wording`). Users' text cannot write control tokens: where it spells one, it is encoded as
plain characters (`spelled`).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NoReturn

import torch
from jinja2 import TemplateError
from torch import Tensor

from vlmend.errors import DataError, ModelError
from vlmend.models import thoughts
from vlmend.models.family import NO_OPTIONS, family_for
from vlmend.models.pixels import blank
from vlmend.models.spelled import StandIns, control_tokens
from vlmend.models.wording import Chat, Conversation, Unfaithful, Wording, Written, chat
from vlmend.ops.logprobs import IGNORE
from vlmend.reasoning import KNOWN, split, written
from vlmend.types import Example, Image, Message, digest

say = logging.getLogger("vlmend").warning

USUAL_SIDE, USUAL_RATIO = 64, 8  # pictures with a shorter side, or a longer one compared with it, are unusual


@dataclass(frozen=True)
class Batch:
    """What the model's forward takes (`inputs`), and what is known about its tokens.

    labels (B, T): the token itself where it is supervised, else -100; not shifted.
    image_mask (B, T): where the token stands for a part of a picture.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    image_mask: Tensor
    examples: tuple[Example, ...]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {name: value.to(device) for name, value in self.inputs.items()}
        return replace(self, inputs=moved, labels=self.labels.to(device), image_mask=self.image_mask.to(device))


@dataclass(frozen=True)
class _Rendered:
    """Conversations with stand-ins for what they spell, and what the chat template makes of each."""

    conversations: list[Conversation]
    written: list[Written]
    stand_ins: StandIns


@dataclass(frozen=True)
class _Encoded:
    """What the processor made: inputs of forward, where pictures are, and what it wrote in place of each."""

    inputs: dict[str, Tensor]
    pictures: Tensor
    replaced: list[list[str]]


class Codec:
    """Encodes examples for one model and decodes its answers. `options` are those of the model's family.

    `learns_reasoning`: whether what stands before an answer in its own turn is supervised with it.
    """

    learns_reasoning = True

    def __init__(
        self,
        processor: Any,
        config: Any,
        generation_config: Any,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> None:
        self.family = family_for(config.model_type, options)
        self.processor = processor = self.family.adapt(processor, config)
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.model_type: str = config.model_type
        self.image_id = _image_id(processor, config)
        self.eos_ids = end_ids(self.tokenizer, generation_config)
        self.pad_id = _pad_id(self.tokenizer)
        self.context: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
        self._by_size: dict[tuple[int, int], int] = {}
        self._template = self.family.template(processor) or _no_template(self.model_type)
        self._known_texts: dict[str, list[int]] = {}
        self._known_marks: dict[str, list[int]] = {}
        self._wordings: dict[tuple[str, str], Wording] = {}
        self._noted: set[str] = set()
        self._closing = "" if self._template_ends_answers() else str(self.tokenizer.eos_token)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of everything that decides which tokens and pixels a conversation becomes."""
        pixels = getattr(self.processor, "image_processor", None)
        core = self.tokenizer.backend_tokenizer
        core.no_padding()  # what the last call left there is no part of the vocabulary
        core.no_truncation()
        vocabulary = core.to_str()
        return digest(self.model_type, self._template, vocabulary, pixels.to_json_string() if pixels else "")

    def check(self, examples: Iterable[Example], *, answered: bool) -> dict[str, int]:
        """Render conversations, with `answers[0]` as last turn where `answered`, without opening a picture.

        Returns what is to be known of how the template writes them, and of how many; encoding will not say it again.
        Raises as encoding would.
        """
        notes = Counter[str]()
        for example in examples:
            self._check_turns([example])
            notes.update(self._notes([example], self._rendered([example], answered=answered), answered=answered))
        self._noted.update(notes)
        return dict(notes)

    def encode_prompts(self, examples: Sequence[Example]) -> Batch:
        """Left-padded prompts that end where the model is to answer. Nothing is supervised."""
        self._check_turns(examples)
        rendered = self._rendered(examples, answered=False)
        self._say(self._notes(examples, rendered, answered=False))
        made = self._process(rendered, padding_side="left", answering=True)
        _check_lengths(examples, made.inputs["attention_mask"], self.context)
        labels = torch.full_like(made.inputs["input_ids"], IGNORE)
        return Batch(self.family.complete(made.inputs, labels), labels, made.pictures, tuple(examples))

    def encode_training(self, examples: Sequence[Example], max_length: int | None = None) -> Batch:
        """Right-padded conversations with `answers[0]` as last turn.

        Supervised is the text of every assistant turn (but those marked as not) as the template writes it in the whole
        conversation, and the token that ends it, nothing else. Raises DataError for an example without an answer, or
        longer than `max_length` or the model's context, and ModelError where the template does not say what the
        conversation says, or goes on differently from the prompt that an answer is the answer to.
        """
        self._check_turns(examples)
        rendered = self._rendered(examples, answered=True)
        self._say(self._notes(examples, rendered, answered=True))
        made = self._process(rendered, padding_side="right", answering=False)
        limit = min(filter(None, (max_length, self.context)), default=None)
        _check_lengths(examples, made.inputs["attention_mask"], limit)
        labels = torch.full_like(made.inputs["input_ids"], IGNORE)
        for row, example in enumerate(examples):
            length = int(made.inputs["attention_mask"][row].sum())
            ids = made.inputs["input_ids"][row, :length]
            for start, end in self._answer_spans(example, rendered, row, ids.tolist(), made.replaced[row]):
                labels[row, start:end] = ids[start:end]
        return Batch(self.family.complete(made.inputs, labels), labels, made.pictures, tuple(examples))

    def decode(self, ids: Sequence[int], keep: Sequence[str] = ()) -> str:
        """Text of an answer up to its end token, without white space around it or special tokens but those to keep."""
        end = next((i for i, token in enumerate(ids) if token in self.eos_ids), len(ids))
        spoken = [i for i in ids[:end] if i not in self._special or self._special[i] in keep]
        return self.tokenizer.decode(spoken).strip()

    @cached_property
    def _special(self) -> dict[int, str]:
        return {i: self.tokenizer.convert_ids_to_tokens(i) for i in self.tokenizer.all_special_ids}

    @cached_property
    def unspeakable(self) -> frozenset[int]:
        """Tokens that no answer is made of: of pictures, padding and templates, but for those that end an answer."""
        return (frozenset(self._special) | {self.image_id, self.pad_id}) - self.eos_ids

    def opens_answers_with(self, text: str) -> bool:
        """Whether the chat template itself begins every answer with a text, such as the tag that opens reasoning."""
        asked = self._plain_ids((Message("user", ("?",)),), answering=True)
        return self.tokenizer.decode(asked).rstrip().endswith(text)

    @property
    def thinks(self) -> bool:
        """Whether the chat template is that of a model that reasons: it opens reasoning, or has a place for it."""
        return bool(self._thought_key) or any(self.opens_answers_with(tags.opening) for tags in KNOWN)

    @cached_property
    def _thought_key(self) -> str:
        return thoughts.place(self._rendered_text)

    def prompt_length(self, example: Example) -> int:
        """About how many tokens the prompt has: characters count a quarter, pictures what the processor says."""
        return sum(len(message.text) for message in example.prompt) // 4 + self.picture_length(example)

    def picture_length(self, example: Example) -> int:
        """About how many tokens its pictures have."""
        return sum(self._picture_tokens(image) for image in example.images)

    def _picture_tokens(self, image: Image) -> int:
        """Tokens that stand for a picture of this size; a guess where the processor cannot say, or nobody can read."""
        try:
            width, height = image.size
        except DataError:
            return 0
        if (height, width) not in self._by_size:
            self._by_size[height, width] = _tokens_of(self.processor, height, width)
        return self._by_size[height, width]

    def refuses(self, size: tuple[int, int]) -> str:
        """Why the processor takes no picture of this (width, height); empty when it does.

        Its count of tokens tells where it has one, and knows its own limits. A picture of unusual shape, or any where
        there is no count, is tried on a blank one.
        """
        try:
            self.processor._get_num_multimodal_tokens(image_sizes=[size[::-1]])
            if min(size) >= USUAL_SIDE and max(size) <= USUAL_RATIO * min(size):
                return ""
        except ValueError as error:
            return f"the processor of this {self.model_type} model refuses it: {' '.join(str(error).split())}"
        except (AttributeError, KeyError, TypeError):  # it has no such count
            pass
        try:
            rendered = self._rendered([Example("", (Message("user", (blank(size), "?")),))], answered=False)
        except ModelError:  # of the template, which has nothing to do with sizes
            return ""
        try:
            self._process(rendered, padding_side="left", answering=True)
        except ModelError as error:
            return str(error)
        return ""

    def _check_turns(self, examples: Sequence[Example]) -> None:
        for example in examples:
            if why := self.family.problem(example.prompt):
                raise DataError(f"example {example.id!r} {why}")

    @property
    def _wording(self) -> Wording:
        """The chat template as it is now, and what it is known to write."""
        key = self._template, self._closing
        if key not in self._wordings:
            ends = tuple(str(self.tokenizer.convert_ids_to_tokens(i)) for i in sorted(self.eos_ids))
            self._wordings[key] = Wording(self._render, self._closing, ends, self._picture_marks())
        return self._wordings[key]

    def _picture_marks(self) -> tuple[str, ...]:
        """Texts that may stand for a picture in what a chat template writes, the likeliest first."""
        holders = (self.processor, self.tokenizer)
        found = [getattr(holder, name, None) for name in ("image_token", "boi_token") for holder in holders]
        if self.image_id >= 0:
            found.append(self.tokenizer.convert_ids_to_tokens(self.image_id))
        return tuple(dict.fromkeys(mark for mark in found if isinstance(mark, str) and mark))

    def _render(self, turns: Chat, answering: bool) -> str:
        return self._rendered_text(thoughts.placed(turns, self._thought_key), answering)

    def _rendered_text(self, turns: Chat, answering: bool) -> str:
        with self._refusals():
            return self.tokenizer.apply_chat_template(
                turns, chat_template=self._template, add_generation_prompt=answering, tokenize=False
            )

    def _rendered(self, examples: Sequence[Example], *, answered: bool) -> _Rendered:
        """What the chat template makes of examples' prompts, or of them with their answers."""
        asked: list[Conversation] = [
            (*e.prompt, Message("assistant", (self._target(e),))) if answered else e.prompt for e in examples
        ]
        stand_ins = StandIns.of(asked, self._control)
        safe = [stand_ins.put_into(conversation, self._control) for conversation in asked]
        written: list[Written] = []
        for example, conversation in zip(examples, safe, strict=True):
            with self._faithful(example, conversation, stand_ins):
                written.append(self._wording.written(conversation, answering=not answered))
                self._check_seams(conversation, written[-1])
        return _Rendered(safe, written, stand_ins)

    def _target(self, example: Example) -> str:
        """What is to be said: the first answer, behind the reasoning before it."""
        if not example.answers or not example.answers[0].strip():
            raise DataError(f"example {example.id!r} has no answer to learn from")
        if not example.reasoning:
            return example.answers[0]
        told = written(example.reasoning, example.answers[0], thoughts.marks(self.tokenizer))
        if split(told)[:2] != (example.reasoning.strip(), example.answers[0].strip()):
            raise DataError(f"the reasoning or the answer of example {example.id!r} holds marks of reasoning itself")
        return told

    def _check_seams(self, conversation: Conversation, written: Written) -> None:
        """Parts that spell a control token only together cannot be told from the template's own."""
        for turn, message in enumerate(conversation):
            if len(message.parts) > 1:
                apart = (*written.pieces, *written.words)
                together = len(self._control.findall(written.text))
                if together != sum(len(self._control.findall(text)) for text in apart):
                    raise Unfaithful("joins to a control token the parts of", turn)

    @contextmanager
    def _faithful(self, example: Example, conversation: Conversation, stand_ins: StandIns) -> Generator[None]:
        """Name example, turn and text where the template does not say what the conversation says."""
        try:
            yield
        except Unfaithful as error:
            message = conversation[error.turn]
            texts = [p for p in message.parts[error.part :][:1] if isinstance(p, str)] if error.part is not None else []
            said = stand_ins.undone(" ".join((texts or [message.text])[0].split()))
            shown = repr(said[:40] + "…" if len(said) > 40 else said)
            raise ModelError(
                f"the chat template of this {self.model_type} model {error.what} turn {error.turn + 1} of "
                f"{len(conversation)} of example {example.id!r} ({message.role}, {shown})"
            ) from error

    def _notes(self, examples: Sequence[Example], rendered: _Rendered, *, answered: bool) -> Counter[str]:
        """What is to be known of how conversations are written, and of how many of them."""
        notes = Counter(note for written in rendered.written for note in written.notes)
        if answered:
            for example, conversation, written in zip(examples, rendered.conversations, rendered.written, strict=True):
                with self._faithful(example, conversation, rendered.stand_ins):
                    found = {note for *_, note in self._wording.taught(conversation, written) if note}
                notes.update(found)
        return notes

    def _say(self, notes: Iterable[str]) -> None:
        """Say what was not said before."""
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                say(note)

    def _process(self, rendered: _Rendered, padding_side: str, answering: bool) -> _Encoded:
        """Template, pictures and tokens in one call of the model's processor."""
        conversations = rendered.conversations
        chats = [
            thoughts.placed(chat(conversation, self._closing, written.as_text, pictures=True), self._thought_key)
            for conversation, written in zip(conversations, rendered.written, strict=True)
        ]
        with self._refusals():
            encoded = rendered.stand_ins.processor(self.processor).apply_chat_template(
                chats,
                chat_template=self._template,
                add_generation_prompt=answering,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={
                    "padding": True,
                    "padding_side": padding_side,
                    "return_text_replacement_offsets": True,
                },
            )
        inputs = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        told = encoded.get("text_replacement_offsets")
        rows = told if isinstance(told, list) and told else [[] for _ in conversations]
        replaced = [[place["replacement"] for place in row] for row in rows]
        pictures = [
            self._picture_row(conversation, ids, texts)
            for conversation, ids, texts in zip(conversations, inputs["input_ids"].tolist(), replaced, strict=True)
        ]
        return _Encoded(inputs, torch.tensor(pictures), replaced)

    def _picture_row(self, conversation: Conversation, ids: list[int], written: Sequence[str]) -> list[bool]:
        """Which tokens stand for pictures, given what the processor wrote in place of each.

        From the first to the last control token of what it wrote: text between them (line breaks between rows of
        tiles) is no one's words. Where it does not say what it wrote, the model's picture token.
        """
        marks = [self._control_ids(text) for text in written]
        known = {token for picture in marks for token in picture} or {self.image_id}
        places = [i for i, token in enumerate(ids) if token in known]
        shown = sum(len(message.images) for message in conversation)
        told_nothing = shown if self.image_id < 0 else min(len(places), shown)
        found = len(marks) if marks else told_nothing
        if found != shown:
            raise ModelError(
                f"the processor of this {self.model_type} model makes {found} places of {shown} picture(s) in a "
                "conversation; a chat template that drops pictures does so"
            )
        row = [token in known for token in ids]
        if len(places) == sum(map(len, marks)):
            for picture in marks:
                own, places = places[: len(picture)], places[len(picture) :]
                row[own[0] : own[-1] + 1] = [True] * (own[-1] + 1 - own[0])
        return row

    def _control_ids(self, text: str) -> list[int]:
        """The control tokens in what the processor wrote for a picture, in order."""
        if text not in self._known_marks:
            known = self.tokenizer.added_tokens_decoder
            self._known_marks[text] = [token for token in self._written_ids(text) if token in known]
        return self._known_marks[text]

    def _written_ids(self, text: str) -> list[int]:
        """Tokens of what the processor wrote for a picture. Kept: it writes the same few texts again and again."""
        if text not in self._known_texts:
            self._known_texts[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._known_texts[text]

    @contextmanager
    def _refusals(self) -> Generator[None]:
        """Say in one line what a processor or template refuses."""
        try:
            yield
        except (ValueError, IndexError, TypeError, KeyError, NotImplementedError, TemplateError) as error:
            message = " ".join(str(error).split())
            raise ModelError(f"the processor of this {self.model_type} model refused its input: {message}") from error

    def _answer_spans(
        self, example: Example, rendered: _Rendered, row: int, ids: list[int], replaced: Sequence[str]
    ) -> Iterator[tuple[int, int]]:
        """[start, end) of every answer that is learned in `ids`, its end token included.

        They are known in the rendered text, which has one placeholder per picture. Pictures stand for more tokens in
        `ids`, so a span is counted from the right end, less what the pictures behind it stand for.
        """
        conversation, written = rendered.conversations[row], rendered.written[row]
        turns = [i for i, m in enumerate(conversation) if m.role == "assistant" and m.supervised]
        taught = [
            (start, end)
            for start, end, _ in self._wording.taught(conversation, written, thoughts=self.learns_reasoning)
        ]
        text = written.text
        tokenizer = rendered.stand_ins.tokenizer(self.tokenizer)
        whole, *begun = tokenizer([text, *(text[:edge] for span in taught for edge in span)], add_special_tokens=False)[
            "input_ids"
        ]
        lengths = [len(self._written_ids(shown)) for shown in replaced] or self._unsaid_lengths(
            conversation, ids, whole
        )
        for number, turn in enumerate(turns):
            start, end = map(len, begun[2 * number : 2 * number + 2])
            if whole[:start] != begun[2 * number] and text[taught[number][0] - 1 : taught[number][0] + 1] == "\n\n":
                # the line break of an opened thought and that of its end, with nothing between, are one token
                start = next(
                    i for i, pair in enumerate(zip(whole, begun[2 * number], strict=False)) if len({*pair}) > 1
                )
                begun[2 * number], start = whole[: start + 1], start + 1
            later = lengths[sum(len(m.images) for m in conversation[:turn]) :]
            shift = len(ids) - len(whole) - sum(length - 1 for length in later)
            # a line break before a picture may have become one token with one that was written around it
            near = sorted(range(-2 * len(later), 2 * len(later) + 1), key=abs)
            found = (shift + d for d in near if ids[start + shift + d : end + shift + d] == whole[start:end])
            place = next(found, None)
            with self._faithful(example, conversation, rendered.stand_ins):
                if whole[:start] != begun[2 * number] or place is None or start >= end:
                    raise Unfaithful("has tokens that begin in a prompt and end in the answer to it:", turn)
            yield start + place, end + place

    def _unsaid_lengths(self, conversation: Conversation, ids: list[int], whole: list[int]) -> list[int]:
        """How many tokens stand for each picture, where the processor does not say what it wrote.

        What stands around the pictures in the rendered text is found in `ids`, from the right end. Where it is not,
        because line breaks became one token, all are taken to be equally long, which the caller finds out.
        """
        shown = sum(len(message.images) for message in conversation)
        equal = [ids.count(self.image_id) // max(shown, 1)] * shown
        mark = self.tokenizer.convert_tokens_to_ids(self._wording.mark) if self._wording.mark else self.image_id
        marks = [i for i, token in enumerate(whole) if token == mark]
        if len(marks) != shown:
            return equal
        limit, lengths = len(ids), list[int]()
        for first, end in reversed(list(pairwise([-1, *marks, len(whole)]))):
            text = whole[first + 1 : end]
            start = next((i for i in range(limit - len(text), -1, -1) if ids[i : i + len(text)] == text), None)
            if start is None or (not lengths and start + len(text) != len(ids)):
                return equal
            lengths.append(limit - start - len(text))
            limit = start
        return lengths[:0:-1]

    def text(self, conversation: Conversation, answering: bool = False) -> str:
        """The conversation as the template writes it, faithful or not; where `answering`, as far as an answer to it."""
        try:
            return self._wording.written(conversation, answering).text
        except Unfaithful:
            return self._render(chat(conversation, self._closing, frozenset()), answering)

    def _plain_ids(self, conversation: Conversation, answering: bool = False) -> list[int]:
        """Token ids of the rendered conversation, one placeholder per picture, no pictures read."""
        stand_ins = StandIns.of([conversation], self._control)
        safe = stand_ins.put_into(conversation, self._control)
        text = self.text(safe, answering)
        return stand_ins.tokenizer(self.tokenizer)(text, add_special_tokens=False)["input_ids"]

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """Matches any control token in plain text."""
        return control_tokens(self.tokenizer, self._template)

    def _template_ends_answers(self) -> bool:
        """Whether the chat template itself writes an end token after an answer."""
        self._closing = ""
        asked = (Message("user", ("?",)),)
        start = len(self._plain_ids(asked, answering=True))
        ids = self._plain_ids((*asked, Message("assistant", ("!",))))
        return any(token in self.eos_ids for token in ids[start:])


def _tokens_of(processor: Any, height: int, width: int) -> int:
    try:
        [count] = processor._get_num_multimodal_tokens(image_sizes=[[height, width]]).num_image_tokens
    except (AttributeError, KeyError, TypeError, ValueError):
        return 576
    return int(count)


def _check_lengths(examples: Sequence[Example], attention_mask: Tensor, limit: int | None) -> None:
    if limit is None:
        return
    for example, length in zip(examples, attention_mask.sum(dim=1).tolist(), strict=True):
        if length > limit:
            raise DataError(
                f"example {example.id!r} is {length} tokens long with its {len(example.images)} picture(s), "
                f"but only {limit} fit; nothing is cut, so raise max_length or leave the example out"
            )


def _no_template(model_type: str) -> NoReturn:
    raise ModelError(f"the processor of this {model_type} model has no chat template; add one to its folder")


def _image_id(processor: Any, config: Any) -> int:
    """The token that stands for a piece of picture; -1 for models that place pictures elsewhere."""
    for holder, name in ((config, "image_token_id"), (config, "image_token_index"), (processor, "image_token_id")):
        found = getattr(holder, name, None)
        if isinstance(found, int):
            return found
    return -1


def end_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
    """Tokens that end an answer. Raises ModelError where none is named."""
    found = getattr(generation_config, "eos_token_id", None)
    ids = found if isinstance(found, list) else [found]
    known = frozenset(i for i in [*ids, tokenizer.eos_token_id] if isinstance(i, int))
    if not known:
        raise ModelError("neither the tokenizer nor the generation config names an end token")
    return known


def _pad_id(tokenizer: Any) -> int:
    """The padding token; the end token where there is none, which the attention mask makes harmless."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    found: Any = tokenizer.pad_token_id
    return int(found)
