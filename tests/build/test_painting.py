"""Painted pictures, against an image server on loopback: nothing is painted twice, nothing that fails is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.build.painter import Reply, Studio, paints, png_of
from vlmend.build.painting import OpenaiPainter, Sketch, painted
from vlmend.build.picture import pictures
from vlmend.errors import ConfigError, ModelError, UsageError
from vlmend.types import Image

PROMPTS = ("a red jar", "a blue flame", "a jar over a flame")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n\n".join(PROMPTS))
    return file


def painter(url: str, **settings: Any) -> OpenaiPainter:
    given: dict[str, Any] = {"backoff": 0.01, "patience": 2.0, **settings}
    return OpenaiPainter(f"brush@{url}", **given)


def shown(found: Image | str | None) -> bytes:
    assert isinstance(found, Image)
    return found.read()


def test_each_prompt_has_its_pictures_once(prompts: Path, tmp_path: Path) -> None:
    with Studio() as studio:
        spec = f"painted:{prompts}?painter=brush@{studio.url}&each=2&seed=5&size=8x8"
        first = list(pictures(spec, tmp_path / "kept"))
        again = list(pictures(spec, tmp_path / "kept"))
    assert [(p.meta["prompt"], p.meta["seed"]) for p in first] == [(p, s) for p in PROMPTS for s in ("5", "6")]
    assert [p.image.read() for p in first] == [png_of(p, s) for p in PROMPTS for s in (5, 6)]
    assert [(p.id, p.image.sha256, p.meta) for p in again] == [(p.id, p.image.sha256, p.meta) for p in first]
    assert len(studio.bodies) == 6
    assert all(body["model"] == "brush" and body["size"] == "8x8" and body["n"] == 1 for body in studio.bodies)


def test_nothing_is_painted_where_nothing_may_be_asked(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Studio() as studio:
        spec = f"painted:{prompts}?painter=brush@{studio.url}&each=2"
        dry = list(pictures(spec, tmp_path / "kept", dry=True))
        assert studio.bodies == []
        assert not (tmp_path / "kept").exists()
        assert "6 pictures to be painted" in " ".join(capsys.readouterr().err.split())
        real = list(pictures(spec, tmp_path / "kept"))
    assert [(p.id, p.meta) for p in dry] == [(p.id, p.meta) for p in real]
    assert all(p.image.size == (1024, 1024) for p in dry)


def test_another_seed_size_or_painter_is_another_picture(tmp_path: Path) -> None:
    with Studio() as studio:
        for one in (painter(studio.url), painter(studio.url, size="8x8"), painter(studio.url, extra='{"style":"x"}')):
            for seed in (0, 1):
                list(painted(one, [Sketch("a jar", seed)], tmp_path))
    assert len(studio.bodies) == 6


def test_what_is_refused_is_told_and_not_asked_again_but_what_failed_is(tmp_path: Path) -> None:
    sketches = [Sketch(prompt) for prompt in PROMPTS]
    broken = True

    def behave(_: int, body: dict[str, Any]) -> Reply:
        if body["prompt"] == PROMPTS[1]:
            return 400, {"error": {"code": "moderation_blocked", "message": "not this"}}
        if body["prompt"] == PROMPTS[2] and broken:
            return 200, {"data": []}
        return paints(body)

    with Studio(behave) as studio:
        one = painter(studio.url, retries=1)
        first = dict(painted(one, sketches, tmp_path))
        assert shown(first[sketches[0]]) == png_of(PROMPTS[0], 0)
        assert "not this" in str(first[sketches[1]])
        assert "gave up after 2 tries" in str(first[sketches[2]])
        broken, before = False, len(studio.bodies)
        second = dict(painted(one, sketches, tmp_path))
        assert len(studio.bodies) == before + 1
    assert second[sketches[1]] == first[sketches[1]]
    assert shown(second[sketches[2]]) == png_of(PROMPTS[2], 0)


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        return (429, {"error": "later"}) if number == 0 else paints(body)

    with Studio(behave) as studio:
        [(_, found)] = painted(painter(studio.url), [Sketch("a jar")], tmp_path)
    assert shown(found) == png_of("a jar", 0)
    assert len(studio.bodies) == 2


def test_a_picture_that_was_removed_is_painted_again(tmp_path: Path) -> None:
    with Studio() as studio:
        [(_, found)] = painted(painter(studio.url), [Sketch("a jar")], tmp_path)
        assert isinstance(found, Image)
        assert found.path
        found.path.unlink()
        [(_, found)] = painted(painter(studio.url), [Sketch("a jar")], tmp_path)
        assert shown(found) == png_of("a jar", 0)
    assert len(studio.bodies) == 2


def test_the_key_goes_along_and_shows_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRUSH_KEY", "sesame-open")

    def behave(_: int, body: dict[str, Any]) -> Reply:
        return 401, {"error": f"bad key sesame-open for {body['model']}"}

    with Studio(behave) as studio, pytest.raises(ModelError) as caught:
        list(painted(painter(studio.url, key_env="BRUSH_KEY"), [Sketch("a jar")], tmp_path))
    assert studio.headers[0]["authorization"] == "Bearer sesame-open"
    assert "sesame-open" not in str(caught.value)
    assert "HTTP 401" in str(caught.value)


def test_a_budget_is_kept_and_what_was_painted_stays(tmp_path: Path) -> None:
    sketches = [Sketch(prompt) for prompt in PROMPTS]
    with Studio() as studio:
        with pytest.raises(UsageError, match="budget of 2 calls"):
            list(painted(painter(studio.url, budget="2calls"), sketches, tmp_path))
        assert len(studio.bodies) == 2
        made = dict(painted(painter(studio.url), sketches, tmp_path))
    assert [shown(made[sketch]) for sketch in sketches] == [png_of(prompt, 0) for prompt in PROMPTS]
    assert len(studio.bodies) == 3


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    def behave(_: int, body: dict[str, Any]) -> Reply:
        return (200, {"data": [{"b64_json": "aGVsbG8="}]}) if "jar" in body["prompt"] else paints(body)

    with Studio(behave) as studio:
        made = dict(painted(painter(studio.url), [Sketch("a jar"), Sketch("a flame")], tmp_path))
    assert made[Sketch("a jar")] == "what came back is no picture"
    assert shown(made[Sketch("a flame")]) == png_of("a flame", 0)


def test_an_address_instead_of_a_picture_says_what_to_ask(tmp_path: Path) -> None:
    with Studio(lambda *_: (200, {"data": [{"url": "http://elsewhere/1.png"}]})) as studio:
        [(_, why)] = painted(painter(studio.url, retries=0), [Sketch("a jar")], tmp_path)
    assert "response_format" in str(why)


def test_bad_settings_are_one_line(tmp_path: Path, prompts: Path) -> None:
    with pytest.raises(ConfigError, match="extra is a JSON object"):
        painter("http://127.0.0.1:9/v1", extra='{"prompt":"x"}')
    with pytest.raises(ConfigError, match="cannot be read"):
        list(pictures("painted:nowhere.txt?painter=brush@http://127.0.0.1:9/v1", tmp_path))
    with pytest.raises(ConfigError, match="each must be at least 1"):
        list(pictures(f"painted:{prompts}?painter=brush@http://127.0.0.1:9/v1&each=0", tmp_path))
    prompts.write_text(" \n")
    with pytest.raises(ConfigError, match="holds no prompt"):
        list(pictures(f"painted:{prompts}?painter=brush@http://127.0.0.1:9/v1", tmp_path))
