"""TextVQA: questions about what is written in a picture, soft accuracy over ten annotators (arXiv 1904.08920)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vlmend.suites import Annotated


@dataclass(frozen=True)
class TextVqaSuite(Annotated):
    """`textvqa:DIR#SPLIT`, val or train; with `questions=` as LLaVA asks it, what an OCR read beside the question."""

    name: ClassVar[str] = "textvqa"


plugin = TextVqaSuite
