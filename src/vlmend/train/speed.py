"""The chooser: which of the faster ways to the same gradients a run goes, decided here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmend.config import SpeedConfig
from vlmend.models.codec import Codec
from vlmend.models.features import Features
from vlmend.models.head import head_of
from vlmend.models.parts import owner
from vlmend.models.prefix import SHARING, attention_of
from vlmend.models.prompts import whole_only
from vlmend.ops.head import Head
from vlmend.ops.scored import Needs

FEATURES = 2**30  # bytes of what a frozen vision tower made, kept for the next time a picture is shown


@dataclass(frozen=True)
class Ways:
    """What is done once instead of many times (see `SpeedConfig`). `why` says for each way not gone what is against it.

    apart: examples can be encoded one at a time and put together, which sharing, packing and stopping are built on.
    """

    apart: bool = False
    share: bool = False
    pack: bool = False
    stop: bool = False
    narrow: bool = False
    head: Head | None = None
    features: Features | None = None
    tokens_per_pass: int | None = None
    why: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """What is shown before a run: the ways gone, and why others are not."""
        gone = {
            "shared_prefix": self.share,
            "packing": self.pack,
            "answer_logits": self.narrow,
            "stop_at_layer": self.stop,
        }
        on = ", ".join(name for name, yes in gone.items() if yes) or "none"
        return [f"speed: {on}", *(f"  no {name}: {reason}" for name, reason in self.why if reason != OFF)]


OFF = "switched off"


def choose(speed: SpeedConfig, model: Any, codec: Codec, needs: Needs) -> Ways:
    """The ways that this model and method allow, of those that are switched on."""
    apart = _against_apart(model, codec, needs)
    against = {
        "shared_prefix": apart if speed.shared_prefix else OFF,
        "packing": apart if speed.packing else OFF,
        "answer_logits": "" if speed.answer_logits else OFF,
        "stop_at_layer": _against_stopping(needs, apart) if speed.stop_at_layer else OFF,
    }
    gone = {name: not reason for name, reason in against.items()}
    used = gone["shared_prefix"] or gone["packing"] or gone["stop_at_layer"]
    tower = [p for name, p in model.named_parameters() if owner(name) in ("vision_tower", "projector")]
    kept = 0 if any(p.requires_grad for p in tower) else FEATURES
    return Ways(
        apart=used,
        share=gone["shared_prefix"],
        pack=gone["packing"],
        stop=gone["stop_at_layer"],
        narrow=gone["answer_logits"],
        head=head_of(model) if gone["answer_logits"] else None,
        features=Features(model, codec.family.features, kept) if used else None,
        tokens_per_pass=speed.tokens_per_pass,
        why=tuple((name, reason) for name, reason in against.items() if reason and _concerns(name, needs)),
    )


def _against_apart(model: Any, codec: Codec, needs: Needs) -> str:
    if reason := whole_only(model, codec):
        return reason
    if (attention := attention_of(model)) not in SHARING:
        return f"{attention} takes no mask of one's own (sdpa does)"
    if needs.look is not None and needs.look.places == "all":
        return "this method counts padding, so that it matters how a batch is padded"
    return ""


def _against_stopping(needs: Needs, apart: str) -> str:
    if needs.look is None or needs.look.layer is None or needs.tokens is None:
        return "this method looks at no layer"
    return apart


def _concerns(name: str, needs: Needs) -> bool:
    """Whether a way has anything to do with the method, so that its absence is worth a word."""
    return name != "stop_at_layer" or (needs.look is not None and needs.look.layer is not None)
