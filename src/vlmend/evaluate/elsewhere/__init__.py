"""Answers made elsewhere: scored here, without the model that gave them and without the pictures it saw.

Files of answers are read by their layout (`layouts`), joined to what a suite asks by id, picture and question, never by
position (`joining`), and stored as any other responses. What belongs to nothing that is asked, and what answers a
question a second time, is counted and said; a question without an answer is unscored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from vlmend.backends import refuse_budget, response_id
from vlmend.errors import UnknownName, UsageError
from vlmend.evaluate.elsewhere.joining import Joined, join
from vlmend.evaluate.elsewhere.layouts import Said, read
from vlmend.manifest import file_hash
from vlmend.reasoning import told_apart
from vlmend.terminal import plural
from vlmend.types import Decoding, Example, Finish, Response, digest


@dataclass(frozen=True)
class Elsewhere:
    """Answers in `files`, each `FILE` or `SUBSET=FILE` where it answers one subset, given by a model named `model`."""

    model: str
    files: tuple[str, ...]
    _joined: dict[str, Joined] = field(default_factory=dict[str, Joined], repr=False, compare=False)

    @property
    def name(self) -> str:
        """The model's name in tables."""
        return self.model

    @property
    def fingerprint(self) -> str:
        """Identity of the answers: who gave them, and the files' content."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        return digest("elsewhere", self.model, [[subset, file_hash(path)] for subset, path in self._named])

    @cached_property
    def _named(self) -> list[tuple[str, Path]]:
        return [_named(file) for file in self.files]

    @cached_property
    def _read(self) -> tuple[list[Said], list[str]]:
        """All answers, and what each file was taken for."""
        found: list[Said] = []
        layouts: list[str] = []
        for subset, path in self._named:
            layout, said = read(path)
            found += [row._replace(subset=subset or row.subset) for row in said]
            layouts.append(layout)
        return found, layouts

    def about(self, examples: Sequence[Example], asked: Collection[tuple[str, int]]) -> Mapping[str, Any]:
        """What the manifest says of the answers: files, layouts, and how they were joined to the examples' samples."""
        joined = self._join(examples)
        answered = sum(each in joined.answers for each in asked)
        rows = [
            {"file": str(path), "layout": layout, "sha256": file_hash(path)} | ({"subset": subset} if subset else {})
            for (subset, path), layout in zip(self._named, self._read[1], strict=True)
        ]
        more = sum(each not in asked for each in joined.answers)
        counts = {"answered": answered, "unanswered": len(asked) - answered}
        return {"files": rows, **counts, "more_samples": more, **joined.counts()}

    def tell(self, about: Mapping[str, Any], say: Callable[[str, str], None]) -> None:
        """Say what was joined and what was not."""
        layouts = ", ".join(dict.fromkeys(row["layout"] for row in about["files"]))
        left = [f"{about[key]:,} {why}" for key, why in LEFT.items() if about[key]]
        first = f" (first: {about['first']})" if about["first"] else ""
        told = "; ".join([f"{plural(about['answered'], 'answer')} joined", *left])
        say(f"answers made elsewhere, {layouts}: {told}{first}", "bold yellow" if left else "")

    def generate(self, examples: Sequence[Example], decoding: Decoding) -> Iterator[Response]:
        """The stored answer to each example and sample; a failed response where there is none."""
        refuse_budget(decoding, "who gave these answers")
        joined = self._join(examples)
        for example, sample in product(examples, decoding.samples):
            said = joined.answers.get((example.id, sample))
            text = said.text if said else None
            why = "no answer in " + ", ".join(self.files) if said is None else f"{said.place} has no text"
            response = Response(
                response_id(self.fingerprint, example, decoding, sample), example.id, text or "",
                Finish.STOP if text is not None else Finish.FAILED, tokens=len((text or "").split()), model=self.model,
                why="" if text is not None else why, sample=sample,
            )  # fmt: skip
            yield told_apart(response)

    def prepare(self, examples: Sequence[Example]) -> None:
        """Join the answers to all that is asked, before parts of it are asked for."""
        known = {example.subset for example in examples}
        for subset, _ in self._named:
            if subset and subset not in known:
                raise UnknownName("subset of what is asked", subset, known)
        self._joined["all"] = join(self._read[0], examples)

    def _join(self, examples: Sequence[Example]) -> Joined:
        if "all" not in self._joined:
            self.prepare(examples)
        return self._joined["all"]


LEFT = {
    "unanswered": "questions have none and are unscored",
    "unmatched": "belong to nothing that is asked",
    "ambiguous": "fit several questions alike and are left out; name the subset: --answers SUBSET=FILE",
    "repeated": "answer a question again in the same words",
    "contradicting": "answer a question again in other words, and the first counts",
    "more_samples": "are further samples, which --num-return-sequences takes in",
}


def _named(file: str) -> tuple[str, Path]:
    """Subset and path. Raises UsageError for a file that is not there."""
    subset, equals, rest = file.partition("=")
    path = Path(rest) if equals and not Path(file).exists() else Path(file)
    if not path.is_file():
        raise UsageError(f"--answers {file}: there is no file {path}")
    return ("" if path == Path(file) else subset), path
