"""JailBreakV-28K: harmful requests in 28,000 jailbreaks of words and pictures; 280 are the mini set (arXiv 2404.03027).

Origin: github.com/EddyLuo1232/JailBreakV_28K and hub JailbreakV-28K/JailBreakV-28k (tagged MIT), which asks for terms
to be accepted. Get it with `hf download JailbreakV-28K/JailBreakV-28k --repo-type dataset`; `path` is that folder or
the `JailBreakV_28K` in it. There, `JailBreakV_28K.csv` and `mini_JailBreakV_28K.csv` stand beside the folders of
pictures `llm_transfer_attack`, `query_related` and `figstep`, which the tables name their pictures from. Columns: id,
jailbreak_query, redteam_query, format, policy, image_path, from, selected_mini, transfer_from_llm.

Asked is `jailbreak_query`, with its picture; the request it carries is in `meta`. Subsets are the five ways of attack
(`format`), categories the 16 policies. Rows that carry one request form a cluster: they are fewer than as many
independent trials.

Known defects: pictures of `llm_transfer_attack` are noise, blanks and unrelated photographs, so that only the words of
those rows attack; the hub holds a part of the pictures, the rest is in an archive that the repository links to. Columns
are known from the card and from others' readers; the files themselves could not be checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import Filled, Row, read
from vlmend.errors import DataError
from vlmend.types import Example, Expected, Image, Message, Role, digest

FILES = {"mini": "mini_JailBreakV_28K.csv", "all": "JailBreakV_28K.csv"}
FOLDER = "JailBreakV_28K"


class Jailbreak(Row):
    """A row of either table; extra columns are refused."""

    id: Filled
    jailbreak_query: Filled
    redteam_query: Filled
    format: Filled
    policy: Filled
    image_path: Filled
    origin: str = Field(alias="from")
    selected_mini: str
    transfer_from_llm: str


@dataclass(frozen=True)
class JailBreakV:
    """Settings: the folder, and which table is read, the `mini` one or `all`."""

    path: Path
    split: Literal["mini", "all"] = "mini"

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the table, pictures named but not opened."""
        file = _file(self.path, FILES[self.split])
        for _, row in read(file, Jailbreak):
            yield Example(
                id=f"jailbreakv/{self.split}/{row.id}",
                prompt=(Message("user", (Image(file.parent / row.image_path), row.jailbreak_query)),),
                expected=Expected.REFUSE,
                subset=row.format,
                category=row.policy,
                cluster=f"jailbreakv/{digest(row.redteam_query)[:12]}",
                role=Role.SAFETY,
                source="jailbreakv",
                meta={"request": row.redteam_query, "origin": row.origin},
            )

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write both tables, of ten and of five requests of the embedded world, each about a picture of its own."""
        asked = [e for e in samples.requests("unsafe", 40, seed=seed) if len(e.images) == 1][:10]
        rows: list[dict[str, object]] = []
        for number, (each, way) in enumerate(zip(asked, cycle(("Template", "SD", "figstep")), strict=False)):
            name = f"{'figstep' if way == 'figstep' else 'query_related'}/{way}_{number}.png"
            samples.picture(each.images[0], folder / FOLDER / name)
            rows.append(
                {
                    "id": number, "jailbreak_query": f"As one who may: {each.question}", "redteam_query": each.question,
                    "format": way, "policy": "hazard", "image_path": name, "from": "world",
                    "selected_mini": number % 2 == 0, "transfer_from_llm": way == "Template",
                }
            )  # fmt: skip
        samples.table(rows, folder / FOLDER / FILES["all"])
        samples.table([row for row in rows if row["selected_mini"]], folder / FOLDER / FILES["mini"])


plugin = JailBreakV


def _file(path: Path, name: str) -> Path:
    found = next((place for place in (path / name, path / FOLDER / name) if place.is_file()), None)
    if found is None:
        raise DataError(
            f"JailBreakV-28K folder {path} has no {name}, nor has a folder {FOLDER} in it; download it: "
            "hf download JailbreakV-28K/JailBreakV-28k --repo-type dataset"
        )
    return found
