"""Things that answer: one file per backend, and the identity of what they say."""

from __future__ import annotations

from dataclasses import asdict

from vlmend.types import Decoding, Example, conversation_key, digest


def response_id(fingerprint: str, example: Example, decoding: Decoding, sample: int = 0) -> str:
    """Hash of model, conversation, pictures, decoding and sample. Raises DataError when a picture cannot be read.

    How many samples are asked for is no part of it: four answers can become eight without asking for the four again.
    """
    how = {key: value for key, value in asdict(decoding).items() if key != "num_return_sequences"}
    return digest(fingerprint, conversation_key(example.prompt), how, sample)
