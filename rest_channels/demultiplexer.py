"""
The root socket: many streams on one connection, each frame in an envelope.

    {"stream": "messages", "payload": {"action": "list", "request_id": 1}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.urls.resolvers import RegexPattern, RoutePattern

from rest_channels.connection import AnyStream, Connection, Receive, read_frame
from rest_channels.exceptions import FrameError
from rest_channels.outbox import Send, Wire
from rest_channels.protocol import Frame, Reply
from rest_channels.request import Scope


class Demultiplexer(Connection):
    """One socket of all the streams of a router; `streams` maps prefixes to them."""

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

    def wire(self, stream: AnyStream) -> Wire:
        return Wire(self.outbox, stream.prefix)

    def on_value(self, value: Any) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("stream"), str):
            self.on_unreadable(_no_envelope(value))
            return
        name, payload = value["stream"], value.get("payload")
        stream = self.streams_by_prefix.get(name)
        if stream is None:
            self.on_unknown_stream(name, payload)
        else:
            self.take(stream, payload)

    def on_unreadable(self, error: FrameError) -> None:
        # It cannot be told whose turn it would be.
        Wire(self.outbox, None).post(self.limit(error) or Reply.refusal(error))

    def on_unknown_stream(self, name: str, payload: Any) -> None:
        """Answer 404, echoing what the client needs to know which frame it was."""
        asked = _what_is_asked(payload)
        unknown = Reply.error(404, "There is no such stream.", "not_found", to=asked)
        Wire(self.outbox, name).post(self.limit(asked) or unknown)


def _no_envelope(value: Any) -> FrameError:
    """The error of a message without a stream, from whose payload the client knows what failed."""
    error = FrameError("A frame is an object with a 'stream', a string, and a 'payload'.")
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
