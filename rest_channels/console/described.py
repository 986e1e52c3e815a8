"""The description of the project's sockets as the page reads it: plain JSON."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from django.urls import URLResolver, get_resolver, get_script_prefix
from django.utils.translation import get_language

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.routers import Socket, find_sockets
from rest_channels.schema.description import (
    ActionDescription,
    ApiDescription,
    SocketDescription,
    StreamDescription,
    describe,
)
from rest_channels.schema.json_schema import resolved
from rest_channels.schema.operations import Parameter
from rest_channels.sockets.streams import Stream

Json = dict[str, Any]


def described(application: Any) -> Json:
    """
    Return the sockets below `application`, their streams and actions.

    The text of docstrings and fields depends on the language, and paths on the script's prefix.
    """
    return _described(application, get_language(), get_script_prefix())


# Hundreds of viewsets take a second, and change only with the process.
@lru_cache(maxsize=16)
def _described(application: Any, language: str | None, prefix: str) -> Json:
    api = describe(application)
    pairs = zip(find_sockets(application), api.sockets, strict=True)
    return {
        "sockets": [_socket(found, socket, api) for found, socket in pairs],
        "components": api.components,
    }


def _socket(found: Socket, socket: SocketDescription, api: ApiDescription) -> Json:
    pairs = zip(found.streams, socket.streams, strict=True)
    return {
        "path": get_script_prefix() + socket.path.removeprefix("/"),
        "isRoot": socket.is_root,
        "isRow": socket.is_row,
        "streams": [_stream(stream, description, api) for stream, description in pairs],
    }


def _stream(stream: Any, description: StreamDescription, api: ApiDescription) -> Json:
    return {
        "name": stream.prefix,
        "kind": description.kind,
        "doc": description.doc,
        "key": _key(description, api),
        "actions": [_action(stream, action) for action in description.actions],
    }


def _key(description: StreamDescription, api: ApiDescription) -> str | None:
    """Return the field of a row that names it; None if a known row has none."""
    if description.row is None:
        return "id"
    fields = resolved(description.row, api.components).get("properties", {})
    lookup = description.lookup.name if description.lookup else "pk"
    return next((name for name in ("id", lookup, "pk", "uuid") if name in fields), None)


def _action(stream: Any, action: ActionDescription) -> Json:
    return {
        "name": action.name,
        "aliases": action.aliases,
        "verbs": action.verbs,
        "doc": action.doc,
        "permissions": action.permissions,
        "isDetail": action.is_detail,
        "isSafe": action.is_safe,
        "isLive": action.subscribes,
        "isWindowed": action.is_windowed,
        "isWatchable": action.is_watchable,
        "isStreaming": action.is_streaming,
        "subscription": action.subscription,
        "lookups": [_parameter(item) for item in action.lookups],
        "query": [_parameter(item) for item in action.query],
        "request": action.request,
        "message": action.message,
        "response": action.response,
        "http": _http_path(stream, action.name),
    }


def _parameter(item: Parameter) -> Json:
    return {
        "name": item.name,
        "schema": item.schema,
        "doc": item.doc,
        "isRequired": item.is_required,
        "isMany": item.is_many,
    }


def _http_path(stream: Any, action: str) -> str | None:
    """Return the path of the action in Django's URLconf, as "/api/rooms/{pk}/", or None."""
    stream = stream.viewsets if isinstance(stream, ConsumersStream) else stream
    endpoint = stream.actions.get(action) if isinstance(stream, Stream) else None
    if endpoint is None or endpoint.seen_action is not None:
        return None
    for path, names in _paths(get_resolver(), stream.namespace, endpoint.pattern.name):
        if set(names) == set(endpoint.lookups):
            return f"{get_script_prefix()}{path % {name: f'{{{name}}}' for name in names}}"
    return None


def _paths(
    resolver: URLResolver, namespace: str | None, name: str
) -> Iterator[tuple[str, list[str]]]:
    prefix = ""
    for part in (namespace or "").split(":") if namespace else ():
        found = resolver.namespace_dict.get(part)
        if found is None:
            return
        prefix, resolver = prefix + found[0], found[1]
    for possible, *_ in resolver.reverse_dict.getlist(name):
        for path, names in possible:
            yield prefix + path, names
