"""vlmend makes vision-language models safe, and proves that the safety is not a mirage."""

__version__ = "0.1.0"
