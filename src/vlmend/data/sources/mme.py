"""MME: 2,374 yes/no questions in 14 categories of perception and cognition, two about each picture (arXiv 2306.13394).

Published by its authors (BradyFU/Awesome-Multimodal-Large-Language-Models, on request, for research) as a folder per
category. In each, a picture and a text file share a name, `question<TAB>Yes|No` on two lines, and lie either side by
side (`OCR/0001.jpg`, `OCR/0001.txt`) or apart (`artwork/images/10002.jpg`, `artwork/questions_answers_YN/10002.txt`);
artwork, celebrity, landmark, posters and scene lie apart, the others side by side, but either is read anywhere.
`path=hub` reads lmms-lab/MME, where the pictures are included; ids are the same.

MME's score needs both questions about a picture: they share a `cluster`. Questions end with a request for yes or no.
Not checked, for want of the files: that all are UTF-8 and have two lines (both are asked for).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from vlmend.data import hub, samples
from vlmend.data.rows import LONGEST, Filled, Row, too_long
from vlmend.errors import DataError, nearest
from vlmend.types import Example, Image, Message, Role

PERCEPTION = (
    *("existence", "count", "position", "color", "posters"),
    *("celebrity", "scene", "landmark", "artwork", "OCR"),
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
CATEGORIES = (*PERCEPTION, *COGNITION)
APART = ("images", "questions_answers_YN")
SUFFIXES = (".jpg", ".png", ".jpeg")
REPOSITORY = hub.Repository("lmms-lab/MME")


class HubQuestion(Row):
    """A row on the hub; `question_id` is `category/picture`, the same for both questions."""

    question_id: Filled
    image: Any
    question: Filled
    answer: Literal["Yes", "No"]
    category: Filled


@dataclass(frozen=True)
class Mme:
    """Settings: the folder that holds the categories, one category (default: all 14), and the commit when `path` is
    `hub`.
    """

    path: Path
    category: str = ""
    revision: str = ""

    def __iter__(self) -> Iterator[Example]:
        """Questions by category and by name of the picture; pictures are named but not opened."""
        if self.category and self.category not in CATEGORIES:
            raise DataError(
                f"MME has no category {self.category!r}.{nearest(self.category, CATEGORIES)} "
                f"Known: {', '.join(CATEGORIES)}"
            )
        if self.path == hub.HUB:
            yield from self._from_hub()
            return
        root = _root(self.path)
        for category in [self.category] if self.category else CATEGORIES:
            for file in _texts(root / category):
                picture = _picture(root / category, file)
                for number, (question, answer) in enumerate(_questions(file)):
                    yield _example(category, file.stem, number, question, answer, picture)

    def _from_hub(self) -> Iterator[Example]:
        seen: Counter[str] = Counter()
        for number, row in hub.read(REPOSITORY, "test", self.revision, HubQuestion):
            if row.category not in CATEGORIES:
                raise DataError(
                    f"{REPOSITORY.id} test row {number}: no category {row.category!r}. Known: {', '.join(CATEGORIES)}"
                )
            if self.category in ("", row.category):
                picture = hub.picture(row.image, f"{REPOSITORY.id} test row {number}")
                turn = seen[row.question_id]
                seen[row.question_id] += 1
                stem = PurePosixPath(row.question_id).stem
                yield _example(row.category, stem, turn, row.question, row.answer, picture)

    @staticmethod
    def sample(folder: Path, seed: int = 0) -> None:
        """Write one drawn picture with two questions for each category, in both of the published sub-layouts."""
        asked = [e for e in samples.requests("alignment", 200, seed=seed) if len(e.images) == 1]
        for category, example in zip(CATEGORIES, asked, strict=False):
            told = example.answers[-1], "No" if example.answers[-1] == "Yes" else "Yes"
            denied = f"Is the answer to this another one: {example.question}"
            apart = category in ("artwork", "celebrity", "landmark", "posters", "scene")
            pictures, texts = ((folder / category / part) if apart else folder / category for part in APART)
            samples.picture(example.images[0], pictures / "0001.png")
            texts.mkdir(parents=True, exist_ok=True)
            lines = f"{example.question} Please say yes or no.\t{told[0]}\n{denied} Please say yes or no.\t{told[1]}\n"
            (texts / "0001.txt").write_text(lines, encoding="utf-8")


plugin = Mme


def _example(category: str, stem: str, number: int, question: str, answer: str, picture: Image) -> Example:
    return Example(
        id=f"mme/{category}/{stem}/{number}",
        prompt=(Message("user", (picture, question)),),
        answers=(answer,),
        subset="perception" if category in PERCEPTION else "cognition",
        category=category,
        cluster=f"mme/{category}/{stem}",
        role=Role.UTILITY,
        source="mme",
    )


def _root(path: Path) -> Path:
    """The folder of the categories: the one given, or where the archive puts them below it."""
    places = [path, path / "MME_Benchmark", path / "MME_Benchmark_release_version" / "MME_Benchmark"]
    for place in (*places, path / "MME_Benchmark_release_version"):
        if any((place / category).is_dir() for category in CATEGORIES):
            return place
    raise DataError(f"{path} holds no folder of MME's categories ({', '.join(CATEGORIES)})")


def _texts(folder: Path) -> list[Path]:
    """The text files of a category, sorted by name."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; ?category= reads one category of MME alone")
    apart = folder / APART[1]
    files = sorted((apart if apart.is_dir() else folder).glob("*.txt"))
    if not files:
        raise DataError(f"{folder} has no question files, neither itself nor in {APART[1]}")
    return files


def _picture(folder: Path, text: Path) -> Image:
    """The picture of a text file: whichever kind is there, else as a .jpg that is missing."""
    place = folder / APART[0] if text.parent.name == APART[1] else folder
    files = [place / f"{text.stem}{suffix}" for suffix in SUFFIXES]
    return Image(next((file for file in files if file.is_file()), files[0]))


def _questions(file: Path) -> list[tuple[str, str]]:
    """Both questions of a file with their answers. Raises DataError naming file and line."""
    try:
        if file.stat().st_size > LONGEST:
            raise too_long(f"{file} line 1 or 2", "a file of two questions")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if len(lines) != 2:
        raise DataError(f"{file} should hold two questions, it holds {len(lines)}")
    return [_question(line, f"{file} line {number}") for number, line in lines]


def _question(line: str, place: str) -> tuple[str, str]:
    question, tab, answer = line.partition("\t")
    if not tab or not question.strip():
        raise DataError(f"{place}: should be a question, a tab and its answer")
    if answer.strip() not in ("Yes", "No"):
        raise DataError(f"{place}: the answer should be Yes or No, is {answer.strip()!r}")
    return question.strip(), answer.strip()
