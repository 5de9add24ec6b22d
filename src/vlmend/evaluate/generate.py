"""Ask a backend what was not asked before, and store every answer as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vlmend.errors import UsageError
from vlmend.reasoning import told_apart
from vlmend.store import Asked, Run, response_to_json
from vlmend.types import Backend, Decoding, Example, Finish, Response


@dataclass(frozen=True)
class Generated:
    """To how many questions the responses are new and to how many they were there; `silent` of the new say nothing.

    Two examples that ask the same share one response, and are two here as everywhere.
    """

    new: int
    kept: int
    silent: int


def generate(
    run: Run,
    asked: Sequence[Asked],
    backend: Backend,
    decoding: Decoding,
    progress: Callable[[str, int, int], None],
) -> Generated:
    """Answer what has no stored response. Failed ones are tried again: they are no evidence about the model."""
    wanted = {item.response_id: item for item in asked}
    sharing = Counter(item.response_id for item in asked)
    with run.response_journal() as journal:
        stored = run.outcomes()
        todo = [item for name, item in wanted.items() if stored.get(name, (Finish.FAILED, ""))[0] is Finish.FAILED]
        ids = {(item.example.id, item.sample): item.response_id for item in todo}
        new = silent = 0
        progress("generate", 0, len(todo))
        for done, response in enumerate(_answers(backend, todo, decoding), start=1):
            name = ids.get((response.example_id, response.sample))
            if name is None:
                what = f"answer {response.sample + 1} to {response.example_id!r}"
                raise UsageError(f"the backend gave {what}, which it was not asked for")
            response = replace(response if response.reasoning else told_apart(response), id=name)
            silent += sharing[name] * (not response.said)
            if not _failed_as_before(response, stored):
                journal.append(response_to_json(response))
                new += sharing[name]
            progress("generate", done, len(todo))
    return Generated(new, kept=len(asked) - sum(sharing[item.response_id] for item in todo), silent=silent)


def _answers(backend: Backend, todo: Sequence[Asked], decoding: Decoding) -> Iterator[Response]:
    """Ask for exactly these answers: examples that lack the same samples together."""
    lacking: dict[str, list[Asked]] = {}
    for item in todo:
        lacking.setdefault(item.example.id, []).append(item)
    together: dict[range, list[Example]] = {}
    for items in lacking.values():
        for samples in _spans(sorted(item.sample for item in items)):
            together.setdefault(samples, []).append(items[0].example)
    for samples, examples in together.items():
        how = replace(decoding, first_sample=samples.start, num_return_sequences=len(samples))
        yield from backend.generate(examples, how)


def _spans(numbers: Sequence[int]) -> Iterator[range]:
    """Ascending numbers as unbroken ranges."""
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield range(numbers[start], numbers[i - 1] + 1)
            start = i


def _failed_as_before(response: Response, stored: Mapping[str, tuple[Finish, str]]) -> bool:
    return response.finish is Finish.FAILED and stored.get(response.id) == (Finish.FAILED, response.why)
