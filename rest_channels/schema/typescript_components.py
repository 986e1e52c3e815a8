"""
JSON Schemas as types of TypeScript.

A component of an API stands for two types: the row that a client receives, and the input that it
sends. A row has every field except those that are write-only. Input has every field except those
that are read-only, and the ones with a default may be missing. `PATCH` has no type of its own: the
client makes it of the input, each field optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from rest_channels.schema.typescript_text import (
    Member,
    comment,
    grouped,
    literal,
    members,
    object_type,
    type_name,
    union,
    words,
)

_REFERENCE: Final = "#/components/schemas/"
# JavaScript's Number.MAX_SAFE_INTEGER.
_MAX_SAFE: Final = 2**53 - 1

_SIMPLE: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
# The wire carries JSON, which has neither dates nor decimals nor bytes.
_FORMATS: Final = {
    "date-time": "Date and time as text, ISO 8601.",
    "date": 'Date as text, such as "2026-11-28".',
    "time": 'Time as text, such as "16:20:00".',
    "duration": 'Duration as text, such as "1 16:20:00".',
    "decimal": 'Decimal as text, such as "12.50".',
    "uuid": "UUID as text.",
    "uri": "URL.",
    "email": "Email address.",
    "binary": "File: a frame carries text, so upload files over HTTP.",
    "byte": "Bytes as base64.",
}


class Direction(Enum):
    OUTPUT = "row"
    INPUT = "input"


Use = tuple[str, Direction]
NameOf = Callable[[str, Direction], str]


class UnknownComponent(LookupError):
    """A schema refers to a component that the description does not have."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"{reference!r} is not a component of the schema. Register it with drf-spectacular, or "
            "write its schema in place."
        )


