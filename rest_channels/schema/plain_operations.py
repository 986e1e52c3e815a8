"""
Operations without drf-spectacular: from serializer fields, filter backends and paginators.

Names of components are those that drf-spectacular gives in the usual cases.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.http import HttpRequest
from rest_framework.schemas.generators import BaseSchemaGenerator

from rest_channels.schema.json_schema import JsonSchema, as_json_schema
from rest_channels.schema.operations import (
    Operation,
    Operations,
    Parameter,
    Serialized,
    described_endpoints,
)
from rest_channels.schema.plain_components import (
    PlainComponents,
    column_schema,
    security_schemes,
)
from rest_channels.schema.socket_versions import version_of
from rest_channels.sockets.endpoints import Endpoint
from rest_channels.sockets.query_keys import declared_query_keys
from rest_channels.sockets.streams import Stream

logger = logging.getLogger("rest_channels")

_WITH_DATA: Final = ("post", "put", "patch")


def plain_operations(
    streams: Sequence[Stream], serializers: Sequence[type], *, public: bool, request: Any
) -> Operations:
    """
    Return the operations of `streams`, and what the `serializers` accept and show.

    Without `public` only those that the user of `request` may use. If a serializer cannot be
    found, this is logged, and any value is admitted in its place.
    """
    components = PlainComponents()
    mapped = {}
    for stream in streams:
        for endpoint, verb in described_endpoints(stream):
            if endpoint.pattern.callback.cls.schema is None:
                # As over HTTP, None hides a view.
                continue
            view = _view(stream, endpoint, verb, None if public else request)
            if public or BaseSchemaGenerator().has_view_permissions("", verb, view):
                mapped[endpoint, verb] = _PlainOperation(
                    stream, endpoint, verb, view, components
                ).operation()
    authenticators = (
        authenticator
        for stream in streams
        for authenticator in getattr(stream.viewset, "authentication_classes", ())
    )
    shown = {cls: components.of(cls()) for cls in serializers}
    return Operations(
        mapped,
        as_json_schema(components.schemas),
        security_schemes(authenticators),
        {cls: Serialized(schema, schema) for cls, schema in shown.items()},
    )


def _view(stream: Stream, endpoint: Endpoint, verb: str, request: Any) -> Any:
    view = BaseSchemaGenerator().create_view(endpoint.pattern.callback, verb.upper(), request)
    if view.request is None:
        mock = HttpRequest()
        mock.method = verb.upper()
        mock.META = {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}
        view.request = view.initialize_request(mock)
    if view.versioning_class is not None:
        view.request.version = version_of(view.versioning_class, stream)
    # As drf-spectacular and drf-yasg set it, so that projects know the case.
    view.swagger_fake_view = True
    return view


class _PlainOperation:
    def __init__(
        self,
        stream: Stream,
        endpoint: Endpoint,
        verb: str,
        view: Any,
        components: PlainComponents,
    ) -> None:
        self.stream = stream
        self.endpoint = endpoint
        self.verb = verb
        self.view = view
        self.components = components

    def operation(self) -> Operation:
        serializer = self._serializer()
        status = 201 if self.view.action == "create" else 204 if self.verb == "delete" else 200
        request = None
        if self.verb in _WITH_DATA:
            request = {} if serializer is None else self._request(serializer)
        return Operation(
            doc=self._doc(),
            lookups=tuple(self._lookup(name) for name in sorted(self.endpoint.lookups)),
            query=self._query() if self._is_list else (),
            request=request,
            is_request_required=bool(serializer) and self.verb in ("post", "put"),
            response=None if status == 204 else self._response(serializer),
            status=status,
        )

    @property
    def _is_list(self) -> bool:
        return bool(self.view.action == "list")

    def _serializer(self) -> Any:
        """Return the view's serializer; None if it has none, or only with a real request."""
        get_serializer = getattr(self.view, "get_serializer", None)
        if get_serializer is None:
            # A plain ViewSet may have the attribute for the sake of schemas.
            serializer_class = getattr(self.view, "serializer_class", None)
            return None if serializer_class is None else serializer_class()
        try:
            return get_serializer()
        except Exception as exc:
            # The project's own code, which expects a request.
            logger.warning(
                "The serializer of %s.%s is unknown without a request (%r): its data may be "
                "anything in the schema. Return early if self.swagger_fake_view.",
                self.stream.viewset.__name__,
                self.view.action,
                exc,
            )
            return None

    def _request(self, serializer: Any) -> JsonSchema:
        if self.verb == "patch":
            serializer = type(serializer)(partial=True, context=serializer.context)
        return self.components.of(serializer)

    def _response(self, serializer: Any) -> JsonSchema:
        if serializer is None:
            return {"type": "array", "items": {}} if self._is_list else {}
        row = self.components.of(serializer)
        if not self._is_list:
            return row
        rows: JsonSchema = {"type": "array", "items": row}
        paginator = getattr(self.view, "paginator", None)
        return rows if paginator is None else self.components.page(paginator, rows, serializer)

    def _lookup(self, name: str) -> Parameter:
        converter = self.endpoint.pattern.pattern.converters.get(name)
        schema = _CONVERTED.get(type(converter).__name__)
        return Parameter(name, schema or self._lookup_schema(name), is_required=True)

    def _lookup_schema(self, name: str) -> JsonSchema:
        view = self.view
        own = getattr(view, "lookup_url_kwarg", None) or getattr(view, "lookup_field", None)
        model = getattr(getattr(view, "queryset", None), "model", None)
        if model is None or name != own:
            return {"type": "string"}
        return column_schema(model, view.lookup_field)

    def _query(self) -> tuple[Parameter, ...]:
        found: dict[str, Parameter] = {}
        backends = [backend() for backend in getattr(self.view, "filter_backends", ())]
        paginator = getattr(self.view, "paginator", None)
        for source in [*backends, *([paginator] if paginator is not None else [])]:
            # django-filter deprecates its own; the keys of its filters follow below.
            if hasattr(source, "get_filterset_class"):
                continue
            described = getattr(source, "get_schema_operation_parameters", lambda view: ())
            for item in described(self.view):
                found[item["name"]] = _parameter(item)
        for name in sorted(declared_query_keys(self.stream.viewset) - found.keys()):
            # Declared, but without a type.
            found[name] = Parameter(name, {"type": "string"})
        return tuple(found[name] for name in sorted(found))

    def _doc(self) -> str:
        method = getattr(self.stream.viewset, self.view.action)
        if method.__module__.startswith(("rest_framework.", "rest_channels.")):
            return ""
        return inspect.getdoc(method) or ""


_CONVERTED: Final[Mapping[str, JsonSchema]] = {
    "IntConverter": {"type": "integer"},
    "UUIDConverter": {"type": "string", "format": "uuid"},
}


def _parameter(item: Mapping[str, Any]) -> Parameter:
    return Parameter(
        item["name"],
        as_json_schema(item.get("schema", {"type": "string"})),
        str(item.get("description", "")),
        bool(item.get("required")),
    )
