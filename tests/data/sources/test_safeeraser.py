from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import load, read
from vlmend.data.sources.safeeraser import REFUSALS, SafeEraser
from vlmend.errors import ConfigError, DataError
from vlmend.types import Example, Expected, Role

ALL = "roles=forget,retain,decouple,refusal"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("safeeraser")
    SafeEraser.sample(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "data")


def rows(folder: Path, split: str = "train") -> list[Row]:
    return json.loads((folder / f"all_{split}.json").read_text())


def rewrite(folder: Path, change: Callable[[Row], object], split: str = "train") -> Path:
    """Change record 2 of a split."""
    table = rows(folder, split)
    change(table[2])
    (folder / f"all_{split}.json").write_text(json.dumps(table))
    return folder


def by_subset(folder: Path, spec: str = f"train?{ALL}") -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for example in read(f"safeeraser:{folder}#{spec}"):
        found.setdefault(example.subset, []).append(example)
    return found


def test_each_record_has_four_examples_of_each_kind(folder: Path) -> None:
    for split, n in (("train", 8), ("val", 4)):
        examples = load(f"safeeraser:{folder}#{split}?{ALL}").examples
        assert Counter(e.role for e in examples) == dict.fromkeys(
            (Role.FORGET, Role.RETAIN, Role.DECOUPLE, Role.SAFETY), 4 * n
        )
        assert Counter(e.meta["record"] for e in examples) == {str(i): 16 for i in range(n)}
        assert {e.source for e in examples} == {"safeeraser"}
        assert all(e.subcategory and e.answers for e in examples)


def test_kinds_differ_as_they_should(folder: Path) -> None:
    (first, *_) = rows(folder)
    found = by_subset(folder)
    assert {subset: (es[0].role, es[0].expected) for subset, es in found.items()} == {
        "forget": (Role.FORGET, Expected.REFUSE),
        "refusal": (Role.SAFETY, Expected.REFUSE),
        "retain_concept": (Role.RETAIN, Expected.ANSWER),
        "retain_image": (Role.RETAIN, Expected.ANSWER),
        "decouple": (Role.DECOUPLE, Expected.ANSWER),
    }
    for k, pair in enumerate(first["unsafe_pairs"]):
        forget, refusal, decouple = (found[subset][k] for subset in ("forget", "refusal", "decouple"))
        assert forget.question == refusal.question == decouple.question == pair["question"]
        assert forget.answers == (pair["model_response"],)
        assert decouple.answers == (pair["sd_response"],)
        assert refusal.answers[0] in REFUSALS
        assert forget.images == refusal.images == found["retain_image"][0].images
        assert decouple.images != forget.images
    for subset, key in (("retain_concept", "UnharmPair_text"), ("retain_image", "UnharmPair_image")):
        said = [(e.question, e.answers[0]) for e in found[subset][:2]]
        assert said == [(first[f"{key}{i}"]["Question"], first[f"{key}{i}"]["Prediction"]) for i in (1, 2)]


def test_roles_choose_and_keep_the_order_of_the_file(folder: Path) -> None:
    every = [e.id for e in read(f"safeeraser:{folder}#train?{ALL}")]
    for roles in ("forget", "retain", "decouple", "refusal", "retain,forget"):
        some = [e.id for e in read(f"safeeraser:{folder}?roles={roles}")]
        wanted = tuple(f"/{role}/" for role in roles.split(","))
        assert some == [name for name in every if any(part in name for part in wanted)]
    assert [e.id for e in read(f"safeeraser:{folder}")] == [name for name in every if "/refusal/" not in name]
    with pytest.raises(ConfigError, match="should be 'forget', 'retain', 'decouple' or 'refusal'"):
        read(f"safeeraser:{folder}?roles=forget,retian")


def test_examples_of_records_that_share_a_picture_share_a_cluster(folder: Path) -> None:
    examples = read(f"safeeraser:{folder}?{ALL}")
    assert len({e.cluster for e in examples}) == 2
    clusters: dict[object, set[str]] = {}
    for example in examples:
        clusters.setdefault(example.images[0].path, set()).add(example.cluster)
    assert len(clusters) == 10
    assert all(len(tied) == 1 for tied in clusters.values())


def test_matched_pairs_share_question_and_key(folder: Path) -> None:
    found = by_subset(folder)
    forget, decouple = ({e.meta["pair"]: e for e in found[s]} for s in ("forget", "decouple"))
    assert forget.keys() == decouple.keys()
    assert len(forget) == 32
    assert all(forget[key].question == e.question and e.meta["item"] == key for key, e in decouple.items())


