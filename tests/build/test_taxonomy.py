"""Taxonomies: names are those of the data, mappings lead to what exists and back, and bad files are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmend.build import taxonomies
from vlmend.build.taxonomy import HUB, Taxonomy, load, mapped
from vlmend.data.sources.safeeraser import CATEGORIES
from vlmend.errors import ConfigError, UnknownName
from vlmend.judge.guards import HAZARDS
from vlmend.registry import sources

OURS = taxonomies.names()
OWN = """
name: mine
version: 1
summary: two categories
source: a test
categories:
  - {name: knives, title: Knives, what: Knives that are used against people.}
  - {name: fog, title: Fog, what: Nothing to do with anything.}
mappings:
  mlcommons: {knives: [S1], fog: null}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(OWN)
    return file


def pairs(start: Taxonomy, to: Taxonomy) -> set[tuple[str, str]]:
    return {(name, there) for name in start.names for there in mapped(name, start, to) or ()}


@pytest.mark.parametrize("name", OURS)
def test_each_says_what_belongs(name: str) -> None:
    found = load(name)
    assert found.name == name
    assert taxonomies.summary(name) == found.summary
    text = found.text()
    for category in found.names:
        assert f"- {category}" in text
        assert found.category(category).what in text


@pytest.mark.parametrize("start", OURS)
@pytest.mark.parametrize("to", OURS)
def test_there_and_back_holds_the_start(start: str, to: str) -> None:
    one, other = load(start), load(to)
    there = pairs(one, other)
    assert there == {(a, b) for b, a in pairs(other, one)}
    assert {b for _, b in there} <= set(other.names)


@pytest.mark.parametrize("name", [name for name in OURS if name != HUB])
def test_a_category_overlaps_with_what_its_parts_overlap_with(name: str) -> None:
    found = load(name)
    for top in found.categories:
        inside = {h for part in top.parts for h in found.related(part.name, HUB) or ()}
        if top.parts:
            assert set(found.related(top.name, HUB) or ()) == inside, top.name


def test_what_has_no_counterpart_says_so() -> None:
    concepts, hub = load("unsafe_concepts"), load(HUB)
    assert mapped("The Flat Earth Theory", concepts, hub) is None
    assert mapped("S8", hub, concepts) is None
    assert pairs(load("world"), hub) == set()
    assert mapped("Swastika", concepts, hub) == ("S10",)  # as the category around it
    assert mapped("Robbery", concepts, load("safeeraser")) == ("IllegalActivity", "Violence", "Weapon")


def test_names_are_those_of_the_data(tmp_path: Path) -> None:
    assert set(load("safeeraser").names) == set(CATEGORIES)
    assert set(load(HUB).names) == set(HAZARDS)
    unsafe = [e for e in sources.from_spec("world:unsafe?n=600") if e.expected == "refuse"]
    met = {e.category for e in unsafe} | {e.subcategory for e in unsafe}
    assert met == set(load("world").names)


def test_names_are_those_of_published_files() -> None:
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    files = (data / "unsafe_concepts/metadata.jsonl", data / "vlguard/train.json")
    if not all(file.exists() for file in files):
        pytest.skip("the published files are not here")
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert {row[key] for row in rows for key in ("category", "unsafe_concept")} == set(load("unsafe_concepts").names)
    rows = [row for row in json.loads(files[1].read_text()) if not row["safe"]]
    met = {row[key] for row in rows for key in ("harmful_category", "harmful_subcategory")}
    assert met == set(load("vlguard").names)


def test_a_file_of_ones_own_relates_to_ours(own: Path) -> None:
    mine = load(str(own))
    assert mapped("knives", mine, load("vlguard")) == ("risky behavior", "violence")
    assert mapped("fog", mine, load("vlguard")) is None
    assert "knives" in (mapped("violence", load("vlguard"), mine) or ())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[S1]", "[S15]", "no category of mlcommons named 'S15'"),
        ("fog: null", "fig: null", "no category 'fig'. Did you mean 'fog'?"),
        (", fog: null", "", "nothing is said of 'fog'"),
        ("[S1]", "[]", "an empty list"),
        ("name: fog", "name: knives", "'knives' stands twice"),
        ("mlcommons:", "mlcomons:", "Did you mean 'mlcommons'?"),
        ("source:", "sauce:", "source"),
        ("version: 1", "version: one", "version"),
        ("name: mine", "name: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_told_by_file_and_key(own: Path, old: str, new: str, says: str) -> None:
    own.write_text(OWN.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load(str(own))
    message = str(caught.value)
    assert says in message
    assert "mine.yaml" in message
    assert "\n" not in message


def test_an_unknown_name_says_what_exists() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'vlguard'"):
        load("vlgard")
    with pytest.raises(ConfigError, match=r"no\.yaml cannot be read"):
        load("no.yaml")
    with pytest.raises(UnknownName, match="Did you mean 'privacy'"):
        mapped("privac", load("vlguard"), load(HUB))
