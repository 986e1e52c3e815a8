"""The interface between a description and the library that maps serializers to JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rest_channels.schema.json_schema import JsonSchema
from rest_channels.sockets.endpoints import Endpoint
from rest_channels.sockets.streams import Stream


@dataclass(frozen=True)
class Parameter:
    """One key of a frame's `query`, or a lookup. `is_many`: the value may be a list."""

    name: str
    schema: JsonSchema
    doc: str = ""
    is_required: bool = False
    is_many: bool = False


@dataclass(frozen=True)
class Operation:
    """One verb of an endpoint: what a request takes, and what the response with `status` has."""

    doc: str = ""
    lookups: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    request: JsonSchema | None = None
    is_request_required: bool = False
    response: JsonSchema | None = None
    status: int = 200
    #: Statuses of errors that the project itself declares.
    errors: tuple[int, ...] = ()
    is_deprecated: bool = False


@dataclass(frozen=True)
class Serialized:
    """The input of a serializer, and its output."""

    accepted: JsonSchema
    shown: JsonSchema


@dataclass(frozen=True)
class Operations:
    """
    The operations of several streams, with the components that they name.

    An operation that the project hides from its documentation is missing. `security` are OpenAPI's
    security schemes, by name. `serializers` are those of rooms.
    """

    by_verb: Mapping[tuple[Endpoint, str], Operation]
    components: Mapping[str, JsonSchema]
    security: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    serializers: Mapping[type, Serialized] = field(default_factory=dict)


def described_endpoints(stream: Stream) -> list[tuple[Endpoint, str]]:
    """Return the endpoints of `stream` with each of the verbs that a frame may choose."""
    return [
        (endpoint, verb)
        for endpoint in stream.endpoints
        for verb in endpoint.mapping
        if verb not in ("head", "options", "trace")
        and verb in endpoint.pattern.callback.cls.http_method_names
    ]
