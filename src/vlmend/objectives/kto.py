"""KTO: answers that people wanted and answers that they did not, with no pairs among them (arXiv 2402.01306)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlmend.objectives import Positive
from vlmend.ops.preference import kto
from vlmend.ops.scored import Loss, Needs, Scored, given
from vlmend.types import Role

WANTED = (Role.SAFETY, Role.UTILITY, Role.RETAIN)
ROLES = (*WANTED, Role.FORGET)


@dataclass(frozen=True)
class Kto:
    """desirable (1 - sigmoid(beta (ratio - z0))) or undesirable (1 - sigmoid(beta (z0 - ratio))), mean over examples.

    ratio = log pi(y|x) - log pi_0(y|x). z0, which gets no gradient, is max(0, mean ratio of the step's own answers):
    an estimate of KL(pi || pi_0) that needs no further pass. The paper takes each answer with another example's prompt.
    reference_point: `zero` sets z0 = 0.

    Answers to avoid (`label: false`, the rejected side of pairs, the role `forget`) are the undesirable ones.
    """

    beta: Positive = 0.1
    desirable: Positive = 1.0
    undesirable: Positive = 1.0
    reference_point: Literal["batch", "zero"] = "batch"

    @property
    def needs(self) -> Needs:
        """One answer of either kind in a row, also before tuning; both kinds in the mix."""
        return Needs(
            streams=(ROLES,),
            present=(WANTED, (Role.FORGET,)),
            reference=frozenset(ROLES),
            feedback=True,
            survey=self.reference_point == "batch",
        )

    def __call__(self, policy: Scored, reference: Scored | None = None) -> Loss:
        answers, ratio = policy.only(*ROLES), _ratio(policy, reference)
        wanted = torch.tensor([role in WANTED for role in answers.roles], dtype=torch.bool, device=ratio.device)
        values = kto(ratio, wanted, self._reference_point(policy, reference), self.beta)
        return Loss.of(
            {
                "desirable": self.desirable * answers.example_mean(values * wanted),
                "undesirable": self.undesirable * answers.example_mean(values * ~wanted),
            }
        )

    def survey(self, policy: Scored, reference: Scored | None = None) -> Mapping[str, Tensor]:
        """The mean ratio of the step's answers; this call's share of it."""
        return {"ratio": policy.only(*ROLES).example_mean(_ratio(policy, reference)).detach()}

    def _reference_point(self, policy: Scored, reference: Scored | None) -> float:
        if self.reference_point == "zero":
            return 0.0
        known = policy.totals.surveyed or self.survey(policy, reference)
        return max(0.0, float(known["ratio"]))


def _ratio(policy: Scored, reference: Scored | None) -> Tensor:
    return policy.only(*ROLES).answer_logps - given(reference).only(*ROLES).answer_logps


plugin = Kto