def test_random_pairs_are_drawn_from_the_whole_split_by_seed(folder: Path) -> None:
    def drawn(options: str) -> list[tuple[str, str]]:
        found = read(f"safeeraser:{folder}?roles=decouple&{options}")
        return [(e.meta["pair"], e.meta["item"]) for e in found]

    matched = drawn("pairing=matched")
    once = drawn("pairing=random&seed=1")
    assert [pair for pair, _ in once] == [pair for pair, _ in matched]
    assert once == drawn("pairing=random&seed=1") != drawn("pairing=random&seed=2")
    assert sum(pair == item for pair, item in once) < 8
    assert {item for _, item in once} < {item for _, item in matched}

    contents = {e.meta["item"]: e for e in by_subset(folder)["decouple"]}
    for example in read(f"safeeraser:{folder}?roles=decouple&pairing=random&seed=1"):
        item = contents[example.meta["item"]]
        assert (example.question, example.answers, example.images, example.cluster, example.category) == (
            (item.question, item.answers, item.images, item.cluster, item.category)
        )
        assert example.id != item.id


def test_refusals_are_a_seeded_choice(folder: Path) -> None:
    def said(options: str) -> list[str]:
        return [e.answers[0] for e in read(f"safeeraser:{folder}?roles=refusal&{options}")]

    assert said("seed=1") == said("seed=1") != said("seed=2")
    assert len(set(said("seed=1"))) > 3
    assert set(said("refusals=published")) == {"I cannot say.", "I would rather not answer."}


def test_published_refusals_need_their_file(folder: Path) -> None:
    spec = f"safeeraser:{folder}?refusals=published"
    (folder / "prompt.json").write_text('{"idk": []}')
    with pytest.raises(DataError, match=r"prompt\.json: 'idk'"):
        read(f"{spec}&roles=refusal")
    (folder / "prompt.json").unlink()
    with pytest.raises(DataError, match=r"no file .*prompt\.json; refusals=own needs none"):
        read(f"{spec}&roles=refusal")
    assert read(spec)


def test_harmful_answers_can_be_left_out_and_be_absent(folder: Path) -> None:
    spec = f"safeeraser:{folder}?{ALL}"
    full = {e.id: e for e in read(spec)}
    for example in read(f"{spec}&harmful_answers=false"):
        assert example.answers == (() if example.role is Role.FORGET else full[example.id].answers)
    rewrite(folder, lambda row: [pair.pop("model_response") for pair in row["unsafe_pairs"]])
    assert len(read(f"{spec}&harmful_answers=false")) == len(full)
    assert read(f"safeeraser:{folder}?roles=decouple")
    with pytest.raises(DataError, match=r"row 2: 'unsafe_pairs\.0\.model_response' is required; harmful_answers=false"):
        read(spec)


def test_only_val_may_lack_reference_answers(folder: Path) -> None:
    for split in ("train", "val"):
        rewrite(folder, lambda row: row["unsafe_pairs"][1].pop("sd_response"), split)
    bare = next(e for e in read(f"safeeraser:{folder}#val") if e.id == "safeeraser/val/Violence/val_2/decouple/1")
    assert bare.answers == ()
    with pytest.raises(DataError, match=r"all_train\.json row 2: 'unsafe_pairs\.1\.sd_response' is required"):
        read(f"safeeraser:{folder}#train")


def test_both_spellings_give_the_same_examples(folder: Path) -> None:
    def respell(row: Row) -> None:
        row["image_path"] = "dataset/" + row.pop("image_id")
        for key in ("text1", "text2", "image1", "image2"):
            pair = row[f"UnharmPair_{key}"]
            pair["Answer"] = pair.pop("Prediction")

    before = read(f"safeeraser:{folder}?{ALL}")
    assert read(f"safeeraser:{rewrite(folder, respell)}?{ALL}") == before


def test_names_are_found_whatever_their_case(folder: Path) -> None:
    first = next(e for e in read(f"safeeraser:{folder}") if e.subset == "decouple")
    assert "HateSpeech" in rows(folder)[0]["SDImage_path"]
    assert first.images[0].path == folder / "pdset/image/Hatespeech/train/0.png"
    for name in ("IMG/hatespeech/Train_2.PNG", "img/HateSpeech/train_2.png"):
        rewrite(folder, lambda row, name=name: row.update(image_id=name))
        found = load(f"safeeraser:{folder}").examples
        assert {e.category for e in found} == {"HateSpeech", "Weapon"}
        assert len({e.cluster for e in found}) == 2


