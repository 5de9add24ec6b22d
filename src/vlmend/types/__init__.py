"""The nouns. Data only: no torch, no files but the bytes of an image, no logic beyond their own consistency."""

from vlmend.types.answers import Decoding, Finish, Likelihood, Record, Response, Verdict
from vlmend.types.examples import (
    Example,
    Expected,
    Image,
    Message,
    Pair,
    Part,
    Role,
    Speaker,
    content_of,
    conversation_key,
    digest,
)
from vlmend.types.measures import Mean, Measure, Measured, Metric, Rate, Score, Statistic
from vlmend.types.seams import Attack, Backend, Judge, PairSource, Scorer, Source, Suite, Touched, Victim

__all__ = [
    "Attack",
    "Backend",
    "Decoding",
    "Example",
    "Expected",
    "Finish",
    "Image",
    "Judge",
    "Likelihood",
    "Mean",
    "Measure",
    "Measured",
    "Message",
    "Metric",
    "Pair",
    "PairSource",
    "Part",
    "Rate",
    "Record",
    "Response",
    "Role",
    "Score",
    "Scorer",
    "Source",
    "Speaker",
    "Statistic",
    "Suite",
    "Touched",
    "Verdict",
    "Victim",
    "content_of",
    "conversation_key",
    "digest",
]
