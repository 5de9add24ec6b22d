"""What is shared changes nothing: tokens and likelihoods are those of one prompt at a time in plain transformers."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from tests.models import tiny
from tests.models.conftest import noise
from vlmend.backends.hf import Hf
from vlmend.errors import ConfigError
from vlmend.models import decode, prefill
from vlmend.models.decode import Chooser, Wanted
from vlmend.models.generate import Engine
from vlmend.models.load import Loaded
from vlmend.ops.logprobs import answer_logps
from vlmend.types import Decoding, Example, Image, Message

BRANCHING = [name for name in tiny.FAMILIES if name not in ("gemma3", "paligemma", "mllama")]
WHOLE = [name for name in tiny.FAMILIES if name not in BRANCHING]
QUESTIONS = ("What is it?", "Where is the ring, left or right of the cup?", "How many?")


@cache
def picture(seed: int) -> Image:
    data = noise(seed, height=24, width=24 + 8 * (seed % 2))
    return Image(make=lambda: data)


def about(*seeds: int) -> list[Example]:
    """Every question about every picture."""
    return [
        Example(f"{seed}/{q}", (Message("user", (picture(seed), text)),), ("A ring.",))
        for seed in seeds
        for q, text in enumerate(QUESTIONS)
    ]


def words(text: str, name: str = "words") -> Example:
    return Example(name, (Message("user", (text,)),), ("Yes.",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cache(lambda name: tiny.save(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def loaded(folder: Callable[[str], Path]) -> Callable[[str], Loaded]:
    return cache(lambda name: Hf(str(folder(name)), device="cpu")._loaded)


def engine(loaded: Loaded, **settings: Any) -> Engine:
    usual = {"batch_size": 64, "batch_tokens": 8192, "share_prefix": True, "features_mb": 64}
    return Engine(loaded, **{**usual, **settings})


def said(engine: Engine, examples: list[Example], decoding: Decoding) -> dict[tuple[str, int], list[int] | None]:
    return {(a.wanted.example.id, a.wanted.sample): a.ids for a in engine.answers(examples, decoding)}


def plain(loaded: Loaded, example: Example, decoding: Decoding) -> list[int]:
    """One prompt through transformers' `generate`."""
    inputs = loaded.codec.encode_prompts([example]).inputs
    named = ("max_new_tokens", "num_beams", "repetition_penalty", "no_repeat_ngram_size")
    settings = {name: value for name, value in asdict(decoding).items() if name in named}
    ids = loaded.model.generate(
        **inputs, **settings, do_sample=False, min_new_tokens=decoding.min_new_tokens or None,
        eos_token_id=sorted(loaded.codec.eos_ids), pad_token_id=loaded.codec.pad_id,
    )  # fmt: skip
    row = ids[0, inputs["input_ids"].shape[1] :].tolist()
    end = next((i for i, token in enumerate(row) if token in loaded.codec.eos_ids), len(row))
    return row[: end + 1]


GREEDY = Decoding(max_new_tokens=6)
SAMPLED = Decoding(max_new_tokens=6, do_sample=True, temperature=1.5, top_p=0.98, top_k=90, num_return_sequences=3)


@pytest.mark.parametrize("family", BRANCHING)
def test_shared_equals_plain_one_at_a_time(family: str, loaded: Callable[[str], Loaded]) -> None:
    """Several questions about one picture, two pictures in one prompt, none, and a picture that comes again."""
    model = loaded(family)
    examples = [
        *about(1, 2, 3),
        Example("two", (Message("user", (picture(1), "and", picture(4), "differ how?")),)),
        Example("two again", (Message("user", (picture(1), "and", picture(4), "what?")),)),
        words("Say something without a picture."),
    ]
    found = said(engine(model), examples, GREEDY)
    assert found == {(e.id, 0): plain(model, e, GREEDY) for e in examples}
    drawn = said(engine(model), examples, SAMPLED)
    alone = engine(model, batch_size=1)
    alone.whole_only = "compared with transformers' own generate"
    assert drawn == said(alone, examples, SAMPLED)
    assert len({tuple(ids or ()) for ids in drawn.values()}) == len(drawn)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
