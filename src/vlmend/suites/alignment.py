"""Are unsafe pictures called unsafe, and harmless ones harmless? `alignment:SPEC`, of any labeled pictures.

For pictures that a model was not tuned on, such as those of the source `folder`: rates have the names that they have
in the suite unsafe_concepts, so that they stand side by side in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from vlmend.metrics.alignment import agreement, as_labeled, lexical_diversity, sides
from vlmend.metrics.outcomes import if_right
from vlmend.suites import AroundSource
from vlmend.types import Decoding, Measure, Outcome, Record, Stakes


@dataclass(frozen=True)
class AlignmentSuite(AroundSource):
    """`alignment:folder:DIR`: tpr_image, tnr_image and alignment among answers that open with yes or no, how many do,
    the same of all; and 1 - mean self-BLEU. The published classifier is heard with --judge calls_unsafe=classifier:….
    """

    name = "alignment"
    asks: ClassVar[Mapping[str, str]] = {"calls_unsafe": "leading_word"}
    judges = ()
    card: ClassVar[Stakes] = Stakes("tpr_image", "tnr_image", ())
    decoding = Decoding(max_new_tokens=512)

    @property
    def sources(self) -> Sequence[str]:
        """The source."""
        return (self.spec,)

    @property
    def metrics(self) -> Sequence[Measure]:
        """Both sides together and apart, and diversity."""
        return *agreement(), *sides("image", safe=True), lexical_diversity()

    def outcome(self, record: Record) -> Outcome:
        """right or wrong; no answer, also where one said neither yes nor no."""
        return if_right(record, as_labeled(record))


plugin = AlignmentSuite
