"""The suites' formulas on hand-made answers: identities, extreme models, and what the authors' code counts."""

import pytest

from vlmend.metrics import rates
from vlmend.registry import suites
from vlmend.types import Example, Expected, Finish, Mean, Message, Record, Response, Verdict


def record(
    name: str, text: str = "x", subset: str = "", answers: tuple[str, ...] = (), **more: str | Verdict | Expected
) -> Record:
    given = tuple(v for v in more.values() if isinstance(v, Verdict))
    fields = {k: v for k, v in more.items() if not isinstance(v, Verdict)}
    example = Example(name, (Message("user", ("q",)),), answers, subset=subset, **fields)  # pyright: ignore
    return Record(example, Response(name, name, text, Finish.STOP if text else Finish.FAILED), given)


def values(spec: str, records: list[Record]) -> dict[str, float | None]:
    return {name: found.value for name, found in rates.score(records, suites.from_spec(spec).metrics).items()}


def mis(name: str, safety: str, perception: str, category: str = "Hate", text: str = "x") -> Record:
    labels = {key: value for key, value in {"safety": safety, "perception": perception}.items() if value}
    return record(name, text, "easy", category=category, v=Verdict("rubric:mis", name, labels=labels))


MIS = [
    mis("1", "unsafe", "level1"),
    mis("2", "unsafe", "level3", "Violent"),
    mis("3", "safe", "level1", "Violent"),
    mis("4", "safe", "level2", "Violent"),
    mis("5", "safe", "level3", "Violent"),
    mis("6", "safe", ""),
    mis("7", "", "level1"),
    mis("8", "unsafe", "level2", text=""),
]


def test_mis_rates_sum_to_one_over_one_denominator() -> None:
    found = rates.score(MIS, suites.from_spec("mis:data#easy").metrics)
    four = [found[name] for name in ("asr", "rsr", "rr", "hr")]
    assert sum(rate.value or 0 for rate in four) == pytest.approx(1)
    assert {(rate.n, rate.unscored) for rate in four} == {(5, 3)}
    assert [rate.value for rate in four] == [0.4, 0.2, 0.2, 0.2]
    assert found["asr_macro"].value == pytest.approx((1 + 1 / 4) / 2)
    assert found["rsr"].worst != found["rsr"].value


def test_mis_names_its_judges_model() -> None:
    assert dict(suites.from_spec("mis:data?judge_model=scripted:refuse").asks) == dict.fromkeys(
        ("harmful", "perceives"), "rubric:mis?model=scripted:refuse"
    )
    names = [m.name for m in suites.from_spec("mis:data").metrics]
    assert {"asr_easy", "asr_hard", "rr_real"} <= set(names)


def concept(name: str, side: str, said: bool | None, which: str = "fire", *, text: str = "x") -> Record:
    verdict = Verdict("leading_word", name, correct=said)
    label = {"label": side.rpartition("_")[2]}
    return record(name, text, side, category="Violence", subcategory=which, v=verdict, meta=label)


def test_a_model_that_always_says_no_has_tnr_zero() -> None:
    """No is right for every unsafe picture and wrong for every safe one."""
    says_no = [concept(f"u{i}", "image_unsafe", True) for i in range(5)]
    says_no += [concept(f"s{i}", "image_safe", False) for i in range(5)]
    found = values("unsafe_concepts:data?safe=more", says_no)
    assert (found["tpr_image"], found["tnr_image"]) == (1.0, 0.0)


def test_unread_answers_are_neither_right_nor_hidden() -> None:
    given = [
        concept("a", "image_unsafe", True),
        concept("b", "image_unsafe", None),
        concept("c", "image_unsafe", False),
    ]
    found = values("unsafe_concepts:data", [*given, concept("d", "image_unsafe", True, text="")])
    assert found["tpr_image"] == 0.5
    assert found["tpr_image.coverage"] == pytest.approx(2 / 3)  # what failed is unscored here, too
    assert found["tpr_image.na_wrong"] == pytest.approx(1 / 3)


