"""`vlmend judge card` and `judge train` as a user runs them; the published cards are what the command prints today."""

import json
from collections import Counter
from pathlib import Path

import pytest

from vlmend.cli import main
from vlmend.judge import card as judge_card
from vlmend.judge import labels as labels_
from vlmend.judge import train as judge_train
from vlmend.judge.labels import SHIPPED, joined, read
from vlmend.metrics import textclass
from vlmend.types import Example, Expected, Finish, Message, Record, Response, Verdict

DOCS = Path(__file__).parents[2] / "docs"


def test_published_cards_are_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "card", "--labels", "shipped", "--markdown"]) == 0
    assert capsys.readouterr().out == (DOCS / "judges_cards.md").read_text(encoding="utf-8")


def test_shipped_answers_are_many_distinct_and_of_every_kind() -> None:
    rows = read(SHIPPED)
    assert len(rows) >= 300
    assert len({row.id for row in rows}) == len({(row.question, row.answer) for row in rows}) == len(rows)
    labels = Counter(row.says.get("refused") for row in rows)
    assert min(labels[True], labels[False]) > 100
    assert {"soft_refusal", "legal_word", "partial", "empty", "repetition", "apostrophe"} <= {r.category for r in rows}
    assert all((row.says["refused"] is None) == (not (row.answer or "").strip()) for row in rows)


def test_the_three_failures_of_the_field() -> None:
    """A judge that is down is no safety, silence is no refusal, and 'illegal' in an answer is none either."""
    rows = {row.id: row for row in read(SHIPPED)}
    [ours] = judge_card.of_judges(_judges("refusal"), [rows["empty/1"], rows["legal_word/1"], rows["refusal/1"]])
    assert (ours.abstained_rightly, ours.should_abstain) == (1, 1)
    assert (ours.confusion.tp, ours.confusion.tn, ours.mistakes) == (1, 1, ())


def _judges(*specs: str):
    from vlmend.registry import judges

    return [judges.from_spec(spec) for spec in specs]


def answer(i: int, refused: bool | None) -> Record:
    example = Example(f"e{i}", (Message("user", (f"q{i}",)),), expected=Expected.REFUSE)
    return Record(example, Response(f"r{i}", f"e{i}", "x", Finish.STOP), (Verdict("j", f"r{i}", refused=refused),))


def test_card_of_a_run_corrects_its_rate(tmp_path: Path) -> None:
    """The judge calls 60 of 100 refusals; of 40 labeled ones it finds 18 of 20 yes and 16 of 20 no."""
    records = [answer(i, i % 10 < 6) for i in range(100)]
    said = [r.verdicts[0].refused for r in records]
    yes, no = [i for i in range(100) if said[i]], [i for i in range(100) if not said[i]]
    labels = {**dict.fromkeys(yes[:18], True), **dict.fromkeys(yes[18:22], False)}
    labels |= {**dict.fromkeys(no[:2], True), **dict.fromkeys(no[2:18], False)}
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps({"response_id": f"r{i}", "refused": v}) + "\n" for i, v in labels.items()))
    [card] = judge_card.of_records(records, read(str(file)))
    c = card.confusion
    assert (c.tp, c.fn, c.fp, c.tn) == (18, 2, 4, 16)
    assert card.corrected is not None
    assert card.corrected.value == pytest.approx((0.6 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert card.corrected.low < card.corrected.value < card.corrected.high  # pyright: ignore


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response_id": "r9", "refused": True}, "no response 'r9'"),
        ({"example_id": "e8", "refused": True}, "no example 'e8'"),
        ({"answer": "x", "refuse": True}, "Did you mean 'refused'"),
        ({"answer": "x", "refused": "yes"}, "true, false or null"),
        ({"refused": True}, "neither 'response_id'"),
        ({"answer": "x"}, "none of refused"),
    ],
)
def test_bad_labels_are_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        joined(read(str(file)), [answer(1, True)])


def graded(given: list[str], labels: list[int | None]) -> list[judge_card.Card | judge_card.GradeCard]:
    """Cards of a judge that said these grades (empty for none) of answers with these labels."""
    rows = [labels_.Labeled(f"r{i}", {}, grade=label, graded=True) for i, label in enumerate(labels)]
    verdicts = [
        Verdict("j", f"r{i}", labels={"grade": g} if g else {}, score=float(g) if g else None)
        for i, g in enumerate(given)
    ]
    return [*judge_card.grade_cards_of("j", list(zip(rows, verdicts, strict=True)))]


def test_grades_by_hand() -> None:
    """Six both graded, one the judge could not, two that nobody should: one was left alone."""
    [card] = graded(["1", "2", "5", "4", "3", "1", "", "", "2"], [1, 1, 5, 3, 3, 4, 2, None, None])
    assert isinstance(card, judge_card.GradeCard)
    assert (card.n, card.abstained, card.should_abstain, card.abstained_rightly) == (6, 1, 2, 1)
    assert card.counts == {(1, 1): 1, (1, 2): 1, (5, 5): 1, (3, 4): 1, (3, 3): 1, (4, 1): 1}
    assert (card.exact.k, card.within_one.k, card.within_one.n) == (3, 5, 6)
    assert card.mean_error == pytest.approx((0 + 1 + 0 + 1 + 0 - 3) / 6)
    # shares of the labels 1 2/6, 3 2/6, 4 1/6, 5 1/6; of the judge 1 2/6, 2 to 5 1/6 each
    chance = (2 * 2 + 2 * 1 + 1 * 1 + 1 * 1) / 36
    assert card.kappa == pytest.approx((3 / 6 - chance) / (1 - chance))
    # delta between grades c < k: (n_c/2 + those between + n_k/2)^2, of n = 4, 1, 3, 2, 2 for the grades 1 to 5
    n = {1: 4, 2: 1, 3: 3, 4: 2, 5: 2}
    apart = {(c, k): (sum(n[g] for g in range(c, k + 1)) - (n[c] + n[k]) / 2) ** 2 for c in n for k in n if c < k}
    observed = apart[1, 2] + apart[3, 4] + apart[1, 4]
    expected = sum(n[c] * n[k] * d for (c, k), d in apart.items())
    assert card.alpha == pytest.approx(1 - 11 * observed / expected)
    assert graded([""], [3]) == []


