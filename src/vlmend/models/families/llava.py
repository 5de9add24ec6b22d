"""LLaVA-1.5 as trained: pictures padded to a square, conversation `vicuna_v1`. Other LLaVA models stay as they are.

Converted checkpoints of LLaVA-1.5 come with a look-alike: no system text, no end token, and pictures that lose their
borders to a center crop. A LLaVA model with a conversation text of its own (also the embedded one) is not touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmend.errors import ConfigError
from vlmend.models.family import Family

SYSTEM = (
    "A chat between a curious {who} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {who}'s questions."
)
TRAINED, CODED = "user", "human"
# One space before every turn but those that follow an answer; an answer is closed by the end token.
TEMPLATE = (
    "{%- macro show(content) -%}"
    "{%- if content is string -%}{{- content -}}"
    "{%- else -%}{%- for part in content -%}"
    "{{- '<image>\\n' if part['type'] == 'image' else part['text'] -}}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endmacro -%}"
    "{{- bos_token -}}"
    "{{- show(messages[0]['content']) if messages[0]['role'] == 'system' else SYSTEM -}}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- ('' if loop.previtem and loop.previtem['role'] == 'assistant' else ' ') ~ 'USER: ' -}}"
    "{{- show(message['content']) -}}"
    "{%- elif message['role'] == 'assistant' -%}{{- ' ASSISTANT: ' ~ show(message['content']) ~ eos_token -}}"
    "{%- elif not loop.first -%}{{- raise_exception('a system message must come first') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{{- ' ASSISTANT:' if add_generation_prompt else '' -}}"
)
PROBE = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
ASKED = "USER: <image>\n? ASSISTANT:"


@dataclass(frozen=True)
class Llava(Family):
    """as_coded: center crop and "curious human", as in the evaluation code of VLGuard and those who reused it.

    Only for LLaVA-1.5. Default is what the model was trained on: pictures padded to a square with the processor's
    mean color, and "curious user".
    """

    as_coded: bool = False

    def adapt(self, processor: Any, config: Any) -> Any:
        """Put template and pictures of LLaVA-1.5 into the processor of a checkpoint that is one."""
        if not self._is_v15(processor, config):
            if self.as_coded:
                raise ConfigError("option as_coded is for LLaVA-1.5, and this LLaVA model is none")
            return processor
        processor.chat_template = conversation(CODED if self.as_coded else TRAINED)
        processor.image_processor = _pixels(processor.image_processor, padded=not self.as_coded)
        return processor

    def _is_v15(self, processor: Any, config: Any) -> bool:
        """CLIP's penultimate layer under a Llama that ends with `</s>`, and either no template or a known one."""
        if (
            config.text_config.model_type != "llama"
            or config.vision_config.model_type != "clip_vision_model"
            or config.vision_feature_layer != -2
            or processor.tokenizer.eos_token != "</s>"
        ):
            return False
        template = self.template(processor)
        if not template:
            return True
        words = processor.tokenizer
        shown = words.apply_chat_template(PROBE, chat_template=template, add_generation_prompt=True, tokenize=False)
        systems = ("", *(f"{SYSTEM.format(who=who)} " for who in (TRAINED, CODED)))
        return shown.removeprefix(words.bos_token or "") in [system + ASKED for system in systems]


def conversation(who: str) -> str:
    """The template with its system text."""
    return TEMPLATE.replace("SYSTEM", repr(SYSTEM.format(who=who)))


def _pixels(found: Any, padded: bool) -> Any:
    """transformers' image processor that can pad to a square, with the sizes and colors of the one found."""
    from transformers import LlavaImageProcessor

    kept = ("size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_convert_rgb")
    return LlavaImageProcessor(do_pad=padded, **{name: getattr(found, name) for name in kept})


plugin = Llava
