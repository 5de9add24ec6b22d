"""What an evaluation would cost, before anything is asked: every question is counted, and none is sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from vlmend.evaluate.run import EvalConfig, generate_all
from vlmend.money import Purse, estimate
from vlmend.types import Backend, Decoding, Example, Response

ANSWERS = "responses.jsonl"


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


def expected(config: EvalConfig, specs: Sequence[str], backend: Backend, model: str, purse: Purse) -> Purse:
    """The purse with what is expected in it. Leaves no trace in the run folder; answers that are there do not count."""
    with TemporaryDirectory() as scratch:
        trial = Path(scratch)
        for known in config.out.glob(f"**/{ANSWERS}"):
            copy = trial / known.relative_to(config.out)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(known, copy)
        done = generate_all(
            config.model_copy(update={"out": trial}), specs, Counting(backend, model, purse), quiet=True
        )
        purse.known += sum(generated.kept for _, generated in done)
    return purse
