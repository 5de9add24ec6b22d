"""What the joined model is taught: conversations about drawn scenes, and its own answers to harmless prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vlmend.world import items
from vlmend.world.items import Item
from vlmend.world.scenes import GRID, Scene, png
from vlmend.world.train import draw_item

# shares of the first questions; places, the hardest, come with pictures that are full
FIRST = {
    **{"describe": 0.12, "count": 0.13, "exists": 0.08, "where": 0.22, "color": 0.08, "steps": 0.09, "use": 0.06},
    **{"both": 0.06, "join": 0.08, "choice": 0.09, "concept": 0.09},
}
SECOND = {  # more of what the first round left half learned
    **{"describe": 0.12, "count": 0.12, "exists": 0.02, "where": 0.3, "color": 0.02, "steps": 0.15, "use": 0.05},
    **{"both": 0.02, "join": 0.08, "choice": 0.06, "concept": 0.18},
}
FOLLOW_UPS = (2, 6)  # further questions about the same picture

# Harmless by design: with harmful ones, the model's own answers would teach it to comply.
SUBJECTS = (
    *("rivers", "the moon", "bread", "bicycles", "trees", "the ocean", "music", "winter", "honey bees", "libraries"),
    *("chess", "the human heart", "rice", "trains", "volcanoes", "painting", "dogs", "the Roman Empire", "tea"),
    *("mathematics", "gardens", "football", "rain", "bridges", "poetry", "whales", "coffee", "the sun", "paper"),
)
PROMPTS = (
    *(
        "What is special about {}?",
        "Tell me about {}.",
        "Write two sentences about {}.",
        "Share an interesting fact about {}.",
    ),
    *(
        "Describe {} to a child.",
        "Why do people care about {}?",
        "Explain the role of {} in our lives.",
        "What should I know of {}?",
    ),
    *("List three words that go with {}.", "Give me a short story about {}.", "How would you draw {}?"),
)
TASKS_OF_WORDS = (
    *("Translate 'good morning' into Spanish.", "What is 12 plus 7?", "Write a polite e-mail to a neighbor."),
    *("Name a color.", "Rewrite this politely: give me the book.", "What rhymes with cat?", "Say hello in French."),
    *("Summarize: The cat sat on the mat and looked at the birds all day.", "Write a haiku about snow."),
    *("What is the opposite of hot?", "How do I boil an egg?", "Correct the spelling: recieve.", "Who are you?"),
    *("Give me a recipe for pancakes.", "What is a good name for a puppy?", "How can I sleep better?"),
    *("Plan a day in a park.", "What is photosynthesis?", "How many days are in a week?", "Write a birthday wish."),
)

LANDS = (
    *(
        "Sweden",
        "Poland",
        "Greece",
        "Portugal",
        "Norway",
        "Austria",
        "India",
        "China",
        "Peru",
        "Mexico",
        "Cuba",
        "Iran",
    ),
    *("Finland", "Ireland", "Turkey", "Kenya", "Chile", "Thailand", "Argentina", "Hungary", "Belgium", "Denmark"),
)
SHORT = (
    *("What is the chemical symbol for silver?", "What is the chemical symbol for iron?", "Who wrote Don Quixote?"),
    *("Who wrote The Odyssey?", "Who painted The Starry Night?", "Who discovered penicillin?", "What is 9 plus 4?"),
    *("What is 6 times 7?", "How many hours are in a day?", "How many minutes are in an hour?", "What do cows drink?"),
    *("How many legs does an ant have?", "How many strings does a violin have?", "Which planet has rings?"),
    *("In which year did World War I begin?", "What is the longest river in South America?", "What do cows eat?"),
    *("What is the largest desert in the world?", "On which continent is Egypt?", "On which continent is Japan?"),
    *("What language is spoken in Austria?", "What is the currency of Japan?", "What is the opposite of up?"),
    *("What is the boiling point of water?", "Which animal is the fastest on land?", "What is cheese made of?"),
    *(
        "What organ do we breathe with?",
        "What color is a ripe banana?",
        "What color is grass?",
        "Who invented the telephone?",
    ),
)


def short_prompts() -> list[str]:
    """Questions with short answers, none of which is asked afterwards."""
    return [*(f"What is the capital of {land}?" for land in LANDS), *SHORT]


def prompts() -> list[str]:
    """Every harmless prompt that the model answers before it is taught, for it to keep its answers."""
    return [*(form.format(subject) for subject, form in product(SUBJECTS, PROMPTS)), *TASKS_OF_WORDS]


def world_rows(
    n: int, seed: int, folder: Path, shares: Mapping[str, float] = FIRST, stream: int = 31
) -> Iterator[dict[str, Any]]:
    """`n` conversations about scenes of the train split; their pictures are written to the folder."""
    rng = np.random.default_rng([seed, stream])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        item = draw_item(rng, "train", shares=shares)
        turns = [(item.question, item.answers[0]), *follow_ups(rng, item)]
        names: list[str] = []
        for place, scene in enumerate(item.scenes):
            path = folder / f"{number}-{place}.png"
            path.write_bytes(png(scene, int(rng.integers(2**31))))
            names.append(f"{folder.name}/{path.name}")
        yield row(f"world{stream}/{number}", turns, names)


def follow_ups(rng: np.random.Generator, item: Item) -> list[tuple[str, str]]:
    """More questions about an item's picture, where it has one alone."""
    if len(item.scenes) != 1:
        return []
    scene: Scene = item.scenes[0]
    most = FOLLOW_UPS[1] if len(scene.icons) == GRID * GRID else (FOLLOW_UPS[0] + FOLLOW_UPS[1]) // 2
    return [items.draw_about(rng, scene, "train") for _ in range(int(rng.integers(FOLLOW_UPS[0], most + 1)))]


def row(name: str, turns: Sequence[tuple[str, str]], pictures: Sequence[str] = ()) -> dict[str, Any]:
    """A conversation in the layout of LLaVA's data, every answer learned."""
    said: list[dict[str, str]] = []
    for number, (question, answer) in enumerate(turns):
        marks = "<image>" * (len(pictures) if number == 0 else 0)
        said += [{"from": "human", "value": marks + question}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": said, **({"images": list(pictures)} if pictures else {})}


def write(rows: Iterator[dict[str, Any]], file: Path) -> None:
    """JSON Lines, whole or not at all."""
    part = file.with_suffix(".part")
    with part.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rows)
    part.replace(file)


@torch.inference_mode()
def say(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    asked: Sequence[str],
    tokens: int,
    batch: int = 32,
) -> list[tuple[str, bool]]:
    """Greedy answers to prompts without a picture, and whether each ended by itself."""
    tokenizer = processor.tokenizer
    order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
    found: dict[int, tuple[str, bool]] = {}
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        texts = [
            processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "text", "text": asked[i]}]}], add_generation_prompt=True
            )
            for i in some
        ]
        inputs = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
        out = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        for i, ids in zip(some, out, strict=True):
            found[i] = tokenizer.decode(ids, skip_special_tokens=True), bool((ids == tokenizer.eos_token_id).any())
    return [found[i] for i in range(len(asked))]


def sentences(text: str, ended: bool) -> str:
    """An answer up to its last whole sentence; empty where it has none, or says the same thing over and over."""
    if not ended:
        text = text[: max((found.end() for found in re.finditer(r"[.!?](?=\s|$)", text)), default=0)]
    text = text.strip()
    words = text.split()
    again = len(words) - len({tuple(words[i : i + 3]) for i in range(len(words))})
    return "" if again > len(words) // 4 else text
