"""The messages of a client and the server on one socket: frames with replies, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rest_channels.schema.description import (
    ActionDescription,
    SocketDescription,
    StreamDescription,
)
from rest_channels.schema.directions import plain
from rest_channels.schema.handler_messages import room_message
from rest_channels.schema.json_schema import JsonSchema, reference
from rest_channels.schema.wire_schemas import (
    NULL,
    ROW_NAME,
    connection_frame,
    either,
    event,
    fields,
    frame,
    reply,
    room_event,
    watch_frame,
)


@dataclass(frozen=True)
class Message:
    """
    A message; on a root, to or from one of `streams`. The title is empty if the name tells all.
    """

    name: str
    title: str
    schema: JsonSchema
    streams: tuple[str | None, ...] = (None,)


@dataclass(frozen=True)
class Exchanged:
    """
    Messages that the server receives, with its replies; or, if `is_event`, that it sends itself.

    `more` are facts for which documents have no word.
    """

    name: str
    title: str
    doc: str
    messages: tuple[Message, ...]
    replies: tuple[Message, ...] = ()
    is_event: bool = False
    tag: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def exchanges_of(
    socket: SocketDescription, as_input: Callable[[JsonSchema], JsonSchema]
) -> Iterator[Exchanged]:
    """
    Yield the exchanges on `socket`, stream by stream, then with the connection itself.

    `as_input` returns the schema of a request as a client sends it.
    """
    for stream in socket.streams:
        yield from _Exchanges(stream, as_input).all()
    yield from _of_the_connection(socket)


_PLAIN: Final[JsonSchema] = reference("protocol.error")


@dataclass(frozen=True)
class _Exchanges:
    stream: StreamDescription
    as_input: Callable[[JsonSchema], JsonSchema]

    def all(self) -> Iterator[Exchanged]:
        for action in self.stream.actions:
            if action.message is not None:
                yield self._handler(action)
            elif self.stream.kind == "hosted":
                yield self._hosted(action)
            else:
                yield self._action(action)
                if action.subscribes:
                    yield self._events(action)
        yield from self._watches()
        if self.stream.kind == "rooms":
            yield self._room_events()
        elif self.stream.kind == "consumers":
            yield self._sent("messages", "Messages", "Sent by handlers, or to groups.", {})

    def _action(self, action: ActionDescription) -> Exchanged:
        words = (action.name, *action.aliases)
        name = action.name
        request = None if action.request is None else plain(self.as_input(action.request))
        response = None if action.response is None else plain(action.response)
        replies: tuple[Message, ...]
        if action.is_streaming:
            replies = (
                self._message(f"{name}.item", "An item; more follow", reply(words, {}, 206)),
                self._message(f"{name}.end", "No more items follow", reply(words, None, 200)),
            )
        else:
            data = response
            if action.subscribes and data is not None:
                data = either([data, NULL])
            schema = reply(words, data, action.status, begins=action.subscribes)
            replies = (self._message(f"{name}.reply", "", schema),)
        return Exchanged(
            self._named(name),
            name,
            action.doc,
            (self._message(f"{name}.frame", "", frame(action, request)),),
            (*replies, self._error()),
            tag=self.stream.name,
            more={
                "verbs": [verb.upper() for verb in action.verbs],
                "permissions": list(action.permissions),
                "throttles": list(action.throttles),
                "errors": list(action.errors),
                "deprecated": action.is_deprecated,
                "watchable": action.is_watchable,
            },
        )

    def _events(self, action: ActionDescription) -> Exchanged:
        """Return the events of a subscription."""
        rows = plain(action.response or {"type": "array", "items": {}})
        row = rows.get("items", {}) if action.is_many else rows
        placed = {"after": ROW_NAME} if action.is_windowed else {}
        kinds = {
            "row": (
                "A row is new or has changed",
                event(("create", "update"), row, (200,), **placed),
            ),
            "delete": ("A row is gone", reference("protocol.delete")),
            "sync": ("Nothing else has changed", reference("protocol.sync")),
            "reset": ("The position is invalid", event(("reset",), either([rows, NULL]), (205,))),
            "revoke": (
                "The subscription has ended",
                reference("protocol.subscription_revoked"),
            ),
        }
        return self._sends(action.name, f"Events of {action.name}", kinds)

    def _watches(self) -> Iterator[Exchanged]:
        actions = [action for action in self.stream.actions if action.is_watchable]
        if not actions:
            return
        answers = either(plain(action.response or {}) for action in actions)
        answer = reply(("watch",), either([answers, NULL]), 201, begins=True)
        yield Exchanged(
            self._named("watch"),
            "watch",
            "Keep the answer of another action up to date.",
            (self._message("watch.frame", "", watch_frame(actions)),),
            (self._message("watch.reply", "", answer), self._error()),
            tag=self.stream.name,
        )
        kinds = {
            "change": ("The answer has changed", event(("change",), answers, (200,))),
            "revoke": ("The watch has ended", reference("protocol.watch_revoked")),
        }
        yield self._sends("watch", "Events of watch", kinds)

    def _handler(self, action: ActionDescription) -> Exchanged:
        assert action.message is not None, "a handler has a message"
        name = action.name
        replies: tuple[Message, ...] = ()
        if action.response is not None:
            schema = reply((name,), action.response, action.status)
            replies = (self._message(f"{name}.reply", "", schema), self._error())
        return Exchanged(
            self._named(name),
            name,
            action.doc,
            (self._message(f"{name}.message", "", action.message),),
            replies,
            tag=self.stream.name,
            more={
                "permissions": list(action.permissions),
                "throttles": list(action.throttles),
            },
        )

    def _hosted(self, action: ActionDescription) -> Exchanged:
        """Return an action of a hosted consumer, which defines its own keys and errors."""
        name = action.name
        sent = fields("action", action={"const": name}, request_id=reference("protocol.request_id"))
        replied = {"allOf": [reference("protocol.reply"), fields(action={"const": name})]}
        return Exchanged(
            self._named(name),
            name,
            action.doc,
            (self._message(f"{name}.frame", "", sent),),
            (self._message(f"{name}.reply", "", replied), self._error()),
            tag=self.stream.name,
        )

    def _room_events(self) -> Exchanged:
        fixed = {"join", "leave", "send", "presence"}
        ephemeral = [action.name for action in self.stream.actions if action.name not in fixed]
        room: JsonSchema = {"type": "string"}
        assert self.stream.room is not None, "it is a stream of rooms"
        user = self.stream.room.user
        said = fields("room", "user", room=room, user=user, data={})
        message = room_message(self.stream.room)
        kinds = {
            "message": ("A message to a room", room_event("message", message)),
            "presence": (
                "A user has joined or left",
                room_event(
                    "presence",
                    fields("room", "event", "user", room=room, event={"type": "string"}, user=user),
                ),
            ),
            "reset": (
                "Messages are missing: join again",
                room_event("reset", fields("room", room=room)),
            ),
            "revoke": (
                "The user may no longer be in the room",
                room_event("revoke", either([fields(room=room), NULL])),
            ),
        }
        for name in ephemeral:
            kinds[name] = ("May be lost", room_event(name, said))
        return self._sends("room", "Events of rooms", kinds)

    def _sends(
        self, name: str, title: str, kinds: Mapping[str, tuple[str, JsonSchema]]
    ) -> Exchanged:
        messages = tuple(
            self._message(f"{name}.{kind}", title_of, schema)
            for kind, (title_of, schema) in kinds.items()
        )
        return Exchanged(
            self._named(f"{name}.events"),
            title,
            "",
            messages,
            is_event=True,
            tag=self.stream.name,
        )

    def _sent(self, name: str, title: str, doc: str, schema: JsonSchema) -> Exchanged:
        message = self._message(name, title, schema)
        named = self._named(name)
        return Exchanged(named, title, doc, (message,), is_event=True, tag=self.stream.name)

    def _named(self, name: str) -> str:
        return name if self.stream.name is None else f"{self.stream.name}.{name}"

    def _message(self, name: str, title: str, schema: JsonSchema) -> Message:
        return Message(self._named(name), title, schema, (self.stream.name,))

    def _error(self) -> Message:
        return self._message("error", "", _PLAIN)


def _of_the_connection(socket: SocketDescription) -> Iterator[Exchanged]:
    """Yield the actions that the connection answers, whatever the stream."""
    viewsets = [stream for stream in socket.streams if _has_frames(stream)]
    own = {action.name for stream in viewsets for action in stream.actions}
    streams = tuple(stream.name for stream in viewsets)
    if not streams:
        return
    token = fields("token", token={"type": "string"})
    text: JsonSchema = {"type": "string"}
    time = fields("time", time={"type": "string", "format": "date-time"})
    request = fields("request_id", request_id=reference("protocol.request_id"))
    position = fields("position", position=reference("protocol.position"))
    known: list[tuple[str, str, JsonSchema | None, JsonSchema | None, int | None]] = [
        ("unsubscribe", "End a subscription.", None, None, 204),
        ("unsubscribe_instance", "End the subscription to a row.", None, None, 204),
        ("unwatch", "End a watch.", None, None, 204),
        ("ack", "Acknowledge events up to a position; without a reply.", position, None, None),
        ("cancel", "Stop another frame.", request, None, 204),
        ("fence", "Wait for the events of a write over HTTP.", token, None, 200),
        ("ping", "Test the line.", None, time, 200),
        (
            "authenticate",
            "Replace the credentials of the socket.",
            fields("authorization", authorization=text),
            None,
            200,
        ),
    ]
    frames, replies = [], []
    for name, doc, data, answer, status in known:
        if len(viewsets) == 1 and name in own:
            # The viewset's own action takes precedence.
            continue
        to = (*streams, None) if name == "ping" else streams
        frames.append(Message(f"connection.{name}.frame", doc, connection_frame(name, data), to))
        if status is not None:
            schema = reply((name,), answer, status)
            replies.append(Message(f"connection.{name}.reply", "", schema, to))
    replies.append(Message("connection.error", "", _PLAIN, (*streams, None)))
    doc = "Actions that the connection itself answers."
    yield Exchanged(
        "connection", "connection", doc, tuple(frames), tuple(replies), tag="connection"
    )
    alive = Message(
        "connection.alive",
        "The connection is alive",
        {"allOf": [reference("protocol.reply"), fields(action={"const": "alive"}, data=NULL)]},
        (None,),
    )
    doc = "Sent if a socket with subscriptions or watches is silent."
    yield Exchanged("connection.alive", "alive", doc, (alive,), is_event=True, tag="connection")


def _has_frames(stream: StreamDescription) -> bool:
    return stream.kind == "viewset" or any(action.verbs for action in stream.actions)
