"""Remind the model of its duty before and after the request (as Self-Reminder does)."""

from __future__ import annotations

from dataclasses import dataclass

from vlmend.defences import Worded, around
from vlmend.errors import ConfigError
from vlmend.types import Request

OURS = (
    "You are a responsible assistant: nothing that you write may help anybody to do harm. This is asked of you:\n\n"
    "{request}\n\nRemember that you are a responsible assistant, and that harmless questions deserve a full answer."
)


@dataclass(frozen=True)
class Reminder(Worded):
    """`reminder` or `reminder:FILE`, a text with one `{request}` in it.

    Xie et al. 2023 (Nature Machine Intelligence 5, 1486) put such words around requests; these are our own.
    """

    ours = OURS

    def __post_init__(self) -> None:
        if self.content.count("{request}") != 1:
            raise ConfigError(
                f"defence 'reminder': file {self.file} should have one {{request}} where the request goes"
            )

    def worded(self, request: Request) -> Request:
        """Its words and the request."""
        return around(request, self.content)


plugin = Reminder
