"""Control tokens that people spell in their texts, kept from becoming control tokens, on every version of transformers.

Each one is exchanged for a private character that nobody's text has before template and processor see it, so that
neither takes it for its own, and that character is encoded as the plain characters of what was spelled.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmend.errors import ModelError
from vlmend.reasoning import pieces
from vlmend.types import Message

PRIVATE = range(0xF0000, 0xFFFFE)


def control_tokens(tokenizer: Any, template: str) -> re.Pattern[str]:
    """Matches what nobody may write: special tokens, and added ones that the template writes; longest first."""
    more = getattr(tokenizer, "chat_control_tokens", None) or ()
    added = tokenizer.added_tokens_decoder.values()
    known = {t.content for t in added if t.special or t.content in more or t.content in template}
    found = sorted((text for text in known if not text.isspace()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, found)) or r"(?!)")


@dataclass(frozen=True)
class StandIns:
    """What stands for what: spelled tokens by private character."""

    spelled: Mapping[str, str]

    @classmethod
    def of(cls, conversations: Iterable[Sequence[Message]], control: re.Pattern[str]) -> StandIns:
        """For all that these conversations spell."""
        texts = [part for turns in conversations for m in turns for part in m.parts if isinstance(part, str)]
        found = sorted({match[0] for text in texts for match in control.finditer(text)})
        if not found:
            return cls({})
        used = set("".join(texts))
        free = (chr(code) for code in PRIVATE if chr(code) not in used)
        return cls(dict(zip(free, found, strict=False)))

    def put_into(self, conversation: Sequence[Message], control: re.Pattern[str]) -> Sequence[Message]:
        """The conversation with them; tags of the assistant's reasoning stay, as a model writes them itself."""
        if not self.spelled:
            return conversation
        characters = {text: character for character, text in self.spelled.items()}

        def plain(text: str) -> str:
            return control.sub(lambda match: characters[match[0]], text)

        def part(message: Message, text: str) -> str:
            if message.role != "assistant":
                return plain(text)
            return "".join(p.text if p.kind == "tag" else plain(p.text) for p in pieces(text))

        return tuple(
            replace(m, parts=tuple(part(m, p) if isinstance(p, str) else p for p in m.parts)) for m in conversation
        )

    def processor(self, processor: Any) -> Any:
        """The processor, with a tokenizer that knows them."""
        if not self.spelled:
            return processor
        changed = copy.copy(processor)
        changed.tokenizer = self.tokenizer(processor.tokenizer)
        return changed

    def tokenizer(self, tokenizer: Any) -> Any:
        """The tokenizer, or one that knows them."""
        return PlainTokenizer(tokenizer, self.spelled) if self.spelled else tokenizer

    def undone(self, text: str) -> str:
        """A text with what was spelled in it."""
        return text.translate({ord(character): spelled for character, spelled in self.spelled.items()})


class PlainTokenizer:
    """A tokenizer that encodes stand-ins as the plain characters of what they stand for; else as it is."""

    def __init__(self, tokenizer: Any, spelled: Mapping[str, str]) -> None:
        self._tokenizer = tokenizer
        self._spelled = spelled
        self._any = re.compile(f"([{''.join(spelled)}])")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str | Sequence[str], **settings: Any) -> Any:
        """Encode one text or several; of the settings, those about padding, special tokens and tensors count."""
        texts = [text] if isinstance(text, str) else list(text)
        around = self._around() if settings.get("add_special_tokens", True) else ([], [])
        ids = [[*around[0], *self._ids(one), *around[1]] for one in texts]
        tensors = settings.get("return_tensors")
        kept = ("padding", "padding_side", "pad_to_multiple_of", "return_attention_mask")
        how = {name: settings[name] for name in kept if name in settings}
        made = {"input_ids": ids[0] if isinstance(text, str) and not tensors else ids}
        return self._tokenizer.pad(made, return_tensors=tensors, **{"padding": False, **how})

    def _ids(self, text: str) -> list[int]:
        pieces = self._any.split(text)
        newline = self._tokenizer.encode("\n", add_special_tokens=False)
        ids = self._tokenizer.encode(pieces[0], add_special_tokens=False)
        for number, piece in enumerate(pieces[1:], start=1):
            if not piece:
                continue
            if number % 2:
                spelled = self._spelled[piece]
                found = self._behind(newline, spelled, plain=True)
                if self._tokenizer.convert_tokens_to_ids(spelled) in found:
                    raise ModelError(f"the tokenizer writes {spelled!r} as a control token also where it is spelled")
                ids += found
            else:
                ids += self._behind(newline, piece, plain=False)
        return ids

    def _behind(self, newline: list[int], piece: str, *, plain: bool) -> list[int]:
        """Encoded behind a line break, which goes again: some tokenizers put a space before a text's first word."""
        encode = self._plain if plain else lambda text: self._tokenizer.encode(text, add_special_tokens=False)
        found = encode("\n" + piece)
        return found[len(newline) :] if found[: len(newline)] == newline else encode(piece)

    def _plain(self, text: str) -> list[int]:
        """Encoded without any added token, special or not."""
        core = getattr(self._tokenizer, "backend_tokenizer", None)
        if core is None:
            return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if core.normalizer is not None:
            text = core.normalizer.normalize_str(text)
        words = [text]
        if core.pre_tokenizer is not None:
            words = [word for word, _ in core.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for word in words for token in core.model.tokenize(word)]

    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after any text."""
        whole, bare = self._tokenizer.encode("a"), self._tokenizer.encode("a", add_special_tokens=False)
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return whole[:at], whole[at + len(bare) :]
