"""
An AsyncAPI document of a project's sockets, written from the server's point of view.

A channel is a path. The server receives frames and replies to them; it sends events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from rest_channels.protocol import SUBPROTOCOL
from rest_channels.schema.channel_operations import Exchanged, Message, exchanges_of
from rest_channels.schema.description import ApiDescription, SocketDescription
from rest_channels.schema.directions import Inputs, as_output, plain
from rest_channels.schema.json_schema import JsonSchema, component_name, reference
from rest_channels.schema.wire_schemas import (
    bounds,
    close_codes,
    in_envelope,
    protocol_components,
)

VERSION: Final = "3.1.0"

Document = dict[str, Any]

_WEBSOCKETS: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def asyncapi(description: ApiDescription, servers: Sequence[str] = ()) -> Document:
    """
    Return an AsyncAPI document of version `VERSION`, always the same for one description.

    `servers` are URLs such as `wss://example.com`; without any, those of drf-spectacular's
    settings count, and else a variable stands for the host.
    """
    components = _Components()
    inputs = Inputs(description.components)
    channels: Document = {}
    operations: Document = {}
    root = next((socket.path for socket in description.sockets if socket.is_root), "/")
    for socket in description.sockets:
        channel = _Channel(
            socket, _free(_slug(socket.path) or "root", channels), root, components, inputs
        )
        channels[channel.name] = channel.document()
        operations |= channel.operations
    security = {name: _security(item) for name, item in description.security.items()}
    return {
        "asyncapi": VERSION,
        "info": _info(),
        "servers": _servers(servers, list(security)),
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": {
                **{name: plain(as_output(item)) for name, item in description.components.items()},
                **{name: plain(item) for name, item in inputs.schemas.items()},
                **protocol_components(),
                **components.schemas,
            },
            "securitySchemes": security,
        },
    }


class _Components:
    """Schemas of messages, by name; equal ones are shared."""

    def __init__(self) -> None:
        self.schemas: dict[str, JsonSchema] = {}

    def refer(self, schema: JsonSchema, *names: str) -> JsonSchema:
        """Return a reference to `schema`, under the first of `names` that is free or has it."""
        if component_name(schema) is not None:
            return schema
        for name in names:
            if self.schemas.setdefault(name, schema) == schema:
                return reference(name)
        name = _free(names[-1], self.schemas)
        self.schemas[name] = schema
        return reference(name)


@dataclass
class _Channel:
    """A channel while its document is made."""

    socket: SocketDescription
    name: str
    root: str
    components: _Components
    inputs: Inputs
    messages: Document = field(default_factory=dict)
    operations: Document = field(default_factory=dict)

    def document(self) -> Document:
        """Return the channel; `operations` has its operations from then on."""
        for exchange in exchanges_of(self.socket, self.inputs.of):
            self._add(exchange)
        document: Document = {"address": self.socket.path}
        if self.socket.lookups:
            document["parameters"] = {
                item.name: {
                    "description": item.doc or "A part of the path.",
                    "x-schema": plain(item.schema),
                }
                for item in self.socket.lookups
            }
        return {
            **document,
            "messages": self.messages,
            "bindings": {"ws": {"method": "GET"}},
            "x-subprotocol": SUBPROTOCOL,
        }

    def _add(self, exchange: Exchanged) -> None:
        operation: Document = {
            "action": "send" if exchange.is_event else "receive",
            "channel": {"$ref": f"#/channels/{self.name}"},
            "title": exchange.title,
        }
        if exchange.doc:
            operation["description"] = exchange.doc
        if exchange.tag:
            operation["tags"] = [{"name": exchange.tag}]
        operation["messages"] = [self._message(m) for m in exchange.messages]
        if exchange.replies:
            operation["reply"] = {
                "channel": {"$ref": f"#/channels/{self.name}"},
                "messages": [self._message(item) for item in exchange.replies],
            }
        operation |= {f"x-{key}": value for key, value in exchange.more.items() if value}
        # One namespace for all channels.
        self.operations[_free(f"{self.name}.{_slug(exchange.name)}", self.operations)] = operation

    def _message(self, message: Message) -> Document:
        name = _slug(message.name)
        if name not in self.messages:
            payload = self.components.refer(message.schema, *self._component_names(name))
            if self.socket.is_root:
                payload = in_envelope(payload, message.streams)
            title = {"title": message.title} if message.title else {}
            self.messages[name] = {**title, "payload": payload}
        return {"$ref": f"#/channels/{self.name}/messages/{name}"}

    def _component_names(self, name: str) -> list[str]:
        """Return names for a payload; own sockets share those of the root."""
        if self.socket.is_root or name.startswith("connection."):
            return [name]
        stream = _slug(self.socket.path.removeprefix(self.root).partition("{")[0]) or "socket"
        return [f"{stream}.{name}", f"{stream}.{'row' if self.socket.is_row else 'own'}.{name}"]


def _info() -> Document:
    known = getattr(settings, "SPECTACULAR_SETTINGS", {})
    info = {"title": known.get("TITLE") or "Sockets", "version": known.get("VERSION") or "0.0.0"}
    if known.get("DESCRIPTION"):
        info["description"] = str(known["DESCRIPTION"])
    return {
        **{key: str(value) for key, value in info.items()},
        "x-close-codes": close_codes(),
        "x-bounds": bounds(),
    }


_CREDENTIALS: Final = (
    "Credentials come with the handshake: as a session cookie, as an Authorization header, or, in "
    f"browsers, as the subprotocols `{SUBPROTOCOL}` and `authorization.<value>`, where the value "
    "is the header's in base64url without `=`. They can also come later, with the action "
    "`authenticate`."
)


def _servers(urls: Sequence[str], security: Sequence[str]) -> Document:
    known = getattr(settings, "SPECTACULAR_SETTINGS", {}).get("SERVERS") or ()
    absolute = [*urls] or [item["url"] for item in known if "://" in item.get("url", "")]
    schemes = [{"$ref": f"#/components/securitySchemes/{name}"} for name in security]
    servers: Document = {}
    for url in absolute:
        parts = urlsplit(url)
        server: Document = {
            "host": parts.netloc,
            "protocol": _WEBSOCKETS.get(parts.scheme, "wss"),
        }
        if parts.path.strip("/"):
            server["pathname"] = parts.path.rstrip("/")
        servers[_free("server", servers)] = server
    if not servers:
        variable = {"description": "The project's host.", "default": "localhost:8000"}
        servers["server"] = {
            "host": "{host}",
            "protocol": "wss",
            "variables": {"host": variable},
        }
    for server in servers.values():
        server["description"] = _CREDENTIALS
        if schemes:
            server["security"] = schemes
    return servers


def _security(scheme: Mapping[str, Any]) -> Document:
    """Return one of OpenAPI's security schemes in AsyncAPI's words."""
    if scheme.get("type") == "apiKey":
        return {**scheme, "type": "httpApiKey"}
    if scheme.get("type") == "oauth2":
        flows = {
            name: {("availableScopes" if key == "scopes" else key): item for key, item in f.items()}
            for name, f in scheme.get("flows", {}).items()
        }
        return {**scheme, "flows": flows}
    return dict(scheme)


@lru_cache(maxsize=1024)
def _slug(text: str) -> str:
    return re.sub(r"[^\w.]+", "_", text).strip("_")


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """Return `name`, with a number if it is taken."""
    return next(item for item in _numbered(name) if item not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
