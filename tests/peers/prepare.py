"""Writes what the peers' tests compare with: tiny models, data sets in every format, and what our codec makes of them.

    python tests/peers/prepare.py FOLDER

runs in our own environment. The tests run in the peers' environments, whose versions of other packages may exclude
vlmend: they read these files and nothing else.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers as hf
from PIL import Image as Pictures
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.models import tiny
from vlmend.config import parse_recipe
from vlmend.data import export
from vlmend.data.preferences import sides
from vlmend.models.codec import Codec
from vlmend.train import handover
from vlmend.types import Example, Image, Message, Pair

# As the checkpoints have them: a system text where none is given, and marks of what the assistant says for TRL.
QWEN = (
    "{% macro said(content) %}{% if content is string %}{{ content }}{% else %}{% for p in content %}"
    "{% if p['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endmacro %}"
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ said(m['content']) }}{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    "{% else %}{{ said(m['content']) }}{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def codec_of(folder: Path) -> Codec:
    """A Qwen2-VL of random weights with patches as wide as those of the real ones, and how we encode for it."""
    words = tiny.tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    ids = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")}
    ends = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    config = hf.Qwen2VLConfig(
        text_config=tiny.text(
            words, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
            head_dim=8, max_position_embeddings=4096,
        ),
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "embed_dim": 16,
                       "hidden_size": 32, "mlp_ratio": 2},
        image_token_id=ids["image_pad"], video_token_id=ids["video_pad"], vision_start_token_id=ends["vision_start"],
        vision_end_token_id=ends["vision_end"],
    )  # fmt: skip
    processor = hf.Qwen2VLProcessor(Qwen2VLImageProcessor(), words, Qwen2VLVideoProcessor(), chat_template=QWEN)
    model = tiny.seeded(hf.Qwen2VLForConditionalGeneration, config, words)
    model.save_pretrained(folder / "qwen2_vl")
    processor.save_pretrained(folder / "qwen2_vl")
    return Codec(processor, model.config, model.generation_config)


def picture(number: int, folder: Path) -> Image:
    """A file of 56 by 84 pixels, which no peer has a reason to enlarge first."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (56, 84, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Pictures.fromarray(pixels).save(stream, "PNG")
    file = folder / f"{number}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stream.getvalue())
    return Image(file)


def user(*parts: str | Image) -> Message:
    return Message("user", parts)


def asked(folder: Path) -> dict[str, tuple[Message, ...]]:
    """Prompts of every kind."""
    one, two, three = (picture(number, folder) for number in range(3))
    system, said = Message("system", ("Be brief.",)), Message("assistant", ("A red ring.",))
    return {
        "single": (user(one, "What is it?"),),
        "words": (user("Say hello."),),
        "several": (user(one, "What is it?"), said, user("And its color?"), said, user("Sure?")),
        "two": (user(one, two, "Compare them."),),
        "between": (user("First ", one, " then ", two, "?"),),
        "system": (system, user(three, "What is it?")),
        "later": (system, user("Hello."), Message("assistant", ("Hello!",)), user(two, "And this?")),
        "chat": (user("Hello."), Message("assistant", ("Hello!",)), user("How are you?")),
    }


def unlearned(prompt: Sequence[Message], keep: Sequence[int] = ()) -> tuple[Message, ...]:
    """The prompt with none of its answers learned but those at these places."""
    return tuple(
        m if m.role != "assistant" or at in keep else Message(m.role, m.parts, supervised=False)
        for at, m in enumerate(prompt)
    )


