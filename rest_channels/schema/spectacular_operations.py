"""
Operations by drf-spectacular, as in its document of the HTTP API.

Its settings, decorators and extensions count here as there, and so do its names of components: it
maps both APIs into one registry.
"""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import spectacular_settings
from rest_framework.generics import GenericAPIView
from rest_framework.settings import api_settings
from rest_framework.utils.encoders import JSONEncoder

from rest_channels.schema.big_integers import as_text, is_text
from rest_channels.schema.json_schema import JsonSchema, as_json_schema
from rest_channels.schema.operations import (
    Operation,
    Operations,
    Parameter,
    Serialized,
    described_endpoints,
)
from rest_channels.schema.socket_versions import version_of
from rest_channels.sockets.endpoints import Endpoint
from rest_channels.sockets.streams import Stream

# Marks an operation in a document, whatever a hook does to its path.
_MARK: Final = "x-rest-channels"

# drf-spectacular silences its warnings for the whole process.
_lock: Final = Lock()


def spectacular_operations(
    streams: Sequence[Stream], serializers: Sequence[type], *, public: bool, request: Any
) -> Operations:
    """
    Return the operations of `streams`, and what the `serializers` accept and show.

    Without `public` only those that the user of `request` may use. drf-spectacular prints its
    warnings.
    """
    generator = _SocketGenerator(streams, serializers, is_public=public)
    with _lock:
        document = _as_json(generator.get_schema(request=request, public=False))
    by_mark = {
        operation[_MARK]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
        if isinstance(operation, dict) and _MARK in operation
    }
    components = document.get("components", {})
    return Operations(
        {
            (item.endpoint, item.verb): _operation(by_mark[mark], item.stream)
            for mark, item in enumerate(generator.listed)
            if mark in by_mark
        },
        as_json_schema(components.get("schemas", {})),
        components.get("securitySchemes", {}),
        generator.serialized,
    )


def _as_json(document: Any) -> Any:
    """Return the document as its JSON renderer writes it: defaults may be of any class."""
    return json.loads(json.dumps(document, cls=JSONEncoder))


@dataclass(frozen=True)
class _Listed:
    """One operation that the generator is asked for."""

    stream: Stream
    endpoint: Endpoint
    verb: str


class _SocketGenerator(SchemaGenerator):
    """A generator whose endpoints are those of `streams`."""

    def __init__(
        self, streams: Sequence[Stream], serializers: Sequence[type], *, is_public: bool
    ) -> None:
        super().__init__(patterns=[])
        self.serializers = serializers
        self.serialized: dict[type, Serialized] = {}
        self.is_public = is_public
        self.listed = [
            _Listed(stream, endpoint, verb)
            for stream in streams
            for endpoint, verb in described_endpoints(stream)
            # As over HTTP, None hides a view.
            if endpoint.pattern.callback.cls.schema is not None
        ]
        self.inspector: Any = EndpointEnumerator(patterns=[])
        self.endpoints = list(self._endpoints(streams))
        self._marks = {
            (id(item.endpoint.pattern.callback), item.verb.upper()): mark
            for mark, item in enumerate(self.listed)
        }
        self._schemas: list[AutoSchema] = []
        self._streams: dict[int, Stream] = {}

    def _endpoints(self, streams: Sequence[Stream]) -> Iterator[tuple[str, str, str, Any]]:
        numbers = {id(stream): number for number, stream in enumerate(streams)}
        for item in self.listed:
            regex = str(item.endpoint.pattern.pattern)
            path = self.inspector.get_path_from_regex(regex)
            # Equal prefixes of different routers are different paths.
            yield (
                f"/{numbers[id(item.stream)]}{path}",
                regex,
                item.verb.upper(),
                item.endpoint.pattern.callback,
            )

    def coerce_path(self, path: str, method: str, view: Any) -> str:
        """Return `path` unchanged: lookups keep the names that frames use."""
        return path

    def create_view(self, callback: Any, method: str, request: Any = None) -> Any:
        """Return a view whose schema marks its operation."""
        view = super().create_view(callback, method, request)
        mark = self._marks[id(callback), method]
        found = view.schema.__class__
        _require_order(found)
        base = found if issubclass(found, AutoSchema) else AutoSchema
        schema = type(base.__name__, (_Marked, base), {"mark": mark})()
        self._schemas.append(schema)
        # As the generator does: REST framework would keep view and schema for ever.
        view.schema = weakref.proxy(schema)
        self._streams[id(view)] = self.listed[mark].stream
        return view

    def has_view_permissions(self, path: str, method: str, view: Any) -> bool:
        """Give the view its version first, because the path of a socket does not tell."""
        if view.versioning_class is not None:
            view.request.version = version_of(view.versioning_class, self._streams[id(view)])
            view.versioning_class = None
        return self.is_public or super().has_view_permissions(path, method, view)

    def parse(self, input_request: Any, public: bool) -> Any:
        """Map the sockets, then the HTTP API: names of components depend on both."""
        result = super().parse(input_request, public)
        self.serialized = {cls: self._serialized(cls) for cls in self.serializers}
        is_described = issubclass(api_settings.DEFAULT_SCHEMA_CLASS, AutoSchema)
        if is_described and getattr(settings, "ROOT_URLCONF", None):
            # Its warnings belong to the document of the HTTP API.
            with GENERATOR_STATS.silence():
                over_http = spectacular_settings.DEFAULT_GENERATOR_CLASS()
                over_http.registry = self.registry
                over_http.parse(None, True)
        return result

    def _serialized(self, serializer: type) -> Serialized:
        schema = _SocketSchema()
        # As for a view that has the serializer: names, and the context, depend on these.
        schema.registry, schema.method, schema.path = self.registry, "POST", "/"
        request = spectacular_settings.GET_MOCK_REQUEST("POST", "/", GenericAPIView(), None)
        schema.view = GenericAPIView(request=request, format_kwarg=None, swagger_fake_view=True)
        accepted, shown = (
            as_json_schema(schema.resolve_serializer(serializer(), direction).ref)
            for direction in ("request", "response")
        )
        return Serialized(accepted, shown)


