"""Ask about several slightly spoilt copies of the picture, and answer as most of the answers do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlmend.defences import ask, screened, shows_pictures
from vlmend.errors import ConfigError
from vlmend.registry import attacks
from vlmend.types import Example, Request, Response, Screening, Talk


@dataclass(frozen=True)
class Smoothing:
    """`smoothing:N?severity=0..5&kind=…`: N copies, spoilt as the attack `corruption` does, each drawn anew.

    The vote is on whether to refuse, as `judge` tells it; a draw refuses, and what is given is the first answer of the
    winning side. SmoothLLM (Robey et al. 2023, arXiv 2310.03684) does this to words; a picture's noise is what attacks
    that turn single pixels do not survive. Severity 0 asks about the picture as it is, once.
    """

    n: int = 5
    severity: int = 1
    kind: str = "gaussian_noise"
    judge: str = "refusal"

    reads = ("refused",)

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.severity <= 5:
            raise ConfigError("defence 'smoothing': n is at least 1, and severity 0 to 5")
        for seed in range(self.n if self.severity else 0):
            self._spoiler(seed)

    @property
    def asks(self) -> int:
        """N, or once where the copies are all alike."""
        return self.n if self.severity else 1

    @property
    def looks(self) -> int:
        """Once at each answer."""
        return self.asks if self.asks > 1 else 0

    @property
    def judges(self) -> Sequence[str]:
        """The judge that tells refusals."""
        return (self.judge,)

    def _spoiler(self, seed: int) -> object:
        return attacks.from_spec(f"corruption:{self.kind}?severity={self.severity}&seed={seed}")

    def answer(self, request: Request) -> Talk[Response]:
        """The first answer of those that do what most do."""
        copies = [request]
        if self.asks > 1 and shows_pictures(request):
            plain = Example("", request.prompt)
            copies = [
                replace(request, prompt=attacks.from_spec(
                    f"corruption:{self.kind}?severity={self.severity}&seed={seed}"
                )(plain).prompt)
                for seed in range(self.n)
            ]  # fmt: skip
        said = yield from ask(*copies)
        given = [one for one in said if one.said]
        if len(given) < 2:
            return given[0] if given else said[0]
        verdicts = yield from screened(*(Screening("judge", self.judge, request.prompt, one.text) for one in given))
        no = [verdict.refused is True for verdict in verdicts]
        return given[no.index(2 * sum(no) >= len(no))]


plugin = Smoothing
