"""The messages of the wire protocol as JSON Schemas: frames, replies and events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rest_channels.protocol import FRAME_HEADERS, CloseCode
from rest_channels.schema.description import ActionDescription
from rest_channels.schema.json_schema import JsonSchema, reference
from rest_channels.schema.operations import Parameter
from rest_channels.settings import socket_settings

#: The meaning of each close code, and whether a client may connect again.
CLOSE_CODES: Final[dict[CloseCode, tuple[str, str]]] = {
    CloseCode.FRAME_TOO_LONG: ("A message is longer than any frame may be.", "no"),
    CloseCode.SERVER_ERROR: ("The server failed to send a message.", "yes"),
    CloseCode.SERVICE_RESTART: ("The server restarts or stops.", "after a random time"),
    CloseCode.CREDENTIALS_ENDED: (
        "Nobody is signed in, or the credentials have ended.",
        "after signing in",
    ),
    CloseCode.NOT_ALLOWED: ("This user may use nothing here, or no longer.", "once that changes"),
    CloseCode.NO_SUCH_ROUTE: ("There is no socket with this path.", "no"),
    CloseCode.TOO_SLOW: ("The client does not read.", "yes"),
    CloseCode.FLOODING: ("The client sends too many messages or opens too many sockets.", "later"),
}

#: The settings that bound what a client may send, or say how long it waits.
BOUNDS: Final = (
    "MAX_FRAME_BYTES",
    "MAX_FRAME_DEPTH",
    "MAX_REQUEST_ID_CHARS",
    "MAX_IN_FLIGHT",
    "MAX_QUEUE_BYTES",
    "FRAME_RATE",
    "FRAME_BURST",
    "MAX_SUBSCRIPTIONS",
    "MAX_SUBSCRIPTION_ROWS",
    "MAX_SUBSCRIBED_BYTES",
    "MAX_WATCHES",
    "MAX_WATCH_BYTES",
    "MAX_WATCH_SECONDS",
    "WATCH_SECONDS",
    "MAX_STORED_REPLIES",
    "MAX_STORED_REPLY_BYTES",
    "RETENTION_SECONDS",
    "FENCE_SECONDS",
    "SYNC_SECONDS",
    "LEASE_SECONDS",
)

NULL: Final[JsonSchema] = {"type": "null"}
#: The name of a row in events.
ROW_NAME: Final[JsonSchema] = {"type": ["string", "number", "boolean", "null"]}
_TEXT: Final[JsonSchema] = {"type": "string"}


def bounds() -> dict[str, float]:
    """Return the values of `BOUNDS`."""
    return {name: getattr(socket_settings, name) for name in BOUNDS}


def close_codes() -> dict[str, dict[str, str]]:
    """Return what a client needs to know of each close code, by its number."""
    return {
        str(int(code)): {
            "name": code.name,
            "description": CLOSE_CODES[code][0],
            "reconnect": CLOSE_CODES[code][1],
        }
        for code in CloseCode
    }


def protocol_components() -> dict[str, JsonSchema]:
    """Return the parts that messages share; their names begin with `protocol.`."""
    rows: int = socket_settings.MAX_SUBSCRIPTION_ROWS
    name: JsonSchema = {"type": ["string", "number"]}
    return {
        "protocol.request_id": {
            "description": "Chosen by the client and echoed exactly, type included.",
            "type": ["string", "integer", "null"],
            "maxLength": socket_settings.MAX_REQUEST_ID_CHARS,
        },
        "protocol.position": {
            "description": "An opaque place in the log of changes.",
            "type": "string",
        },
        "protocol.frame": _object(
            {
                "request_id": reference("protocol.request_id"),
                "headers": {
                    "description": "Headers of this frame alone.",
                    "type": "object",
                    "properties": dict.fromkeys(sorted(FRAME_HEADERS), _TEXT),
                },
                "fence": {
                    "description": "Send the reply after the events of what the action commits.",
                    "type": "boolean",
                },
            }
        ),
        "protocol.write": _object(
            {
                "idempotency_key": {
                    "description": "A write that is sent again with the same key happens once.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 128,
                }
            }
        ),
        "protocol.subscription": _object(
            {
                "snapshot": {
                    "description": "Put the rows into `data` of the reply.",
                    "type": "boolean",
                },
                "since": reference("protocol.position"),
                "held": {
                    "description": "The names of the rows that the client holds.",
                    "type": "array",
                    "items": name,
                },
                "held_ranges": {
                    "description": "The same for integers, as pairs of first and last.",
                    "type": "array",
                    "items": {
                        "type": "array",
                        "items": {"type": "integer"},
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
                "credit": {
                    "description": "The number of events that may be unacknowledged.",
                    "type": "integer",
                    "minimum": 1,
                },
            }
        ),
        "protocol.window": _object(
            {
                "ordered": {
                    "description": "Events tell where a row goes.",
                    "type": "boolean",
                },
                "window": {
                    "description": "Follow only this many rows, the first of the order.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": rows,
                },
            }
        ),
        "protocol.reply": _object(
            {
                "errors": {"type": "array"},
                "data": {},
                "action": {"type": ["string", "null"]},
                "response_status": {"description": "The HTTP status.", "type": "integer"},
                "request_id": reference("protocol.request_id"),
                "headers": {"type": "object", "additionalProperties": _TEXT},
                "fenced": {"type": "boolean"},
                "replayed": {"type": "boolean"},
                "hints": {"type": "array", "items": _TEXT},
            },
            "errors",
            "data",
            "action",
            "response_status",
            "request_id",
        ),
        "protocol.error": {
            "allOf": [
                reference("protocol.reply"),
                _object(
                    {
                        "errors": {
                            "description": "Texts, or objects of lists of texts by field, as "
                            "REST framework has them.",
                            "type": "array",
                            "minItems": 1,
                        },
                        "codes": {
                            "description": "The codes of `errors`, in the same shape.",
                            "type": "array",
                        },
                        "data": {},
                        "response_status": {"type": "integer", "minimum": 400, "maximum": 599},
                    }
                ),
            ]
        },
        "protocol.sync": event(("sync",), NULL, (200,)),
        "protocol.delete": event(
            ("delete",), fields("pk", pk=ROW_NAME, reason={"const": "window"}), (204,)
        ),
        "protocol.subscription_revoked": event(("revoke",), NULL, (400, 403, 500)),
        "protocol.watch_revoked": event(("revoke",), NULL, (400, 401, 403, 404, 500)),
        "protocol.event": {
            "allOf": [
                reference("protocol.reply"),
                _object(
                    {
                        "position": reference("protocol.position"),
                        "previous": reference("protocol.position"),
                    },
                    "position",
                    "previous",
                ),
            ]
        },
    }


def frame(action: ActionDescription, request: JsonSchema | None) -> JsonSchema:
    """Return the schema of a frame that calls `action`, with `request` as its data."""
    words = [action.name, *action.aliases]
    properties: dict[str, JsonSchema] = {
        "action": {"const": words[0]} if len(words) == 1 else {"enum": words}
    }
    properties |= {item.name: _described(item) for item in action.lookups}
    if action.query:
        properties["query"] = query(action.query)
    if request is not None:
        properties["data"] = request
    if len(action.verbs) > 1:
        properties["method"] = {"enum": list(action.verbs), "default": action.verbs[0]}
    required = ["action", *(item.name for item in action.lookups)]
    if action.is_request_required:
        required.append("data")
    parts = ["protocol.frame"]
    if not action.is_safe and not action.is_streaming:
        parts.append("protocol.write")
    if action.subscribes:
        parts.append("protocol.subscription")
    if action.is_windowed:
        parts.append("protocol.window")
    return _all(parts, properties, *required)


def query(parameters: Sequence[Parameter]) -> JsonSchema:
    """Return the schema of `query`. A viewset may read keys that it does not declare."""
    required = [item.name for item in parameters if item.is_required]
    return _object({item.name: _described(item) for item in parameters}, *required)


def watch_frame(actions: Sequence[ActionDescription]) -> JsonSchema:
    """Return the schema of a frame that watches one of `actions`."""
    lookups = {item.name: item for action in actions for item in action.lookups}
    queries = {item.name: item for action in actions for item in action.query}
    properties: dict[str, JsonSchema] = {
        "action": {"const": "watch"},
        "of": {"enum": [action.name for action in actions]},
        **{name: _described(item) for name, item in lookups.items()},
        "since": reference("protocol.position"),
    }
    if queries:
        optional = [_described(item) for item in queries.values()]
        properties["query"] = _object(dict(zip(queries, optional, strict=True)))
    return _all(["protocol.frame"], properties, "action", "of")


def reply(
    words: Sequence[str], data: JsonSchema | None, status: int, *, begins: bool = False
) -> JsonSchema:
    """
    Return the schema of a reply; if it `begins` a subscription or a watch, it has a position.
    """
    properties: dict[str, JsonSchema] = {
        "action": {"const": words[0]} if len(words) == 1 else {"enum": list(words)},
        "response_status": {"const": status},
        "data": NULL if data is None else data,
    }
    if not begins:
        return _all(["protocol.reply"], properties)
    properties["position"] = reference("protocol.position")
    properties["resumed"] = {"type": "boolean"}
    return _all(["protocol.reply"], properties, "position", "resumed")


def event(
    words: Sequence[str], data: JsonSchema, statuses: Sequence[int], **more: JsonSchema
) -> JsonSchema:
    """Return the schema of an event of a subscription or a watch."""
    properties: dict[str, JsonSchema] = {
        "action": {"const": words[0]} if len(words) == 1 else {"enum": list(words)},
        "response_status": (
            {"const": statuses[0]} if len(statuses) == 1 else {"enum": list(statuses)}
        ),
        "data": data,
        **more,
    }
    return _all(["protocol.event"], properties)


def room_event(word: str, data: JsonSchema) -> JsonSchema:
    """Return the schema of an event of a room."""
    return _all(["protocol.reply"], {"action": {"const": word}, "data": data})


def connection_frame(action: str, data: JsonSchema | None = None) -> JsonSchema:
    """Return the schema of a frame that the connection answers itself."""
    properties: dict[str, JsonSchema] = {"action": {"const": action}}
    if data is not None:
        properties["data"] = data
    required = ["action"] if data is None else ["action", "data"]
    return _all(["protocol.frame"], properties, *required)


def in_envelope(schema: JsonSchema, streams: Sequence[str | None]) -> JsonSchema:
    """Return the schema of a message on a root; None among `streams` stands for null."""
    stream: JsonSchema = {"const": streams[0]} if len(streams) == 1 else {"enum": list(streams)}
    return _object({"stream": stream, "payload": schema}, "stream", "payload")


def either(schemas: Iterable[JsonSchema]) -> JsonSchema:
    """Return a schema that admits what one of `schemas` does."""
    distinct: list[JsonSchema] = []
    for schema in schemas:
        if schema not in distinct:
            distinct.append(schema)
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def fields(*required: str, **properties: JsonSchema) -> JsonSchema:
    """Return the schema of an object with these `properties`."""
    return _object(properties, *required)


def _described(item: Parameter) -> JsonSchema:
    if not item.doc or "description" in item.schema:
        return item.schema
    return {**item.schema, "description": item.doc}


def _object(properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def _all(parts: Sequence[str], properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    return {"allOf": [*map(reference, parts), _object(properties, *required)]}
