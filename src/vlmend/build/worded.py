"""What pipelines have in common: prompts in a file, and, for most, a policy in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from vlmend.build import prompts, taxonomy
from vlmend.errors import ConfigError, nearest
from vlmend.types import digest


@dataclass(frozen=True, kw_only=True)
class Worded:
    """A pipeline with prompts, its own or the user's (`prompts=FILE`)."""

    prompts: Path | None = None

    name: ClassVar[str]

    @cached_property
    def texts(self) -> prompts.Prompts:
        """What the stages say."""
        return prompts.load(self.name, self.prompts)

    @property
    def version(self) -> str:
        """What a row's provenance says: the pipeline and the version of its prompts."""
        return f"{self.name} {self.texts.version}"

    @property
    def made_of(self) -> str:
        """Changes with every word that is asked, and with every option."""
        return digest(dict(self.texts), {key: value for key, value in asdict(self).items() if key != "prompts"})

    def words(self, stage: str) -> str:
        """A stage's prompt; what fills its places is not known yet."""
        return self.texts[stage]


@dataclass(frozen=True, kw_only=True)
class UnderPolicy(Worded):
    """A pipeline that tells harm by a taxonomy (`taxonomy=NAME|FILE`)."""

    taxonomy: str

    @cached_property
    def policy(self) -> taxonomy.Taxonomy:
        """The taxonomy."""
        return taxonomy.load(self.taxonomy)

    @property
    def version(self) -> str:
        """The pipeline, its prompts and its taxonomy, each with its version."""
        return f"{super().version}, {self.policy.name} {self.policy.version}"

    @property
    def made_of(self) -> str:
        """Changes with every word that is asked, and with every option."""
        return digest(super().made_of, self.policy.model_dump(mode="json"))

    def words(self, stage: str) -> str:
        """A stage's prompt with the policy in it; empty where there is none, as what the treated model is asked."""
        return self.texts.get(stage, "").replace("{policy}", self.policy.text())

    @property
    def options(self) -> Mapping[str, tuple[str, ...]]:
        """What the key `category` of an answer may hold; empty where nothing is harmful."""
        return {"category": ("", *self.policy.names)}

    def misnamed(self, category: str) -> str:
        """What is wrong with the category that an answer names; nothing where it is one of the policy's."""
        names = self.policy.names
        return "" if category in names else f"{category!r} is no category of the policy.{nearest(category, names)}"


def at_least(pipeline: str, name: str, value: int, least: int) -> None:
    """Raise ConfigError for an option that is too small."""
    if value < least:
        raise ConfigError(f"pipeline {pipeline!r}: {name} is at least {least} (got {value})")
