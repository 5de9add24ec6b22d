"""In which precision passes are computed, and how gradients survive it."""

from __future__ import annotations

import torch

SCALE = 2.0**16  # what a loss is multiplied by before its gradient is taken in fp16, where 6e-8 is the smallest number


def computing(device: torch.device, autocast: torch.dtype | None) -> torch.autocast:
    """Passes in this precision; None leaves it to the weights."""
    return torch.autocast(device.type, dtype=autocast or torch.bfloat16, enabled=autocast is not None)


def says(autocast: torch.dtype | None) -> bool | str:
    """A precision of passes as the identities of what is kept have it, of which the first knew bfloat16 alone."""
    return "float16" if autocast is torch.float16 else autocast is not None
