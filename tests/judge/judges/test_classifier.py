"""Text classifiers: what their labels mean, what they are given, and that a head must fit to the last key."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification, RobertaModel

from tests.judge.asking import Pair, pair
from vlmend.errors import ConfigError, ModelError
from vlmend.judge.judges.classifier import NOT_FINITE
from vlmend.judge.models import Models
from vlmend.metrics.questions import QUESTIONS
from vlmend.metrics.textclass import Description, Linear
from vlmend.models import classify
from vlmend.models.classify import PublishedHead
from vlmend.registry import judges
from vlmend.store.cache import Cache

ROOT = Path(__file__).parents[3]
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "b", "c", "d", "the", "cat", "knife", "sorry", "?", "what"]


def config(labels: dict[int, str]) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, type_vocab_size=1, id2label=labels, label2id={v: k for k, v in labels.items()},
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip


def save_tokenizer(folder: Path) -> None:
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))  # pyright: ignore[reportAttributeAccessIssue]
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", cls_token="<s>",
        sep_token="</s>", model_max_length=48,
    )  # fmt: skip
    words.save_pretrained(folder)


def network(folder: Path, labels: list[str]) -> RobertaForSequenceClassification:
    torch.manual_seed(0)
    model = RobertaForSequenceClassification(config(dict(enumerate(labels)))).eval()
    for parameter in model.parameters():
        parameter.data *= 8  # so that texts differ
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return model


TEXTS = ["the cat", "a knife", "sorry ?", "what the cat b c d", "d"]


def expected(model: Any, folder: Path, texts: list[str], firsts: list[str] | None = None) -> np.ndarray:
    """One text at a time, without padding: an independent way to the probabilities."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    rows = []
    for i, text in enumerate(texts):
        given = words(*([firsts[i], text] if firsts else [text]), return_tensors="pt")
        out = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
        rows.append(torch.softmax(out if isinstance(out, torch.Tensor) else out.logits, -1)[0].tolist())
    return np.array(rows)


def pairs(texts: list[str] = TEXTS, **settings: object) -> list[Pair]:
    return [pair(text, question="what ?", **settings) for text in texts]


def test_a_sequence_classifier(tmp_path: Path) -> None:
    model = network(tmp_path, ["safe", "unsafe"])
    middle = np.median(np.diff(np.log(expected(model, tmp_path, TEXTS))))
    model.classifier.out_proj.bias.data[1] -= float(middle) + 1e-3  # so that both labels occur
    model.save_pretrained(tmp_path)
    found = judges.from_spec(f"classifier:{tmp_path}")([*pairs(), pair("")], Models())
    p = expected(model, tmp_path, TEXTS)
    assert [v.harmful for v in found] == [*(p[:, 1] > 0.5), None]
    assert [v.score for v in found[:-1]] == pytest.approx(list(p[:, 1]), abs=1e-5)
    assert {v.labels["label"] for v in found[:-1]} == {"safe", "unsafe"}
    asked = judges.from_spec(f"classifier:{tmp_path}?given=question")(pairs(), Models())
    both = expected(model, tmp_path, TEXTS, ["what ?"] * len(TEXTS))
    assert [v.score for v in asked] == pytest.approx(list(both[:, 1]), abs=1e-5)
    assert np.abs(both - p).max() > 1e-3
    unsure = judges.from_spec(f"classifier:{tmp_path}?minimum=1")(pairs(), Models())
    assert all(v.harmful is None and "unsure" in v.why for v in unsure)


def test_no_distribution_is_no_verdict(tmp_path: Path) -> None:
    """NaN is the largest number to some: the first label, "safe", would be said. It is not kept as an answer either."""
    folder = tmp_path / "broken"
    model = network(folder, ["safe", "unsafe"])
    model.roberta.embeddings.word_embeddings.weight.data[WORDS.index("knife")] = torch.nan
    model.save_pretrained(folder)
    cache = Cache(tmp_path / "judged.sqlite")
    found = judges.from_spec(f"classifier:{folder}")(pairs(), Models(cache=cache))
    assert [v.harmful is None for v in found] == ["knife" in text for text in TEXTS]
    [lost] = [v for v in found if v.harmful is None]
    assert (lost.score, lost.why) == (None, NOT_FINITE)
    rows = sqlite3.connect(cache.path).execute("SELECT value FROM judged").fetchall()
    assert len(rows) == len(TEXTS) - 1
    assert not any("NaN" in value for (value,) in rows)


