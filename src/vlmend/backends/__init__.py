"""Things that answer: one file per backend, and the identity of what they say."""

from __future__ import annotations

from dataclasses import asdict

from vlmend.types import Decoding, Example, conversation_key, digest


def response_id(fingerprint: str, example: Example, decoding: Decoding, sample: int = 0) -> str:
    """Hash of model, conversation, pictures, decoding and sample. Raises DataError when a picture cannot be read.

    How many samples are asked for is no part of it: four answers can become eight without asking for the four again.
    Free text is what it was before schemas: an empty one is no part of it either.
    """
    how = asdict(decoding)
    del how["num_return_sequences"]
    if not decoding.schema:
        del how["schema"]
    return digest(fingerprint, conversation_key(example.prompt), how, sample)
