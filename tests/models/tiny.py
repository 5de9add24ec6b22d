"""Tiny random-weight models of the real classes, with processors built on the spot. No download, no network.

A family is one function in FAMILIES that returns (model, processor): everything else is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

SPECIALS = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
SEEN = {"height": 24, "width": 24}

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# the wordings of Idefics3 and SmolVLM, Gemma, and Llama 3.2
UTTERANCES = (
    "{{ '<s>' }}{% for m in messages %}{{ m['role'].capitalize() + ':' }}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ (' ' if loop.first) ~ p['text'] }}{% endif %}{% endfor %}"
    "{{ '<end_of_utterance>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' }}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<start_of_image>{% else %}{{ p['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
POLICED = (
    "{{ bos_token }}{{ '<start_of_turn>user\n' }}{% for p in messages[0]['content'] %}"
    "{% if p['type'] == 'image' %}<start_of_image>{% else %}{{ '\nThe rule:\n' ~ p['text'] | trim }}{% endif %}"
    "{% endfor %}{{ '\nIs it broken? Yes or No.<end_of_turn>\n<start_of_turn>model\n' }}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<|image|>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
GUARDED = (
    "{{ '<s><|header_start|>user<|header_end|>\n\nIs the last turn safe?\n' }}{% for m in messages %}"
    "{{ '\n' ~ ('User' if m['role'] == 'user' else 'Agent') ~ ': ' }}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|image|>{% else %}{{ p['text'] }}{% endif %}{% endfor %}{{ '\n' }}{% endfor %}"
    "{{ '\nSay safe or unsafe.<|eot|><|header_start|>assistant<|header_end|>' }}"
)


def tokenizer(
    *more: str, end: str = "<|im_end|>", adds_bos: bool = False, names: dict[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level, one token per byte but for line breaks, which merge: encodes anything, needs no training.

    `more` are further special tokens.
    """
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ", "ĊĊĊ"]
    merges = [("Ċ", "Ċ"), ("ĊĊ", "Ċ")]
    core = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([*SPECIALS, *(token for token in more if token not in SPECIALS), end])
    if adds_bos:
        bos = ("<s>", core.token_to_id("<s>"))
        core.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token=end, padding_side="left",
        extra_special_tokens=names or {},
    )  # fmt: skip


def text(words: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    """Settings of a language model of 2 layers."""
    return {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, **LAYERS, "num_key_value_heads": 2,
        "max_position_embeddings": 1024, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id, **more,
    }  # fmt: skip


def tower(patch: int = 8, **more: Any) -> dict[str, Any]:
    """Settings of a vision tower that sees 24 by 24 pixels."""
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**size, "image_size": 24, "patch_size": patch, **more}


def chatml(image: str) -> str:
    """The wording of Qwen and others, with this text for a picture."""
    return CHATML.replace("IMAGE", image)


def clip_pixels() -> CLIPImageProcessor:
    """What LLaVA's checkpoints come with: shortest edge and center crop."""
    return CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=SEEN)


def llava(
    words: PreTrainedTokenizerFast | None = None, template: str | None = chatml("<image>")
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """LLaVA: CLIP tower on 24x24 pictures in 8x8 patches (9 picture tokens), Llama language model."""
    words = words or tokenizer("<image>")
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**tower()).to_dict(), text_config=hf.LlamaConfig(**text(words)).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<image>"), vision_feature_select_strategy="default",
        vision_feature_layer=-2,
    )  # fmt: skip
    processor = LlavaProcessor(
        clip_pixels(), words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=template,
    )  # fmt: skip
    return seeded(LlavaForConditionalGeneration, config, words), processor


def llava_v15() -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """LLaVA-1.5: the vocabulary of Vicuna, and a checkpoint without a conversation text of its own."""
    return llava(tokenizer("<unk>", "<image>", end="</s>", adds_bos=True), template=None)


def llava_next() -> tuple[Any, Any]:
    """LLaVA-NeXT: pictures in tiles, as many as their shape asks for."""
    words = tokenizer("<image>")
    grid = [[24, 48], [48, 24], [48, 48]]
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**tower()).to_dict(), text_config=hf.LlamaConfig(**text(words)).to_dict(),
        image_token_index=words.convert_tokens_to_ids("<image>"), image_grid_pinpoints=grid,
    )  # fmt: skip
    pixels = hf.LlavaNextImageProcessor(size={"shortest_edge": 24}, crop_size=SEEN, image_grid_pinpoints=grid)
    processor = hf.LlavaNextProcessor(
        pixels, words, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=chatml("<image>"),
    )  # fmt: skip
    return seeded(hf.LlavaNextForConditionalGeneration, config, words), processor


