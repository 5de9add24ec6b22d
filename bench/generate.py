"""Answers per second: one prompt at a time, plain batches of transformers' `generate`, and ours, taking turns.

    python bench/generate.py                       LLaVA-shaped, 576 tokens per picture, minutes on a CPU
    python bench/generate.py --device cuda --size 7b

Weights are random, so that every answer has exactly `--new-tokens` tokens and nothing has to be downloaded. Encoding
(decoding pictures, resizing, tokenizing) is part of every time. Seconds are of the processor on a CPU, so that other
work on the machine does not matter, and of the clock on an accelerator.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapes
import torch
import transformers
from PIL import Image as Pillow
from shapes import Shape, Tower
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from vlmend.models.codec import Codec
from vlmend.models.generate import Engine
from vlmend.models.load import Loaded
from vlmend.models.parts import count
from vlmend.types import Decoding, Example, Image, Message

SPECIALS = ("<pad>", "<s>", "</s>", "<image>")
SIZES = {
    "small": Shape(256, 688, 4, 4, Tower(128, 256, 4, 4), vocabulary=4096),
    "7b": shapes.SIZES["7b"],
}
QUESTIONS = (
    "What is shown?", "Is anyone in danger?", "How many people are there?", "Describe the scene in detail.",
    "What is written here?", "Where was this taken?", "What happens next?", "Is it safe to touch this?",
)  # fmt: skip


@dataclass
class Way:
    """One way to answer, and the seconds it took in each round."""

    name: str
    answer: Callable[[Sequence[Example]], dict[tuple[str, int], list[int]]]
    seconds: list[float]


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte."""
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def model(shape: Shape, device: str, words: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """LLaVA-1.5's architecture with random weights, which never ends an answer by itself."""
    made = shapes.model(shape, device, words).requires_grad_(False)
    for module in made.modules():  # spread the logits, so that rounding does not decide between two tokens
        if isinstance(module, torch.nn.Embedding | torch.nn.Linear):
            module.weight.mul_(3)
    return made


def prompts(pictures: int, questions: int) -> list[Example]:
    """Several questions about each of several pictures."""
    made: list[Example] = []
    for number in range(pictures):
        pixels = np.random.default_rng(number).integers(0, 256, (336, 448, 3), dtype=np.uint8)
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, "PNG")
        picture = Image(make=file.getvalue)
        made += [
            Example(f"{number}/{q}", (Message("user", (picture, f"{QUESTIONS[q % len(QUESTIONS)]}")),))
            for q in range(questions)
        ]
    return made


def plainly(loaded: Loaded, size: int, decoding: Decoding) -> Callable[[Sequence[Example]], dict[Any, list[int]]]:
    """Batches of transformers' `generate`, samples of a prompt as rows of their own."""

    @torch.inference_mode()
    def answer(examples: Sequence[Example]) -> dict[tuple[str, int], list[int]]:
        rows = [(e, sample) for e in examples for sample in decoding.samples]
        found: dict[tuple[str, int], list[int]] = {}
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            inputs = loaded.codec.encode_prompts([e for e, _ in some]).to(loaded.model.device).inputs
            ids = loaded.model.generate(
                **inputs, max_new_tokens=decoding.max_new_tokens, do_sample=decoding.do_sample, pad_token_id=0
            )
            answers = ids[:, inputs["input_ids"].shape[1] :].tolist()
            found |= {(e.id, sample): said for (e, sample), said in zip(some, answers, strict=True)}
        return found

    return answer


def ours(loaded: Loaded, size: int, decoding: Decoding) -> Callable[[Sequence[Example]], dict[Any, list[int]]]:
    """As `vlmend generate` does it; nothing is remembered from one round to the next."""

    def answer(examples: Sequence[Example]) -> dict[tuple[str, int], list[int]]:
        engine = Engine(loaded, batch_size=size, batch_tokens=10**9, share_prefix=True, features_mb=1024)
        return {(a.wanted.example.id, a.wanted.sample): a.ids or [] for a in engine.answers(examples, decoding)}

    return answer


def clock(device: str) -> float:
    """Seconds, of the processor or of the wall."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(ways: Sequence[Way], examples: Sequence[Example], rounds: int, device: str) -> Iterator[dict[Any, Any]]:
    """The ways in turn, round by round; yields what each said in the last round."""
    said: list[dict[Any, Any]] = []
    for _ in range(rounds):
        said = []
        for way in ways:
            started = clock(device)
            said.append(way.answer(examples))
            way.seconds.append(clock(device) - started)
    yield from said


def case(loaded: Loaded, given: argparse.Namespace, pictures: int, questions: int, samples: int) -> dict[str, Any]:
    """One row of the table: median seconds of each way, and how many times faster ours is."""
    decoding = Decoding(max_new_tokens=given.new_tokens, do_sample=samples > 1, num_return_sequences=samples)
    examples = prompts(pictures, questions)
    ways = [
        Way("one", plainly(loaded, 1, decoding), []),
        Way("batched", plainly(loaded, given.batch_size, decoding), []),
        Way("ours", ours(loaded, given.batch_size, decoding), []),
    ]
    one, batched, own = measure(ways, examples, given.rounds, given.device)
    seconds = {way.name: statistics.median(way.seconds) for way in ways}
    return {
        "pictures": pictures,
        "questions": questions,
        "samples": samples,
        "picture_tokens": (given.pixels // 14) ** 2,
        "new_tokens": given.new_tokens,
        **{f"{name}_s": round(value, 2) for name, value in seconds.items()},
        "over_one": round(seconds["one"] / seconds["ours"], 2),
        "over_batched": round(seconds["batched"] / seconds["ours"], 2),
        "same_tokens": None if samples > 1 else one == batched == own,
    }


def main() -> None:
    """Print versions, then one JSON object per case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=336, help="side of a picture; 336 are 576 tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", action="append", help="PICTURESxQUESTIONSxSAMPLES, e.g. 4x8x1; repeat for more")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    words = shapes.processor(given.pixels, tokenizer())
    made = model(replace(SIZES[given.size], pixels=given.pixels), given.device, words.tokenizer)
    loaded = Loaded(made, Codec(words, made.config, made.generation_config), "", "", count(made))
    loaded.codec.eos_ids = frozenset({-1})
    made.generation_config.eos_token_id = None
    print(f"python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"bench/generate.py {' '.join(sys.argv[1:])}")
    for text in given.case or ["2x8x1", "1x1x8", "8x1x1"]:
        pictures, questions, samples = map(int, text.split("x"))
        print(json.dumps(case(loaded, given, pictures, questions, samples)), flush=True)


if __name__ == "__main__":
    main()
