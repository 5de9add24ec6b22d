"""RMU: steers hidden states of what is forgotten to a random direction (arXiv 2403.03218; for VLMs 2503.11832)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from torch import Tensor

from vlmend.objectives import Positive, Weight, cross_entropy
from vlmend.ops.scored import Look, Loss, Needs, Places, Scored, given
from vlmend.ops.unlearning import control_vector, drift, steering
from vlmend.types import Role

Kind = Literal["gaussian", "uniform"]


@dataclass(frozen=True)
class Rmu:
    """gamma mean of (h_l - c)^2 on forgotten + alpha CE(retain) + alpha_hidden mean of (h_l - h_l,0)^2 on retained.

    layer: l from 0, or a module's dotted name. c = coefficient * u for scale `fixed`; coefficient * |h_l,0| * u, by
    position, for `adaptive` (arXiv 2408.06223). u: `gaussian`, or `uniform` as released code draws it; it is saved with
    the run. positions: see Look; `all` as Safety Mirage's code, which steers pictures, padding and first token as well.
    """

    layer: int | str = 7
    coefficient: Positive = 10.0
    scale: Literal["fixed", "adaptive"] = "fixed"
    control: Kind = "gaussian"
    positions: Places = "text"
    gamma: Positive = 1.0
    alpha: Weight = 1.0
    alpha_hidden: Weight = 0.0
    seed: int = 42

    @property
    def needs(self) -> Needs:
        """Hidden states of what is forgotten, also before tuning for `adaptive`; of what is retained if they count."""
        streams = ((Role.FORGET,), (Role.RETAIN,)) if self.alpha or self.alpha_hidden else ((Role.FORGET,),)
        retained = {Role.RETAIN} if self.alpha_hidden else set[Role]()
        before = retained | ({Role.FORGET} if self.scale == "adaptive" else set())
        look = Look(frozenset({Role.FORGET} | retained), self.positions, layer=self.layer)
        read = frozenset({Role.RETAIN} if self.alpha else set[Role]())
        return Needs(streams, reference=frozenset(before), look=look, tokens=read, states_only=True)

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        forget, norm = policy.only(Role.FORGET), self.coefficient
        control = _control(forget.states.shape[1], self.control, self.seed).to(forget.states.device)
        if self.scale == "adaptive":
            norm = self.coefficient * given(reference).only(Role.FORGET).states.norm(dim=-1)
        parts = {"forget": self.gamma * forget.spot_mean(steering(forget.states, control, norm))}
        if self.alpha:
            parts["retain"] = self.alpha * cross_entropy(policy, Role.RETAIN)
        if self.alpha_hidden:
            retain, before = policy.only(Role.RETAIN), given(reference).only(Role.RETAIN)
            parts["retain_hidden"] = self.alpha_hidden * retain.spot_mean(drift(retain.states, before.states))
        return Loss.of(parts)

    def drawn(self, width: int) -> Mapping[str, Tensor]:
        """The direction u."""
        return {"control": _control(width, self.control, self.seed)}


@lru_cache(maxsize=8)
def _control(width: int, kind: Kind, seed: int) -> Tensor:
    return control_vector(width, kind, seed)


plugin = Rmu
