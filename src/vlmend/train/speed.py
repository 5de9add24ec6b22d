"""The chooser: which of the faster ways to the same gradients a run goes, decided here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from vlmend.config import SpeedConfig
from vlmend.models.codec import Codec
from vlmend.models.features import Features
from vlmend.models.head import head_of
from vlmend.models.prefix import SHARING, attention_of
from vlmend.models.prompts import whole_only
from vlmend.ops.head import Head
from vlmend.ops.scored import Needs
from vlmend.train.keeping import OFF, Showing, computing, keep


@dataclass(frozen=True)
class Ways:
    """What is done once instead of many times (see `SpeedConfig`). `why` says for each way not gone what is against it.

    apart: examples can be encoded one at a time and put together, which sharing, packing, stopping and features that
    are kept are built on. ahead: it is done for the sake of features alone. about: what features are kept.
    autocast: the precision passes are computed in, where that is not simply the weights'.
    """

    apart: bool = False
    share: bool = False
    pack: bool = False
    stop: bool = False
    narrow: bool = False
    head: Head | None = None
    features: Features | None = None
    ahead: bool = False
    about: str = ""
    tokens_per_pass: int | None = None
    autocast: torch.dtype | None = None
    why: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """What is shown before a run: the ways gone, and why others are not."""
        gone = {
            "shared_prefix": self.share,
            "packing": self.pack,
            "answer_logits": self.narrow,
            "stop_at_layer": self.stop,
            "features": self.about != "",
        }
        on = ", ".join(name for name, yes in gone.items() if yes) or "none"
        kept = [f"  {self.about}"] if self.about else []
        return [f"speed: {on}", *kept, *(f"  no {name}: {reason}" for name, reason in self.why if reason != OFF)]


def choose(
    speed: SpeedConfig,
    model: Any,
    codec: Codec,
    needs: Needs,
    showing: Showing | None = None,
    autocast: torch.dtype | None = None,
) -> Ways:
    """The ways that this model and method allow, of those that are switched on and pay for what is shown."""
    alone = _against_alone(model, codec, needs)
    masked = alone or _against_masks(model)
    showing = showing or Showing()
    kept = None if alone else keep(speed, model, codec, showing, autocast)
    against = {
        "shared_prefix": masked if speed.shared_prefix else OFF,
        "packing": masked if speed.packing else OFF,
        "answer_logits": "" if speed.answer_logits else OFF,
        "stop_at_layer": _against_stopping(needs, masked) if speed.stop_at_layer else OFF,
        "features": (kept.why if kept else alone) if speed.features else OFF,
    }
    gone = {name: not reason for name, reason in against.items()}
    ahead = kept is not None and kept.ahead
    used = gone["shared_prefix"] or gone["packing"] or gone["stop_at_layer"] or ahead
    with computing(model.device, autocast):
        head = head_of(model) if gone["answer_logits"] else None
    return Ways(
        apart=used,
        share=gone["shared_prefix"],
        pack=gone["packing"],
        stop=gone["stop_at_layer"],
        narrow=gone["answer_logits"],
        head=head,
        features=kept.features if kept and used else None,
        ahead=ahead,
        about=kept.about if kept and used else "",
        tokens_per_pass=speed.tokens_per_pass,
        autocast=autocast,
        why=tuple((name, reason) for name, reason in against.items() if reason and _concerns(name, needs, showing)),
    )


def _against_alone(model: Any, codec: Codec, needs: Needs) -> str:
    """Why examples cannot be encoded one at a time."""
    if reason := whole_only(model, codec):
        return reason
    if needs.look is not None and needs.look.places == "all":
        return "this method counts padding, so that it matters how a batch is padded"
    return ""


def _against_masks(model: Any) -> str:
    attention = attention_of(model)
    return "" if attention in SHARING else f"{attention} takes no mask of one's own (sdpa does)"


def _against_stopping(needs: Needs, apart: str) -> str:
    if needs.look is None or needs.look.layer is None or needs.tokens is None:
        return "this method looks at no layer"
    return apart


def _concerns(name: str, needs: Needs, showing: Showing) -> bool:
    """Whether a way has anything to do with method and data, so that its absence is worth a word."""
    if name == "features":
        return bool(showing.examples)
    return name != "stop_at_layer" or (needs.look is not None and needs.look.layer is not None)