@dataclass
class ComponentTypes:
    """
    The types of components, by those names that something uses.

    Expressions are written twice: the first time to see which components are used as what, the
    second time with the names that follow from it.
    """

    schemas: Mapping[str, Any]
    taken: frozenset[str] = frozenset()
    _names: dict[Use, str] = field(default_factory=dict)
    _uses: dict[Use, None] = field(default_factory=dict)

    def name_uses(self, write: Callable[[], object]) -> None:
        """Give names to all components that `write` uses, and to those that these use."""
        self._uses.clear()
        write()
        seen: set[Use] = set()
        while fresh := [use for use in self._uses if use not in seen]:
            seen.update(fresh)
            for name, direction in fresh:
                self._declared(name, direction)
        self._names = self._named(seen)

    def declarations(self) -> Iterator[str]:
        """Yield the text of each named type, in alphabetical order."""
        by_name = {name: use for use, name in reversed(self._names.items())}
        for name in sorted(by_name):
            component, direction = by_name[name]
            yield self._declaration(name, component, direction)

    def resolve(self, schema: Any) -> Any:
        """Return `schema`, or the component that it refers to."""
        seen = set()
        while isinstance(schema, Mapping) and "$ref" in schema:
            name = self._component(schema["$ref"])
            if name in seen:
                return {}
            seen.add(name)
            schema = self.schemas[name]
        return schema

    def expression(self, schema: Any, direction: Direction) -> str:
        """Return the type of the values that `schema` describes."""
        if not isinstance(schema, Mapping):
            return "never" if schema is False else "unknown"
        found = self._without_null(schema, direction)
        nulls = schema.get("nullable") is True
        return union([found, "null"]) if nulls else found

    def members(self, schema: Mapping[str, Any], direction: Direction) -> list[Member]:
        """Return the properties of an object that are sent in this direction."""
        return list(self._members(schema, direction, is_component=False))

    def _without_null(self, schema: Mapping[str, Any], direction: Direction) -> str:
        if "$ref" in schema:
            return self._referred(schema["$ref"], direction)
        if "const" in schema:
            return literal(schema["const"])
        if "enum" in schema:
            return union(map(literal, schema["enum"]))
        for word in ("oneOf", "anyOf"):
            if word in schema:
                return self._choice(schema, schema[word], direction)
        if "allOf" in schema:
            return self._all(schema, direction)
        return self._plain(schema, direction)

    def _plain(self, schema: Mapping[str, Any], direction: Direction) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return union(self._plain({**schema, "type": kind}, direction) for kind in kinds)
        if kinds == "array" or (kinds is None and "items" in schema):
            return self._array(schema, direction)
        if kinds == "object" or (kinds is None and _has_object(schema)):
            return self._object(schema, direction, is_component=False)
        return _SIMPLE.get(str(kinds), "unknown")

    def _array(self, schema: Mapping[str, Any], direction: Direction) -> str:
        if "prefixItems" in schema:
            parts = [self.expression(item, direction) for item in schema["prefixItems"]]
            return f"[{', '.join(parts)}]"
        return f"{grouped(self.expression(schema.get('items', {}), direction))}[]"

    def _object(
        self, schema: Mapping[str, Any], direction: Direction, *, is_component: bool
    ) -> str:
        found = list(self._members(schema, direction, is_component=is_component))
        others = schema.get("additionalProperties")
        if others is None and not schema.get("properties"):
            others = True
        if others is None or others is False:
            return object_type(found)
        # `Record` could not refer to the type that it is a part of.
        mapping = f"{{ [key: string]: {self.expression(others, direction)} }}"
        return f"{object_type(found)} & {mapping}" if found else mapping

    def _members(
        self, schema: Mapping[str, Any], direction: Direction, *, is_component: bool
    ) -> Iterator[Member]:
        required = schema.get("required", ())
        hidden = "writeOnly" if direction is Direction.OUTPUT else "readOnly"
        for name, value in schema.get("properties", {}).items():
            facts = value if isinstance(value, Mapping) else {}
            if facts.get(hidden):
                continue
            # A serializer writes all its fields; only a schema by hand says which it leaves out.
            is_whole = is_component and direction is Direction.OUTPUT
            yield Member(
                name,
                self.expression(value, direction),
                is_optional=not is_whole and name not in required,
                comment=description(facts),
            )

    def _choice(
        self, schema: Mapping[str, Any], choices: Iterable[Any], direction: Direction
    ) -> str:
        marks = _marks(schema)
        types = []
        for choice in choices:
            found = self.expression(choice, direction)
            values = marks.get(choice.get("$ref")) if isinstance(choice, Mapping) else None
            if values:
                mark = Member(schema["discriminator"]["propertyName"], union(map(literal, values)))
                found = f"({grouped(found)} & {object_type([mark])})"
            types.append(found)
        return union(types)

    def _all(self, schema: Mapping[str, Any], direction: Direction) -> str:
        parts = [self.expression(part, direction) for part in schema["allOf"]]
        if _has_object(schema):
            parts.append(self._object(schema, direction, is_component=False))
        known = dict.fromkeys(part for part in parts if part != "unknown")
        return " & ".join(map(grouped, known)) if len(known) > 1 else next(iter(known), "unknown")

    def _referred(self, reference: str, direction: Direction) -> str:
        name = self._component(reference)
        if (single := _single_value(self.schemas[name])) is not None:
            return single
        self._uses[name, direction] = None
        return self._names.get((name, direction), name)

    def _component(self, reference: str) -> str:
        name = str(reference).removeprefix(_REFERENCE)
        if name not in self.schemas:
            raise UnknownComponent(str(reference))
        return name

    def _named(self, uses: set[Use]) -> dict[Use, str]:
        names: dict[Use, str] = {}
        taken = set(self.taken)
        # All rows first, because input gets another name if it differs.
        for name, direction in sorted(uses, key=lambda use: (use[1] is Direction.INPUT, use[0])):
            wanted = name
            if direction is Direction.INPUT and (name, Direction.OUTPUT) in names:
                if not self._differs(name, set()):
                    names[name, direction] = names[name, Direction.OUTPUT]
                    continue
                wanted = f"{name}Request"
            names[name, direction] = type_name(wanted, taken)
            taken.add(names[name, direction])
        return names

    def _differs(self, name: str, seen: set[str]) -> bool:
        """
        Return whether what is sent of a component differs from what is received.

        `seen` has the components that are being looked at: they may be parts of themselves.
        """
        if name in seen:
            return False
        seen.add(name)
        return any(self._parts_differ(self.schemas[name], seen, is_component=True))

    def _parts_differ(self, schema: Any, seen: set[str], *, is_component: bool) -> Iterator[bool]:
        if not isinstance(schema, Mapping):
            return
        if "$ref" in schema:
            yield self._differs(self._component(schema["$ref"]), seen)
        properties = schema.get("properties", {})
        yield is_component and not properties.keys() <= set(schema.get("required", ()))
        for value in properties.values():
            facts = value if isinstance(value, Mapping) else {}
            yield bool(facts.get("readOnly") or facts.get("writeOnly"))
        single = (schema.get("items"), schema.get("additionalProperties"))
        lists = (schema.get(word, ()) for word in ("oneOf", "anyOf", "allOf", "prefixItems"))
        for part in (*properties.values(), *single, *(part for parts in lists for part in parts)):
            yield from self._parts_differ(part, seen, is_component=False)

    def _declared(self, name: str, direction: Direction) -> str:
        schema = self.schemas[name]
        if isinstance(schema, Mapping) and _is_interface(schema):
            return self._object(schema, direction, is_component=True)
        return self.expression(schema, direction)

    def _declaration(self, name: str, component: str, direction: Direction) -> str:
        schema = self.schemas[component]
        lines = comment(description(schema)) if isinstance(schema, Mapping) else []
        if isinstance(schema, Mapping) and _is_interface(schema):
            found = list(self._members(schema, direction, is_component=True))
            body = "\n".join(["{", *members(found), "}"]) if found else "{}"
            return "\n".join([*lines, f"export interface {name} {body}"])
        return "\n".join([*lines, f"export type {name} = {self._declared(component, direction)};"])


