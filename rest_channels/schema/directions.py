"""
Components as a client receives them, and as it sends them.

OpenAPI has one component for both: there `readOnly` and `writeOnly` decide what is required in
which direction. To JSON Schema they are remarks only, so an input has a schema of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_channels.schema.json_schema import JsonSchema, component_name, reference, referred


class Inputs:
    """The components that differ as input; their names end with `.input`."""

    def __init__(self, components: Mapping[str, JsonSchema]) -> None:
        self.names = {
            name for name, schema in components.items() if _required(schema, "readOnly") != schema
        }
        users = {name: set(referred(schema)) for name, schema in components.items()}
        while more := {name for name, uses in users.items() if uses & self.names} - self.names:
            self.names |= more
        self.schemas = {f"{name}.input": self.of(components[name]) for name in sorted(self.names)}

    def of(self, schema: JsonSchema) -> JsonSchema:
        """Return `schema` as input."""
        found: JsonSchema = self._renamed(_required(schema, "readOnly"))
        return found

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._renamed(item) for item in value]
        if not isinstance(value, dict):
            return value
        name = component_name(value)
        if name in self.names:
            return {**value, **reference(f"{name}.input")}
        return {key: self._renamed(item) for key, item in value.items()}


def as_output(schema: JsonSchema) -> JsonSchema:
    """Return `schema` without properties that a client only sends."""
    found: JsonSchema = _required(schema, "writeOnly")
    return found


def plain(value: Any) -> Any:
    """Return a JSON Schema without the words that OpenAPI alone has."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    schema = {key: plain(item) for key, item in value.items()}
    # A property may have this name too; then its value has no text of that name.
    discriminator = schema.get("discriminator")
    if isinstance(discriminator, dict) and isinstance(discriminator.get("propertyName"), str):
        schema["discriminator"] = discriminator["propertyName"]
    return schema


def _required(value: Any, not_if: str) -> Any:
    """Return a schema that does not require properties with the mark `not_if`."""
    if isinstance(value, list):
        return [_required(item, not_if) for item in value]
    if not isinstance(value, dict):
        return value
    schema = {key: _required(item, not_if) for key, item in value.items()}
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        schema["required"] = [name for name in required if not properties.get(name, {}).get(not_if)]
        if not schema["required"]:
            del schema["required"]
    return schema