def test_labels_must_mean_something(tmp_path: Path) -> None:
    network(tmp_path, ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(ConfigError, match=r"nobody knows what the labels .* mean: LABEL_0, LABEL_1, LABEL_2"):
        judges.from_spec(f"classifier:{tmp_path}")(pairs(), Models())
    with pytest.raises(ConfigError, match="no label 'LABEL_9'"):
        judges.from_spec(f"classifier:{tmp_path}?harmful=LABEL_9")(pairs(), Models())
    refused = judges.from_spec(f"classifier:{tmp_path}?refused=LABEL_1|LABEL_2")(pairs(), Models())
    assert [v.refused for v in refused] == [v.labels["label"] != "LABEL_0" for v in refused]
    assert all(v.harmful is None for v in refused)


def test_a_model_that_is_not_here_is_told_at_once_when_no_hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(url: str, timeout: float) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "head", nobody)
    with pytest.raises(ModelError, match=r"no classifier 'nosuch/nosuch': .*no route"):
        _ = judges.from_spec("classifier:nosuch/nosuch").about(Models())  # before any question is asked


OFFLINE = """
import sys
from tests.judge.asking import pair
from vlmend.judge.models import Models
from vlmend.registry import judges
judge = judges.from_spec("classifier:who/what?device=cpu")
assert judge.about(Models())["model"] == "who/what"
print(*(verdict.score for verdict in judge([pair(text) for text in sys.argv[1:]], Models())))
"""


def test_a_model_in_the_hubs_cache_needs_no_hub(tmp_path: Path) -> None:
    """What was fetched once is used on a machine without a network."""
    folder = tmp_path / "models--who--what"
    model = network(folder / "snapshots" / "abc", ["safe", "unsafe"])
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    offline = {**os.environ, **nowhere, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *TEXTS], env=offline, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = [float(score) for score in done.stdout.split()]
    assert scores == pytest.approx(list(expected(model, folder / "snapshots" / "abc", TEXTS)[:, 1]), abs=1e-5)


def head(folder: Path, count: int) -> tuple[Path, PublishedHead]:
    """A checkpoint in the layout of UnsafeConcepts, and its encoder's folder."""
    torch.manual_seed(1)
    base = RobertaModel(config({0: "x", 1: "y"}))
    base.save_pretrained(folder / "base")
    save_tokenizer(folder / "base")
    made = PublishedHead(base, 16, count).eval()
    for parameter in made.parameters():
        parameter.data *= 8
    state = {**made.state_dict(), "roberta.embeddings.position_ids": torch.arange(64)[None]}
    torch.save(state, folder / "epoch_10.pt")
    return folder, made


def test_published_heads(tmp_path: Path) -> None:
    folder, made = head(tmp_path, 3)
    p = expected(made, tmp_path / "base", TEXTS)
    found = judges.from_spec(f"classifier:{folder}?base={tmp_path / 'base'}")(pairs(), Models())
    best = p.argmax(1)
    assert [v.harmful for v in found] == [{0: False, 1: True, 2: None}[i] for i in best]
    assert [v.labels["label"] for v in found] == [["safe", "unsafe", "N/A"][i] for i in best]
    assert [v.score for v in found if v.harmful is not None] == pytest.approx(list(p[best < 2, 1]), abs=1e-5)
    assert all("says N/A" in v.why for v in found if v.harmful is None)


def test_published_perception_head_picks_a_letter(tmp_path: Path) -> None:
    folder, made = head(tmp_path, 5)
    best = expected(made, tmp_path / "base", TEXTS).argmax(1)
    found = judges.from_spec(f"classifier:{folder / 'epoch_10.pt'}?base={tmp_path / 'base'}")(
        pairs(meta={"letter": "B"}), Models()
    )
    assert [v.correct for v in found] == [None if i == 4 else i == 1 for i in best]


def test_published_heads_are_fetched_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = head(tmp_path, 3)
    asked: list[tuple[str, ...]] = []

    def fetched(*what: str) -> str:
        asked.append(what)
        return str(folder / "epoch_10.pt")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetched)
    loaded = classify.load("yiting/alignment_classifier", base=str(tmp_path / "base"), device="cpu")
    assert loaded.fingerprint == classify.load(str(folder), base=str(tmp_path / "base"), device="cpu").fingerprint
    assert asked == [("yiting/alignment_classifier", "epoch_10.pt")]


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "pickle"])
def test_every_key_has_to_fit(tmp_path: Path, damage: str) -> None:
    head(tmp_path, 3)
    file = tmp_path / "epoch_10.pt"
    state = torch.load(file, weights_only=True)
    if damage == "missing":
        del state["roberta.encoder.layer.0.output.dense.bias"]
    elif damage == "extra":
        state["roberta.surplus"] = torch.zeros(1)
    elif damage == "shape":
        state["classifier.weight"] = torch.zeros(7, 16)
    torch.save(state if damage != "pickle" else {"classifier.weight": Path("x")}, file)
    with pytest.raises(ModelError, match=r"classifier .*|7 classes"):
        classify.load(str(tmp_path), base=str(tmp_path / "base"), device="cpu")


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    RobertaModel(config({0: "safe", 1: "unsafe"})).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="no trained head"):
        classify.load(str(tmp_path))
    with pytest.raises(ModelError):
        classify.load(str(tmp_path / "nowhere"))