def test_the_category_is_that_of_the_folder_else_of_the_field(folder: Path) -> None:
    assert {row["category"] for row in rows(folder, "val")} == {""}
    assert {e.category for e in read(f"safeeraser:{folder}#val")} == {"Violence"}
    rewrite(folder, lambda row: row.update(image_id="elsewhere/2.png", category="illegal_activity"))
    assert "IllegalActivity" in {e.category for e in read(f"safeeraser:{folder}")}
    rewrite(folder, lambda row: row.update(category="Violent"))
    with pytest.raises(DataError, match=r"row 2: neither .* is a category\. Did you mean 'Violence'\? Known: Hate"):
        read(f"safeeraser:{folder}")


def test_a_picture_of_two_records_is_told_apart(folder: Path) -> None:
    rewrite(folder, lambda row: row.update(image_id=rows(folder)[0]["image_id"]))
    ids = [e.id for e in read(f"safeeraser:{folder}?roles=forget")]
    assert "safeeraser/train/HateSpeech/train_0~2/forget/0" in ids
    assert len(set(ids)) == 32


def test_the_data_set_is_found_in_its_folder_or_beside_it(folder: Path) -> None:
    (folder.parent / "outer").mkdir()
    inner = folder.rename(folder.parent / "outer" / "dataset")
    assert read(f"safeeraser:{inner.parent}#val") == read(f"safeeraser:{inner}#val")
    with pytest.raises(DataError, match=r"no all_vla\.json.*Did you mean 'val'\? Splits there: train, val"):
        read(f"safeeraser:{inner}#vla")
    with pytest.raises(DataError, match="there is no SafeEraser folder"):
        read(f"safeeraser:{folder}")


def test_metadata_read_without_pictures(folder: Path) -> None:
    (folder / "img").rename(folder / "elsewhere")
    assert len(read(f"safeeraser:{folder}")) == 96
    with pytest.raises(DataError, match=r"8 are missing, first .*train_0\.png"):
        load(f"safeeraser:{folder}")


def pop(*path: str | int) -> Callable[[Row], object]:
    """Take a key away, however deep it lies."""

    def change(row: Any) -> None:
        for part in path[:-1]:
            row = row[part]
        row.pop(path[-1])

    return change


BROKEN: list[tuple[Callable[[Row], object], str]] = [
    (pop("image_id"), "row 2: 'image_path' or 'image_id' is required"),
    (pop("SDImage_path"), "row 2: 'SDImage_path' is required"),
    (pop("unsafe_pairs"), "row 2: 'unsafe_pairs' is required"),
    (pop("unsafe_pairs", 3, "question"), "row 2: 'unsafe_pairs.3.question' is required"),
    (pop("UnharmPair_text2"), "row 2: 'UnharmPair_text2' is required"),
    (pop("UnharmPair_image2", "Prediction"), "row 2: 'UnharmPair_image2.Prediction' is required (or 'Answer'"),
    (lambda row: row.update(unsafe_pairs=[]), "row 2: 'unsafe_pairs': "),
    (lambda row: row.update(image_id=7), "row 2: 'image_id': input should be a valid string (got 7)"),
    (lambda row: row.update(image_id=""), "row 2: 'image_id': string should have at least 1 character"),
    (
        lambda row: row.update(image_id="dataset", category=""),
        "row 2: neither the folder of 'dataset' nor 'category' ''",
    ),
    (lambda row: row.update(imageid="a.jpg"), "row 2: unknown key 'imageid'. Did you mean 'image_id'?"),
    (
        lambda row: row["UnharmPair_text1"].update(Predicti1on="x"),
        "row 2: unknown key 'UnharmPair_text1.Predicti1on'. Did you mean 'Prediction'?",
    ),
    (lambda row: row["unsafe_pairs"][0].update(sd_respons="x"), "Did you mean 'sd_response'?"),
]


@pytest.mark.parametrize(("change", "says"), BROKEN)
def test_a_broken_record_is_named(folder: Path, change: Callable[[Row], object], says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"safeeraser:{rewrite(folder, change)}")
    assert says in str(caught.value)
    assert str(folder / "all_train.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"[{", b'{"a": 1}', b"", b'["\xff"]', b"[5]"])
def test_a_broken_file_is_named(folder: Path, text: bytes) -> None:
    (folder / "all_train.json").write_bytes(text)
    with pytest.raises(DataError, match=r"all_train\.json"):
        read(f"safeeraser:{folder}")


@pytest.mark.parametrize("name", ["all_train.json", "all_train.jsonl"])
def test_records_may_stand_one_a_line(folder: Path, name: str) -> None:
    before = read(f"safeeraser:{folder}#train")
    lines = "".join(json.dumps(record) + "\n" for record in rows(folder))
    (folder / "all_train.json").unlink()
    (folder / name).write_text(lines)
    assert read(f"safeeraser:{folder}#train") == before
