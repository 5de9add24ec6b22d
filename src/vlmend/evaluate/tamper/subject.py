"""A finished tuning run as the subject of tampering: what it was made of, and the models it can be compared with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmend import plain_yaml
from vlmend.config import ModelConfig, Recipe, parse_recipe
from vlmend.data.dataset import read_any
from vlmend.data.mix import Mix, build
from vlmend.errors import StoreError, UsageError
from vlmend.store import read_json
from vlmend.types import Pair, Role


@dataclass(frozen=True)
class Subject:
    """The folder of a finished run, its recipe, and the hashes of its weights."""

    folder: Path
    recipe: Recipe
    weights: dict[str, str]

    @classmethod
    def open(cls, folder: Path, device: str) -> Subject:
        """Raises StoreError where there is no finished tuning run."""
        try:
            about = read_json(folder / "manifest.json")
            recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
            if about.get("kind") != "tune":
                raise StoreError("its manifest is of something else")
            weights: dict[str, str] = about["weights"]
        except (StoreError, OSError, KeyError) as error:
            raise StoreError(f"{folder} holds no finished tuning run; `vlmend tune` makes one") from error
        data = plain_yaml.parse(recipe, f"recipe {folder / 'recipe.yaml'}")
        if device != "auto":
            data["model"]["device"] = device
        return cls(folder, parse_recipe(data, f"{folder / 'recipe.yaml'}"), weights)

    @property
    def model(self) -> ModelConfig:
        """How the model is loaded."""
        return self.recipe.model

    @property
    def is_adapter(self) -> bool:
        """Whether the run made an adapter, and not a whole model."""
        return self.model.tune == "lora"

    @property
    def base(self) -> str:
        """The model before tuning, as commands take it."""
        return self._spec(self.model.name, self.model.adapter)

    @property
    def tuned(self) -> str:
        """The model after tuning."""
        return self.with_adapter(self.folder) if self.is_adapter else self._spec(str(self.folder), None)

    def with_adapter(self, folder: Path) -> str:
        """The model with another adapter: in place of the run's own, or on top of the whole model that it made."""
        return self._spec(self.model.name if self.is_adapter else str(self.folder), str(folder))

    def _spec(self, name: str, adapter: str | None) -> str:
        options = "&".join(f"{key}={value}" for key, value in self.model.family.items())
        return f"{name}{f'+{adapter}' if adapter else ''}{f'?{options}' if options else ''}"

    @property
    def loading(self) -> dict[str, Any]:
        """What the backend is to load it with."""
        names = ("dtype", "device", "attn_implementation", "quantization", "trust_remote_code")
        return {name: getattr(self.model, name) for name in names} | (
            {"revision": self.model.revision} if self.model.revision else {}
        )

    @cached_property
    def mix(self) -> Mix:
        """What the run was tuned on, before roles that its method does not use were left out."""
        return build(self.recipe.data)

    def suite(self) -> str:
        """The suite that asks about what the run was to forget. Raises UsageError where no source says what that is."""
        for part in self.recipe.data.mix:
            items = read_any(part.source)
            if any(not isinstance(item, Pair) and item.role is Role.FORGET for item in items):
                return f"forgetting:{part.source}"
        by_recipe = next((part.source for part in self.recipe.data.mix if part.role is Role.FORGET), "")
        raise UsageError(
            f"no source of {self.folder} has examples of the role forget"
            + (f": that role of {by_recipe} is said by the recipe alone, write it into the rows" if by_recipe else "")
            + "; or name a source that has them: --suite forgetting:SPEC"
        )