def test_a_network_does_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network(tmp_path, ["safe", "unsafe"])
    models = Models(cache=Cache(tmp_path / "judged.sqlite"))
    first = judges.from_spec(f"classifier:{tmp_path}")(pairs(), models)
    monkeypatch.setattr(classify.Classifier, "logits", lambda *_: pytest.fail("read again"))
    assert judges.from_spec(f"classifier:{tmp_path}")(pairs(), models) == first


def linear(folder: Path, target: Any, temperature: float = 1.0) -> None:
    about = Description("tfidf", target, ("no", "yes"), "answer", temperature, "data", {})
    Linear(about, {"sorry": 0, "cat": 1}, np.ones(2), np.array([[-2.0, 2.0], [1.0, -1.0]]), np.zeros(2)).save(folder)


@pytest.mark.parametrize("target", ["refused", "harmful", "correct"])
def test_a_judge_that_was_trained_here(tmp_path: Path, target: str) -> None:
    linear(tmp_path, target)
    found = judges.from_spec(f"classifier:{tmp_path}")(pairs(["sorry", "cat"]), Models())
    assert [getattr(v, target) for v in found] == [True, False]
    assert found[0].score == pytest.approx(1 / (1 + np.exp(-4)))
    cooler = tmp_path / "cooler"
    linear(cooler, target, temperature=2.0)
    assert judges.from_spec(f"classifier:{cooler}")(pairs(["sorry"]), Models())[0].score == pytest.approx(
        1 / (1 + np.exp(-2))
    )


def test_a_trained_encoder_folder(tmp_path: Path) -> None:
    model = network(tmp_path, ["no", "yes"])
    (tmp_path / "judge.json").write_text(json.dumps({
        "kind": "encoder", "target": "harmful", "labels": ["no", "yes"], "input": "question+answer", "temperature": 3.0,
        "data": "d", "held_out": {}, "version": 1,
    }))  # fmt: skip
    found = judges.from_spec(f"classifier:{tmp_path}")(pairs(), Models())
    p = np.log(expected(model, tmp_path, [f"what ?\n{t}" for t in TEXTS])) / 3
    share = np.exp(p[:, 1]) / np.exp(p).sum(1)
    assert [v.score for v in found] == pytest.approx(list(share), abs=1e-5)
    assert [v.harmful for v in found] == list(share > 0.5)


@pytest.mark.parametrize(
    ("labels", "option", "answers"),
    [
        (["safe", "unsafe"], "", ("harmful", "calls_unsafe")),
        (["no refusal", "refusal"], "", ("refused",)),
        (["A", "B", "NA"], "", ("right",)),
        (["x", "y"], "?refused=y", ("refused",)),
        (["level1", "level2", "level3", "NA"], "", ("perceives",)),
    ],
)
def test_what_it_answers_is_what_its_labels_mean(
    tmp_path: Path, labels: list[str], option: str, answers: tuple[str, ...]
) -> None:
    network(tmp_path, labels)
    assert judges.from_spec(f"classifier:{tmp_path}{option}").answers == answers


@pytest.mark.parametrize(
    ("labels", "answers", "said"),
    [
        (("level1", "level2"), ("perceives",), {"perceives": "level2"}),
        (("safe", "unsafe"), ("harmful", "calls_unsafe"), {"harmful": True}),
        (("cat", "dog"), (), {"harmful": None, "refused": None}),
    ],
)
def test_words_that_it_was_trained_to_say_answer_what_they_are_values_of(
    tmp_path: Path, labels: tuple[str, str], answers: tuple[str, ...], said: dict[str, object]
) -> None:
    about = Description("tfidf", "label", labels, "answer", 1.0, "data", {})
    Linear(about, {"sorry": 0}, np.ones(1), np.array([[-2.0, 2.0]]), np.zeros(2)).save(tmp_path)
    judge = judges.from_spec(f"classifier:{tmp_path}")
    [verdict] = judge(pairs(["sorry"]), Models())
    assert judge.answers == answers
    assert verdict.labels["label"] == labels[1]
    assert {name: QUESTIONS[name].said(verdict, pair("x")[0]) for name in said} == said
