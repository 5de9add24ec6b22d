"""What a family of models needs that transformers' own classes do not say: one file per family in `families/`.

A family is chosen by `config.model_type`, never by a model's name; one without a file gets the defaults below, which
fit any model whose processor and chat template behave. What decides which tokens and pixels a conversation becomes
is put into the processor, so that it is part of the codec's fingerprint and saved with what is tuned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vlmend import registry
from vlmend.errors import UnknownName
from vlmend.types import Message

if TYPE_CHECKING:
    from torch import Tensor

Lookahead = Literal["none", "picture", "prompt"]
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

# Inputs of forward that run along the tokens, shape (B, T, …). All others belong to pictures.
TOKEN_INPUTS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "position_ids", "cross_attention_mask"}
)


@dataclass(frozen=True)
class Family:
    """Defaults for any well-behaved model; fields of a subclass are its options, `model.family` in recipes.

    lookahead: what a token of the prompt sees of what comes after it. `none`: attention is causal, so a prefix may be
    shared wherever it is cut. `picture`: pictures or pieces of them, so a shared prefix must hold all pictures of its
    prompts. `prompt`: all of the prompt, so only answers to the very same prompt can share it.
    mixes: whether prompts with different numbers of pictures may share a batch and leave one another's answers alone.
    features: method of the model that turns picture inputs into the embeddings put in place of picture tokens; empty
    where pictures enter otherwise (cross-attention), so that there is nothing to put in place.
    """

    lookahead: ClassVar[Lookahead] = "none"
    mixes: ClassVar[bool] = True
    features: ClassVar[str] = "get_image_features"

    def adapt(self, processor: Any, config: Any) -> Any:
        """The processor with this family's chat template and picture preparation. May change and return it."""
        del config
        return processor

    def template(self, processor: Any) -> str | None:
        """The chat template (jinja) that conversations are rendered with; None where there is none."""
        tokenizer = getattr(processor, "tokenizer", processor)
        found = getattr(processor, "chat_template", None) or tokenizer.chat_template
        return found.get("default") if isinstance(found, dict) else found

    def problem(self, conversation: Sequence[Message]) -> str:
        """Why this family cannot be shown this conversation; empty when it can."""
        del conversation
        return ""

    def prepare(self, model: Any) -> None:
        """What this family's models need before they are used, beyond what transformers does."""
        del model

    def complete(self, inputs: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The inputs of forward, given where the answers are (labels -100: nowhere, as in every prompt)."""
        del labels
        return inputs


def generalized(processor: Any, *unused: str) -> Any:
    """A processor that works as transformers' general one does, where its class has an older way of its own.

    Ways of their own miscount placeholders that a user merely spelled. `unused` are outputs that forward does not
    take. The class keeps its name, so that the saved folder loads as before.
    """
    from transformers import ProcessorMixin

    kind = type(processor)
    general = ("__call__", "prepare_inputs_layout", "validate_inputs")
    members: dict[str, Any] = {name: getattr(ProcessorMixin, name) for name in general}
    members["unused_input_names"] = property(lambda self: list(unused))
    processor.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **members})
    return processor


def family_for(model_type: str, options: Mapping[str, Any] = NO_OPTIONS) -> Family:
    """The family of a model type, with its options checked. Raises UnknownName for an option it does not have."""
    if model_type in registry.families.names():
        return registry.families.build(model_type, options)
    for name in options:
        raise UnknownName(f"{model_type} option", name, [])
    return Family()
