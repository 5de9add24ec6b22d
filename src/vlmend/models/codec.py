"""Conversation ↔ tensors, through the model's own processor and chat template.

The same codec serves tuning, generation and scoring, so that they cannot disagree about a template. Text is never
changed, nothing is ever cut: what does not fit is an error that names the example. Users' text cannot write control
tokens: where it spells one, it is encoded as plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import torch
from jinja2 import TemplateError
from torch import Tensor

from vlmend.errors import DataError, ModelError
from vlmend.models.family import NO_OPTIONS, family_for
from vlmend.ops.logprobs import IGNORE
from vlmend.types import Example, Image, Message, Part, digest


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


Conversation = Sequence[Message]


@dataclass(frozen=True)
class _Encoded:
    """What the processor made: inputs of forward, where pictures are, and what it wrote in place of each."""

    inputs: dict[str, Tensor]
    pictures: Tensor
    written: list[list[str]]


class Codec:
    """Encodes examples for one model and decodes its answers. `options` are those of the model's family."""

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
        self.eos_ids = _eos_ids(self.tokenizer, generation_config)
        self.pad_id = _pad_id(self.tokenizer)
        self.context: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
        self._by_size: dict[tuple[int, int], int] = {}
        self._template = self.family.template(processor) or _no_template(self.model_type)
        self._known_texts: dict[str, list[int]] = {}
        self._known_marks: dict[str, list[int]] = {}
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

    def encode_prompts(self, examples: Sequence[Example]) -> Batch:
        """Left-padded prompts that end where the model is to answer. Nothing is supervised."""
        self._check_turns(examples)
        made = self._process([e.prompt for e in examples], padding_side="left", answering=True)
        _check_lengths(examples, made.inputs["attention_mask"], self.context)
        labels = torch.full_like(made.inputs["input_ids"], IGNORE)
        return Batch(self.family.complete(made.inputs, labels), labels, made.pictures, tuple(examples))

    def encode_training(self, examples: Sequence[Example], max_length: int | None = None) -> Batch:
        """Right-padded conversations with `answers[0]` as last turn.

        Supervised is the text of every assistant turn (but those marked as not) and the token that ends it, nothing
        else. Raises DataError
        for an example without an answer, or longer than `max_length` or the model's context.
        """
        conversations = [(*e.prompt, Message("assistant", (_target(e),))) for e in examples]
        self._check_turns(examples)
        made = self._process(conversations, padding_side="right", answering=False)
        limit = min(filter(None, (max_length, self.context)), default=None)
        _check_lengths(examples, made.inputs["attention_mask"], limit)
        labels = torch.full_like(made.inputs["input_ids"], IGNORE)
        for row, conversation in enumerate(conversations):
            length = int(made.inputs["attention_mask"][row].sum())
            ids = made.inputs["input_ids"][row, :length]
            for start, end in self._answer_spans(conversation, ids.tolist(), made.written[row]):
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

    def opens_answers_with(self, text: str) -> bool:
        """Whether the chat template itself begins every answer with a text, such as the tag that opens reasoning."""
        asked = self._plain_ids((Message("user", ("?",)),), answering=True)
        return self.tokenizer.decode(asked).rstrip().endswith(text)

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

    def _check_turns(self, examples: Sequence[Example]) -> None:
        for example in examples:
            if why := self.family.problem(example.prompt):
                raise DataError(f"example {example.id!r} {why}")

    def _process(self, conversations: Sequence[Conversation], padding_side: str, answering: bool) -> _Encoded:
        """Template, pictures and tokens in one call of the model's processor."""
        chats = [self._chat(conversation, pictures=True) for conversation in conversations]
        with self._refusals():
            encoded = self.processor.apply_chat_template(
                chats,
                chat_template=self._template,
                add_generation_prompt=answering,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                sanitize_control_tokens=any(map(self._spells_control_token, conversations)),
                processor_kwargs={
                    "padding": True,
                    "padding_side": padding_side,
                    "return_text_replacement_offsets": True,
                },
            )
        inputs = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        told = encoded.get("text_replacement_offsets")
        rows = told if isinstance(told, list) and told else [[] for _ in conversations]
        written = [[place["replacement"] for place in row] for row in rows]
        pictures = [
            self._picture_row(conversation, ids, texts)
            for conversation, ids, texts in zip(conversations, inputs["input_ids"].tolist(), written, strict=True)
        ]
        return _Encoded(inputs, torch.tensor(pictures), written)

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
        self, conversation: Conversation, ids: list[int], written: Sequence[str]
    ) -> Iterator[tuple[int, int]]:
        """[start, end) of every assistant turn in `ids`, its end token included.

        A turn is found by rendering the conversation up to its start and up to its end, one token per picture.
        Pictures stand for more tokens in `ids`, so a span is counted from the right end, less what the pictures
        behind it stand for.
        """
        whole = self._plain_ids(conversation)
        shown = sum(len(message.images) for message in conversation)
        lengths = [len(self._written_ids(text)) for text in written] or [
            ids.count(self.image_id) // max(shown, 1)
        ] * shown
        for turn, message in enumerate(conversation):
            if message.role != "assistant" or not message.supervised:
                continue
            prompt = self._plain_ids(conversation[:turn], answering=True)
            start = len(prompt)
            end = _after_end_token(whole, start, len(self._plain_ids(conversation[: turn + 1])), self.eos_ids)
            later = lengths[sum(len(m.images) for m in conversation[:turn]) :]
            shift = len(ids) - len(whole) - sum(length - 1 for length in later)
            # a line break before a picture may have become one token with one that was written around it
            near = sorted(range(-2 * len(later), 2 * len(later) + 1), key=abs)
            found = (shift + d for d in near if ids[start + shift + d : end + shift + d] == whole[start:end])
            place = next(found, None)
            if whole[:start] != prompt or place is None or start >= end:
                raise ModelError(
                    f"the chat template of this {self.model_type} model renders a finished turn differently from the "
                    f"prompt it answers, so tuning and generation would disagree (answer {message.text[:40]!r})"
                )
            yield start + place, end + place

    def _plain_ids(self, conversation: Conversation, answering: bool = False) -> list[int]:
        """Token ids of the rendered conversation, one placeholder per picture, no pictures read."""
        with self._refusals():
            return self.tokenizer.apply_chat_template(
                self._chat(conversation, pictures=False),
                chat_template=self._template,
                add_generation_prompt=answering,
                tokenize=True,
                return_dict=False,
                sanitize_control_tokens=self._spells_control_token(conversation),
            )

    def _chat(self, conversation: Conversation, pictures: bool) -> list[dict[str, Any]]:
        """The conversation as transformers' templates expect it: every turn a list of typed parts."""
        return [{"role": m.role, "content": [self._part(m, part, pictures) for part in m.parts]} for m in conversation]

    def _part(self, message: Message, part: Part, pictures: bool) -> dict[str, Any]:
        if isinstance(part, Image):
            return {"type": "image", "image": part.open()} if pictures else {"type": "image"}
        if message.role == "assistant":
            return {"type": "text", "text": part.strip() + self._closing}
        return {"type": "text", "text": part}

    def _spells_control_token(self, conversation: Conversation) -> bool:
        return any(self._control.search(part) for m in conversation for part in m.parts if isinstance(part, str))

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """Matches any control token in plain text."""
        tokens = [t.content for t in self.tokenizer.added_tokens_decoder.values() if not t.content.isspace()]
        return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

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


