"""Llama 3.2 Vision: pictures enter by cross-attention, one token marks where each was shown."""

from dataclasses import dataclass
from typing import Any, ClassVar

from vlmend.models.family import Family, Lookahead


@dataclass(frozen=True)
class Mllama(Family):
    """No settings.

    In transformers, tokens before the first picture attend to all pictures of the batch's longest row alike, also to
    the blank ones that fill up a row.
    """

    lookahead: ClassVar[Lookahead] = "picture"
    mixes: ClassVar[bool] = False
    features: ClassVar[str] = ""

    def adapt(self, processor: Any, config: Any) -> Any:
        """The processor without its check of placeholders, which counts those that a user merely spelled."""
        del config
        kind = type(processor)
        members = {"__module__": kind.__module__, "validate_inputs": lambda self, **inputs: None}
        processor.__class__ = type(kind.__name__, (kind,), members)
        return processor


plugin = Mllama