def test_a_graded_judge_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Grades and the harmful of the same answers, asked of one judge: a table of grades, AUROC and thresholds."""
    script = tmp_path / "script.yaml"
    script.write_text("".join(f"- {{when: 'GRADE {g}', text: '{{\"grade\": \"{g}\"}}'}}\n" for g in range(1, 6)))
    script.write_text(script.read_text() + "- {text: 'I cannot say.'}\n")
    rows = [(1, 1), (2, 2), (3, 3), (5, 4), (5, 5), (2, 4), (0, 3)]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(
        json.dumps({"question": "Why?", "answer": f"GRADE {said}", "grade": label, "harmful": label >= 3}) + "\n"
        for said, label in rows
    ))  # fmt: skip
    command = ["judge", "card", "--labels", str(file), "--judge", f"rubric:graded?model=scripted:{script}"]
    assert main([*command, "--json"]) == 0
    cards = {card["question"]: card for card in json.loads(capsys.readouterr().out)["cards"]}
    assert (cards["grade"]["n"], cards["grade"]["abstained"], cards["grade"]["exact"]["k"]) == (6, 1, 4)
    harmful = cards["harmful"]
    assert (harmful["tp"], harmful["fn"], harmful["fp"], harmful["tn"], harmful["abstained"]) == (3, 1, 0, 2, 1)
    yes, no = [3, 5, 5, 2], [1, 2]
    wins = sum((a > b) + (a == b) / 2 for a in yes for b in no)
    assert harmful["auroc"] == pytest.approx(wins / 8)
    assert [row["threshold"] for row in harmful["thresholds"]] == [1, 2, 3]
    assert [(row["tp"], row["fp"]) for row in harmful["thresholds"]] == [(4, 1), (3, 0), (2, 0)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    for text in ("alpha (ordinal)", "if a score above this meant yes", "labeled 5", "AUROC"):
        assert text in shown


@pytest.mark.parametrize("grade", [0, 6, 2.5, True, "3"])
def test_what_is_no_grade_is_refused(grade: object, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps({"answer": "x", "grade": grade}))
    with pytest.raises(ValueError, match="whole number from 1 to 5"):
        read(str(file))


def test_train_saves_a_judge_that_predicts_as_scikit_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "judge"
    assert main(["judge", "train", "shipped", "--target", "refused", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["held_out"]["right"] / told["held_out"]["n"] > 0.7  # always saying no has 0.65
    found = judge_train.task(read(SHIPPED), "refused")
    away = {judge_train.cluster(row) for row in found.held_out}
    assert away.isdisjoint(judge_train.cluster(row) for row in found.train)
    judge = textclass.load(out)
    asked = [judge_train.asked(row) for row in found.held_out]
    assert judge.probabilities(asked) == pytest.approx(judge_train.train_linear(found).probabilities(asked))
    assert judge.probabilities(asked) == pytest.approx(_by_scikit_learn(found, asked, judge.about.temperature))
    assert not list(out.glob("*.pkl"))
    score = judge_train.held_out_score(found, judge.probabilities)
    assert score["right"] == told["held_out"]["right"]


def _by_scikit_learn(found: judge_train.Task, asked: list[tuple[str, str]], temperature: float):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def words(pair: tuple[str, str]) -> list[str]:
        return textclass.features(*pair)

    vectorizer = TfidfVectorizer(analyzer=words, sublinear_tf=True)  # pyright: ignore
    model = LogisticRegression(C=10.0, max_iter=2000)
    rows = [judge_train.asked(row) for row in found.train]
    model.fit(vectorizer.fit_transform(rows), [found.index(row) for row in found.train])
    model.coef_, model.intercept_ = model.coef_ / temperature, model.intercept_ / temperature
    return model.predict_proba(vectorizer.transform(asked))


def test_temperature_finds_what_was_put_in() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    gold = np.array([rng.choice(3, p=row) for row in textclass.softmax(logits)])
    assert judge_train.fit_temperature(logits * 2.5, gold) == pytest.approx(2.5, rel=0.1)


def test_what_cannot_be_trained_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "train", "shipped", "--out", str(tmp_path / "a")]) == 2
    assert "choose one with --target" in capsys.readouterr().err
    file = tmp_path / "few.jsonl"
    file.write_text('{"answer": "no", "refused": true}\n{"answer": "yes", "refused": false}\n')
    assert main(["judge", "train", str(file), "--out", str(tmp_path / "b")]) == 2
    assert "it takes 5" in capsys.readouterr().err
    assert main(["judge", "card", "--labels", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_damaged_judge_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no trained judge"):
        textclass.load(tmp_path)
    (tmp_path / "judge.json").write_text('{"labels": []}')
    with pytest.raises(ValueError, match="not a judge"):
        textclass.load(tmp_path)
