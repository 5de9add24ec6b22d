"""A data set by spec: read it, cut it, refuse what is broken, and know what exactly it was.

load("vlguard:data/VLGuard#train[:80%]", missing_images="placeholder")
load_pairs("spa_vl:data/SPA-VL#train[:1000]")

A source yields examples or preference pairs. Who asks for one and is given the other is told so: neither is ever made
into the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from vlmend.data import inside, pictures, placeholder
from vlmend.data.slices import Slice, parse_split
from vlmend.errors import DataError
from vlmend.registry import Spec, sources
from vlmend.rgb import MAX_PIXELS
from vlmend.terminal import plural
from vlmend.types import Example, Image, Message, Pair, digest, map_images

MissingImages = Literal["error", "placeholder"]
T = TypeVar("T", bound=Example | Pair)


@dataclass(frozen=True)
class Dataset:
    """Examples whose pictures are there, or are stand-ins for the files `absent`."""

    spec: str
    examples: tuple[Example, ...]
    absent: frozenset[Path]
    fingerprint: str

    @property
    def placeholders(self) -> int:
        """How many pictures are stand-ins."""
        return len(self.absent)

    @property
    def warning(self) -> str:
        """What to say loudly about stand-in pictures; empty when there are none."""
        return placeholder.warning(self.placeholders)


@dataclass(frozen=True)
class PairDataset:
    """Preference pairs whose pictures are there, or are stand-ins for the files `absent`."""

    spec: str
    pairs: tuple[Pair, ...]
    absent: frozenset[Path]
    fingerprint: str

    @property
    def placeholders(self) -> int:
        """How many pictures are stand-ins."""
        return len(self.absent)

    @property
    def warning(self) -> str:
        """What to say loudly about stand-in pictures; empty when there are none."""
        return placeholder.warning(self.placeholders)


@dataclass(frozen=True)
class PictureRules:
    """What is done about pictures that are missing or bad, and how large they may be.

    `missing`: an error, or a stand-in, a fixed pattern of its own for each; or left, where nobody looks at pictures.
    `bad` (empty, no picture, too large): an error, or left to whoever opens it, who then loses one example and not the
    run.
    """

    missing: MissingImages | Literal["leave"] = "error"
    bad: Literal["error", "leave"] = "error"
    max_pixels: int = MAX_PIXELS


def load(spec: str, *, missing_images: MissingImages = "error", max_pixels: int = MAX_PIXELS) -> Dataset:
    """Read a source and check its pictures. Raises DataError when a picture is missing, empty, too large or none.

    With `placeholder`, a missing picture becomes a fixed pattern of its own; a broken one is still an error.
    """
    return with_pictures(spec, read(spec), PictureRules(missing_images, max_pixels=max_pixels))


def load_pairs(spec: str, *, missing_images: MissingImages = "error", max_pixels: int = MAX_PIXELS) -> PairDataset:
    """`load` for a source of preference pairs."""
    pairs = read_pairs(spec)
    shown, absent = pictured(spec, pairs, PictureRules(missing_images, max_pixels=max_pixels))
    return PairDataset(spec, shown, absent, fingerprint_of(pairs))


def with_pictures(spec: str, examples: tuple[Example, ...], rules: PictureRules) -> Dataset:
    """The data set of some of a source's examples, their pictures checked or stood in for; others are not looked at."""
    shown, absent = pictured(spec, examples, rules)
    return Dataset(spec, shown, absent, fingerprint_of(examples))


def pictured(spec: str, items: tuple[T, ...], rules: PictureRules) -> tuple[tuple[T, ...], frozenset[Path]]:
    """The items with a stand-in for each missing picture, and which files those stand for, however they are spelled."""
    if rules.missing == "leave":
        return items, frozenset()
    needed = pictures.paths(items)
    absent = frozenset(pictures.missing(needed))
    if absent and rules.missing == "error":
        raise pictures.complain(len(items), len(needed), [file for file in needed if file in absent])
    if rules.bad == "error":
        pictures.check((file for file in needed if file not in absent), rules.max_pixels)
    if absent:
        # A stand-in must not depend on what was chosen, so pictures are named from the folder of the whole source.
        names = placeholder.names(list(dict.fromkeys([*pictures.paths(_open(spec)[0]), *absent])))
        items = tuple(placeholder.fill(item, {file: names[file] for file in absent}) for item in items)
    if rules.max_pixels != MAX_PIXELS:
        items = tuple(map_images(item, lambda image: replace(image, max_pixels=rules.max_pixels)) for item in items)
    return items, frozenset(map(pictures.absolute, absent))