def _target(example: Example) -> str:
    if not example.answers or not example.answers[0].strip():
        raise DataError(f"example {example.id!r} has no answer to learn from")
    return example.answers[0]


def _check_lengths(examples: Sequence[Example], attention_mask: Tensor, limit: int | None) -> None:
    if limit is None:
        return
    for example, length in zip(examples, attention_mask.sum(dim=1).tolist(), strict=True):
        if length > limit:
            raise DataError(
                f"example {example.id!r} is {length} tokens long with its {len(example.images)} picture(s), "
                f"but only {limit} fit; nothing is cut, so raise max_length or leave the example out"
            )


def _after_end_token(ids: list[int], start: int, end: int, eos_ids: frozenset[int]) -> int:
    """Where an answer in ids[start:end] ends, its end token included and what the template adds behind it not."""
    last = next((i for i in range(end - 1, start - 1, -1) if ids[i] in eos_ids), end - 1)
    return last + 1


def _no_template(model_type: str) -> NoReturn:
    raise ModelError(f"the processor of this {model_type} model has no chat template; add one to its folder")


def _image_id(processor: Any, config: Any) -> int:
    """The token that stands for a piece of picture; -1 for models that place pictures elsewhere."""
    for holder, name in ((config, "image_token_id"), (config, "image_token_index"), (processor, "image_token_id")):
        found = getattr(holder, name, None)
        if isinstance(found, int):
            return found
    return -1


def _eos_ids(tokenizer: Any, generation_config: Any) -> frozenset[int]:
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
