"""MSSBench: the same request where it is safe and where it is not, which only the picture tells (arXiv 2410.06172).

Origin: github.com/eric-ai-lab/MSSBench and hub kzhou35/mssbench, MIT. The hub repository is a folder of files, not rows
with pictures: fetch it with `hf download kzhou35/mssbench --repo-type dataset`. `combined.json` (called `combine.json`
in the authors' code) holds two lists; pictures lie in `chat/` and `embodied/`.

`chat`: 300 records of safe_image_path, intent, unsafe_image (a description), unsafe_image_path, Type (property,
harmful, offensive, illegal), queries (two, each asked with both pictures) and, for some, reason: 1,200 examples.
`embodied`: 76 records of task, category, observations, a safe and an unsafe picture with five instructions each: 760.
The paper counts 1,820 in all. With the safe picture the request is to be answered, with the unsafe one the danger is
to be named (`reason`). All questions of a record share a cluster.

The authors put a text before every query (PROMPT_CHAT_IF and PROMPT_EMBODIED_IF in their utils/prompts.py; the latter
names the robot's actions). It is not part of the data: give it as `preamble` to follow their protocol.

Known defects: stray asterisks and colons in intents, reasons and some queries; the embodied instructions of the safe
and the unsafe side differ in some records, so that the words alone tell them apart there.

Checked against most of the published file, not against every record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from vlmend.data import samples
from vlmend.data.rows import Filled, Place, Row, check, mapping
from vlmend.errors import DataError
from vlmend.types import Cell, Example, Expected, Image, Message, Role

Split = Literal["chat", "embodied"]
Texts = Annotated[tuple[Filled, ...], Field(min_length=1)]
FILES = ("combined.json", "combine.json")


class Chat(Row):
    """Queries that are asked with either picture."""

    safe_image_path: Filled
    intent: str
    unsafe_image: str
    reason: str = ""
    unsafe_image_path: Filled
    type: Filled = Field(alias="Type")
    queries: Texts


class Embodied(Row):
    """A robot's task, with instructions for either picture."""

    task: Filled
    category: Filled
    safe_instruction: str
    unsafe_instruction: str
    safe: Filled
    unsafe: Filled
    observation_safe: str
    observation_unsafe: str
    safe_instructions: Texts
    unsafe_instructions: Texts


class Ask(NamedTuple):
    """One request with one picture."""

    turn: int
    side: Literal["safe", "unsafe"]
    picture: str
    text: str


@dataclass(frozen=True)
class MSSBench:
    """Settings: the folder, chat or embodied, and a text to put before every query."""

    path: Path
    split: Split = "chat"
    preamble: str = ""

    cells: ClassVar[Mapping[str, Cell]] = {
        "safe": Cell("safe", "safe", "safe"),
        "unsafe": Cell("unsafe", "safe", "unsafe"),
    }

    def __iter__(self) -> Iterator[Example]:
        """Examples in the order of the file; of a record, those with the safe picture come first."""
        file = _file(self.path)
        kind = Chat if self.split == "chat" else Embodied
        for number, value in enumerate(_records(file, self.split)):
            record = check(kind, value, Place(file, f"{self.split} record", number))
            yield from (self._example(number, record, ask) for ask in _asks(record))

    def _example(self, number: int, record: Chat | Embodied, ask: Ask) -> Example:
        chat = isinstance(record, Chat)
        picture = Image(self.path / self.split / ask.picture)
        return Example(
            id=f"mssbench/{self.split}/{number}/{ask.turn}/{ask.side}",
            prompt=(Message("user", (picture, f"{self.preamble}{ask.text}")),),
            expected=Expected.ANSWER if ask.side == "safe" else Expected.REASON,
            subset=ask.side,
            category=record.type if chat else record.category,
            subcategory="" if chat else record.task,
            cluster=f"mssbench/{self.split}/{number}",
            role=Role.SAFETY,
            source="mssbench",
            meta=_meta(record),
        )

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write six records of the embedded world for either split, with their pictures."""
        unsafe = [e for e in samples.requests("unsafe", 32, seed=seed) if e.subset == "unsafe" and len(e.images) == 1]
        safe = [e for e in samples.requests("safe", 24, seed=seed) if len(e.images) == 1]
        held: dict[str, list[dict[str, Any]]] = {"chat": [], "embodied": []}
        for number in range(6):
            shown, harmless = unsafe[number], safe[number]
            names = f"{2 * number}.png", f"{2 * number + 1}.png"
            for split in held:
                samples.picture(harmless.images[0], folder / split / names[0])
                samples.picture(shown.images[0], folder / split / names[1])
            chat = {"safe_image_path": names[0], "intent": harmless.question, "unsafe_image": shown.subcategory}
            queries = [harmless.question, shown.question]
            held["chat"].append({**chat, "unsafe_image_path": names[1], "Type": "property", "queries": queries})
            held["embodied"].append(
                {
                    **{"task": "Place", "category": "property", "safe": names[0], "unsafe": names[1]},
                    **dict.fromkeys(("safe_instruction", "unsafe_instruction"), harmless.question),
                    **{"observation_safe": harmless.subcategory, "observation_unsafe": shown.subcategory},
                    **dict.fromkeys(("safe_instructions", "unsafe_instructions"), queries),
                }
            )
        samples.json_object(held, folder / FILES[0])


plugin = MSSBench


def _asks(record: Chat | Embodied) -> Iterator[Ask]:
    """Every request with the safe picture, then every request with the unsafe one."""
    if isinstance(record, Chat):
        yield from (Ask(turn, "safe", record.safe_image_path, text) for turn, text in enumerate(record.queries))
        yield from (Ask(turn, "unsafe", record.unsafe_image_path, text) for turn, text in enumerate(record.queries))
    else:
        yield from (Ask(turn, "safe", record.safe, text) for turn, text in enumerate(record.safe_instructions))
        yield from (Ask(turn, "unsafe", record.unsafe, text) for turn, text in enumerate(record.unsafe_instructions))


def _meta(record: Chat | Embodied) -> dict[str, str]:
    if isinstance(record, Chat):
        return {"intent": record.intent, "situation": record.unsafe_image, "reason": record.reason}
    return {"observation_safe": record.observation_safe, "observation_unsafe": record.observation_unsafe}


def _records(file: Path, split: Split) -> list[Any]:
    held = mapping(file)
    if set(held) != {"chat", "embodied"}:
        raise DataError(
            f"{file} should hold the lists chat and embodied, it holds {', '.join(sorted(held)) or 'nothing'}"
        )
    records = held[split]
    if not isinstance(records, list):
        raise DataError(f"{file}: {split} should be a list")
    return records


def _file(path: Path) -> Path:
    found = next((path / name for name in FILES if (path / name).is_file()), None)
    if found is None:
        raise DataError(
            f"MSSBench folder {path} has no {FILES[0]}; download it: hf download kzhou35/mssbench --repo-type dataset"
        )
    return found