def llava_onevision() -> tuple[Any, Any]:
    """LLaVA-OneVision: tiles for one picture, none for several."""
    words = tokenizer("<image>", "<video>")
    grid = [[24, 48], [48, 24], [48, 48]]
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**tower(vision_use_head=False)).to_dict(),
        text_config=hf.Qwen2Config(**text(words)).to_dict(), image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"), image_grid_pinpoints=grid,
    )  # fmt: skip
    pixels = hf.LlavaOnevisionImageProcessor(size=SEEN, image_grid_pinpoints=grid)
    videos = hf.LlavaOnevisionVideoProcessor(size=SEEN)
    processor = hf.LlavaOnevisionProcessor(
        pixels, words, videos, num_image_tokens=9, vision_feature_select_strategy="full",
        chat_template=chatml("<image>"),
    )  # fmt: skip
    return seeded(hf.LlavaOnevisionForConditionalGeneration, config, words), processor


def _qwen(kind: Any, config: Any, processor: Any, videos: Any, rope: dict[str, Any], vision: dict[str, Any]) -> Any:
    words = tokenizer("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    ids = {t: words.convert_tokens_to_ids(f"<|{t}|>") for t in ("image_pad", "video_pad", "vision_start", "vision_end")}
    made = config(
        text_config=text(
            words, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, **rope}, head_dim=8,
            intermediate_size=64,
        ),
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, **vision},
        image_token_id=ids["image_pad"], video_token_id=ids["video_pad"], vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )  # fmt: skip
    size = {"shortest_edge": 8 * 8, "longest_edge": 48 * 48}
    pixels = Qwen2VLImageProcessor(patch_size=4, merge_size=2, size=size)
    template = chatml("<|vision_start|><|image_pad|><|vision_end|>")
    made_processor = processor(pixels, words, videos(patch_size=4, merge_size=2), chat_template=template)
    return seeded(kind, made, words), made_processor


def qwen2_vl() -> tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]:
    """Qwen2-VL: pictures of any size, several position axes."""
    return _qwen(
        Qwen2VLForConditionalGeneration, hf.Qwen2VLConfig, Qwen2VLProcessor, Qwen2VLVideoProcessor,
        {"mrope_section": [1, 1, 2]}, {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2},
    )  # fmt: skip


def qwen2_5_vl() -> tuple[Any, Any]:
    """Qwen2.5-VL: windowed attention in the tower."""
    vision = {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "window_size": 16,
              "fullatt_block_indexes": [1]}  # fmt: skip
    return _qwen(
        hf.Qwen2_5_VLForConditionalGeneration, hf.Qwen2_5_VLConfig, hf.Qwen2_5_VLProcessor, Qwen2VLVideoProcessor,
        {"mrope_section": [1, 1, 2]}, vision,
    )  # fmt: skip


def qwen3_vl() -> tuple[Any, Any]:
    """Qwen3-VL: features of several depths of the tower, added in several layers."""
    vision = {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "num_position_embeddings": 16,
              "deepstack_visual_indexes": [0]}  # fmt: skip
    return _qwen(
        hf.Qwen3VLForConditionalGeneration, hf.Qwen3VLConfig, hf.Qwen3VLProcessor, Qwen3VLVideoProcessor,
        {"mrope_section": [2, 1, 1], "mrope_interleaved": True}, vision,
    )  # fmt: skip


