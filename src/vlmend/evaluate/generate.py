"""Ask a backend what was not asked before, and store every answer as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vlmend.backends import response_id
from vlmend.errors import DataError, UsageError
from vlmend.store import Asked, Run, response_to_json
from vlmend.types import Backend, Decoding, Example, Finish, Response, digest


def awaited(example: Example, fingerprint: str, decoding: Decoding) -> str:
    """The id of the response an example awaits, also when a picture of it cannot be read."""
    try:
        return response_id(fingerprint, example, decoding)
    except DataError:
        return digest(fingerprint, "unreadable", example.id)


@dataclass(frozen=True)
class Generated:
    """How many responses are new and how many were there; `silent` of those asked for now say nothing."""

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
    wanted = {item.response_id: item.example for item in asked}
    with run.response_journal() as journal:
        stored = run.responses()
        todo = {name: e for name, e in wanted.items() if name not in stored or stored[name].finish is Finish.FAILED}
        ids = {example.id: name for name, example in todo.items()}
        new = silent = 0
        progress("generate", 0, len(todo))
        for done, response in enumerate(backend.generate(list(todo.values()), decoding), start=1):
            if response.example_id not in ids:
                raise UsageError(f"the backend answered {response.example_id!r}, which it was not asked")
            response = replace(response, id=ids[response.example_id])
            silent += not response.said
            if not _failed_as_before(response, stored):
                journal.append(response_to_json(response))
                new += 1
            progress("generate", done, len(todo))
    return Generated(new, kept=len(wanted) - len(todo), silent=silent)


def _failed_as_before(response: Response, stored: dict[str, Response]) -> bool:
    before = stored.get(response.id)
    return before is not None and response.finish is Finish.FAILED and before.why == response.why
