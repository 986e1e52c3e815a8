"""Serializers as JSON Schemas without drf-spectacular: plain, from their fields alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from rest_framework import fields, relations, serializers
from rest_framework.settings import api_settings
from rest_framework.utils.encoders import JSONEncoder

from rest_channels.schema.big_integers import as_text, is_text
from rest_channels.schema.json_schema import JsonSchema, or_null, reference

_TEXT: Final[JsonSchema] = {"type": "string"}


class PlainComponents:
    """The components of the serializers that were mapped, each once."""

    def __init__(self) -> None:
        self.schemas: dict[str, JsonSchema] = {}
        self._names: dict[tuple[Any, bool], str] = {}

    def of(self, serializer: Any) -> JsonSchema:
        """Return the schema of a serializer, which names a component if it has fields."""
        if isinstance(serializer, serializers.ListSerializer):
            return {"type": "array", "items": self.of(serializer.child)}
        if not isinstance(serializer, serializers.Serializer):
            return {}
        key = (type(serializer), bool(serializer.partial))
        if key not in self._names:
            name = self._names[key] = self.free_name(_name_of(serializer))
            # Taken before its fields are mapped: they may contain the serializer itself.
            self.schemas[name] = {}
            self.schemas[name] = self._object(serializer)
        return reference(self._names[key])

    def page(self, paginator: Any, rows: JsonSchema, of: Any) -> JsonSchema:
        """Return the schema of a page of `rows`, a list of what the serializer `of` shows."""
        name = f"Paginated{_name_of(of)}List"
        if name not in self.schemas:
            self.schemas[name] = paginator.get_paginated_response_schema(rows)
        return reference(name)

    def free_name(self, name: str) -> str:
        """Return `name`, with a number if another serializer has it."""
        number, free = 2, name
        while free in self.schemas:
            number, free = number + 1, f"{name}{number}"
        return free

    def _object(self, serializer: Any) -> JsonSchema:
        shown = {
            name: field
            for name, field in serializer.fields.items()
            if not isinstance(field, fields.HiddenField)
        }
        schema: JsonSchema = {
            "type": "object",
            "properties": {name: self._property(field) for name, field in shown.items()},
        }
        required = sorted(name for name, field in shown.items() if _is_required(field))
        if required and not serializer.partial:
            schema["required"] = required
        if doc := type(serializer).__doc__:
            schema["description"] = " ".join(doc.split())
        return schema

    def _property(self, field: Any) -> JsonSchema:
        schema = self._values(field)
        remarks: JsonSchema = {}
        if field.read_only:
            remarks["readOnly"] = True
        if field.write_only:
            remarks["writeOnly"] = True
        if field.help_text:
            remarks["description"] = str(field.help_text)
        if field.default is not fields.empty and not callable(field.default):
            remarks["default"] = json.loads(json.dumps(field.default, cls=JSONEncoder))
        if "$ref" in schema and remarks:
            # Older drafts ignore what stands beside a reference.
            schema = {"allOf": [schema]}
        schema = {**schema, **remarks}
        return or_null(schema) if field.allow_null else schema

    def _values(self, field: Any) -> JsonSchema:
        """Return the schema of the values of `field`, without remarks."""
        if isinstance(field, serializers.BaseSerializer):
            return self.of(field)
        if isinstance(field, relations.ManyRelatedField):
            return {"type": "array", "items": self._values(field.child_relation)}
        if isinstance(field, fields.ListField):
            return {"type": "array", "items": self._property(field.child)}
        if isinstance(field, fields.DictField):
            return {"type": "object", "additionalProperties": self._property(field.child)}
        return field_schema(field)


def field_schema(field: Any) -> JsonSchema:
    """Return the schema of the values of a field without children; {} if nothing is known."""
    for kind, schema_of in _KINDS.items():
        if isinstance(field, kind):
            schema = schema_of(field)
            return as_text(schema) if is_text(field) else schema
    return {}


def column_schema(model: Any, name: str) -> JsonSchema:
    """Return the schema of the values of a model's field, as its serializer writes them."""
    meta = model._meta
    try:
        column = meta.pk if name == "pk" else meta.get_field(name)
    except FieldDoesNotExist:
        return _TEXT
    while column.remote_field is not None:
        column = column.target_field
    build = serializers.ModelSerializer().build_standard_field
    field_class, options = build(column.name, column)
    schema = field_schema(field_class(**options))
    return {key: schema[key] for key in ("type", "format") if key in schema} or _TEXT


def _name_of(serializer: Any) -> str:
    meta = getattr(serializer, "Meta", None)
    name = getattr(meta, "ref_name", None) or type(serializer).__name__.removesuffix("Serializer")
    return f"Patched{name}" if serializer.partial else name


