"""A fixed copy has what was found no more, says of each example what was done, and keeps pictures, labels and ids."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.audit.made import example, rows
from tests.data.files import REAL
from vlmend.audit.audit import Settings, audit
from vlmend.audit.balance import balanced, capped, preference
from vlmend.audit.contrasts import same_picture
from vlmend.audit.fix import Asked, Fixed, changes, fix
from vlmend.audit.measures import entropy_share, table
from vlmend.audit.openers import quotas, reword_all, target
from vlmend.audit.prefixes import APOLOGIES, diversified
from vlmend.audit.rewriter import Wanted, rewrite
from vlmend.audit.rows import Rows, opening, read
from vlmend.backends.scripted import Scripted
from vlmend.errors import UsageError
from vlmend.judge.judges.refusal import opening as declines
from vlmend.types import Example


def fixed(spec: str, folder: Path, asked: Asked | None = None, *, pictures: bool = False) -> Fixed:
    found = audit(read(spec), settings=Settings(pictures=pictures))
    return fix(found, folder / "fixed.jsonl", asked or Asked())


def shares(made: Fixed) -> dict[str, float]:
    """Shares after; not a number, and so not below anything, where there is none."""
    return {name: np.nan if after is None else after for name, _, after in changes(made.before, made.after)}


def test_biased_first_words_are_gone_and_hardly_a_row_with_them(tmp_path: Path) -> None:
    made = fixed("world:safety#train?n=1200&openers=biased", tmp_path)
    assert made.before.verdict.flagged
    assert not made.after.verdict.flagged
    assert shares(made)["first word"] < 0.01
    assert shares(made)["any word"] < 0.05
    assert len(made.after.rows) > 0.95 * 1200


def test_a_planted_filler_is_gone(tmp_path: Path) -> None:
    made = fixed("world:safety#train?n=1200&openers=balanced&plant=middle:kindly", tmp_path)
    assert "kindly" not in made.after.rows.vocabulary
    assert not made.after.verdict.flagged
    assert len(made.after.rows) > 0.95 * 1200


def test_a_planted_word_that_no_rule_can_leave_out_costs_rows_and_only_when_asked(tmp_path: Path) -> None:
    spec = "world:safety#train?n=1200&openers=balanced&plant=middle:zebra"
    (tmp_path / "all").mkdir()
    kept = fixed(spec, tmp_path / "all")
    assert kept.after.verdict.flagged
    made = fixed(spec, tmp_path, Asked(words=True, least=0.05))
    assert shares(made)["any word"] < 0.05
    assert len(made.after.rows) < 600


def test_a_planted_background_costs_rows_and_only_as_many_as_are_allowed(tmp_path: Path) -> None:
    spec = "world:safety#train?n=600&openers=balanced&plant=background"
    (tmp_path / "all").mkdir()
    kept = fixed(spec, tmp_path / "all", pictures=True)
    assert kept.left == ("look of the picture",)
    assert len(kept.after.rows) > 0.8 * 600
    made = fixed(spec, tmp_path, Asked(least=0.05), pictures=True)
    assert not made.after.verdict.flagged  # of so few rows, counted shares alone would not tell
    assert 40 < len(made.after.rows) < 200


def test_ids_labels_and_pictures_stay_and_the_log_tells_the_rest(tmp_path: Path) -> None:
    made = fixed("world:safety#train?n=200&openers=biased", tmp_path)
    before = {e.id: e for e in made.before.rows.examples}
    after = {e.id: e for e in made.after.rows.examples}
    log = {row["id"]: row for row in map(json.loads, made.log.read_text().splitlines())}
    assert after.keys() <= before.keys()
    assert {name for name, row in log.items() if row["action"] == "dropped"} == before.keys() - after.keys()
    for name, new in after.items():
        old = before[name]
        assert (new.expected, new.subset, new.cluster, new.meta) == (old.expected, old.subset, old.cluster, old.meta)
        assert [image.sha256 for image in new.images] == [image.sha256 for image in old.images]
        changed = (new.question, new.answers[0]) != (old.question, old.answers[0])
        assert changed == (name in log)
        if changed and new.question != old.question:
            assert log[name]["question"] == {"before": old.question, "after": new.question}


def test_the_same_seed_makes_the_same_copy(tmp_path: Path) -> None:
    texts: list[str] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        made = fixed("world:safety#train?n=120&openers=biased", tmp_path / name, Asked(seed=seed))
        texts.append(made.file.read_text())
    assert texts[0] == texts[1] != texts[2]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "fixed.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        fixed("world:safety#train?n=20", tmp_path)
    assert (tmp_path / "fixed.jsonl").read_text() == "mine"


def test_one_label_is_copied_as_it_is(tmp_path: Path) -> None:
    made = fixed("world:safe#train?n=20", tmp_path)
    assert len(made.after.rows) == 20
    assert made.log.read_text() == ""


@pytest.mark.skipif(not (REAL / "train.json").exists(), reason="the published metadata are not here")
def test_vlguards_first_words_tell_nothing_afterwards(tmp_path: Path) -> None:
    made = fixed(f"vlguard:{REAL}#train", tmp_path)
    assert shares(made)["first word"] < 0.05
    assert len(made.after.rows) > 0.8 * 2977
    assert made.after.verdict.flagged  # what is asked about differs, too, and no rule can mend that


# Openers.


def test_quotas_are_whole_and_complete() -> None:
    given = quotas({"what": 0.5, "can": 0.3, "share": 0.2}, 7)
    assert given == {"what": 4, "can": 2, "share": 1}
    assert sum(quotas({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 100).values()) == 100


def test_both_labels_begin_alike_and_who_can_keeps_its_word() -> None:
    made = read("world:safety#train?n=800&openers=biased")
    new = reword_all(made, 0)
    texts = [new[i].text if i in new else e.question for i, e in enumerate(made.examples)]
    sides = [Counter(opening(t, 1) for t, r in zip(texts, made.refused, strict=True) if r == side) for side in (1, 0)]
    assert all(abs(sides[0][word] - sides[1][word]) <= 8 for word in target(made))
    kept = [i for i in range(len(made)) if i not in new]
    assert {made.first_words()[i] for i in kept} <= set(target(made))
    assert len(kept) > 300


# Balance.


def test_balanced_strata_have_the_labels_in_one_proportion() -> None:
    rng = np.random.default_rng(0)
    refused = rng.random(3000) < 0.6
    strata = np.where(refused, rng.integers(0, 4, 3000), rng.integers(2, 7, 3000))
    keep = balanced(strata, refused, range(3000))
    assert entropy_share(table(strata[keep], refused[keep], 7)) < 1e-3
    assert refused[keep].mean() == pytest.approx(refused.mean(), abs=0.01)
    assert set(strata[keep].tolist()) == {2, 3}


def test_what_is_balanced_already_stays_whole() -> None:
    refused = np.tile([True, False], 50)
    assert balanced(np.repeat([0, 1], 50), refused, range(100)).all()


def test_both_questions_of_a_picture_are_kept_first() -> None:
    made = Rows(
        "made",
        tuple(
            example(f"e{i}", "What?", i % 2 == 0, cluster=f"pair{i // 2}" if i < 20 else f"alone{i}") for i in range(60)
        ),
    )
    order = preference(made, 0)
    assert set(order[:20]) == set(np.flatnonzero(same_picture(made)).tolist()) == set(range(20))


def test_a_cap_is_kept_to_and_a_single_template_is_left_alone() -> None:
    made = rows(*[(f"What is {i}?", True) for i in range(50)], *[(f"Who is {i}?", False) for i in range(10)])
    texts = [f"No {i}." if i < 10 else "I'm sorry." for i in range(60)]
    from dataclasses import replace

    varied = Rows("made", tuple(replace(e, answers=(t,)) for e, t in zip(made.examples, texts, strict=True)))
    keep = capped(varied, 1, 0.5, range(60))
    assert Counter(opening(t, 1) for t, k in zip(texts[:50], keep[:50], strict=True) if k) == {"no": 10, "i'm": 10}
    assert capped(made, 1, 0.5, range(60)).all()


# Apologies.


def test_apologies_vary_and_the_rest_stays() -> None:
    said = "I'm sorry, but I can't help with that. The picture shows a flask."
    made = {diversified(said, str(i), 0) for i in range(60)}
    assert len(made) == len(APOLOGIES)
    for text in made:
        assert text.endswith("I can't help with that. The picture shows a flask.")
        assert declines(text)


@pytest.mark.parametrize("text", ["I cannot say that.", "The image shows a dog.", "Sorry to hear that.", ""])
def test_other_answers_are_left_alone(text: str) -> None:
    assert diversified(text, "a", 0) == text


# A model as rewriter.


def test_a_model_is_believed_only_where_word_and_meaning_agree() -> None:
    wanted = [Wanted(name, f"Share the {name}.", "what") for name in ("good", "word", "mean", "vague", "crash")]

    def reply(asked: Example) -> str:
        name, kind = asked.id.split("#")
        if name == "crash":
            raise RuntimeError("no model")
        if kind == "wording":
            return "Which one?" if name == "word" else f'"What is the {name}?"\nHope this helps.'
        return {"good": "Yes.", "mean": "No, it asks for more.", "vague": "Perhaps."}[name]

    found = rewrite(wanted, Scripted(reply=reply))
    assert found.texts == {"good": "What is the good?"}
    assert found.counts == {
        "kept": 1,
        "wrong first word": 1,
        "another meaning": 1,
        "check unreadable": 1,
        "nothing said": 1,
    }
    assert sum(found.counts.values()) == len(wanted)


def test_a_copy_has_the_models_wording_only_where_rules_had_none(tmp_path: Path) -> None:
    texts = [f"What is the man {i} doing?" if i % 2 else f"Identify the man {i}." for i in range(40)]
    made = Rows("made", tuple(example(f"e{i}", text, i % 2 == 0) for i, text in enumerate(texts)))

    def reply(asked: Example) -> str:
        if asked.id.endswith("#meaning"):
            return "yes"
        word = asked.question.split("first word is '")[1].split("'")[0]
        return f"{word} would the model say?"

    done = fix(
        audit(made, settings=Settings(pictures=False)), tmp_path / "f.jsonl", Asked(rewriter=Scripted(reply=reply))
    )
    assert done.actions["by model: kept"] == done.actions["reworded by model"] > 0
    by_model = [e for e in done.after.rows.examples if "would the model say" in e.question]
    log = [json.loads(line) for line in done.log.read_text().splitlines()]
    assert len(by_model) == sum("by model" in " ".join(row["what"]) and row["action"] == "changed" for row in log)
