"""A reward or cost model of ours: a head of one number on a model, from a folder of method `reward` or `cost`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vlmend.types import Rollout

if TYPE_CHECKING:
    from vlmend.models.valuing import Valuer


@dataclass(frozen=True)
class Model:
    """`model:FOLDER`: r of a reward model, and -C of a cost model, so that high is what is wanted of both.

    `base` is where its base model lies, if not under the name it was tuned as. The model is loaded when it is first
    asked. An answer that was cut off is read as if it had ended there; `rule` can be made to stand before it. What says
    nothing or cannot be encoded is unscored.
    """

    folder: Path
    base: str = ""
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def check(self) -> None:
        """Raise ModelError where there is no such model, or not its base; no weights are read."""
        from vlmend.models.valuing import check

        check(self.folder.expanduser(), self.base)

    @cached_property
    def kind(self) -> str:
        """The method that it was trained by: reward or cost."""
        from vlmend.models.valuer import describe

        return describe(self.folder.expanduser()).kind

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """One for each rollout."""
        sign = -1.0 if self.kind == "cost" else 1.0
        said = [place for place, rollout in enumerate(rollouts) if rollout.text.strip()]
        asked = [replace(rollouts[place].example, answers=(rollouts[place].text,)) for place in said]
        values = dict(zip(said, self._valuer(asked), strict=True))
        found = [values.get(place) for place in range(len(rollouts))]
        return [None if value is None else sign * value for value in found]

    @cached_property
    def _valuer(self) -> Valuer:
        from vlmend.models.valuing import open_valuer

        return open_valuer(self.folder.expanduser(), self.base, self.device, self.dtype)


plugin = Model
