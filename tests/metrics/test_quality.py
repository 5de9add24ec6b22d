"""Quality without a judge: against rouge-score and a plain quadratic BLEU, and where the arguments go."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from rouge_score.rouge_scorer import RougeScorer

from vlmend.metrics import quality, rates
from vlmend.types import Example, Finish, Image, Likelihood, Message, Record, Response

TEXTS = ["the cat sat on the mat", "the cat the cat", "a dog sat on the cat mat today", "birds", "the cat sat on a mat"]


def said(text: str, finish: Finish = Finish.STOP, name: str = "r", answers: tuple[str, ...] = ()) -> Record:
    picture = Image(make=lambda: b"picture")
    return Record(Example("e", (Message("user", (picture, "q")),), answers), Response(name, "e", text, finish))


def plain_bleu(candidate: list[str], references: list[list[str]]) -> float:
    """Papineni et al. 2002 as nltk's sentence_bleu computes it, with smoothing method1: 0.1 in place of 0 matches."""
    logs = 0.0
    for n in range(1, 5):
        grams = Counter(tuple(candidate[i : i + n]) for i in range(len(candidate) - n + 1))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(tuple(reference[i : i + n]) for i in range(len(reference) - n + 1))
        matched = sum(min(count, most[gram]) for gram, count in grams.items())
        if n == 1 and not matched:
            return 0.0
        logs += math.log((matched or 0.1) / max(1, len(candidate) - n + 1)) / 4
    near = min((abs(len(r) - len(candidate)), len(r)) for r in references)[1]
    return math.exp(logs) * (1.0 if len(candidate) > near else math.exp(1 - near / len(candidate)))


def test_self_bleu_equals_the_quadratic_one() -> None:
    split = [text.split() for text in TEXTS]
    expected = [plain_bleu(words, split[:i] + split[i + 1 :]) for i, words in enumerate(split)]
    assert quality.self_bleu(TEXTS) == pytest.approx(expected)
    assert quality.diversity(TEXTS) == pytest.approx(1 - sum(expected) / len(expected))


def test_self_bleu_of_copies_and_strangers() -> None:
    assert quality.self_bleu(["one two three four five"] * 3) == pytest.approx([1, 1, 1])
    assert quality.self_bleu(["a b c d e", "f g h i j"]) == [0, 0]
    assert quality.diversity(["alone"]) is None


def test_rouge_knows_prediction_from_reference() -> None:
    long, short = "the cat sat on the mat by the door", "the cat sat"
    found = quality.rouge_l(prediction=long, reference=short)
    expected = RougeScorer(["rougeL"], use_stemmer=True).score(short, long)["rougeL"]
    assert (found["precision"], found["recall"], found["f"]) == expected
    assert (found["precision"], found["recall"]) == (pytest.approx(1 / 3), 1.0)
    swapped = quality.rouge_l(prediction=short, reference=long)
    assert (swapped["precision"], swapped["recall"]) == (found["recall"], found["precision"])
    assert swapped["f"] == pytest.approx(found["f"])


def test_rouge_takes_the_best_reference_and_no_guess() -> None:
    outcome = quality.rouge("f")
    assert outcome(said("a cat", answers=("a dog", "a cat"))) == 1.0
    assert outcome(said("a cat")) is None
    assert outcome(said("", answers=("a cat",))) is None


@pytest.mark.parametrize(
    ("text", "share"),
    [("a b c d e f", 0.0), ("a b a b a b a b", 1 - 2 / 5), ("no no no no no no", 1 - 1 / 3), ("a b c", None)],
)
def test_repetition(text: str, share: float | None) -> None:
    found = quality.repetition(text)
    assert found == (None if share is None else pytest.approx(share))


def test_repetition_without_blanks() -> None:
    assert (quality.repetition("蓝蓝蓝蓝蓝蓝蓝蓝") or 0) > 0.7


def test_empty_is_counted_and_a_crash_is_not_empty() -> None:
    records = [said("fine words here"), said("  "), said("", Finish.FAILED), said("on and on", Finish.LENGTH)]
    found = rates.score(records, quality.measures())
    assert (found["empty"].value, found["empty"].n, found["empty"].unscored) == (pytest.approx(1 / 3), 3, 1)
    assert found["cut"].value == 0.5
    assert found["words"].value == pytest.approx((3 + 0 + 3) / 3)
    assert found["words"].worst is None  # there is no longest answer


class Prefers:
    """A scorer that finds each word of an answer half as likely when the picture is the blank one."""

    fingerprint = "prefers"

    def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
        for example, answers in asked:
            for answer in answers:
                words = len(answer.split())
                blank = example.images[0].read() == b"blank"
                known = None if answer == "unknown" else -words * math.log(8 if blank else 4)
                yield Likelihood(example.id, answer, known, words)


def test_perplexity_and_gain_of_the_picture_by_response() -> None:
    records = [said("two words", name="a"), said("now three words", name="b"), said("unknown", name="c")]
    records.append(said("", Finish.FAILED, name="d"))
    assert quality.perplexities(records, Prefers()) == pytest.approx({"a": 4.0, "b": 4.0})
    gains = quality.picture_gains(records, Prefers(), Image(make=lambda: b"blank"))
    assert gains == pytest.approx({"a": math.log(2), "b": math.log(2)})
    assert quality.by_response(gains)(records[3]) is None


def test_only_a_picture_can_gain() -> None:
    """What was asked without one is neither in the result nor shown to the model a second time."""

    class Counted(Prefers):
        def __init__(self) -> None:
            self.asked: list[str] = []

        def likelihoods(self, asked: Sequence[tuple[Example, Sequence[str]]]) -> Iterator[Likelihood]:
            self.asked += [example.id for example, _ in asked]
            return super().likelihoods(asked)

    bare = Record(Example("t", (Message("user", ("q",)),)), Response("b", "t", "two words", Finish.STOP))
    scorer = Counted()
    gains = quality.picture_gains([bare, said("two words", name="a")], scorer, Image(make=lambda: b"blank"))
    assert gains == pytest.approx({"a": math.log(2)})
    assert scorer.asked == ["a", "a"]
