"""What a run would cost, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vlmend.build.pipeline import Pipeline, Start, asking
from vlmend.build.run import Company
from vlmend.money import Purse, estimate


def expected(
    pipeline: Pipeline, starts: Iterable[Start], company: Company, purse: Purse, second: str = "", sample: int = 0
) -> int:
    """Add to the purse what these starts would use, and say how many they are.

    About: every stage once, with its prompt and the start's pictures; what earlier answers add to a prompt is not known
    yet. At most: every stage with all its repairs. A `second` generator is asked once what is compared, about the first
    `sample` starts.
    """
    count = 0
    for start in starts:
        count += 1
        pictures = start.pictures or (start.row.images if start.row else ())
        for stage in pipeline.stages:
            words = pipeline.words(stage.name) or (start.row.question if start.row else "")
            about, most = estimate(asking(words, *pictures[: stage.shows]), stage.longest)
            tries = stage.repairs + 1
            most = replace(most, calls=tries, input=most.input * tries, output=most.output * tries)
            for name, _ in company[stage.who]:
                purse.expect(name, about, most)
            if second and stage.compared and count <= sample:
                purse.expect(second, about, replace(most, calls=1, input=most.input // tries, output=stage.longest))
    return count
