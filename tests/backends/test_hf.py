"""Generation through transformers: a batch says what its members say alone, and no failure takes others along."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.models import tiny
from vlmend.backends.hf import Hf
from vlmend.data import load
from vlmend.errors import VlmendError
from vlmend.models.decode import Wanted
from vlmend.models.generate import Answer, Engine
from vlmend.registry import backend_for
from vlmend.types import Decoding, Example, Finish, Image, Message, Response


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24 + seed, 3), dtype=np.uint8)
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def picture(seed: int) -> Image:
    data = png(seed)
    return Image(make=lambda: data)


def examples() -> list[Example]:
    texts = ["Describe this.", "What is it?", "How many cubes are there in the whole picture?", "Hm", "Where? " * 8]
    shown = [[picture(0)], [picture(1), picture(2)], [], [picture(3)], [picture(0)]]
    return [Example(f"e{i}", (Message("user", (*p, t)),)) for i, (p, t) in enumerate(zip(shown, texts, strict=True))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llava", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", params=["llava", "qwen2_vl", "gemma3"])
def any_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(request.param, tmp_path_factory.mktemp("tiny"))


def texts(responses: list[Response]) -> dict[str, tuple[str, Finish, int]]:
    return {r.example_id: (r.text, r.finish, r.tokens) for r in responses}


GREEDY = Decoding(max_new_tokens=12)
SAMPLED = Decoding(max_new_tokens=12, do_sample=True, temperature=1.5, top_p=0.95, top_k=50, seed=3)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED, Decoding(max_new_tokens=8, num_beams=2)])
def test_batched_equals_one_at_a_time(any_folder: Path, decoding: Decoding) -> None:
    batched = list(Hf(str(any_folder), batch_size=5, device="cpu").generate(examples(), decoding))
    alone = list(Hf(str(any_folder), batch_size=1, device="cpu").generate(examples(), decoding))
    assert texts(batched) == texts(alone)
    assert {r.id for r in batched} == {r.id for r in alone}
    assert len(batched) == 5
    assert any(r.text for r in batched)


def test_seed_decides_what_is_sampled(folder: Path) -> None:
    backend = Hf(str(folder), device="cpu")
    first, again, other = (
        texts(list(backend.generate(examples(), Decoding(max_new_tokens=12, do_sample=True, seed=seed))))
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert first != texts(list(backend.generate(examples(), GREEDY)))


def test_sampling_defaults_of_the_model_file_do_not_leak(folder: Path, tmp_path: Path) -> None:
    """A protocol decides about decoding, not what a checkpoint's author wrote into generation_config.json."""
    import shutil

    from transformers import GenerationConfig

    other = shutil.copytree(folder, tmp_path / "model")
    greedy = Hf(str(folder), device="cpu")
    config = GenerationConfig.from_pretrained(other)
    config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, top_k=3, no_repeat_ngram_size=1)
    config.save_pretrained(other)
    assert texts(list(Hf(str(other), device="cpu").generate(examples(), GREEDY))) == texts(
        list(greedy.generate(examples(), GREEDY))
    )


def stubbed(folder: Path, monkeypatch: pytest.MonkeyPatch, said: list[list[int]], **settings: Any) -> list[Response]:
    """Responses of a model that says these tokens."""
    backend = Hf(str(folder), device="cpu", **settings)
    asked = [Wanted(e, 0) for e in examples()]
    found = [Answer(w, ids, 7, 0.5) for w, ids in zip(asked, said, strict=False)]
    monkeypatch.setattr(Engine, "answers", lambda self, examples, decoding: iter(found))
    return list(backend.generate(examples(), GREEDY))


def test_end_token_means_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = min(Hf(str(folder), device="cpu")._loaded.codec.eos_ids)
    first, second = stubbed(folder, monkeypatch, [[65, 66, end], [65, 66, 67, 68]])
    assert (first.finish, first.tokens, first.prompt_tokens, first.seconds) == (Finish.STOP, 3, 7, 0.5)
    assert (second.finish, second.tokens) == (Finish.LENGTH, 4)


