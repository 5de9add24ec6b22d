"""VQA v2: open questions about everyday pictures, soft accuracy over ten annotators (arXiv 1612.00837)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vlmend.suites import Annotated


@dataclass(frozen=True)
class Vqav2Suite(Annotated):
    """`vqav2:DIR#SPLIT`, val or train: by type of answer, too, as the official evaluation reports it."""

    name: ClassVar[str] = "vqav2"
    kinds: ClassVar[Mapping[str, str]] = {"yes_no": "yes/no", "number": "number", "other": "other"}


plugin = Vqav2Suite