def glm4v() -> tuple[Any, Any]:
    """GLM-4.1V-Thinking: pictures of any size, several position axes, a tower with a position table that is resized."""
    names = (
        "<|image|>",
        "<|video|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
    )
    words = tokenizer(*names)
    ids = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in ("image", "video")}
    starts = {f"{kind}_{place}_token_id": words.convert_tokens_to_ids(f"<|{mark}_of_{kind}|>")
              for kind in ids for place, mark in (("start", "begin"), ("end", "end"))}  # fmt: skip
    config = hf.Glm4vConfig(
        text_config=text(
            words, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2],
                                    "partial_rotary_factor": 1.0},
        ),
        vision_config={"depth": 2, "hidden_size": 16, "num_heads": 2, "image_size": 24, "patch_size": 4,
                       "out_hidden_size": 32, "intermediate_size": 32, "spatial_merge_size": 2},
        image_token_id=ids["image"], video_token_id=ids["video"], **starts,
    )  # fmt: skip
    size = {"shortest_edge": 8 * 8 * 2, "longest_edge": 48 * 48 * 2}
    pixels = hf.Glm4vImageProcessor(patch_size=4, merge_size=2, size=size)
    videos = hf.Glm4vVideoProcessor(patch_size=4, merge_size=2, size=size)
    template = chatml("<|begin_of_image|><|image|><|end_of_image|>")
    processor = hf.Glm4vProcessor(pixels, words, videos, chat_template=template)
    return seeded(hf.Glm4vForConditionalGeneration, config, words), processor


def internvl() -> tuple[Any, Any]:
    """InternVL in transformers' own classes: pictures in crops, between a start and an end token."""
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    words = tokenizer(*names.values(), names=names)
    config = hf.InternVLConfig(
        vision_config=tower(patch=(4, 4), image_size=(24, 24)), text_config=hf.Qwen2Config(**text(words)).to_dict(),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=9,
    )  # fmt: skip
    pixels = GotOcr2ImageProcessor(size=SEEN, crop_to_patches=True, max_patches=4)
    processor = hf.InternVLProcessor(
        pixels, words, hf.InternVLVideoProcessor(size=SEEN), image_seq_length=9, chat_template=chatml("<IMG_CONTEXT>")
    )
    return seeded(hf.InternVLForConditionalGeneration, config, words), processor


def _idefics(kind: Any, config: Any, pixels: Any, processor: Any, more: Sequence[Any] = ()) -> tuple[Any, Any]:
    grid = [f"<row_{i}_col_{j}>" for i in range(1, 3) for j in range(1, 3)]
    words = tokenizer("<fake_token_around_image>", "<image>", "<global-img>", *grid, end="<end_of_utterance>")
    made = config(
        vision_config=tower(patch=4), text_config=hf.LlamaConfig(**text(words)).to_dict(), scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"), pad_token_id=words.pad_token_id,
    )  # fmt: skip
    images = pixels(size={"longest_edge": 48}, max_image_size={"longest_edge": 24})
    return seeded(kind, made, words), processor(images, words, *more, image_seq_len=9, chat_template=UTTERANCES)


def idefics3() -> tuple[Any, Any]:
    """Idefics3: tiles named by row and column, line breaks between them."""
    return _idefics(
        hf.Idefics3ForConditionalGeneration, hf.Idefics3Config, hf.Idefics3ImageProcessor, hf.Idefics3Processor
    )


def smolvlm() -> tuple[Any, Any]:
    """SmolVLM: as Idefics3."""
    videos = SmolVLMVideoProcessor(size={"longest_edge": 48}, max_image_size={"longest_edge": 24})
    return _idefics(
        hf.SmolVLMForConditionalGeneration, hf.SmolVLMConfig, hf.SmolVLMImageProcessor, hf.SmolVLMProcessor, [videos]
    )


def gemma3() -> tuple[Any, Any]:
    """Gemma 3: pieces of one picture see each other."""
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words = tokenizer("<start_of_turn>", *names.values(), end="<end_of_turn>", names=names)
    config = hf.Gemma3Config(
        vision_config=hf.SiglipVisionConfig(**tower(patch=4, vision_use_head=False)).to_dict(),
        text_config=text(words, head_dim=8, sliding_window=64), mm_tokens_per_image=9,
        boi_token_index=words.boi_token_id, eoi_token_index=words.eoi_token_id, image_token_index=words.image_token_id,
    )  # fmt: skip
    processor = hf.Gemma3Processor(hf.Gemma3ImageProcessor(size=SEEN), words, chat_template=TURNS, image_seq_length=9)
    return seeded(hf.Gemma3ForConditionalGeneration, config, words), processor


