"""VizWiz: questions of blind people, some without an answer, soft accuracy over ten annotators (arXiv 1802.08218)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from vlmend.suites import Annotated


@dataclass(frozen=True)
class VizWizSuite(Annotated):
    """`vizwiz:DIR#SPLIT`, val or train: by type of answer, too. `unanswerable` is right where annotators said so."""

    name: ClassVar[str] = "vizwiz"
    kinds: ClassVar[Mapping[str, str]] = {
        "yes_no": "yes/no",
        "number": "number",
        "other": "other",
        "unanswerable": "unanswerable",
    }


plugin = VizWizSuite