def description(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines of a comment: the text of `schema`, then what the wire carries."""
    text = words(str(schema.get("description") or ""))
    facts = " ".join(_facts(schema))
    return (*text, *([""] if len(text) > 1 and facts else []), *([facts] if facts else []))


def _facts(schema: Mapping[str, Any]) -> Iterator[str]:
    for part in (schema, *schema.get("oneOf", ()), *schema.get("allOf", ())):
        if isinstance(part, Mapping) and part.get("format") in _FORMATS:
            yield _FORMATS[part["format"]]
    bounds = [abs(schema.get(word) or 0) for word in ("maximum", "minimum")]
    kind = schema.get("type")
    kinds: list[Any] = kind if isinstance(kind, list) else [kind]
    if "string" in kinds and schema.get("format") == "int64":
        yield "Integer as text, because JavaScript rounds numbers beyond 2 ** 53."
    elif "integer" in kinds and (schema.get("format") == "int64" or max(bounds) > _MAX_SAFE):
        yield "A number: beyond 2 ** 53 JavaScript rounds it."
    if "maxLength" in schema:
        yield f"At most {schema['maxLength']} characters."
    if "integer" in kinds and max(bounds) <= _MAX_SAFE:
        yield from _range(schema)
    if "default" in schema:
        yield f"Default: {literal(schema['default'])}."


def _range(schema: Mapping[str, Any]) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"From {low} to {high}."
    elif low is not None:
        yield f"At least {low}."
    elif high is not None:
        yield f"At most {high}."


def _marks(schema: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Return the values of a discriminator by the references that they choose."""
    found: dict[Any, list[str]] = {}
    for value, reference in schema.get("discriminator", {}).get("mapping", {}).items():
        found.setdefault(reference, []).append(value)
    return found


def _single_value(schema: Any) -> str | None:
    """Return the type of a component of one value, as `BlankEnum` and `NullEnum` are."""
    if not isinstance(schema, Mapping) or schema.keys() - {"enum", "type"}:
        return None
    if schema == {"type": "null"}:
        return "null"
    values = schema.get("enum", ())
    return literal(values[0]) if len(values) == 1 else None


def _has_object(schema: Mapping[str, Any]) -> bool:
    return "properties" in schema or "additionalProperties" in schema


def _is_interface(schema: Mapping[str, Any]) -> bool:
    """Return whether an interface can declare it: an object of known keys that is never null."""
    others = {"$ref", "enum", "const", "oneOf", "anyOf", "allOf"} & schema.keys()
    is_open = schema.get("additionalProperties", False) is not False
    has_object = schema.get("type") == "object" and "properties" in schema
    return has_object and not others and not is_open and schema.get("nullable") is not True