@pytest.mark.parametrize(
    "how",
    [
        {"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 9}, {"num_beams": 3},
        {"repetition_penalty": 0.6, "no_repeat_ngram_size": 3, "min_new_tokens": 4},
    ],
)  # fmt: skip
def test_every_decoding_field_means_what_transformers_means(
    family: str, how: dict[str, Any], loaded: Callable[[str], Loaded]
) -> None:
    model = loaded(family)
    examples = [*about(1), words("ababab abab " * 3)]
    [(_, usual), *_] = said(engine(model), examples, GREEDY).items()
    model = replace_eos(model, frozenset((usual or [])[3:4]))
    decoding = Decoding(max_new_tokens=10, **how)
    found = said(engine(model), examples, decoding)
    assert found == {(e.id, 0): plain(model, e, decoding) for e in examples}
    if how != {"num_beams": 3}:
        assert found != said(engine(model), examples, replace(GREEDY, max_new_tokens=10))


@pytest.mark.parametrize("family", [*BRANCHING[:1], "qwen2_vl", "gemma3"])
def test_a_sample_depends_on_its_prompt_and_number_only(family: str, loaded: Callable[[str], Loaded]) -> None:
    model = loaded(family)
    examples = about(1, 2)
    together = said(engine(model), examples, SAMPLED)
    assert len(together) == 3 * len(examples)
    assert len({tuple(together["1/0", sample] or ()) for sample in range(3)}) == 3
    alone = engine(model, batch_size=1, share_prefix=False)
    third = said(alone, examples[::-1], replace(SAMPLED, num_return_sequences=1, first_sample=2))
    assert third == {key: ids for key, ids in together.items() if key[1] == 2}


def test_draws_follow_the_softmax(loaded: Callable[[str], Loaded]) -> None:
    """Chi-square of 4000 draws of the first token against temperature-scaled probabilities; top-k cuts to k."""
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf])
    wanted = [Wanted(words("?"), sample) for sample in range(4000)]
    decoding = Decoding(max_new_tokens=1, do_sample=True, temperature=2.0)
    rows = range(len(wanted))
    drawn = Chooser(wanted, decoding, frozenset({4}))(scores.repeat(4000, 1), 0, rows, ())
    counts = torch.bincount(drawn, minlength=5).tolist()
    expected = (4000 * (scores / 2).softmax(0)).tolist()
    assert counts[4] == 0
    assert stats.chisquare(counts[:4], expected[:4]).pvalue > 1e-3
    top = Chooser(wanted, replace(decoding, top_k=2), frozenset({4}))(scores.repeat(4000, 1), 0, rows, ())
    assert set(top.tolist()) == {0, 1}


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Tokens that go through the language model, and pictures through the vision tower, from now on."""
    counts = {"tokens": 0, "pictures": 0}

    def tokens(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        counts["tokens"] += kwargs["inputs_embeds"].shape[0] * kwargs["inputs_embeds"].shape[1]

    def pictures(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        counts["pictures"] += len(args[0] if args else kwargs["pixel_values"])

    hooks = [
        model.model.language_model.register_forward_pre_hook(tokens, with_kwargs=True),
        model.model.vision_tower.register_forward_pre_hook(pictures, with_kwargs=True),
    ]
    monkeypatch.callback = lambda: [hook.remove() for hook in hooks]  # type: ignore[attr-defined]
    return counts


@pytest.fixture
def counts(loaded: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    yield counted(loaded("llava").model, monkeypatch)
    monkeypatch.callback()  # type: ignore[attr-defined]


def test_what_is_shared_is_fed_once(loaded: Callable[[str], Loaded], counts: dict[str, int]) -> None:
    """Whatever the order of the data; and eight samples of a prompt cost its tokens once."""
    model = loaded("llava")
    one = Decoding(max_new_tokens=1)
    examples = about(1, 2, 3)
    lengths = {e.id: model.codec.encode_prompts([e]).inputs["input_ids"].shape[1] for e in examples}
    said(engine(model, share_prefix=False), examples, one)
    assert counts["pictures"] == 3  # features are shared even where prefixes are not
    assert counts["tokens"] == len(examples) * max(lengths.values())
    for order in (examples, examples[::2] + examples[1::2]):
        counts["tokens"] = counts["pictures"] = 0
        said(engine(model), order, one)
        assert counts["pictures"] == 3
        assert counts["tokens"] < 3 * max(lengths.values()) + len(examples) * 50
    counts["tokens"] = counts["pictures"] = 0
    said(engine(model), examples[:1], Decoding(max_new_tokens=1, do_sample=True, num_return_sequences=8))
    assert counts == {"tokens": lengths["1/0"], "pictures": 1}


def test_features_are_kept_by_content_and_within_bounds(
    loaded: Callable[[str], Loaded], counts: dict[str, int]
) -> None:
    model = loaded("llava")
    small = engine(model, features_mb=0)
    large = engine(model)
    for who, asked, seen in ((small, 1, 1), (small, 1, 2), (large, 1, 1), (large, 1, 1), (large, 2, 2)):
        if seen == 1 and who is large and asked == 1 and not len(large.features.kept):
            counts["pictures"] = 0
        said(who, about(asked)[:1], GREEDY)
        assert counts["pictures"] == seen
    assert small.features.kept.held == 0
    assert large.features.kept.held == 2 * 9 * 32 * 4  # two pictures, nine tokens, 32 numbers of 4 bytes


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_rows_that_ended_may_leave_at_any_time(
    share: float, loaded: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loaded("llava")
    first = said(engine(model), about(1, 2), SAMPLED)
    ends = {ids[i % 5] for i, ids in enumerate(first.values()) if ids}
    early = replace_eos(model, frozenset(ends))
    expected = said(engine(early), about(1, 2), SAMPLED)
    assert len({len(ids or ()) for ids in expected.values()}) > 3
    monkeypatch.setattr(decode, "THIN_OUT", share)
    assert said(engine(early), about(1, 2), SAMPLED) == expected


def replace_eos(loaded: Loaded, eos_ids: frozenset[int]) -> Loaded:
    """The same model with other end tokens."""
    import copy

    codec = copy.copy(loaded.codec)
    codec.eos_ids = eos_ids
    return replace(loaded, codec=codec)


@pytest.mark.parametrize(("family", "mixed"), [("mllama", False), ("gemma3", True)])
def test_numbers_of_pictures_share_a_batch_only_where_that_is_harmless(
    family: str, mixed: bool, loaded: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[set[int]] = []
    for name in ("_whole", "_scored"):
        work = getattr(Engine, name)

        def watched(self: Engine, lines: Any, asked: Any, *more: Any, work: Any = work, name: str = name) -> Any:
            examples = [one.example for one in asked] if name == "_whole" else [one[0] for one in lines]
            shown.append({len(example.images) for example in examples})
            return work(self, lines, asked, *more)

        monkeypatch.setattr(Engine, name, watched)
    examples = [*about(1), words("Say something."), words("Say more.", "more")]
    answers = said(engine(loaded(family)), examples, Decoding(max_new_tokens=2))
    assert len(answers) == len(examples)
    assert len(list(engine(loaded(family)).likelihoods([(e, ["Yes."]) for e in examples]))) == len(examples)
    assert any(len(counts) > 1 for counts in shown) is mixed


@pytest.mark.parametrize("family", WHOLE)
def test_families_that_cannot_branch_say_so_once(
    family: str, loaded: Callable[[str], Loaded], caplog: pytest.LogCaptureFixture
) -> None:
    model = loaded(family)
    who = engine(model)
    with caplog.at_level(logging.WARNING, "vlmend"):
        found = said(who, [*about(1), words("No picture.")], GREEDY)
        said(who, about(2), GREEDY)
    assert found == {(e.id, 0): plain(model, e, GREEDY) for e in [*about(1), words("No picture.")]}
    assert [family in r.getMessage() for r in caplog.records] == [True]


FULL = [torch.OutOfMemoryError("no"), RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")]


@pytest.mark.parametrize("full", FULL, ids=["cuda", "mps"])
def test_what_does_not_fit_is_halved_and_said(
    full: RuntimeError,
    loaded: Callable[[str], Loaded],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Down to one row, which fails alone; later batches stay within half of what did not fit."""
    model = loaded("llava")
    examples = about(1, 2)
    wanted = said(engine(model), examples, GREEDY)
    sizes: list[int] = []
    whole = Engine._branching

    def small(self: Engine, lines: list[Any], asked: list[Wanted], decoding: Decoding) -> list[list[int]]:
        sizes.append(len(lines))
        if len(lines) > 2 or asked[0].example.id == "2/1":
            raise full
        return whole(self, lines, asked, decoding)

    monkeypatch.setattr(Engine, "_branching", small)
    who = engine(model)
    found = list(who.answers(examples, GREEDY))
    assert sorted(sizes, reverse=True)[0] == 6
    assert [a.wanted.example.id for a in found if a.ids is None] == ["2/1"]
    assert all("memory" in a.why for a in found if a.ids is None)
    assert {(a.wanted.example.id, 0): a.ids for a in found if a.ids} == {
        k: v for k, v in wanted.items() if k[0] != "2/1"
    }
    assert caplog.records
    assert all("out of memory" in r.getMessage() for r in caplog.records)
    sizes.clear()
    list(who.answers(examples, GREEDY))
    assert max(sizes) <= 3


