"""What an evaluation would cost, before anything is asked: every question is counted, and none is sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vlmend.evaluate.cells import EvalConfig
from vlmend.evaluate.run import generate_all
from vlmend.money import Purse, estimate
from vlmend.store.run import RESPONSES
from vlmend.types import Backend, Decoding, Example, Response


@dataclass(frozen=True)
class Counting:
    """A backend that stands for another one, counts what that would be asked, and answers nothing."""

    backend: Backend
    model: str
    purse: Purse

    @property
    def fingerprint(self) -> str:
        """That of the backend it stands for, so that what was answered before is known."""
        return self.backend.fingerprint

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """No responses."""
        for example in examples:
            for _ in decoding.samples:
                self.purse.expect(self.model, *estimate(example.prompt, decoding.max_new_tokens))
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
        done = generate_all(trials, {configs[0].model: Counting(backend, model, purse)}, quiet=True)
        purse.known += sum(generated.kept for _, generated in done)
    return purse
