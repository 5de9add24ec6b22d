"""A model's own reasoning and answers in place of those of the data: what keeps it from unlearning how to think.

Rows to be answered are given to the model before it is tuned, and what it thinks and says is learned in their place
where it is right. Rows to be refused keep the data's answer; the reasoning before it is the data's, or what a model
thinks that is told to look for harm, where it then refuses. Every answer is kept on disk by model, request and
decoding: a run that was killed asks for the rest, and another run of the same model asks for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from vlmend.config import OwnConfig
from vlmend.errors import DataError
from vlmend.reasoning import told_apart
from vlmend.registry import backend_for, rewards
from vlmend.store import Journal, cache_folder, read_rows, response_from_json, response_to_json
from vlmend.terminal import plural
from vlmend.types import (
    Backend,
    Decoding,
    Example,
    Expected,
    Finish,
    Message,
    Response,
    Reward,
    Role,
    Rollout,
    content_of,
    digest,
)

LOOK = (
    "Before you answer, think about whether what is asked for could do harm to anybody. It could: name the harm in your"
    " thoughts, and then decline in one or two friendly sentences."
)


class Said(NamedTuple):
    """What is learned of a row instead: what is thought, and what is answered."""

    reasoning: str
    answer: str


@dataclass(frozen=True)
class Own:
    """By id of a row what is learned of it instead, None where it is left out; and how many rows became what."""

    rows: Mapping[str, Said | None] = field(default_factory=dict[str, Said | None])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])

    def __call__(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The examples with it, in order, without those that are left out."""
        for example in examples:
            said = self.rows.get(example.id, Said(example.reasoning, ""))
            if said is None:
                continue
            others = tuple(answer for answer in example.answers if answer != said.answer)
            answers = (said.answer, *others) if said.answer else example.answers
            yield replace(example, answers=answers, reasoning=said.reasoning)

    def lines(self) -> list[str]:
        """What is to be said of it."""
        told = ", ".join(f"{plural(n, 'row')} {what}" for what, n in self.counts.items())
        return [f"own reasoning: {told}"]


def keeps(example: Example) -> bool:
    """Whether it is a row to be answered, and not one that is shown to be forgotten."""
    return example.expected is Expected.ANSWER and example.role is not Role.FORGET


def own(examples: Sequence[Example], model: Backend, settings: OwnConfig) -> Own:
    """Ask for what is to be kept. Raises DataError where nothing of the rows to be answered is.

    Rows that share their `meta["pair"]` teach by their difference: where one is left out, all are.
    """
    harmless = [example for example in examples if keeps(example)]
    refusing = [e for e in examples if e.expected is not Expected.ANSWER and e.role is not Role.FORGET]
    found = _answered(harmless, model, settings)
    if settings.safety != "data":
        found |= _thought(refusing, model if settings.safety == "own" else backend_for(settings.safety), settings)
    else:
        found |= {row.id: _Fate("to be refused without any reasoning") for row in refusing if not row.reasoning}
    alone = {row.meta["pair"] for row in examples if "pair" in row.meta and found.get(row.id, AS_GIVEN).left_out}
    for row in examples:
        if row.meta.get("pair") in alone and not found.get(row.id, AS_GIVEN).left_out:
            found[row.id] = _Fate("whose other side is left out (left out as well)", left_out=True)
    counts = Counter(fate.became for fate in found.values())
    counts["of these without a thought"] = sum(
        fate.became == OWN and not (fate.said and fate.said.reasoning) for fate in found.values()
    )
    if harmless and not any(found[row.id].said for row in harmless if row.id in found):
        told = "; ".join(f"{what}: {n:,}" for what, n in counts.items() if n)
        raise DataError(
            f"of {plural(len(harmless), 'row')} to be answered the model's own answer could be kept in none ({told});"
            f" own.right says what is right, and is {settings.right!r}"
        )
    rows = {name: fate.said for name, fate in found.items() if fate.said or fate.left_out}
    return Own(rows, {what: n for what, n in counts.items() if n})


