from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from vlmend.data import hub, load, read
from vlmend.data.sources.xstest import XSTest
from vlmend.errors import DataError
from vlmend.types import Expected, Role

COMMIT = "a" * 40
HEADER = "id,prompt,type,label,focus,note\n"
ROW = "1,How do I press a star?,homonyms,safe,press,\n"
OLDER = "id_v1,id_v2,type,prompt,focus,note\n"


def write(folder: Path, text: str | bytes, name: str = "xstest_prompts.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_safe_prompts_are_answered_and_contrasts_refused(tmp_path: Path) -> None:
    XSTest.sample(tmp_path)
    examples = load(f"xstest:{tmp_path}").examples
    assert [e.id for e in examples] == [f"xstest/prompts/{i + 1}" for i in range(16)]
    assert [e.expected for e in examples] == [Expected.ANSWER] * 8 + [Expected.REFUSE] * 8
    assert [e.subset for e in examples] == ["safe"] * 8 + ["unsafe"] * 8
    assert all(e.category.startswith("contrast_") == (e.expected is Expected.REFUSE) for e in examples)
    assert {(e.role, e.source) for e in examples} == {(Role.SAFETY, "xstest")}
    assert len({e.cluster for e in examples}) == 16


def test_the_older_file_gives_the_same_examples(tmp_path: Path) -> None:
    XSTest.sample(tmp_path)
    new = read(f"xstest:{tmp_path}")
    older = tmp_path / "older" / "xstest_v2_prompts.csv"
    older.parent.mkdir()
    with older.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(OLDER.strip().split(","))
        for number, e in enumerate(new, start=1):
            writer.writerow(["", f"v2-{number}", e.category, e.question, e.meta["focus"], e.meta["note"]])
    assert read(f"xstest:{older.parent}") == new
    assert read(f"xstest:{older}") == new


def test_the_newer_file_is_preferred(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROW)
    write(tmp_path, OLDER + ",v2-9,homonyms,Which?,press,\n", "xstest_v2_prompts.csv")
    assert [e.id for e in read(f"xstest:{tmp_path}")] == ["xstest/prompts/1"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,prompt,type,label,focus\n1,a,b,safe,c", "line 2: 'note' is required"),
        (HEADER.strip() + ",more\n" + ROW.strip() + ",x", "line 2: unknown key 'more'"),
        (HEADER + ROW + "x,a,b,safe,,", "line 3: 'id': input should be a valid integer"),
        (HEADER + "1,a,b,harmless,,", "line 2: 'label': input should be 'safe' or 'unsafe'"),
        (HEADER + "1,a,contrast_b,safe,,", "line 2: the label 'safe' contradicts the type 'contrast_b'"),
        (HEADER + "1,a,b,unsafe,,", "line 2: the label 'unsafe' contradicts the type 'b'"),
        (HEADER + ROW + ROW, "uses 1 id more than once"),
        (HEADER.encode() + b"1,\xff,b,safe,,", "is not UTF-8"),
        ("", "is empty (0 bytes)"),
    ],
)
def test_a_broken_file_gives_one_line_with_its_place(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        read(f"xstest:{write(tmp_path, text)}")
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_older_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, OLDER + "v1-1,1,homonyms,a,b,", "xstest_v2_prompts.csv")
    with pytest.raises(DataError, match=r"xstest_v2_prompts\.csv line 2: 'id_v2'"):
        read(f"xstest:{tmp_path}")


def test_a_folder_without_the_files_says_which(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no XSTest at .*xstest_prompts\.csv or xstest_v2_prompts\.csv"):
        read(f"xstest:{tmp_path}")


def test_the_hub_copy_gives_the_same_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    XSTest.sample(tmp_path)
    here = read(f"xstest:{tmp_path}")
    rows: list[dict[str, Any]] = [
        {
            **{"id": n, "prompt": e.question, "type": e.category, "label": e.subset},
            **{"focus": e.meta["focus"], "note": e.meta["note"] or None},
        }
        for n, e in enumerate(here, start=1)
    ]
    monkeypatch.setattr(hub, "_rows", lambda repository, split, revision: iter(rows))
    assert read(f"xstest:hub?revision={COMMIT}") == here
    rows[3]["label"] = "unsafe"
    with pytest.raises(DataError, match=r"Paul/XSTest row 3: the label 'unsafe' contradicts"):
        read(f"xstest:hub?revision={COMMIT}")
