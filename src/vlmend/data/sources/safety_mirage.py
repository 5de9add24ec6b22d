"""Safety Mirage: what VLM unlearning forgets and retains, from VLGuard and an instruction set (arXiv 2503.11832).

Origin: the successor repository OPTML-Group/VLM-Safety-Unlearn, whose scripts make two sets from VLGuard's training
split; none of their files is published. VLGuard is for research only; the instruction set has its own terms.

Forget: the 1,023 unsafe pictures, each with a harmful answer of the model before unlearning. VLGuard's own answers are
refusals, and to forget those would undo its purpose, so harmful answers come from a file of the user's, a JSON object
`{"HOD/img.jpg": "answer", …}` as the scripts keep it. Unlike there, an unsafe picture without an answer is an error
rather than one whose refusal is forgotten. Unsafe questions about safe pictures are in neither set.

Retain: the 977 harmless questions about safe pictures, filled up to `n` with rows drawn from a list in LLaVA's layout,
read as by the source llava_instruct (the paper's is a filtered llava_v1_5_mix665k.json, not published). Sample and
order are those of the scripts for the same list and seed. The published trainer then takes 2,000 of them at random.

Could not be checked: whether the paper's forget set has answers at all (notes on it say queries only, the scripts add
them).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vlmend.data.rows import mapping
from vlmend.errors import DataError, UsageError, nearest
from vlmend.registry import sources
from vlmend.types import Example, Role

HARMFUL = "harmful.json"


@dataclass(frozen=True)
class SafetyMirage:
    """`safety_mirage:VLGUARD#SPLIT?harmful=FILE&instruct=FILE`: #forget, #retain, or #train for both.

    harmful: picture and answer (default: harmful.json in VLGuard's folder).

    response: target (the harmful answer is what is forgotten, as for NPO), appended (it also follows the question in
    the user's turn, so that it occurs twice, as the scripts do for RMU) or none (queries only; needs no `harmful`).

    instruct: a list in LLaVA's layout that fills the retain set up to `n`, or as far as it goes; its pictures are named
    from `images` (default: its own folder). Without it, retain is VLGuard's alone, in the order of the file.
    """

    path: Path
    split: Literal["train", "forget", "retain"] = "train"
    harmful: Path | None = None
    response: Literal["target", "appended", "none"] = "target"
    instruct: Path | None = None
    images: Path | None = None
    n: int = 2000
    seed: int = 42

    def __iter__(self) -> Iterator[Example]:
        """What is forgotten, then what is retained; pictures named but not opened."""
        if self.split != "retain":
            yield from self._forget()
        if self.split != "forget":
            yield from self._retain()

    def _forget(self) -> Iterator[Example]:
        unsafe = self._vlguard("unsafe", Role.FORGET)
        if self.response == "none":
            yield from (replace(example, answers=()) for example in unsafe)
            return
        answers = self._answers([_picture(example) for example in unsafe])
        for example in unsafe:
            answer = answers[_picture(example)]
            *earlier, last = example.prompt
            if self.response == "appended":
                last = last.with_text(f"{last.text}\n{answer}")
            yield replace(example, prompt=(*earlier, last), answers=(answer,))

    def _answers(self, needed: list[str]) -> Mapping[str, str]:
        """The harmful answer for each picture. Raises DataError when one is missing or says nothing."""
        file = self.harmful or self.path / HARMFUL
        if self.harmful is None and not file.exists():
            raise UsageError(
                f"safety_mirage: what is to be forgotten are harmful answers, VLGuard has refusals, and there is no "
                f"{file}; give ?harmful= with a JSON file of picture and answer, or ?response=none for queries only"
            )
        held = mapping(file)
        for picture, answer in held.items():
            if not isinstance(answer, str) or not answer.strip():
                raise DataError(f"{file}: the answer for picture {picture!r} should be a text with something in it")
        if absent := [picture for picture in needed if picture not in held]:
            raise DataError(
                f"{file} has no answer for {len(absent):,} of {len(needed):,} unsafe pictures, first {absent[0]!r}."
                f"{nearest(absent[0], held)} It has {len(held):,} answers"
            )
        return held

    def _retain(self) -> list[Example]:
        own = self._vlguard("safe_safe", Role.RETAIN)
        if self.instruct is None:
            return own
        rows: list[Example] = list(sources.build("llava_instruct", {"path": self.instruct, "images": self.images}))
        if not rows:
            raise DataError(f"{self.instruct} has no rows")
        order = random.Random(self.seed)
        drawn = order.sample(rows, min(max(0, self.n - len(own)), len(rows)))
        both = own + [replace(_ours(e, e.id, Role.RETAIN), subset="instruct") for e in drawn]
        order.shuffle(both)
        return both

    def _vlguard(self, subset: str, role: Role) -> list[Example]:
        """One subset of VLGuard's training split."""
        found = sources.build("vlguard", {"path": self.path, "split": "train"})
        return [_ours(e, e.id.replace("/train/", "/", 1), role) for e in found if e.subset == subset]

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write a sample of VLGuard, `harmful.json` that names drawn hazards, and one of LLaVA's in `instruct`."""
        sources.find("vlguard").sample(folder, seed)
        unsafe = [e for e in sources.build("vlguard", {"path": folder}) if e.subset == "unsafe"]
        answers = {_picture(e): f"It shows a {e.subcategory}." for e in unsafe}
        (folder / HARMFUL).write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
        sources.find("llava_instruct").sample(folder / "instruct", seed)


plugin = SafetyMirage


def _ours(example: Example, name: str, role: Role) -> Example:
    return replace(example, id=f"safety_mirage/{role}/{name}", role=role, source="safety_mirage")


def _picture(example: Example) -> str:
    """The picture's name in VLGuard's files."""
    return example.cluster.removeprefix("vlguard/")
