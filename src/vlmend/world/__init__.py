"""The embedded world: drawn, harmless pictures, a small language about them, and a tiny model that knows both.

It stands in for photographs, requests and a real model in the demo, the tutorial and the tests. Nothing in it is
unsafe: abstract 'hazard' icons and arbitrary house rules play that part. Importing this package loads no torch.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped model: a standard `LlavaForConditionalGeneration` with its processor."""

__all__ = ["WEIGHTS"]