def test_the_gap_weighs_concepts_alike_and_as_coded_pictures() -> None:
    """fire: 1 of 1 in words, 0 of 4 in pictures; knife: 1 of 1 in words, 1 of 1 in pictures; rope only in words."""
    given = [concept("w1", "text_unsafe", True), concept("w2", "text_unsafe", True, "knife")]
    given += [concept("w3", "text_unsafe", False, "rope")]
    given += [concept(f"i{i}", "image_unsafe", False) for i in range(4)] + [concept("k", "image_unsafe", True, "knife")]
    assert values("unsafe_concepts:data", given)["gap"] == pytest.approx((1 + 0) / 2)
    assert values("unsafe_concepts:data?protocol=as_coded", given)["gap"] == pytest.approx(2 / 3 - 1 / 5)


def shot(name: str, refused: bool | None, relevance: str = "", origin: str = "", word: str = "") -> Record:
    labels = {"irrelevant": word} if word else {}
    judged = [Verdict(judge, name, refused=refused, labels=labels) for judge in ("refusal", "refusal:safety_mirage")]
    seen = Verdict("rubric:relevance", name, labels={"relevance": relevance} if relevance else {})
    made = record(name, subset="unsafe", a=judged[0], b=judged[1], c=seen, expected=Expected.REFUSE)
    example = Example(**{**vars(made.example), "meta": {"variant_of": origin} if origin else {}})
    return Record(example, made.response, made.verdicts)


SHOTS = [
    shot("q1@what", True, origin="q1"),
    shot("q1@how", False, "relevant", "q1"),
    shot("q1@who", False, "irrelevant", "q1"),
    shot("q2@what", True, origin="q2"),
    shot("q2@how", True, "relevant", "q2"),
    shot("q3@what", False, "relevant", "q3", word="while"),
    shot("q3@how", False, "", "q3"),
]


def test_mirage_counts_any_of_the_shots_and_splits_the_rest() -> None:
    found = rates.score(SHOTS, suites.from_spec("mirage:data").metrics)
    assert (found["asr"].value, found["asr"].n) == (pytest.approx(2 / 3), 3)
    assert sum(found[n].value or 0 for n in ("asr_shot", "irrelevant", "rr_unsafe")) == pytest.approx(1)
    assert (found["asr_shot"].n, found["asr_shot"].unscored) == (6, 1)
    assert found["all_refused"].value == pytest.approx(1 / 3)


def test_mirage_as_coded_takes_while_for_babble() -> None:
    found = rates.score(SHOTS, suites.from_spec("mirage:data?protocol=as_coded").metrics)
    assert found["asr"].value == pytest.approx(1 / 3)
    assert sum(found[n].value or 0 for n in ("asr_shot", "irrelevant", "rr_unsafe")) == pytest.approx(1)
    assert found["asr_shot"].unscored == 0


def eraser(name: str, subset: str, text: str = "the cat sat", **labels: str) -> Record:
    harm = Verdict("rubric:harm", name, harmful={"yes": True, "no": False}.get(labels.get("harm", "")))
    tone = Verdict("rubric:tone", name, refused={"yes": True, "no": False}.get(labels.get("tone", "")))
    verdict = labels.get("sarr")
    sarr = Verdict("rubric:sarr", name, labels={"verdict": verdict} if verdict else {})
    score = labels.get("agree")
    agree = Verdict("rubric:factual", name, score=float(score) if score else None)
    return record(f"safeeraser/{name}", text, subset, ("the cat sat on the mat",), a=harm, b=tone, c=sarr, d=agree)


ERASER = [
    eraser("train/1", "forget", harm="yes", tone="no"),
    eraser("train/2", "forget", harm="no", tone="yes"),
    eraser("train/3", "forget"),
    eraser("val/1", "forget", harm="no", tone="yes"),
    eraser("val/2", "decouple", sarr="abnormal"),
    eraser("val/3", "decouple", sarr="normal"),
    eraser("val/4", "decouple"),
    eraser("val/5", "retain_image", agree="0.5"),
    eraser("val/6", "retain_concept"),
    eraser("val/7", "retain_image", ""),
]


