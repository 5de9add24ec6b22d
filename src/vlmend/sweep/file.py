"""A sweep in a file: the options of `vlmend sweep` by name, so that a whole table is one short command.

recipes: [unsafe_concepts/sft, unsafe_concepts/dpo]
base: true
suite: unsafe_concepts:data/UnsafeConcepts?safe=data/imagenet_1k
condition: {mme: mme:data/MME}          # a suite, or a list of a suite, attacks and defences
grid: {train.seed: [0, 1, 2]}
metric: [alignment.na_wrong, perception, mme/accuracy]
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from vlmend import plain_yaml
from vlmend.config import Section, Words, explain
from vlmend.errors import ConfigError

Value = str | int | float | bool


def _values(given: object) -> object:
    """Several values of a setting, where one is named."""
    if isinstance(given, Mapping):
        return {key: value if isinstance(value, list) else [value] for key, value in given.items()}  # pyright: ignore
    return given


class SweepFile(Section):
    """Options of `vlmend sweep`, each meaning what it means there; what is left out is as it is there.

    `condition` is by name what is asked, a suite, maybe with attacks and defences; `grid` is by setting its values.
    """

    recipes: Words = ()
    grid: Annotated[Mapping[str, tuple[Value, ...]], BeforeValidator(_values)] = {}
    out: str | None = None
    suite: str | None = None
    attack: Words = ()
    defence: Words = ()
    condition: Annotated[Mapping[str, tuple[str, ...]], BeforeValidator(_values)] = {}
    judge: Words = ()
    judge_model: str | None = None
    judge_sees: str | None = None
    judge_controls: str | None = None
    missing_images: str | None = None
    max_pixels: int | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    num_return_sequences: int | None = None
    seed: int | None = None
    thinking_budget: int | None = None
    batch_size: int | None = None
    share_prefix: bool | None = None
    device: str | None = None
    dtype: str | None = None
    plan: bool | None = None
    base: bool | None = None
    pool: Words = ()
    each: bool | None = None
    workers: int | None = None
    metric: Words = ()
    safety: str | None = None
    utility: str | None = None
    markdown: bool | None = None

    def options(self) -> dict[str, Any]:
        """As the command line would have them, without those that are not given."""
        given = self.model_dump(exclude_unset=True, exclude_none=True)
        given["grid"] = [f"{key}={','.join(map(_written, values))}" for key, values in self.grid.items()]
        given["condition"] = [f"{name}={shlex.join(words)}" for name, words in self.condition.items()]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items() if value != []}


def read(file: Path) -> dict[str, Any]:
    """The options that a file gives. Raises ConfigError with one line that names the file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    held = plain_yaml.parse(text, str(file))
    if not isinstance(held, dict):
        raise ConfigError(f"{file} should hold the options of a sweep, by name")
    try:
        return SweepFile.model_validate(held).options()
    except ValidationError as error:
        raise ConfigError(f"{file}: {explain(error, SweepFile)}") from error


def _written(value: Value) -> str:
    """As on a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
