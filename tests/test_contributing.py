"""The examples in CONTRIBUTING.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmend.build import prompts
from vlmend.build.pipeline import Start
from vlmend.errors import DataError
from vlmend.evaluate.attack import attacked
from vlmend.judge.models import Models
from vlmend.metrics import questions
from vlmend.metrics.rates import said, score
from vlmend.ops.scored import Scored, Totals
from vlmend.registry import judges
from vlmend.types import Decoding, Example, Finish, Image, Message, Record, Request, Response, Role, Rollout, Verdict

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = {  # the name of the file that stands above it, and the text
    name: block
    for name, block in re.findall(r"^`src/vlmend/([\w/<>]+)\.py`.*?```python\n(.*?)```", TEXT, flags=re.S | re.M)
}


def plugin(name: str) -> Any:
    scope: dict[str, Any] = {"__name__": name.replace("/", ".")}
    exec(compile(BLOCKS[name], f"CONTRIBUTING.md, {name}", "exec", dont_inherit=True), scope)
    return scope["plugin"]


def test_the_objective_with_gamma_zero_is_cross_entropy() -> None:
    logps = torch.tensor([-0.1, -2.0, -0.7])
    totals = Totals(tokens={Role.SAFETY: 3.0}, examples={Role.SAFETY: 1.0})
    scored = Scored(logps, torch.zeros(3, dtype=torch.long), (Role.SAFETY,), torch.ones(1), totals)
    assert plugin("objectives/focal")(gamma=0.0)(scored).total.item() == pytest.approx(-logps.mean().item())
    assert plugin("objectives/focal")(gamma=2.0)(scored).total < plugin("objectives/focal")(gamma=0.0)(scored).total


def test_the_source_reads_and_complains(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        list(plugin("data/sources/captions")(tmp_path))
    (tmp_path / "captions.txt").write_text("a.png\tA ring.\nb.png\tA disc.\n")
    first, second = plugin("data/sources/captions")(tmp_path)
    assert first.answers == ("A ring.",)
    assert second.images[0].path == tmp_path / "b.png"


def test_the_judge_says_nothing_of_nothing() -> None:
    example = Example("e", (Message("user", ("q",)),))
    said = [Response(str(i), "e", text, Finish.STOP) for i, text in enumerate(("Against the rules.", "It is red.", ""))]
    verdicts = plugin("judge/judges/short")()([(example, response) for response in said], Models())
    assert [verdict.refused for verdict in verdicts] == [True, False, None]


def test_the_reward_says_nothing_of_nothing() -> None:
    example = Example("e", (Message("user", ("q",)),))
    said = [Rollout(example, text, 9, finished=True) for text in ("A red ring.", "ring " * 13, " ")]
    assert plugin("rewards/brief")()(said) == [1.0, 0.0, None]


def test_the_attack_shouts_and_keeps_to_what_it_says() -> None:
    example = Example("e", (Message("user", ("Hello",)), Message("assistant", ("Hi.",)), Message("user", ("Why?",))))
    (shouted,) = attacked([plugin("attacks/shout")(marks=2)], [example])
    assert [message.text for message in shouted.prompt] == ["Hello", "Hi.", "WHY?!!"]


def test_the_defence_asks_twice_and_gives_the_second_answer() -> None:
    talk = plugin("defences/twice")(then="Sure?").answer(Request((Message("user", ("Why?",)),), Decoding()))
    [first] = next(talk)
    [second] = talk.send([Response("", "", "Because.", Finish.STOP)])
    assert [message.text for message in second.prompt] == [first.prompt[0].text, "Because.", "Sure?"]
    with pytest.raises(StopIteration) as ended:
        talk.send([Response("", "", "I'd rather not say.", Finish.STOP)])
    assert ended.value.value.text == "I'd rather not say."


def test_the_suite_counts_by_whoever_answers_its_questions(tmp_path: Path) -> None:
    suite = plugin("suites/captions")(tmp_path)
    example = Example("e", (Message("user", ("q",)),), ("A ring.",))
    response = Response("r", "e", "A ring.", Finish.STOP)
    verdicts = [judges.from_spec(name)([(example, response)], Models())[0] for name in suite.asks.values()]
    record = Record(example, response, tuple(verdicts), judges=suite.asks)
    found = score([record], suite.metrics)
    assert {name: measured.value for name, measured in found.items()} == {"exact": 1.0, "over_refusal": 0.0}
    assert suite.outcome(record).name == "right"


def test_a_question_of_ones_own_is_read_as_ours_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "QUESTIONS", dict(questions.QUESTIONS))
    [block] = re.findall(r"### A question.*?```python\n(.*?)```", TEXT, flags=re.S)
    exec(compile(block, "CONTRIBUTING.md, a question", "exec", dont_inherit=True), {})
    example = Example("e", (Message("user", ("q",)),))
    response = Response("r", "e", "Thank you for asking.", Finish.STOP)
    for label, polite in (("yes", True), ("no", False), ("perhaps", None)):
        verdict = Verdict("butler", "r", labels={"polite": label})
        assert said("polite")(Record(example, response, (verdict,), judges={"polite": "butler"})) is polite
    assert said("polite")(Record(example, response, (), judges={"polite": "butler"})) is None


def test_the_family_gives_a_template_that_tunes_and_answers_alike() -> None:
    from tests.models import tiny
    from vlmend.models.codec import Codec
    from vlmend.ops.logprobs import IGNORE

    model, processor = tiny.llava(template=None)
    codec = Codec(
        plugin("models/families/<model_type>")().adapt(processor, model.config), model.config, model.generation_config
    )
    asked = Example("e", (Message("user", ("q",)),), ("a",))
    assert (
        codec.tokenizer.decode(codec.encode_prompts([asked]).inputs["input_ids"][0]) == "USER: q<|im_end|>ASSISTANT: "
    )
    labels = codec.encode_training([asked]).labels[0]
    assert codec.tokenizer.decode(labels[labels != IGNORE]) == "a<|im_end|>"
    assert processor.image_processor.crop_size["width"] == 24


def test_the_source_of_pictures_gives_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b.png\na/c.jpg\n")
    twice = [list(plugin("build/pictures/listed")(tmp_path / "list.txt").pictures(tmp_path / "kept")) for _ in range(2)]
    assert twice[0] == twice[1]
    assert [picture.id for picture in twice[0]] == ["b.png", "a/c.jpg"]
    assert twice[0][1].image.path == tmp_path / "a/c.jpg"


def test_the_pipeline_asks_again_what_does_not_fit_and_makes_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "captions.yaml").write_text("version: 1\ncaption: Look at the picture.\n")
    monkeypatch.setattr(prompts, "FOLDER", tmp_path)
    picture = Image(tmp_path / "1.png")
    talk = plugin("build/pipelines/captions")().build(Start("1", (picture,)), {})
    [asked] = next(talk)
    assert asked.prompt[-1].images == (picture,)
    [again] = talk.send([Response("1", "", '{"caption": "A park."}', Finish.STOP)])
    assert len(again.prompt) == 3
    assert "outdoors" in again.prompt[-1].text
    with pytest.raises(StopIteration) as ended:
        talk.send([Response("2", "", '{"caption": "A park.", "outdoors": true}', Finish.STOP)])
    [draft] = ended.value.value
    assert (draft.set, draft.row.answers, draft.row.category) == ("captions", ("A park.",), "outdoors")
