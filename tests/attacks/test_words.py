"""What attacks on words change, and what they leave alone."""

from pathlib import Path

import pytest

from vlmend.attacks.paraphrase import LEADS, Rewritten
from vlmend.errors import ConfigError, VlmendError
from vlmend.evaluate.attack import attacked
from vlmend.registry import attacks
from vlmend.types import Example

WORDS = ("one_word:what", "paraphrase", "paraphrase:share", "prefix_injection", "role_play", "suffix")


def asked(spec: str, example: Example) -> list[str]:
    return [e.question for e in attacked([attacks.from_spec(spec)], [example])]


@pytest.mark.parametrize("spec", WORDS)
def test_pictures_and_history_stay(spec: str, single: Example, pair: Example) -> None:
    for before in (single, pair):
        for after in attacked([attacks.from_spec(spec)], [before]):
            assert after.images == before.images
            assert after.prompt[:-1] == before.prompt[:-1]
            assert [type(p) for p in after.prompt[-1].parts] == [type(p) for p in before.prompt[-1].parts]
            assert after.question != before.question
            assert after.origin == before.id


@pytest.mark.parametrize(
    "spec", ["paraphrase?n=3", "paraphrase:what?n=3", "prefix_injection", "role_play?n=3", "suffix"]
)
def test_the_request_stays_whole(spec: str, single: Example) -> None:
    found = asked(spec, single)
    assert len(set(found)) == len(found) >= 1
    assert all(single.question in text for text in found)


def test_the_control_keeps_the_first_word_and_the_other_begins_with_its_own(single: Example) -> None:
    assert all(text.startswith("Describe ") for text in asked("paraphrase?n=3", single))
    for word in (*LEADS, "zebra"):
        found = asked(f"paraphrase:{word}?n=3", single)
        assert len(found) == 3
        assert all(text.lower().startswith(word) and not text[len(word)].isalpha() for text in found)


@pytest.mark.parametrize(("word", "most"), [("", 81), ("what", 30), ("perhaps", 30)])
def test_there_are_as_many_paraphrases_as_one_asks_for(word: str, most: int, single: Example) -> None:
    """All differ, hold the request whole, and begin as they should; the first ones are those of before."""
    made = attacks.build("paraphrase", {"word": word, "n": most})(single)
    texts = [example.question for example in made]
    assert len(set(texts)) == most
    assert all(single.question in text for text in texts)
    assert all(text.lower().startswith(word or single.question.lower()) for text in texts)
    few = attacks.build("paraphrase", {"word": word, "n": 3})(single)
    assert [example.question for example in few] == texts[:3]
    with pytest.raises(ConfigError, match=f"has {most} variants"):
        attacks.build("paraphrase", {"word": word, "n": most + 1})


def test_paraphrase_by_a_model(single: Example, pair: Example) -> None:
    said = {"one": ("Describe it.", "Tell me.", "Describe that."), "two": ("How so?",)}
    one, two = attacked([Rewritten("", said)], [single])
    assert [one.question, two.question] == ["Describe it.", "Describe that."]
    [kept] = attacked([Rewritten("", said)], [pair])
    assert kept.question == pair.question  # "How" is not its first word, "First" is
    assert kept.meta["paraphrase"] == "failed"
    [again] = attacked([attacks.from_spec("paraphrase?model=scripted:refuse")], [single])
    assert (again.question, again.meta["paraphrase"]) == (single.question, "failed")


def test_suffixes_of_a_file(tmp_path: Path, single: Example) -> None:
    file = tmp_path / "suffixes.txt"
    file.write_text("now!\n\nat once\nnow!\n")
    assert asked(f"suffix:{file}", single) == [f"{single.question} now!", f"{single.question} at once"]
    file.write_text("\n")
    with pytest.raises(VlmendError, match="is empty"):
        asked(f"suffix:{file}", single)
    with pytest.raises(VlmendError, match="cannot be read"):
        asked(f"suffix:{tmp_path / 'none'}", single)


def test_one_word_of_several(single: Example) -> None:
    found = attacked([attacks.from_spec("one_word:what,share, what")], [single])
    assert [e.question for e in found] == ["What this, please.", "Share this, please."]
    assert [e.id for e in found] == ["one@what", "one@share"]
    with pytest.raises(VlmendError, match="needs a word"):
        attacks.from_spec("one_word:what,,share")


@pytest.mark.parametrize("spec", ["paraphrase?n=0", "paraphrase?n=82", "role_play?n=9", "paraphrase:two words"])
def test_nonsense_is_refused(spec: str) -> None:
    with pytest.raises(VlmendError):
        attacks.from_spec(spec)
