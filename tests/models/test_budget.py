"""A budget for thinking: what is inside its reasoning when that is spent is ended there, and everything else is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from vlmend.backends.hf import Hf
from vlmend.config import ModelConfig
from vlmend.errors import ConfigError, UsageError
from vlmend.models.decode import UNKNOWN, Hurry, never
from vlmend.models.generate import Engine
from vlmend.models.load import Loaded, load
from vlmend.reasoning import CUT
from vlmend.registry import backend_for
from vlmend.types import Decoding, Example, Finish, Message

ASKED = [Example(f"{i}", (Message("user", (f"{'So ' * i}is it hot?",)),)) for i in range(3)]
LONG = Decoding(max_new_tokens=12)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(ModelConfig.from_spec("world"))


def said(loaded: Loaded, decoding: Decoding, end: object = never, *, whole: bool = False) -> list[list[int]]:
    engine = Engine(loaded, batch_size=8, batch_tokens=4096, share_prefix=True, features_mb=1, end=end)
    if whole:
        engine.__dict__["whole_only"] = "of a test"
    found = {answer.wanted.example.id: answer.ids for answer in engine.answers(ASKED, decoding)}
    return [list(found[example.id] or ()) for example in ASKED]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_before_it_is_spent_nothing_changes_and_then_the_mark_is_put_in(
    loaded: Loaded, whole: bool, sampled: bool
) -> None:
    free = said(loaded, replace(LONG, do_sample=sampled, temperature=2.0 if sampled else 1.0), whole=whole)
    asked: list[Sequence[int]] = []

    def end(ids: Sequence[int]) -> Sequence[int]:
        asked.append(list(ids))
        return () if loaded.codec.eos_ids & {*ids} else (7, 8, 9)

    how = replace(LONG, thinking_budget=3, do_sample=sampled, temperature=2.0 if sampled else 1.0)
    hurried = said(loaded, how, end, whole=whole)
    assert [ids[:3] for ids in hurried] == [ids[:3] for ids in free]
    for ids, before in zip(hurried, free, strict=True):
        assert ids[3:6] == ([7, 8, 9] if len(before) > 3 else [])
    assert all(len(ids) == 3 for ids in asked if not whole)
    assert [ids for ids in free if len(ids) > 3]


def test_where_nothing_is_to_be_ended_answers_are_what_they_are_without_a_budget(loaded: Loaded) -> None:
    assert said(loaded, replace(LONG, thinking_budget=3)) == said(loaded, LONG)


def test_every_other_token_is_the_likeliest_behind_those_before_it(loaded: Loaded) -> None:
    """The mark is fed like what was chosen: an oracle that sees all tokens at once agrees with all the others."""
    forced = loaded.codec.tokenizer("The ring is", add_special_tokens=False)["input_ids"]
    for example, ids in zip(ASKED, said(loaded, replace(LONG, thinking_budget=1), lambda _: forced), strict=True):
        assert ids[1 : 1 + len(forced)] == forced
        inputs = loaded.codec.encode_prompts([example]).inputs
        asked = inputs["input_ids"].shape[1]
        whole = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
        with torch.inference_mode():
            likeliest = loaded.model(input_ids=whole).logits[0, asked - 1 : -1].argmax(dim=-1).tolist()
        own = [*range(1), *range(1 + len(forced), len(ids))]
        assert [likeliest[i] for i in own] == [ids[i] for i in own]
        assert likeliest[1 : 1 + len(forced)] != forced


def test_no_token_is_put_in_place_of_one_that_there_was_no_distribution_for() -> None:
    hurry = Hurry(1, lambda _: (7, 8))
    assert [hurry(0, [], 5), hurry(0, [5], 6), hurry(0, [5, 7], 6), hurry(0, [5, 7, 8], 6)] == [5, 7, 8, 6]
    assert Hurry(1, lambda _: (7,))(0, [5], UNKNOWN) == UNKNOWN


def thinker(monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> Hf:
    """The embedded model, made to say these texts first, by how they begin."""
    model = Hf("world")
    monkeypatch.setattr(model._loaded.codec, "decode", lambda ids, keep=(): texts["".join(map(str, ids))])
    return model


def test_only_open_reasoning_is_ended_by_the_mark_it_was_opened_with(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"1": "<think>Hm", "2": "<think>Hm</think>Yes", "3": "Yes", "4": "◁think▷Hm", "5": "So <thinking> is"}
    model = thinker(monkeypatch, texts)
    tokenizer = model._loaded.codec.tokenizer

    def ended(first: int) -> str:
        return tokenizer.decode(list(model._end([first])))

    assert [ended(i) for i in (1, 2, 3, 5)] == ["\n</think>\n\n", "", "", ""]
    assert "/think▷" in ended(4)
    assert model._end([next(iter(model._loaded.codec.eos_ids)), 1]) == ()


def test_reasoning_cut_by_the_limit_of_tokens_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmend.models.codec.Codec.decode", lambda *_: "<think>I see a ring")
    (response,) = Hf("world").generate(ASKED[:1], Decoding(max_new_tokens=2))
    assert (response.text, response.reasoning, response.finish) == ("", "I see a ring", Finish.LENGTH)
    assert CUT in response.why
    assert not response.said


@pytest.mark.parametrize("budget", [12, 13, -1])
def test_a_budget_leaves_room_for_the_answer(loaded: Loaded, budget: int) -> None:
    with pytest.raises(ConfigError, match="leaves nothing for the answer of max_new_tokens 12"):
        said(loaded, replace(LONG, thinking_budget=budget))


def test_who_cannot_end_reasoning_says_so() -> None:
    with pytest.raises(UsageError, match="backend scripted cannot end the reasoning of an answer"):
        list(backend_for("scripted:refuse").generate(ASKED, replace(LONG, thinking_budget=3)))
