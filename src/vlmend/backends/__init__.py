"""Things that answer: one file per backend, and the identity of what they say."""

from __future__ import annotations

from dataclasses import asdict

from vlmend.types import Decoding, Example, conversation_key, digest


def response_id(fingerprint: str, example: Example, decoding: Decoding) -> str:
    """Hash of model, conversation, pictures and decoding. Raises DataError when a picture cannot be read."""
    return digest(fingerprint, conversation_key(example.prompt), asdict(decoding))
