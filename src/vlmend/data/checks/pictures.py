"""Defects of pictures: not there, no pictures, too large, turned, blank, or another one's double."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vlmend.data.checks.finding import Finding, Item, found
from vlmend.data.checks.sights import Sights
from vlmend.data.perceptual import Gallery, Looks
from vlmend.rgb import CHANGES, Change
from vlmend.types import Image

FAULTS = {
    "missing_picture": "are not there",
    "unreadable_picture": "cannot be read as pictures",
    "truncated_picture": "end early or are damaged",
    "huge_picture": "are too large to be opened safely",
}
NARROW = 200  # longer side to shorter; Qwen2-VL's processor and its heirs refuse more
KIND_OF: Mapping[Change, str] = {
    "transparent": "transparent_picture",
    "deep": "deep_picture",
    "frames": "several_frames",
    "colors": "other_colors",
    "rotated": "rotated_picture",
}


def check_pictures(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Everything that is found by looking at pictures."""
    yield from faults(items, sights)
    yield from oddities(items, sights)
    yield from duplicates(items, sights)
    yield from doubles(items, sights)


def faults(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Pictures that cannot be used at all, by what is wrong with them."""
    for kind, what in FAULTS.items():
        bad = [image for image, sight in sights.items() if sight.fault == kind]
        if bad:
            first = f"{name_of(bad[0], items)} {sights[bad[0]].why}"
            message = f"{{n}} of {len(sights):,} pictures {what}; the first: {first}"
            yield from found(kind, users(items, bad), message, count=len(bad))


def oddities(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Pictures that not every program shows alike, by what was done to show them, and pictures that show nothing."""
    for change, what in CHANGES.items():
        changed = [image for image, sight in sights.items() if change in sight.changes]
        if changed:
            first = f"{name_of(changed[0], items)} ({sights[changed[0]].changes[change]})"
            message = f"{{n}} of {len(sights):,} pictures {what}; the first: {first}"
            yield from found(KIND_OF[change], users(items, changed), message, count=len(changed))
    narrow = [image for image, sight in sights.items() if max(sight.size) > NARROW * min(sight.size)]
    message = f"{{n}} of {len(sights):,} pictures are over {NARROW} times as long as wide, which some models refuse"
    yield from found("narrow_picture", users(items, narrow), message, count=len(narrow))
    blank = [image for image, sight in sights.items() if sight.blank]
    message = "{n} pictures are blank: one color throughout"
    yield from found("blank_picture", users(items, blank), message, count=len(blank))


def duplicates(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Pictures with the bytes of another one that the set does not know to be the same: their clusters differ."""
    groups: dict[str, list[Image]] = {}
    for image, sight in sights.items():
        if not sight.fault:
            groups.setdefault(sight.sha256, []).append(image)
    clusters = _clusters(items)
    several = [group for group in groups.values() if len(group) > 1]
    same = [group for group in several if len(set[str]().union(*(clusters[image] for image in group))) > 1]
    message = "{n} pictures have the bytes of another one under another name"
    count = sum(len(group) - 1 for group in same)
    yield from found("duplicate_picture", users(items, [i for group in same for i in group]), message, count=count)


def doubles(items: Sequence[Item], sights: Sights) -> Iterator[Finding]:
    """Pictures that look like another one of another cluster, though their bytes differ."""
    clusters = _clusters(items)
    distinct: dict[str, tuple[Image, Looks]] = {}
    for image, sight in sights.items():
        if sight.looks is not None:
            distinct.setdefault(sight.sha256, (image, sight.looks))
    gallery = Gallery(len(distinct))
    pairs: list[tuple[Image, Image]] = []
    for sha256, (image, seen) in distinct.items():
        like = gallery.find(seen)
        if like is None:
            gallery.add(sha256, seen)
        elif not clusters[distinct[like][0]] & clusters[image]:
            pairs.append((distinct[like][0], image))
    message = "{n} pictures look like another one, though their bytes differ"
    yield from found("similar_picture", users(items, [i for pair in pairs for i in pair]), message, count=len(pairs))


def users(items: Sequence[Item], images: Sequence[Image]) -> list[str]:
    """Ids of the examples that show any of the pictures, those of the same picture side by side."""
    place: dict[Image, int] = {}
    for image in images:
        place.setdefault(image, len(place))
    hits = [(min(places), item.id) for item in items if (places := [place[i] for i in item.images if i in place])]
    return [name for _, name in sorted(hits, key=lambda hit: hit[0])]


def name_of(image: Image, items: Sequence[Item]) -> str:
    """The picture's file, or the example that made it."""
    return str(image.path) if image.path is not None else f"a picture of {users(items, [image])[0]}"


def _clusters(items: Sequence[Item]) -> dict[Image, set[str]]:
    named: dict[Image, set[str]] = {}
    for item in items:
        for image in item.images:
            named.setdefault(image, set()).add(item.cluster or item.id)
    return named
