"""ShieldGemma 2: a Gemma 3 that is shown one picture and one policy, and says Yes where the picture violates it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vlmend.models.family import Family, Lookahead
from vlmend.types import Message


@dataclass(frozen=True)
class ShieldGemma2(Family):
    """No settings."""

    lookahead: ClassVar[Lookahead] = "picture"

    def adapt(self, processor: Any, config: Any) -> Any:
        """Gemma 3's processor with the checkpoint's chat template.

        Its own writes its prompts itself, whatever is asked: about each picture by each policy, in as many rows.
        """
        from transformers import Gemma3Processor

        del config
        return Gemma3Processor(
            processor.image_processor, processor.tokenizer, chat_template=processor.chat_template,
            image_seq_length=processor.image_seq_length,
        )  # fmt: skip

    def problem(self, conversation: Sequence[Message]) -> str:
        """Anything but one picture and one policy."""
        if [message.role for message in conversation] == ["user"] and len(conversation[0].images) == 1:
            return ""
        return "is no picture with a policy, which is all that a ShieldGemma 2 model can be asked"


plugin = ShieldGemma2
