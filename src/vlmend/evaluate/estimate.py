"""What an evaluation would cost, before anything is asked: every question is counted, and none is sent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vlmend.errors import UsageError
from vlmend.evaluate import defend
from vlmend.evaluate.cells import EvalConfig
from vlmend.evaluate.run import generate_all
from vlmend.money import Purse, Usage, estimate
from vlmend.store.run import RESPONSES
from vlmend.types import Backend, Changeable, Decoding, Example, Response


@dataclass(frozen=True)
class Counting:
    """A backend that stands for another one, counts what that would be asked, and answers nothing.

    Behind a defence nothing is known but the first question of each talk; each counts as `calls` like it. A budget for
    thinking may take a second call for an answer, which reads what the first wrote.
    """

    backend: Backend
    model: str
    purse: Purse
    calls: int = 1

    @property
    def fingerprint(self) -> str:
        """That of the backend it stands for, so that what was answered before is known."""
        return self.backend.fingerprint

    def changed(self, name: str, during: Callable[[Any], AbstractContextManager[None]]) -> Backend:
        """The same, standing for a model that is changed while it answers."""
        if not isinstance(self.backend, Changeable):
            raise UsageError("a model that does not run here cannot be changed")
        return replace(self, backend=self.backend.changed(name, during))

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """No responses."""
        for example in examples:
            for _ in range(len(decoding.samples) * self.calls):
                about, most = estimate(example.prompt, decoding.max_new_tokens)
                self.purse.expect(self.model, about, most)
                if decoding.thinking_budget:
                    again = Usage(1, most.input + decoding.thinking_budget, most.output)
                    self.purse.expect(self.model, Usage(), again)
        return iter(())


def expected(configs: Sequence[EvalConfig], backend: Backend, model: str, purse: Purse) -> Purse:
    """The purse with what is expected in it, of evaluations of one model; answers that are there do not count.

    Leaves no trace in their run folders.
    """
    with TemporaryDirectory() as scratch:
        trials: list[EvalConfig] = []
        for number, config in enumerate(configs):
            trial = Path(scratch) / str(number)
            trial.mkdir()
            if (known := config.out / RESPONSES).exists():
                shutil.copyfile(known, trial / RESPONSES)
            trials.append(config.model_copy(update={"out": trial}))
        by_calls: dict[int, list[EvalConfig]] = {}
        for trial in trials:
            by_calls.setdefault(defend.chain_from(trial.defence, trial.judging.models()).asks[0], []).append(trial)
        for calls, some in by_calls.items():
            counting = Counting(backend, model, purse, calls)
            done = generate_all(some, {configs[0].model: counting}, quiet=True)
            purse.known += sum(generated.kept for _, generated in done)
    return purse
