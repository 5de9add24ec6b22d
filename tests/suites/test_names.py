"""No two numbers of a run have one name, whichever judges are heard beside the suite's own."""

from collections import Counter

from tests.suites.told import EACH, Told, pairs
from vlmend.metrics.questions import QUESTIONS
from vlmend.metrics.views import views
from vlmend.registry import suites

NUMBERS = ("asr.refused.all", "asr.all")


def names(told: Told) -> list[str]:
    """Of a suite that is judged by its own judges, and beside them by one that answers every question there is."""
    suite = suites.from_spec(told.spec)
    asks = {question: [*([suite.asks[question]] if question in suite.asks else []), "all"] for question in QUESTIONS}
    records = {(r.example.subset, r.example.expected, r.example.role): r for r, _ in pairs(told) if r.response.said}
    return [m.name for view in views(suite, asks, list(records.values())) for m in view.measures]


@EACH
def test_every_number_has_a_name_of_its_own(told: Told) -> None:
    assert [name for name, count in Counter(names(told)).items() if count > 1] == []


@EACH
def test_what_a_judge_says_of_harm_is_never_called_what_it_says_of_refusals(told: Told) -> None:
    """The attack success of MIS is harm; that of a judge of refusals, whom MIS does not ask, is another number."""
    found = names(told)
    assert all(name in found for name in NUMBERS) == (told.spec == "mis:data")