def test_reasoning_is_no_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is thought is kept apart; thinking that never ends has answered nothing, and so says nothing."""
    words = tiny.tokenizer()
    texts = ["<think>It is red.</think> Red.", "<think>It is", "Red.", "[It is red.] Red."]
    said = [words.encode(text, add_special_tokens=False) for text in texts]
    done, cut, plain, other = stubbed(folder, monkeypatch, said)
    assert (done.reasoning, done.text) == ("It is red.", "Red.")
    assert (cut.reasoning, cut.text, cut.finish, cut.said) == ("It is", "", Finish.LENGTH, False)
    assert (plain.reasoning, plain.text) == ("", "Red.")
    assert other.text == texts[3]
    *_, other = stubbed(folder, monkeypatch, said, reasoning=("[", "]"))
    assert (other.reasoning, other.text) == ("It is red.", "Red.")


def test_reasoning_between_control_tokens_of_other_names_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny.tokenizer("<image>", "[THINK]", "[/THINK]", "<|channel|>", "<|message|>", "<|start|>", "<|end|>")
    model, processor = tiny.llava(words)
    for part in (model, processor):
        part.save_pretrained(tmp_path / "plain")
    channels = "<|channel|>analysis<|message|>Red?<|end|><|start|>assistant<|channel|>final<|message|>Red."
    said = [words.encode(text, add_special_tokens=False) for text in ("[THINK]Red?[/THINK]Red.", channels, "[THINK]R")]
    tag, channel, cut = stubbed(tmp_path / "plain", monkeypatch, said)
    assert (tag.reasoning, tag.text) == (channel.reasoning, channel.text) == ("Red?", "Red.")
    assert (cut.reasoning, cut.text, cut.why) == ("R", "", "the answer ended inside its reasoning")
    processor.chat_template = str(processor.chat_template).replace(
        "assistant\\n' }}{% endif", "assistant\\n[THINK]' }}{% endif"
    )
    for part in (model, processor):
        part.save_pretrained(tmp_path / "opens")
    said = [words.encode(text, add_special_tokens=False) for text in ("Red?[/THINK]Red.", "Red")]
    opened, cut = stubbed(tmp_path / "opens", monkeypatch, said)
    assert (opened.reasoning, opened.text) == ("Red?", "Red.")
    assert (cut.reasoning, cut.text, cut.finish) == ("Red", "", Finish.LENGTH)


def test_options_of_a_spec_reach_the_backend(folder: Path) -> None:
    found = backend_for(f"hf:{folder}?share_prefix=no&reasoning=[,]&batch_tokens=99", {"batch_size": 3})
    assert found == Hf(str(folder), share_prefix=False, reasoning=("[", "]"), batch_tokens=99, batch_size=3)
    with pytest.raises(VlmendError, match="share_prefix"):
        backend_for(f"{folder}?share_prefix=perhaps")
    with pytest.raises(VlmendError, match="shared_prefix"):
        list(
            backend_for(f"{folder}?shared_prefix=no").generate(examples(), GREEDY)
        )  # left to the family, which has none


def test_likelihoods_by_example_and_answer(folder: Path) -> None:
    asked = [(e, ("Yes.", "No, not at all.")) for e in examples()]
    found = list(Hf(str(folder), device="cpu").likelihoods(asked))
    assert {(x.example_id, x.answer) for x in found} == {(e.id, a) for e, answers in asked for a in answers}
    assert all(x.logprob is not None and x.logprob < 0 and x.tokens == len(x.answer) for x in found)


def test_what_cannot_be_encoded_fails_alone(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    bad = [
        Example("text", (Message("user", (Image(broken), "q")),)),
        Example("gone", (Message("user", (Image(tmp_path / "gone.png"), "q")),)),
        Example("long", (Message("user", ("word " * 400,)),)),
    ]
    responses = {r.example_id: r for r in Hf(str(folder), device="cpu").generate([*examples(), *bad], GREEDY)}
    assert len(responses) == 8
    assert all(responses[f"e{i}"].finish is not Finish.FAILED for i in range(5))
    for name in ("text", "gone", "long"):
        assert responses[name].finish is Finish.FAILED
        assert responses[name].why
        assert not responses[name].said


def test_settings_that_cannot_be(folder: Path) -> None:
    with pytest.raises(VlmendError, match="exclude"):
        list(Hf(str(folder), device="cpu").generate(examples(), Decoding(do_sample=True, num_beams=2)))
    with pytest.raises(VlmendError, match="batch_size"):
        Hf(str(folder), batch_size=0)
    with pytest.raises(VlmendError, match="neither"):
        list(Hf("./absent", device="cpu").generate(examples(), GREEDY))


def test_ready_is_a_model_that_is_loaded(folder: Path) -> None:
    backend = Hf(str(folder), device="cpu")
    assert not backend.ready
    assert backend.fingerprint
    assert backend.ready


def test_what_a_model_says_it_finds_likeliest_token_by_token() -> None:
    """Greedy answers are greedy at every token, up to the first that is changed; and the summands make the sum."""
    backend = Hf("world")
    [example] = load("world:suite#test?n=3").examples[:1]
    [said] = backend.generate([example], Decoding(max_new_tokens=40))
    words = said.text.split()
    other = " ".join([*words[:3], "seven", *words[4:]])
    asked = {found.answer: found for found in backend.likelihoods([(example, (said.text, other))])}
    own, changed = asked[said.text], asked[other]
    assert all(own.greedy)
    assert len(own.by_token) == own.tokens == said.tokens - 1  # its end token is not part of it
    assert own.logprob == pytest.approx(sum(own.by_token))
    first = changed.greedy.index(False)
    assert changed.greedy[:first] == own.greedy[:first]
    assert changed.by_token[:first] == pytest.approx(own.by_token[:first], abs=1e-4)
