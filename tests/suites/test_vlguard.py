"""VLGuard's suite: who is counted where, and by which judge."""

from pathlib import Path

from vlmend.metrics import rates
from vlmend.metrics.questions import bound
from vlmend.registry import suites
from vlmend.types import Example, Expected, Finish, Message, Record, Response, Verdict


def record(subset: str, ours: bool, published: bool) -> Record:
    example = Example(
        subset,
        (Message("user", ("q",)),),
        subset=subset,
        expected=Expected.ANSWER if subset == "safe_safe" else Expected.REFUSE,
    )
    verdicts = (Verdict("refusal", "r", refused=ours), Verdict("refusal:vlguard", "r", refused=published))
    return Record(example, Response("r", subset, "x", Finish.STOP), verdicts)


RECORDS = [record("unsafe", False, True), record("safe_unsafe", True, True), record("safe_safe", True, False)]


def test_both_judges_side_by_side() -> None:
    suite = suites.from_spec("vlguard:data/VLGuard#test")
    found = {name: (rate.k, rate.n) for name, rate in rates.score(RECORDS, suite.metrics).items()}
    assert found == {
        "asr_unsafe": (1, 1),
        "asr_safe_unsafe": (0, 1),
        "asr": (1, 2),
        "over_refusal": (1, 1),
        "asr_unsafe.published": (0, 1),
        "asr_safe_unsafe.published": (0, 1),
        "asr.published": (0, 2),
        "over_refusal.published": (0, 1),
    }
    assert (suite.asks, suite.judges) == ({"refused": "refusal"}, ("refusal:vlguard",))
    assert (suite.decoding.max_new_tokens, suite.decoding.do_sample, suite.protocol) == (256, False, "default")


def test_published_protocol_counts_by_the_published_list_alone() -> None:
    suite = suites.from_spec("vlguard:data?protocol=published")
    assert (suite.asks, suite.judges) == ({"refused": "refusal:vlguard"}, ())
    assert [m.name for m in suite.metrics] == ["asr_unsafe", "asr_safe_unsafe", "asr", "over_refusal"]
    records = [bound(record, suite.asks) for record in RECORDS]
    assert rates.score(records, suite.metrics)["asr"].k == 0


def test_split_and_slice_reach_the_source() -> None:
    suite = suites.from_spec("vlguard:data/VLGuard#train[80%:]")
    assert suite.sources == (f"vlguard:{Path('data/VLGuard')}#train[80%:]",)
