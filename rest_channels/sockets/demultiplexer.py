"""
The root socket: many streams on one connection, each frame in an envelope.

    {"stream": "messages", "payload": {"action": "list", "request_id": 1}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.urls.resolvers import RegexPattern, RoutePattern

from rest_channels.exceptions import FrameError
from rest_channels.protocol import Frame, Reply
from rest_channels.sockets.connection import Connection, Receive
from rest_channels.sockets.frame_limits import AnyStream, read_frame
from rest_channels.sockets.outbox import Send, StreamWriter
from rest_channels.sockets.request import Scope


class Demultiplexer(Connection):
    """One socket with all the streams of a router; `streams` maps prefixes to them."""

    depth = 2

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        streams: Mapping[str, AnyStream],
        pattern: RegexPattern | RoutePattern,
    ) -> None:
        super().__init__(scope, receive, send, pattern=pattern)
        self.streams_by_prefix = streams

    @property
    def streams(self) -> Iterable[AnyStream]:
        return self.streams_by_prefix.values()

    def wire(self, stream: AnyStream) -> StreamWriter:
        return StreamWriter(self.outbox, stream.prefix)

    def path_of(self, stream: AnyStream, path: str) -> str:
        return self.handshake.mount + path

    def addressed(self, value: Any) -> tuple[AnyStream | None, Any]:
        if not isinstance(value, dict):
            return None, None
        name = value.get("stream")
        stream = self.streams_by_prefix.get(name) if isinstance(name, str) else None
        return stream, value.get("payload")

    def on_value(self, value: Any) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("stream"), str):
            if _is_ping(value):
                self.on_ping(value["payload"])
            else:
                self.on_unreadable(_no_envelope(value))
            return
        name, payload = value["stream"], value.get("payload")
        stream = self.streams_by_prefix.get(name)
        if stream is None:
            self.on_unknown_stream(name, payload)
        else:
            self.take(stream, payload)

    def on_unreadable(self, error: FrameError) -> None:
        # Its stream, and so its turn, is unknown.
        refusal = self.limit(error) or Reply.refusal(error)
        StreamWriter(self.outbox, None).post(refusal, self.report)

    def on_ping(self, payload: Any) -> None:
        """Answer a `ping` to the connection itself."""
        asked = _what_is_asked(payload)
        if isinstance(asked, FrameError):
            reply = Reply.refusal(asked)
        else:
            reply = Reply.pong(asked, datetime.now(UTC))
            if self.report is not None:
                self.report.operation = "ping"
        StreamWriter(self.outbox, None).post(self.limit(asked, waits=False) or reply, self.report)

    def on_unknown_stream(self, name: str, payload: Any) -> None:
        """Answer 404, with the keys by which the client recognises its frame."""
        asked = _what_is_asked(payload)
        unknown = Reply.error(404, "There is no such stream.", "not_found", to=asked)
        StreamWriter(self.outbox, name).post(self.limit(asked) or unknown, self.report)


def _is_ping(value: Any) -> bool:
    """Return whether it names no stream and its payload is a `ping`."""
    return (
        isinstance(value, dict)
        and value.get("stream") is None
        and isinstance(value.get("payload"), dict)
        and value["payload"].get("action") == "ping"
    )


def _no_envelope(value: Any) -> FrameError:
    """Return the error of a message without a stream, with the ids of its payload."""
    error = FrameError("A frame must be an object with a 'stream', a string, and a 'payload'.")
    if isinstance(value, dict):
        # A client of a stream's own socket sends bare payloads.
        asked = _what_is_asked(value.get("payload", value))
        error.action, error.request_id = asked.action, asked.request_id
    return error


def _what_is_asked(payload: Any) -> Frame | FrameError:
    try:
        return read_frame(payload)
    except FrameError as error:
        return error
