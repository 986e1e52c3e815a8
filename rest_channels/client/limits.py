"""Bounds of a client, within those of the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """
    The most that a client sends, and how long it waits.

    Lower `in_flight`, `rate` and `burst` if the server's MAX_IN_FLIGHT, FRAME_RATE or FRAME_BURST
    are lower than usual. `rate` is in frames a second.
    """

    #: Frames without a reply.
    in_flight: int = 12
    #: Frames a second.
    rate: float = 80
    #: Frames at once.
    burst: int = 100
    #: Frames that wait to be sent.
    pending: int = 1000
    #: Seconds that the server may take for an answer; after that the connection is broken.
    answer_seconds: float = 60
    #: Seconds that a request waits for a connection.
    retry_seconds: float = 60
    #: The number of times that a request is sent before it fails.
    retry_times: int = 5
    #: Seconds of silence after which the client sends a ping.
    silence_seconds: float = 10
    #: Seconds that the server may take to answer a ping; after that the line is dead.
    pong_seconds: float = 5