def stand_ins(sets: Iterable[Dataset | PairDataset]) -> frozenset[Path]:
    """The files that pictures of any of the sets stand for; one that several sets show counts once."""
    return frozenset[Path]().union(*(data.absent for data in sets))


def read(spec: str) -> tuple[Example, ...]:
    """The examples of a source as they are written, pictures not looked at. Raises DataError for a source of pairs."""
    return _checked(spec, tuple(_only(spec, Example)))


def read_pairs(spec: str) -> tuple[Pair, ...]:
    """The pairs of a source as they are written, pictures not looked at. Raises DataError for a source of examples."""
    return _checked(spec, tuple(_only(spec, Pair)))


def read_any(spec: str) -> Iterator[Example | Pair]:
    """The examples or pairs of a source one by one, pictures not looked at, nothing kept but their ids.

    Raises DataError where an id comes up a second time, and at the end when there was nothing.
    """
    return _unique(spec, read_raw(spec))


def read_raw(spec: str) -> Iterator[Example | Pair]:
    """What a source yields, one by one. Neither is an id refused that comes up again, nor a source that is empty."""
    source, cut = _open(spec)
    return iter(source if cut is None else cut(source))


def _unique(spec: str, items: Iterable[Example | Pair]) -> Iterator[Example | Pair]:
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise DataError(f"{spec} uses the id {item.id!r} more than once; ids must be unique")
        seen.add(item.id)
        yield item
    if not seen:
        raise _nothing(spec)


def _only(spec: str, kind: type[T]) -> Iterator[T]:
    """What the source yields, which has to be of the kind."""
    for item in read_raw(spec):
        if not isinstance(item, kind):
            raise DataError(f"{spec} holds {_plural(type(item))}; {_plural(kind)} are needed here")
        yield item


def _plural(kind: type[Example | Pair]) -> str:
    return "preference pairs (a chosen and a rejected answer each)" if issubclass(kind, Pair) else "examples"


def _open(spec: str) -> tuple[Iterable[Example | Pair], Slice | None]:
    if sources.takes_spec(spec):
        return sources.from_spec(spec), None  # it cuts, and confines, what it is made of
    asked, anywhere = inside.taken_out(Spec.parse(spec))
    split, cut = parse_split(asked.split)
    bare = f"{asked.name}:{asked.argument}" if asked.argument else asked.name
    options = "&".join(f"{key}={value}" for key, value in asked.options)
    source = sources.from_spec(bare + (f"#{split}" if split else "") + (f"?{options}" if options else ""))
    return source if anywhere else inside.confined(source, inside.folders_of(source), spec), cut


def _nothing(spec: str) -> DataError:
    return DataError(f"{spec} has no examples")


def _checked(spec: str, items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise _nothing(spec)
    refuse_duplicates(items, spec)
    return items


def refuse_duplicates(items: Sequence[Example | Pair], where: str) -> None:
    """Raise DataError when an id occurs twice: everything is joined by id."""
    seen: set[str] = set()
    twice = [item.id for item in items if item.id in seen or seen.add(item.id)]
    if twice:
        raise DataError(
            f"{where} uses {plural(len(twice), 'id')} more than once, first {twice[0]!r}; ids must be unique"
        )


def fingerprint_of(items: Iterable[Example | Pair]) -> str:
    """Hash of every id, text and label, and of each picture's name and size in bytes (its id when made on demand)."""
    sizes: dict[Path, int] = {}
    return digest([_essence(item, sizes) for item in items])


def _essence(item: Example | Pair, sizes: dict[Path, int]) -> list[object]:
    said = [_said(message, sizes) for message in item.prompt]
    labels = [item.subset, item.category, item.subcategory, item.cluster, item.role]
    if isinstance(item, Example):
        avoided = [["avoid", *item.avoid]] if item.avoid else []
        thought = [["reasoning", item.reasoning]] if item.reasoning else []
        return [item.id, said, list(item.answers), [item.expected, *labels], *avoided, *thought]
    seen = None if item.rejected_images is None else [_name(image, sizes) for image in item.rejected_images]
    return [item.id, said, [item.chosen, item.rejected], seen, labels]


def _said(message: Message, sizes: dict[Path, int]) -> list[object]:
    parts = (_name(part, sizes) if isinstance(part, Image) else part for part in message.parts)
    return [message.role, *parts, *([] if message.supervised else [["not supervised"]])]


def _name(image: Image, sizes: dict[Path, int]) -> list[object]:
    if image.path is None:
        return ["made"]
    if image.path not in sizes:
        sizes[image.path] = image.path.stat().st_size if image.path.is_file() else -1
    return [image.path.name, sizes[image.path]]