def _is_required(field: Any) -> bool:
    # A row has all fields that only the server writes.
    return bool(field.required or field.read_only)


def _choices(field: Any) -> JsonSchema:
    values = [*field.choices]
    if getattr(field, "allow_blank", False) and "" not in values:
        values.append("")
    kinds = {str: "string", int: "integer", bool: "boolean", float: "number"}
    found = {kinds.get(type(value)) for value in values}
    schema: JsonSchema = {"enum": json.loads(json.dumps(values, cls=JSONEncoder))}
    if len(found) == 1 and None not in found:
        schema["type"] = found.pop()
    elif field.allow_null and None not in values:
        schema["enum"].append(None)
    return schema


def _multiple(field: Any) -> JsonSchema:
    return {"type": "array", "items": {"enum": [*field.choices]}, "uniqueItems": True}


def _bounded(schema: JsonSchema, field: Any) -> JsonSchema:
    bounds = {
        "minimum": getattr(field, "min_value", None),
        "maximum": getattr(field, "max_value", None),
        "minLength": getattr(field, "min_length", None),
        "maxLength": getattr(field, "max_length", None),
    }
    return {**schema, **{name: bound for name, bound in bounds.items() if bound is not None}}


def _decimal(field: Any) -> JsonSchema:
    if getattr(field, "coerce_to_string", api_settings.COERCE_DECIMAL_TO_STRING):
        return {"type": "string", "format": "decimal"}
    return {"type": "number"}


def _moment(name: str) -> Callable[[Any], JsonSchema]:
    """Return a mapper of fields whose text has a format of its own if the project sets one."""

    def schema_of(field: Any) -> JsonSchema:
        own = getattr(field, "format", None)
        return {"type": "string", "format": name} if own in (None, "iso-8601") else _TEXT

    return schema_of


def _related(field: Any) -> JsonSchema:
    model = getattr(field.get_queryset(), "model", None)
    if field.pk_field is not None:
        return field_schema(field.pk_field)
    if model is None:
        parent = getattr(getattr(field.parent, "Meta", None), "model", None)
        source = parent and _relation(parent, field.source)
        model = getattr(source, "related_model", None)
    return {} if model is None else column_schema(model, "pk")


def _relation(model: Any, name: str) -> Any:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist:
        return None


def _slug(field: Any) -> JsonSchema:
    model = getattr(field.get_queryset(), "model", None)
    return {} if model is None else column_schema(model, field.slug_field)


def _fixed(schema: JsonSchema) -> Callable[[Any], JsonSchema]:
    return lambda field: _bounded(schema, field)


# The more special ones first.
_KINDS: Final[dict[Any, Callable[[Any], JsonSchema]]] = {
    fields.MultipleChoiceField: _multiple,
    fields.ChoiceField: _choices,
    fields.BooleanField: _fixed({"type": "boolean"}),
    fields.EmailField: _fixed({"type": "string", "format": "email"}),
    fields.URLField: _fixed({"type": "string", "format": "uri"}),
    fields.UUIDField: _fixed({"type": "string", "format": "uuid"}),
    fields.CharField: _fixed(_TEXT),
    fields.IntegerField: _fixed({"type": "integer"}),
    fields.FloatField: _fixed({"type": "number"}),
    fields.DecimalField: _decimal,
    fields.DateTimeField: _moment("date-time"),
    fields.DateField: _moment("date"),
    fields.TimeField: _moment("time"),
    fields.DurationField: _fixed(_TEXT),
    # Its bounds are those of the file's name, not of its URL.
    fields.FileField: lambda field: {"type": "string", "format": "uri"},
    fields.FilePathField: _fixed(_TEXT),
    relations.PrimaryKeyRelatedField: _related,
    relations.SlugRelatedField: _slug,
    relations.HyperlinkedRelatedField: _fixed({"type": "string", "format": "uri"}),
    relations.StringRelatedField: _fixed(_TEXT),
}


def security_schemes(authenticators: Iterator[Any]) -> dict[str, JsonSchema]:
    """Return OpenAPI's schemes for REST framework's own authentication classes."""
    found = {}
    for authenticator in authenticators:
        for name in (base.__name__ for base in authenticator.__mro__):
            if name in _SECURITY:
                key, scheme = _SECURITY[name]
                found[key] = scheme
                break
    return found


_SECURITY: Final[dict[str, tuple[str, JsonSchema]]] = {
    "SessionAuthentication": (
        "cookieAuth",
        {"type": "apiKey", "in": "cookie", "name": "sessionid"},
    ),
    "BasicAuthentication": ("basicAuth", {"type": "http", "scheme": "basic"}),
    "TokenAuthentication": (
        "tokenAuth",
        {"type": "apiKey", "in": "header", "name": "Authorization"},
    ),
}
