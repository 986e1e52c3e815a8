"""Integers that REST framework writes as text: `BigIntegerField` with `coerce_to_string`."""

from __future__ import annotations

from typing import Any, Final

from rest_framework import fields
from rest_framework.settings import api_settings

from rest_channels.schema.json_schema import JsonSchema

# REST framework 3.16 has none.
_BIG: Final[Any] = getattr(fields, "BigIntegerField", ())
_BOUNDS: Final = ("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum")


def is_text(field: Any) -> bool:
    """Return whether the values of `field` are integers as text."""
    return isinstance(field, _BIG) and bool(
        getattr(field, "coerce_to_string", api_settings.COERCE_BIGINT_TO_STRING)
    )


def as_text(schema: JsonSchema) -> JsonSchema:
    """Return the schema of integers as that of their texts."""
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "integer" not in kinds:
        return schema
    texts = ["string" if item == "integer" else item for item in kinds]
    rest = {key: value for key, value in schema.items() if key not in _BOUNDS}
    return {**rest, "type": texts if isinstance(kind, list) else "string", "format": "int64"}
