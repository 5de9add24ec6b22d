"""Show a black surface of the same size instead of every picture: what is refused now is refused for the words."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.attacks import PICTURES, covered
from vlmend.errors import ConfigError
from vlmend.types import Example


@dataclass(frozen=True)
class BlankImage:
    """`color` is a name, or rgb(r,g,b). Words, and the number, places and sizes of the pictures stay."""

    color: str = "black"

    changes = PICTURES

    def __post_init__(self) -> None:
        from PIL import ImageColor

        try:
            ImageColor.getrgb(self.color)
        except ValueError as error:
            raise ConfigError(f"attack blank_image: no color {self.color!r}; write a name or rgb(r,g,b)") from error

    def __call__(self, example: Example) -> Example:
        """The example about nothing to be seen."""
        return covered(example, self.color)


plugin = BlankImage
