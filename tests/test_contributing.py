"""The examples in CONTRIBUTING.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmend.errors import DataError
from vlmend.ops.scored import Scored, Totals
from vlmend.types import Example, Finish, Message, Response, Role

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


def plugin(index: int) -> Any:
    scope: dict[str, Any] = {"__name__": f"example_{index}"}
    exec(compile(BLOCKS[index], f"CONTRIBUTING.md, block {index}", "exec", dont_inherit=True), scope)
    return scope["plugin"]


def test_the_objective_with_gamma_zero_is_cross_entropy() -> None:
    logps = torch.tensor([-0.1, -2.0, -0.7])
    totals = Totals(tokens={Role.SAFETY: 3.0}, examples={Role.SAFETY: 1.0})
    scored = Scored(logps, torch.zeros(3, dtype=torch.long), (Role.SAFETY,), torch.ones(1), totals)
    assert plugin(0)(gamma=0.0)(scored).total.item() == pytest.approx(-logps.mean().item())
    assert plugin(0)(gamma=2.0)(scored).total < plugin(0)(gamma=0.0)(scored).total


def test_the_source_reads_and_complains(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        list(plugin(1)(tmp_path))
    (tmp_path / "captions.txt").write_text("a.png\tA ring.\nb.png\tA disc.\n")
    first, second = plugin(1)(tmp_path)
    assert first.answers == ("A ring.",)
    assert second.images[0].path == tmp_path / "b.png"


def test_the_judge_says_nothing_of_nothing() -> None:
    example = Example("e", (Message("user", ("q",)),))
    said = [Response(str(i), "e", text, Finish.STOP) for i, text in enumerate(("Against the rules.", "It is red.", ""))]
    verdicts = plugin(2)()([(example, response) for response in said])
    assert [verdict.refused for verdict in verdicts] == [True, False, None]


def test_the_family_gives_a_template_that_tunes_and_answers_alike() -> None:
    from tests.models import tiny
    from vlmend.models.codec import Codec
    from vlmend.ops.logprobs import IGNORE

    model, processor = tiny.llava(template=None)
    index = next(i for i, block in enumerate(BLOCKS) if block.startswith('"""Plain'))
    codec = Codec(plugin(index)().adapt(processor, model.config), model.config, model.generation_config)
    asked = Example("e", (Message("user", ("q",)),), ("a",))
    assert (
        codec.tokenizer.decode(codec.encode_prompts([asked]).inputs["input_ids"][0]) == "USER: q<|im_end|>ASSISTANT: "
    )
    labels = codec.encode_training([asked]).labels[0]
    assert codec.tokenizer.decode(labels[labels != IGNORE]) == "a<|im_end|>"
    assert processor.image_processor.crop_size["width"] == 24
