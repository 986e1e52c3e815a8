"""
The root socket: many streams on one connection, each frame in an envelope.

    {"stream": "messages", "payload": {"action": "list", "request_id": 1}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.urls.resolvers import RegexPattern, RoutePattern

from rest_channels.connection import Connection, Receive, Send, read_frame, refused
from rest_channels.exceptions import FrameError
from rest_channels.protocol import Frame, Reply
from rest_channels.request import Scope
from rest_channels.streams import Stream


class Demultiplexer(Connection):
    """One socket of all the streams of a router; `streams` maps prefixes to them."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        streams: Mapping[str, Stream],
        pattern: RegexPattern | RoutePattern,
    ) -> None:
        super().__init__(scope, receive, send, pattern=pattern)
        self.streams = streams

    def on_unreadable(self, error: FrameError) -> None:
        # It cannot be told whose turn it would be.
        self.outbox.post(refused(error).encode(None))

    def on_value(self, value: Any) -> None:
        if not isinstance(value, dict) or not isinstance(value.get("stream"), str):
            self.on_unreadable(
                FrameError("A frame is an object with a 'stream', a string, and a 'payload'.")
            )
            return
        stream = self.streams.get(value["stream"])
        if stream is None:
            self.on_unknown_stream(value["stream"], value.get("payload"))
        else:
            self.on_payload(stream, value.get("payload"))

    def on_unknown_stream(self, name: str, payload: Any) -> None:
        """Answer 404, echoing what the client needs to know which frame it was."""
        try:
            asked: Frame | FrameError = read_frame(payload)
        except FrameError as error:
            asked = error
        reply = Reply.error(404, "There is no such stream.", "not_found", to=asked)
        self.outbox.post(reply.encode(name))

    def encode(self, stream: Stream, reply: Reply) -> str:
        return reply.encode(stream.prefix)
