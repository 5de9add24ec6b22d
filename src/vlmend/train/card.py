"""The model card of what was tuned: what it is, on what, and how plain transformers or peft load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from vlmend.config import Recipe
from vlmend.models.places import EMBEDDED
from vlmend.registry import Spec
from vlmend.train.moved import percent

ADAPTER = """\
{extra}from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained({base}, dtype="{dtype}")
model = PeftModel.from_pretrained(base, "{folder}")
processor = AutoProcessor.from_pretrained("{folder}")"""

FULL = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("{folder}", dtype="{dtype}")
processor = AutoProcessor.from_pretrained("{folder}")"""


def model_card(recipe: Recipe, about: Mapping[str, Any]) -> str:
    """README.md with the front matter that model hubs read. `about` is the manifest."""
    lora = recipe.model.tune == "lora"
    sources = sorted({Spec.parse(part.source).name for part in recipe.data.mix})
    front = {
        "base_model": recipe.model.name,
        "library_name": "peft" if lora else "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vlmend", "safety", recipe.method.name, *(["lora"] if lora else [])],
        "datasets": sources,
    }
    embedded, dtype = recipe.model.name == EMBEDDED, about["precision"]["answers"]
    how = (ADAPTER if lora else FULL).format(
        base="WEIGHTS" if embedded else f'"{recipe.model.name}"',
        extra="from vlmend.world import WEIGHTS\n" if embedded else "",
        folder=recipe.output.dir.name,
        dtype=dtype,
    )
    text = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
        f"# {recipe.output.dir.name}\n",
        f"{_what(recipe)}\n",
        *(f"> **Warning.** {warning}\n" for warning in _warnings(recipe, about)),
        f"## Use\n\n```python\n{how}\n```\n",
        f"`vlmend eval` reads it in {dtype} on a device like the one it was tuned on, if it is not told another "
        "`--dtype`. In another precision some answers are others.\n",
        f"## Training\n\n{_table(_facts(recipe, about))}\n",
        "`recipe.yaml` is the whole recipe; `manifest.json` has versions, hashes, row ids and token counts.\n",
        "## Limits\n\nTuning for safety on a data set shows nothing about requests unlike it. Measure refusals, "
        "over-refusals and ability on your own task, also under rewording, before relying on this model.\n",
    ]
    return "\n".join(text)


def _warnings(recipe: Recipe, about: Mapping[str, Any]) -> list[str]:
    code = (
        "It was tuned with `trust_remote_code`: code from the base model's repository ran, and runs where it is used."
    )
    told = [*([about["warning"]] if about["warning"] else []), *about["warnings"]]
    return [*told, *([code] if recipe.model.trust_remote_code else [])]


def _what(recipe: Recipe) -> str:
    kind = "A LoRA adapter" if recipe.model.tune == "lora" else "A fully tuned model"
    parts = ", ".join(recipe.model.train).replace("_", " ")
    return f"{kind} for `{recipe.model.name}`: method `{recipe.method.name}`, {parts} trained, made with vlmend."


def _facts(recipe: Recipe, about: Mapping[str, Any]) -> list[tuple[str, str]]:
    mask = about["mask_report"]
    return [
        ("examples", f"{about['data']['examples']:,}"),
        ("optimizer steps", f"{about['steps']:,} of {about['examples_per_step']:,} examples"),
        ("final loss", f"{about['loss']:.4f}"),
        ("trained parameters", f"{sum(part['trained'] for part in about['trainable'].values()):,}"),
        ("change of the weights (norm)", f"{about['moved']:.4g}"),
        ("trained weights that moved", percent(about["moved_share"])),
        *(
            [("supervised tokens in the first batches", f"{mask['supervised']:,}, none of them picture or padding")]
            if mask["supervised"]
            else [("answers", "the model's own, valued by rewards")]
        ),
        *(("model family, " + name, str(value)) for name, value in recipe.model.family.items()),
        ("seed", str(about["seeds"]["train"])),
    ]


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|--|--|", *(f"| {name} | {value} |" for name, value in rows)])