def sets(folder: Path) -> dict[str, list[Example] | list[Pair]]:
    """Conversations of which all answers are learned, the last, or all but one; pairs; and feedback."""
    prompts = asked(folder)
    return {
        "all": [Example(name, prompt, (f"It is {name}.",)) for name, prompt in prompts.items()],
        "last": [Example(name, unlearned(prompt), (f"It is {name}.",)) for name, prompt in prompts.items()],
        "some": [Example("some", unlearned(prompts["several"], keep=[1]), ("Yes.",))],
        "text": [Example(name, prompts[name], ("Fine.",)) for name in ("words", "chat")],
        "pairs": [Pair(name, unlearned(p), f"It is {name}.", "No idea at all.") for name, p in prompts.items()],
        "feedback": [
            Example(name, unlearned(p), ("Yes.",), meta={"label": "true"})
            if at % 2
            else Example(name, unlearned(p), avoid=("No.",))
            for at, (name, p) in enumerate(prompts.items())
        ],
    }


def known(items: Sequence[Example | Pair], codec: Codec) -> list[dict[str, Any]]:
    """What our codec makes of each: tokens, which of them are learned, and pixels."""
    found: list[dict[str, Any]] = []
    for item in items:
        both = sides(item) if isinstance(item, Pair) else (item,)
        row: dict[str, Any] = {"id": item.id}
        for name, side in zip(("chosen", "rejected") if len(both) == 2 else ("",), both, strict=True):
            given = side if side.answers else Example(side.id, side.prompt, side.avoid)
            batch = codec.encode_training([given])
            prefix = f"{name}_" if name else ""
            row |= {f"{prefix}ids": batch.inputs["input_ids"][0].tolist(), f"{prefix}labels": batch.labels[0].tolist()}
            pixels = batch.inputs.get("pixel_values")
            row["pixels"] = None if pixels is None else pixels.flatten().tolist()
        if isinstance(item, Example):
            row["label"] = bool(item.answers)
        found.append(row)
    return found


FORMS = {
    "all": ("trl", "trl_messages", "llamafactory", "swift", "alpaca", "openai"),
    "last": ("trl", "llamafactory", "swift", "alpaca"),
    "some": ("swift",),
    "text": ("trl", "trl_messages", "llamafactory", "swift", "alpaca", "openai"),
    "pairs": ("trl", "llamafactory", "swift", "alpaca"),
    "feedback": ("trl", "llamafactory", "swift", "alpaca"),
}


def online(folder: Path) -> None:
    """Prompts and rewards for who samples the answers, with pictures or without; what one is worth nobody knows."""
    rewards = [{"reward": "length?per_token=0.01"}, {"reward": "rule?finished=false", "weight": 2.0}]
    rows = [Example(name, unlearned(p), (f"It is {name}.",)) for name, p in asked(folder / "pictures").items()]
    for kind, some in (("pictures", [r for r in rows if r.images]), ("words", [r for r in rows if not r.images])):
        unknown = Example("unknown", some[0].prompt)
        top = folder.resolve() / "online" / kind
        file = export.write([*some, unknown], "trl", top / "rows.jsonl", absolute=True).file
        recipe = parse_recipe(
            {
                "model": {"name": str(folder.resolve() / "qwen2_vl")},
                "method": {"name": "grpo", "rewards": rewards, "samples": 4, "max_new_tokens": 96, "unfinished": 0.5},
                "data": {"mix": [{"source": f"jsonl:{file}?allow_outside=true"}]},
                "train": {"max_steps": 1, "per_device_train_batch_size": len(some) + 1, "warmup_ratio": 0.0},
                "output": {"dir": str(folder / "none")},
            }
        )
        for program in ("trl", "verl"):
            handover.write(recipe, program, top / program)


def main(folder: Path) -> None:
    codec = codec_of(folder)
    told = {}
    for name, items in sets(folder / "pictures").items():
        told[name] = known(items, codec)
        for form in FORMS[name]:
            for naming in ("relative", "absolute", "embed"):
                how = {} if naming == "relative" else {naming: True}
                export.write(items, form, folder / form / naming / name, **how)
                if form != "openai":
                    export.write(items, form, folder / f"{form}_table" / naming / name / "data.parquet", **how)
    (folder / "known.json").write_text(json.dumps(told))
    online(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
