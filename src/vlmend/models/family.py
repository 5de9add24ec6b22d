"""What a family of models needs that transformers' own classes do not say: one file per family in `families/`.

A family is chosen by `config.model_type`, never by a model's name; one without a file gets the defaults below, which
fit any model whose processor and chat template behave. Everything that decides which tokens and pixels a conversation
becomes is put into the processor itself, so that it is part of the codec's fingerprint, is saved with what is tuned,
and holds for other programs that load it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from vlmend import registry
from vlmend.config import Module
from vlmend.errors import UnknownName
from vlmend.types import Message

Lookahead = Literal["none", "picture", "prompt"]

# What forward takes that runs along the tokens, shape (B, T, …). Everything else belongs to pictures.
TOKEN_INPUTS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "position_ids", "cross_attention_mask"}
)


@dataclass(frozen=True)
class Family:
    """Defaults for any well-behaved model; fields of a subclass are its options, `model.family` in recipes.

    most_pictures: how many a conversation may show; None: any number.
    lookahead: which later tokens a token of the prompt sees. `none`: attention is causal, so a prefix may be shared
    wherever it is cut. `picture`: pieces of one picture see each other, so a prefix must not be cut inside a picture.
    `prompt`: all of the prompt sees all of it, so only answers to the very same prompt can share it.
    features: method of the model that turns picture inputs into embeddings put in place of picture tokens; empty
    where pictures enter otherwise (cross-attention), so that features cannot be cached by picture.
    parts: names of submodules that belong to a part, beyond the usual ones in `parts.NAMES`.
    """

    most_pictures: ClassVar[int | None] = None
    lookahead: ClassVar[Lookahead] = "none"
    features: ClassVar[str] = "get_image_features"
    parts: ClassVar[Mapping[Module, tuple[str, ...]]] = MappingProxyType({})

    def adapt(self, processor: Any, config: Any) -> Any:
        """The processor with this family's chat template and picture preparation. May change and return it."""
        del config
        return processor

    def problem(self, conversation: Sequence[Message]) -> str:
        """Why this family cannot be shown this conversation; empty when it can."""
        count = sum(len(message.images) for message in conversation)
        if self.most_pictures is not None and count > self.most_pictures:
            return f"has {count} pictures, but this family of models takes at most {self.most_pictures}"
        return ""


def family_for(model_type: str, options: Mapping[str, object] = MappingProxyType({})) -> Family:
    """The family of a model type, with its options checked. Raises UnknownName for an option it does not have."""
    if model_type in registry.families.names():
        return registry.families.build(model_type, options)
    for name in options:
        raise UnknownName(f"{model_type} option", name, [])
    return Family()
