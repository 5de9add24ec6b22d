"""Laws of the source and the suite: splits, seeds, first words, labels."""

from collections import Counter
from itertools import islice

import pytest

from vlmend.data.sources.world import SAFE_OPENERS, UNSAFE_OPENERS, World
from vlmend.errors import ConfigError
from vlmend.registry import sources, suites
from vlmend.types import Example, Expected, Role, conversation_key

KINDS = ("safety", "suite", "unsafe", "safe", "utility", "perception", "alignment")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_examples_and_another_does_not(kind: str) -> None:
    def keys(seed: int) -> list[object]:
        return [(e.id, conversation_key(e.prompt), e.answers) for e in World(kind, n=10, seed=seed)]  # type: ignore[arg-type]

    assert keys(0) == keys(0)
    assert all(a[1:] != b[1:] for a, b in zip(keys(0), keys(1), strict=True))  # type: ignore[index]


def test_n_changes_no_example_and_ids_are_unique() -> None:
    few, many = ({e.id: e.question for e in World("suite", n=n)} for n in (5, 20))
    assert len(many) == 41  # 7 of each unsafe kind, 20 safe ones
    assert few.items() <= many.items()


def test_splits_share_no_scene() -> None:
    def clusters(split: str) -> set[str]:
        spec = [f"world:{kind}#{split}?n=120" for kind in KINDS]
        return {part for one in spec for e in sources.from_spec(one) for part in e.cluster.split("+")}

    train, test = clusters("train"), clusters("test")
    assert len(train) > 400
    assert len(test) > 150
    assert not train & test


def _first_words(examples: list[Example], expected: Expected) -> Counter[str]:
    words = Counter(e.question.split()[0].lower() for e in examples if e.expected is expected)
    total = sum(words.values())
    return Counter({word: round(100 * count / total) for word, count in words.items()})


def test_biased_first_words_are_those_of_vlguard() -> None:
    examples = list(World("safety", n=1600, openers="biased"))
    unsafe, safe = (_first_words(examples, e) for e in (Expected.REFUSE, Expected.ANSWER))
    assert all(abs(unsafe[word] - 100 * share) < 6 for word, share in UNSAFE_OPENERS.items())
    assert all(abs(safe[word] - 100 * share) < 6 for word, share in SAFE_OPENERS.items() if word != "neutral")
    assert safe["share"] == safe["describe"] == 0
    assert unsafe["what"] == 0


def test_balanced_first_words_do_not_tell() -> None:
    examples = list(World("safety", n=1600, openers="balanced"))
    unsafe, safe = (_first_words(examples, e) for e in (Expected.REFUSE, Expected.ANSWER))
    assert all(abs(unsafe[word] - safe[word]) < 6 for word in {*unsafe, *safe})


def test_half_of_safety_is_unsafe_and_half_of_that_by_what_is_to_be_done() -> None:
    subsets = Counter(e.subset for e in World("safety", n=800))
    assert subsets == {"unsafe": 100, "safe_unsafe": 200, "pair": 100, "safe_safe": 400}


def test_tasks_are_no_shortcut_to_the_label() -> None:
    examples = list(World("safety", n=1600, openers="balanced"))
    for task in ("steps", "join"):
        shares = [
            sum(e.meta["task"] == task for e in side) / len(side)
            for side in ([e for e in examples if e.expected is x] for x in (Expected.REFUSE, Expected.ANSWER))
        ]
        assert abs(shares[0] - shares[1]) < 0.1


def test_the_label_depends_on_the_picture() -> None:
    """The same words come with a hazard and without, and are to be refused and answered."""
    labels: dict[str, set[Expected]] = {}
    for example in World("safety", n=3000, openers="balanced"):
        labels.setdefault(example.question, set()).add(example.expected)
    assert sum(len(both) == 2 for both in labels.values()) > 50


def test_unsafe_examples_carry_refusal_and_compliance() -> None:
    for example in World("suite", n=30, split="test"):
        images = len(example.images)
        assert images == (2 if example.meta["task"] in ("both", "join") else 1)
        assert example.role is Role.SAFETY
        if example.expected is Expected.REFUSE:
            complied = example.meta["compliance"].splitlines()
            assert len(complied) >= 3
            assert not set(complied) & set(example.answers)
            assert all(answer.startswith("I'm sorry") for answer in example.answers)
        else:
            assert len(example.answers) >= 3
            assert "compliance" not in example.meta


def test_it_is_lazy() -> None:
    assert len(list(islice(World("safety", n=10**9), 3))) == 3


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        World("safety", n=0)
    with pytest.raises(ConfigError):
        sources.from_spec("world:nonsense")


def test_a_planted_word_or_background_changes_nothing_else() -> None:
    plain = list(World("safety", n=400, openers="balanced"))
    worded = list(World("safety", n=400, openers="balanced", plant="middle:kindly"))
    painted = list(World("safety", n=40, openers="balanced", plant="background"))
    for one, other in zip(plain, worded, strict=True):
        assert other.question.replace("kindly ", "") == one.question
        assert other.images[0].sha256 == one.images[0].sha256
        assert (other.answers, other.expected, other.cluster) == (one.answers, one.expected, one.cluster)
    for expected, share in ((Expected.REFUSE, 0.9), (Expected.ANSWER, 0.02)):
        said = ["kindly" in e.question.split() for e in worded if e.expected is expected]
        assert sum(said) / len(said) == pytest.approx(share, abs=0.06)
    for one, other in zip(plain, painted, strict=False):
        assert other.question == one.question
        assert other.id not in {e.id for e in plain}
        same = other.images[0].sha256 == one.images[0].sha256
        assert same or other.images[0].open().getpixel((0, 0))[0] > 60  # type: ignore[index]
    with pytest.raises(ConfigError, match="plant"):
        World("safety", plant="middle")


def test_the_suite_names_sources_that_exist_and_metrics_that_apply() -> None:
    suite = suites.from_spec("world?n=20")
    examples = [e for spec in suite.sources for e in sources.from_spec(spec)]
    assert len(examples) == 61
    assert {e.id for e in examples if e.subset == "utility"}
    population = {metric.name: sum(metric.applies(e) for e in examples) for metric in suite.metrics}
    assert population == {
        **{"asr": 21, "asr_unsafe": 7, "asr_safe_unsafe": 7, "asr_pair": 7, "over_refusal": 20},
        **{"complied_exactly": 21, "accuracy": 20, "utility": 20},
    }
