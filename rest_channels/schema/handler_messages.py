"""The messages that handlers of class-based consumers take, as JSON Schemas."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rest_channels.consumers.consumer_streams import ConsumersStream
from rest_channels.consumers.groups.rooms import MAX_ROOM_CHARS, RoomConsumers
from rest_channels.consumers.handlers import Handler
from rest_channels.consumers.message_filters import Filter
from rest_channels.schema.json_schema import JsonSchema
from rest_channels.schema.operations import Serialized

_ID: Final[JsonSchema] = {"type": ["string", "integer", "null"]}
_ROOM: Final[JsonSchema] = {"type": "string", "minLength": 1, "maxLength": MAX_ROOM_CHARS}
# The shape that `RoomConsumers.get_user_data` returns.
_USER: Final[JsonSchema] = {
    "type": "object",
    "properties": {"id": {"type": ["string", "null"]}, "name": {"type": "string"}},
    "required": ["id", "name"],
}


@dataclass(frozen=True)
class RoomSchemas:
    """
    The content of rooms.

    `user` is what members receive of each other, `sent` the `data` that they send, and `told` what
    a message has beside room and user.
    """

    user: JsonSchema
    sent: JsonSchema
    told: JsonSchema


@dataclass(frozen=True)
class HandlerMessage:
    """A message that a handler takes; `response` is the `data` of a reply, if there is one."""

    name: str
    doc: str
    schema: JsonSchema
    response: JsonSchema | None = None
    status: int = 200


def room_serializers(rooms: type[RoomConsumers]) -> list[type]:
    """Return the serializers that a class of rooms names."""
    named = (rooms.user_serializer_class, rooms.message_serializer_class)
    return [serializer for serializer in named if serializer is not None]


def room_schemas(rooms: type[RoomConsumers], serializers: Mapping[type, Serialized]) -> RoomSchemas:
    """Return what a class of rooms carries; a method of its own may return anything."""
    user, sent, told = _USER, {}, _object({"data": {}}, ["data"])
    if rooms.user_serializer_class is not None:
        user = serializers[rooms.user_serializer_class].shown
    if rooms.message_serializer_class is not None:
        message = serializers[rooms.message_serializer_class]
        sent, told = message.accepted, _object({"data": message.shown}, ["data"])
    if rooms.get_user_data is not RoomConsumers.get_user_data:
        user = {}
    if rooms.get_message_data is not RoomConsumers.get_message_data:
        sent, told = {}, {"type": "object"}
    return RoomSchemas(user, sent, told)


def handler_messages(
    stream: ConsumersStream, room: RoomSchemas | None = None
) -> Iterator[HandlerMessage]:
    """
    Yield the messages of the handlers of `stream`, in the order in which they are asked.

    `room` is what rooms carry, if it is a stream of them.
    """
    for handler in stream.handlers:
        actions = [item for item in handler.filters if item.name == "action"]
        words = _words(actions[0]) if actions else None
        if words is None:
            yield _message(handler, handler.name, stream, _filtered(handler), room)
            continue
        for word in words:
            properties = {**_filtered(handler), "action": {"const": word}}
            yield _message(handler, word, stream, properties, room)


def _message(
    handler: Handler,
    name: str,
    stream: ConsumersStream,
    properties: dict[str, JsonSchema],
    room: RoomSchemas | None,
) -> HandlerMessage:
    is_inherited = handler.method.__module__.startswith("rest_channels.")
    doc = "" if is_inherited else inspect.getdoc(handler.method) or ""
    complete = _ROOM_MESSAGES.get(handler.method)
    if complete is not None and room is not None:
        return complete(name, properties, stream.consumers, room)
    return HandlerMessage(name, doc, _object(properties, list(properties)))


def _object(properties: dict[str, JsonSchema], required: list[str]) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": required}


def _filtered(handler: Handler) -> dict[str, JsonSchema]:
    return {item.name: _wanted(item) for item in handler.filters}


def _wanted(item: Filter) -> JsonSchema:
    words = _words(item)
    if words is not None:
        return {"const": words[0]} if len(words) == 1 else {"enum": words}
    if isinstance(item.wanted, re.Pattern):
        # As in ECMAScript; a filter matches the text of an integer as well.
        pattern = item.wanted.pattern.replace("(?P<", "(?<")
        return {"type": ["string", "integer"], "pattern": f"^(?:{pattern})$"}
    return {"const": item.wanted}


def _words(item: Filter) -> list[str] | None:
    """Return the texts that a filter admits; None if they are not a few literal words."""
    if not isinstance(item.wanted, re.Pattern):
        return [item.wanted] if isinstance(item.wanted, str) else None
    pattern = item.wanted.pattern
    if pattern == r"(?!)":
        return []
    words: list[str] = [re.sub(r"\\(\W)", r"\1", word) for word in pattern.split("|")]
    is_literal = "|".join(map(re.escape, words)) == pattern or re.fullmatch(r"[\w|]+", pattern)
    return words if is_literal and not item.wanted.flags & re.IGNORECASE else None


Complete = Callable[[str, dict[str, JsonSchema], Any, RoomSchemas], HandlerMessage]


def _join(
    name: str, properties: dict[str, JsonSchema], rooms: Any, room: RoomSchemas
) -> HandlerMessage:
    data = {"room": _ROOM, "users": _users(room)}
    properties = _in_room(properties)
    if rooms.history:
        properties["since"] = {"type": "string", "description": "The last position, to resume."}
        data |= {
            "messages": {"type": "array", "items": room_message(room)},
            "position": {"type": "string"},
            "resumed": {"type": "boolean"},
        }
    doc = "Enter a room, and receive its events."
    return HandlerMessage(name, doc, _with_room(properties), _object(data, list(data)))


def _users(room: RoomSchemas) -> JsonSchema:
    return {"type": "array", "items": room.user}


def room_message(room: RoomSchemas) -> JsonSchema:
    """Return the schema of the `data` of an event `message`."""
    properties = {"room": _ROOM, "user": room.user, **room.told.get("properties", {})}
    return _object(properties, ["room", "user", *room.told.get("required", [])])


def _leave(
    name: str, properties: dict[str, JsonSchema], rooms: Any, room: RoomSchemas
) -> HandlerMessage:
    schema = _with_room(_in_room(properties))
    return HandlerMessage(name, "Leave a room.", schema, {"type": "null"}, 204)


def _send(
    name: str, properties: dict[str, JsonSchema], rooms: Any, room: RoomSchemas
) -> HandlerMessage:
    schema = _with_room({**_in_room(properties), "data": room.sent}, "data")
    kept = _object({"id": {"type": "string"}}, ["id"]) if rooms.history else {"type": "null"}
    return HandlerMessage(name, "Send a message to the members of a room.", schema, kept, 201)


def _presence(
    name: str, properties: dict[str, JsonSchema], rooms: Any, room: RoomSchemas
) -> HandlerMessage:
    data = _object({"room": _ROOM, "users": _users(room)}, ["room", "users"])
    schema = _with_room(_in_room(properties))
    return HandlerMessage(name, "Return the users in a room.", schema, data)


def _ephemeral(
    name: str, properties: dict[str, JsonSchema], rooms: Any, room: RoomSchemas
) -> HandlerMessage:
    schema = _with_room({**_in_room(properties), "data": {}})
    return HandlerMessage(name, "Send members of a room an event that may be lost.", schema)


def _in_room(properties: dict[str, JsonSchema]) -> dict[str, JsonSchema]:
    return {**properties, "room": _ROOM, "request_id": _ID}


def _with_room(properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    return _object(properties, ["action", "room", *required])


_ROOM_MESSAGES: Final[dict[Callable[..., Any], Complete]] = {
    RoomConsumers.on_join: _join,
    RoomConsumers.on_leave: _leave,
    RoomConsumers.on_send: _send,
    RoomConsumers.on_presence: _presence,
    RoomConsumers.on_ephemeral: _ephemeral,
}