def test_settings_that_exclude_each_other(loaded: Callable[[str], Loaded]) -> None:
    for decoding in (Decoding(num_return_sequences=2), Decoding(do_sample=True, num_beams=2)):
        with pytest.raises(ConfigError):
            said(engine(loaded("llava")), about(1), decoding)


@pytest.mark.parametrize("family", [*BRANCHING, *WHOLE])
def test_likelihoods_equal_a_plain_forward(
    family: str, loaded: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer's tokens given prompt and pictures, its end token left out; whatever else is in the batch."""
    monkeypatch.setattr(prefill, "WORTH", 1)
    model = loaded(family)
    turns = Message("user", ("Hello?",)), Message("assistant", ("Hello.",)), Message("user", (picture(3), "And this?"))
    examples = [*about(1, 2), words("Why?"), *([Example("turns", turns)] if family != "paligemma" else [])]
    asked = [(e, ("Yes", "No, it is a long cup.", "")) for e in examples]
    scores = {(s.example.id, s.answer): s for s in engine(model).likelihoods(asked)}
    assert len(scores) == 3 * len(asked)
    for example, answers in asked:
        for answer in answers[:2]:
            batch = model.codec.encode_training([Example("x", example.prompt, (answer,))])
            with torch.no_grad():
                logps = answer_logps(model.model(**batch.inputs).logits, batch.labels).logps
            count = len(answer.encode()) if family in ("llava", "qwen2_vl") else scores[example.id, answer].tokens
            own = logps[-count - 1 : -1] if int(batch.labels[batch.labels != -100][-1]) in model.codec.eos_ids else None
            assert own is not None
            found = scores[example.id, answer]
            assert found.tokens == count
            assert found.logprob == pytest.approx(float(own.sum()), abs=2e-4)
            assert found.by_token == pytest.approx(own[:-1].tolist() if len(own) > count else own.tolist(), abs=2e-4)
        assert scores[example.id, ""].logprob is None
        assert scores[example.id, ""].why