def shieldgemma2() -> tuple[Any, Any]:
    """ShieldGemma 2: a classifier around Gemma 3, with a template that writes a policy into a question."""
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words = tokenizer("<start_of_turn>", *names.values(), end="<end_of_turn>", names=names)
    config = hf.ShieldGemma2Config(
        vision_config=hf.SiglipVisionConfig(**tower(patch=4, vision_use_head=False)).to_dict(),
        text_config=text(words, head_dim=8, sliding_window=64), mm_tokens_per_image=9,
        boi_token_index=words.boi_token_id, eoi_token_index=words.eoi_token_id, image_token_index=words.image_token_id,
        yes_token_index=words.convert_tokens_to_ids("Y"), no_token_index=words.convert_tokens_to_ids("N"),
    )  # fmt: skip
    pixels = hf.Gemma3ImageProcessor(size=SEEN)
    processor = hf.ShieldGemma2Processor(pixels, words, chat_template=POLICED, image_seq_length=9)
    return seeded(hf.ShieldGemma2ForImageClassification, config, words), processor


def llama4(template: str = GUARDED) -> tuple[Any, Any]:
    """Llama 4 without experts; with a template as Llama Guard 4's: the whole conversation in one question."""
    marks = ("<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>")
    words = tokenizer("<|image|>", *marks, "<|header_start|>", "<|header_end|>", end="<|eot|>")
    config = hf.Llama4Config(
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
            "vision_output_dim": 32, "image_size": 24, "patch_size": 6, "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        text_config=text(words, intermediate_size_mlp=48, head_dim=8, moe_layers=[], num_local_experts=1),
        boi_token_index=words.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=words.convert_tokens_to_ids("<|image_end|>"),
        image_token_index=words.convert_tokens_to_ids("<|patch|>"),
    )  # fmt: skip
    pixels = hf.Llama4ImageProcessor(size=SEEN, max_patches=4)
    processor = hf.Llama4Processor(pixels, words, patch_size=6, chat_template=template)
    return seeded(hf.Llama4ForConditionalGeneration, config, words), processor


def paligemma() -> tuple[Any, Any]:
    """PaliGemma: no chat, one prompt after its picture, all of which sees all of it."""
    words = tokenizer("<image>", end="<eos>", names={"image_token": "<image>"}, adds_bos=True)
    pixels = hf.SiglipImageProcessor(size=SEEN)
    pixels.image_seq_length = 9
    processor = hf.PaliGemmaProcessor(pixels, words)
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**tower(vision_use_head=False, projection_dim=32)).to_dict(),
        text_config=hf.GemmaConfig(**text(words, head_dim=8)).to_dict(), image_token_index=words.image_token_id,
        projection_dim=32, hidden_size=32,
    )  # fmt: skip
    return seeded(hf.PaliGemmaForConditionalGeneration, config, words), processor


def mllama() -> tuple[Any, Any]:
    """Llama 3.2 Vision: pictures enter by cross-attention, not in place of tokens."""
    words = tokenizer("<|image|>", "<|python_tag|>", "<|start_header_id|>", "<|end_header_id|>", end="<|eot_id|>")
    config = hf.MllamaConfig(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_global_layers": 1,
                       "attention_heads": 2, "image_size": 24, "patch_size": 8, "vision_output_dim": 32,
                       "intermediate_layers_indices": [0], "max_num_tiles": 4,
                       "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [2, 2]]},
        text_config=text(words, num_hidden_layers=3, cross_attention_layers=[1],
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )  # fmt: skip
    pixels = hf.MllamaImageProcessor(size=SEEN, max_image_tiles=4)
    return seeded(hf.MllamaForConditionalGeneration, config, words), hf.MllamaProcessor(pixels, words, HEADERS)


FAMILIES = {
    "llava": llava,
    "llava_v15": llava_v15,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "glm4v": glm4v,
    "internvl": internvl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "gemma3": gemma3,
    "paligemma": paligemma,
    "mllama": mllama,
}


def save(name: str, folder: Path) -> Path:
    """Write the model and processor of a family as a transformers folder."""
    model, processor = FAMILIES[name]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def seeded(kind: Any, config: Any, words: PreTrainedTokenizerFast) -> Any:
    """A model of random weights, the same each time, all of whose parts count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config).eval()
        with torch.no_grad():  # some families start with gates and projections that are shut: pictures must count
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.2)
    speaks = model if model.can_generate() else model.model
    speaks.generation_config.eos_token_id = words.eos_token_id
    speaks.generation_config.pad_token_id = words.pad_token_id
    return model
