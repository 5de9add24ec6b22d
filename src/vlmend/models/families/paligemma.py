"""PaliGemma: pictures, then one prompt that sees all of itself, then the answer. No conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vlmend.models.family import Family, Lookahead, generalized
from vlmend.types import Message

if TYPE_CHECKING:
    from torch import Tensor

# The processor's own layout, which it writes for prompts that have pictures and no answer. Pictures come first.
TEMPLATE = (
    "{%- for part in messages[0]['content'] if part['type'] == 'image' -%}{{- '<image>' -}}{%- endfor -%}"
    "{{- bos_token -}}"
    "{%- for part in messages[0]['content'] if part['type'] == 'text' -%}"
    "{{- part['text'] -}}{%- if not loop.last -%}{{- ' ' -}}{%- endif -%}{%- endfor -%}"
    "{{- '\\n' -}}"
    "{%- if messages[1:] -%}{{- messages[1]['content'][0]['text'] ~ eos_token -}}{%- endif -%}"
)


@dataclass(frozen=True)
class PaliGemma(Family):
    """No settings."""

    lookahead: ClassVar[Lookahead] = "prompt"

    def adapt(self, processor: Any, config: Any) -> Any:
        """The general way of processing: the processor's own breaks those texts of a batch that have no picture."""
        del config
        return generalized(processor)

    def template(self, processor: Any) -> str | None:
        """The published layout; kept out of the saved processor, which adds its own."""
        del processor
        return TEMPLATE

    def problem(self, conversation: Sequence[Message]) -> str:
        """Anything but one question."""
        if [message.role for message in conversation] in (["user"], ["user", "assistant"]):
            return ""
        turns = ", ".join(message.role for message in conversation)
        return f"has the turns {turns}, but a PaliGemma model takes one prompt of a user and no conversation"

    def complete(self, inputs: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Mark prompt (0) and answer (1): only the prompt sees what comes after."""
        answer = (labels >= 0).cumsum(dim=1) > 0
        return {**inputs, "token_type_ids": answer.to(inputs["input_ids"].dtype)}


plugin = PaliGemma