def _require_order(schema: type) -> None:
    """Refuse a class that `extend_schema` has made of REST framework's own schema class."""
    default = api_settings.DEFAULT_SCHEMA_CLASS
    is_extended = schema.__module__.startswith("drf_spectacular.") and default in schema.__mro__
    if is_extended and not issubclass(default, AutoSchema):
        raise ImproperlyConfigured(
            "extend_schema() requires REST_FRAMEWORK = {'DEFAULT_SCHEMA_CLASS': "
            "'drf_spectacular.openapi.AutoSchema'} in the settings."
        )


class _SocketSchema(AutoSchema):
    """A schema that knows when integers are written as text."""

    def _map_serializer_field(
        self, field: Any, direction: Any, bypass_extensions: bool = False
    ) -> Any:
        schema = super()._map_serializer_field(field, direction, bypass_extensions)
        return as_text(schema) if is_text(field) else schema


class _Marked(_SocketSchema):
    mark: int

    def get_extensions(self) -> dict[str, Any]:
        return {**super().get_extensions(), _MARK: self.mark}


def _operation(operation: Mapping[str, Any], stream: Stream) -> Operation:
    parameters = operation.get("parameters", [])
    responses = operation.get("responses", {})
    codes = sorted(int(code) for code in responses if str(code).isdigit())
    status = next((code for code in codes if 200 <= code < 300), 200)
    body = operation.get("requestBody", {})
    return Operation(
        doc=_own_doc(operation.get("description", ""), stream),
        lookups=tuple(_parameter(item) for item in parameters if item["in"] == "path"),
        query=tuple(
            _parameter(item)
            for item in parameters
            if item["in"] == "query" and item["name"] != api_settings.URL_FORMAT_OVERRIDE
        ),
        request=_content(body),
        is_request_required=bool(body.get("required")),
        response=_content(responses.get(str(status), {})),
        status=status,
        errors=tuple(code for code in codes if code >= 400),
        is_deprecated=bool(operation.get("deprecated")),
    )


def _own_doc(doc: str, stream: Stream) -> str:
    """Return the documentation of the action itself, not that of its viewset or of a library."""
    viewset: Any = stream.viewset
    return "" if doc.strip() in _docs_of(viewset) else doc


@lru_cache(maxsize=64)
def _docs_of(viewset: Any) -> frozenset[str]:
    return frozenset(inspect.cleandoc(cls.__doc__) for cls in viewset.__mro__ if cls.__doc__)


def _parameter(item: Mapping[str, Any]) -> Parameter:
    schema = as_json_schema(item.get("schema", {}))
    if schema.get("type") == "array" and item.get("explode") is False:
        # One text of all values, as filters such as `__in` read it.
        doc = item.get("description") or "Multiple values may be separated by commas."
        return Parameter(item["name"], {"type": "string"}, doc, bool(item.get("required")))
    return Parameter(
        item["name"],
        schema,
        item.get("description", ""),
        bool(item.get("required")),
        schema.get("type") == "array",
    )


def _content(body: Mapping[str, Any]) -> JsonSchema | None:
    """Return the schema of a body as JSON, or of the first kind that it may have."""
    content = body.get("content", {})
    if not content:
        return None
    kind = next((name for name in content if "json" in name), next(iter(content)))
    schema: JsonSchema = as_json_schema(content[kind].get("schema", {}))
    return schema
