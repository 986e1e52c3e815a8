"""JSON Schemas as plain dictionaries, with named components as in OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

#: A JSON Schema; it names a component by `{"$ref": "#/components/schemas/Name"}`.
JsonSchema = dict[str, Any]

_PREFIX: Final = "#/components/schemas/"


def reference(name: str) -> JsonSchema:
    """Return the schema that refers to the component `name`."""
    return {"$ref": _PREFIX + name}


def component_name(schema: JsonSchema | None) -> str | None:
    """Return the name of the component that `schema` refers to; None if it refers to none."""
    target = (schema or {}).get("$ref", "")
    is_reference = isinstance(target, str) and target.startswith(_PREFIX)
    return target.removeprefix(_PREFIX) if is_reference else None


def resolved(schema: JsonSchema, components: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return `schema`, or the component that it refers to."""
    name = component_name(schema)
    return schema if name is None else components.get(name, {})


def referred(value: Any) -> Iterator[str]:
    """Yield the names of components to which a schema, or a list of them, refers directly."""
    if isinstance(value, dict):
        name = component_name(value)
        if name is not None:
            yield name
        for item in value.values():
            yield from referred(item)
        # A discriminator maps values to references as plain text.
        mapping = value.get("mapping")
        if isinstance(mapping, dict):
            for target in mapping.values():
                yield from referred({"$ref": target})
    elif isinstance(value, list):
        for item in value:
            yield from referred(item)


def reachable(
    schemas: Iterable[Any], components: Mapping[str, JsonSchema]
) -> dict[str, JsonSchema]:
    """Return the components to which `schemas` refer, also through each other, by name."""
    found: set[str] = set()
    waiting = [name for schema in schemas for name in referred(schema)]
    while waiting:
        name = waiting.pop()
        if name not in found and name in components:
            found.add(name)
            waiting += referred(components[name])
    return {name: components[name] for name in sorted(found)}


def as_json_schema(value: Any) -> Any:
    """
    Return a schema of OpenAPI 3.0 in the words of JSON Schema.

    `nullable` becomes a type of its own, a boolean `exclusiveMinimum` a number.
    """
    if isinstance(value, list):
        return [as_json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    schema = {key: as_json_schema(item) for key, item in value.items()}
    # Properties may have these names too, but their values are schemas.
    for bound in ("Minimum", "Maximum"):
        is_exclusive = schema.get(f"exclusive{bound}")
        if isinstance(is_exclusive, bool):
            del schema[f"exclusive{bound}"]
            if is_exclusive:
                schema[f"exclusive{bound}"] = schema.pop(bound.lower())
    if isinstance(is_nullable := schema.get("nullable"), bool):
        del schema["nullable"]
        return or_null(schema) if is_nullable else schema
    return schema


#: Words that describe a property, not its values.
_ABOUT: Final = ("title", "description", "readOnly", "writeOnly", "default", "deprecated")


def or_null(schema: JsonSchema) -> JsonSchema:
    """Return a schema that also admits null."""
    kind = schema.get("type")
    if isinstance(kind, (str, list)):
        kinds = [kind] if isinstance(kind, str) else kind
        wider = schema if "null" in kinds else {**schema, "type": [*kinds, "null"]}
        if None not in schema.get("enum", [None]):
            wider = {**wider, "enum": [*schema["enum"], None]}
        return wider
    rest = {key: item for key, item in schema.items() if key not in _ABOUT}
    if not rest or _admits_null(rest):
        return schema
    if rest.keys() == {"allOf"} and len(rest["allOf"]) == 1:
        # OpenAPI 3.0 has no other way to describe a reference.
        [rest] = rest["allOf"]
    about: JsonSchema = {key: schema[key] for key in _ABOUT if key in schema}
    alternatives = rest["anyOf"] if rest.keys() == {"anyOf"} else [rest]
    return {"anyOf": [*alternatives, {"type": "null"}], **about}


def _admits_null(schema: JsonSchema) -> bool:
    """Return whether one of the alternatives is null: drf-spectacular has a component for it."""
    alternatives = [*schema.get("oneOf", []), *schema.get("anyOf", [])]
    return any(
        component_name(item) == "NullEnum" or item.get("type") == "null" for item in alternatives
    )
