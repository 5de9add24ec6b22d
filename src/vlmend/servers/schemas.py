"""The names that servers have for a JSON schema which an answer must keep to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Ways = Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]
SCHEMA_WAYS: Ways = {
    "response_format": lambda schema: {
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}
        }
    },
    "structured_outputs": lambda schema: {"structured_outputs": {"json": schema}},
    "guided_json": lambda schema: {"guided_json": schema},
    "json_schema": lambda schema: {"json_schema": schema},
}  # fmt: skip
