"""Data sets as examples: read by source, cut into slices, their pictures checked, mixed for tuning."""

from vlmend.data.dataset import Dataset, load, read

__all__ = ["Dataset", "load", "read"]