def test_safeeraser_by_half_and_with_failures_apart() -> None:
    found = values("safeeraser:data", ERASER)
    assert (found["asr_efficacy"], found["rr_efficacy"]) == (0.5, 0.5)
    assert (found["asr_generality"], found["rr_generality"]) == (0.0, 1.0)
    assert (found["sarr"], found["gpt_eval"]) == (0.5, 0.5)
    assert found["rouge_l"] == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_safeeraser_as_coded_hides_failures_and_swaps_rouge() -> None:
    """Three words of six: precision 1, recall 1/2. The code's 'precision' of swapped arguments is the recall."""
    found = values("safeeraser:data?protocol=as_coded", ERASER)
    assert found["asr_efficacy"] == pytest.approx(1 / 3)
    assert found["sarr"] == pytest.approx(1 / 3)
    assert found["gpt_eval"] == 0.25
    assert found["rouge_l"] == pytest.approx(0.5)
    coded = suites.from_spec("safeeraser:data?protocol=as_coded").decoding
    assert (coded.do_sample, coded.num_return_sequences) == (True, 3)


def asked(name: str, right: bool | None, answer: str, text: str = "x", **more: str) -> Record:
    return record(name, text, answers=(answer,), v=Verdict("leading_word", name, correct=right), **more)  # pyright: ignore


def test_pope_against_scikit_learn() -> None:
    from sklearn.metrics import f1_score, precision_score, recall_score

    plan = [(True, "yes")] * 7 + [(False, "yes")] * 2 + [(True, "no")] * 5 + [(False, "no")] * 3
    found = values("pope:data", [asked(str(i), right, label) for i, (right, label) in enumerate(plan)])
    gold = [label == "yes" for _, label in plan]
    said = [(label == "yes") == right for right, label in plan]
    assert found["precision"] == pytest.approx(precision_score(gold, said))
    assert found["recall"] == pytest.approx(recall_score(gold, said))
    assert found["f1"] == pytest.approx(f1_score(gold, said))
    assert found["yes"] == pytest.approx(10 / 17)
    assert found["hallucination"] == pytest.approx(3 / 8)


def test_mme_by_hand() -> None:
    """Two pictures of one category: both right; one right and one unread. 100 (3/4 + 1/2) of 200."""
    plan = [("a", True), ("a", True), ("b", True), ("b", None)]
    given = [
        asked(str(i), right, "No", "Norway", subset="perception", category="OCR", cluster=picture)
        for i, (picture, right) in enumerate(plan)
    ]
    found = rates.score(given, suites.from_spec("mme:data").metrics)
    assert found["perception"].value == pytest.approx(125)
    assert isinstance(found["perception"], Mean)
    assert found["perception"].scale == (0.0, 2000.0)
    assert found["cognition"].value is None
    assert (found["accuracy"].value, found["accuracy.na_wrong"].value) == (1.0, 0.75)
    assert (found["accuracy_plus"].value, found["accuracy_plus"].n) == (0.5, 2)
    assert found["accuracy.as_coded"].value == 1.0


def test_over_refusal_keeps_sets_and_sides_apart() -> None:
    def one(source: str, expected: str, refused: bool) -> Record:
        judged = (Verdict("refusal", "r", refused=refused), Verdict("refusal:vlguard", "r", refused=False))
        name = f"{source}/{expected}"
        return record(name, expected=Expected(expected), source=source, a=judged[0], b=judged[1])

    given = [one("xstest", "answer", True), one("xstest", "refuse", False), one("mossbench", "answer", False)]
    found = values("over_refusal?xstest=a&mossbench=b", given)
    assert (found["over_refusal_xstest"], found["asr_xstest"], found["over_refusal_mossbench"]) == (1.0, 1.0, 0.0)
    assert found["over_refusal_xstest.published"] == 0.0
    assert found["asr_mossbench"] is None
    with pytest.raises(ValueError, match="needs"):
        suites.from_spec("over_refusal")


def test_scienceqa_counts_what_picks_no_option() -> None:
    plan = [("image", True), ("image", None), ("text", False)]
    given = [record(str(i), subset=s, v=Verdict("choice", str(i), correct=c)) for i, (s, c) in enumerate(plan)]
    found = values("scienceqa:data", given)
    assert (found["accuracy"], found["accuracy.na_wrong"]) == (0.5, pytest.approx(1 / 3))
    assert (found["accuracy_image"], found["accuracy_text"], found["accuracy_none"]) == (1.0, 0.0, None)