@dataclass(frozen=True)
class _Fate:
    """What became of a row: what is learned instead, if anything, or that it is left out."""

    became: str
    said: Said | None = None
    left_out: bool = False


AS_GIVEN = _Fate("as given")
OWN = "with the model's own answer"


def _answered(rows: Sequence[Example], model: Backend, settings: OwnConfig) -> dict[str, _Fate]:
    """Of rows to be answered: the model's own thought and answer where it is right."""
    found: dict[str, _Fate] = {}
    drops = settings.wrong == "drop"
    responses = ask(rows, model, decoding(settings))
    for row, response, right in zip(rows, responses, _right(rows, responses, settings.right), strict=True):
        why = _unfit(response) or {None: "whose own answer was not scored", False: "whose own answer is wrong"}.get(
            right, ""
        )
        if why:
            found[row.id] = _Fate(f"{why} ({'left out' if drops else 'as given'})", left_out=drops)
        else:
            found[row.id] = _Fate(OWN, Said(response.reasoning, response.text.strip()))
    return found


def _thought(rows: Sequence[Example], model: Backend, settings: OwnConfig) -> dict[str, _Fate]:
    """Of rows to be refused: what is thought about them by a model that is told to look, where it then refuses."""
    found: dict[str, _Fate] = {}
    told = [replace(row, prompt=(*row.prompt[:-1], _told_to_look(row))) for row in rows]
    responses = ask(told, model, decoding(settings))
    for row, response, refused in zip(rows, responses, _right(rows, responses, settings.refused), strict=True):
        if not _unfit(response) and response.reasoning and refused:
            found[row.id] = _Fate("with reasoning that looked for harm", Said(response.reasoning, ""))
        else:
            found[row.id] = _Fate("without reasoning that ended in a refusal", left_out=settings.wrong == "drop")
    return found


def _told_to_look(row: Example) -> Message:
    last = row.prompt[-1]
    return last.with_text(f"{last.text}\n\n{LOOK}".strip())


def _unfit(response: Response) -> str:
    """Why an answer cannot be learned, whatever it says."""
    if response.finish is Finish.LENGTH:
        return "whose own answer was cut off"
    return "" if response.said else "that were not answered"


def _right(rows: Sequence[Example], responses: Sequence[Response], spec: str) -> list[bool | None]:
    """Of each answer whether it is right by a reward; every one is where none is named or the row knows no answer."""
    found: list[bool | None] = [True] * len(rows)
    if not spec:
        return found
    reward: Reward = rewards.from_spec(spec)
    asked = [i for i, (row, said) in enumerate(zip(rows, responses, strict=True)) if said.said and row.answers]
    rollouts = [
        Rollout(rows[i], responses[i].text, responses[i].tokens, responses[i].finish is Finish.STOP) for i in asked
    ]
    for i, value in zip(asked, reward(rollouts) if rollouts else (), strict=True):
        found[i] = None if value is None else value > 0
    return found


def decoding(settings: OwnConfig) -> Decoding:
    """How the model is asked: greedily, its thoughts within the budget."""
    return Decoding(max_new_tokens=settings.max_new_tokens)


def ask(examples: Sequence[Example], model: Backend, how: Decoding) -> list[Response]:
    """One answer to each, in order; those that are on disk are not asked for again, and failed ones are not kept."""
    path = cache_folder() / "own" / f"{digest(model.fingerprint, how.max_new_tokens)}.jsonl"
    known = {row["asked"]: response_from_json(row["response"]) for row in read_rows(path)}
    keys = {example.id: _key(example, how) for example in examples}
    todo = [example for example in examples if keys[example.id] not in known]
    if todo:
        with Journal(path) as journal:
            for response in model.generate(todo, how):
                told = response if response.reasoning else told_apart(response)
                known[keys[told.example_id]] = told
                if told.finish is not Finish.FAILED:
                    journal.append({"asked": keys[told.example_id], "response": response_to_json(told)})
    return [known[keys[example.id]] for example in examples]


def _key(example: Example, how: Decoding) -> str:
    return digest(content_of(example.prompt), asdict(how))
