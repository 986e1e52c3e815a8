"""
Values that describe what happened: a frame, a socket, a subscription, a pass.

Each is made in one place and given to `rest_channels.observing.observers`. This module imports
neither Django nor asyncio.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_channels.metrics.instruments import OTHER


class FrameReport:
    """
    One frame, from its receipt to its last reply.

    The request half fills it in while it answers; observers read it. Clocks are
    `time.perf_counter`, sizes are bytes of UTF-8 text.

    `action`, `request_id` and `correlation_id` are the client's own words, which may be anything;
    `stream` and `operation` are among the names that the project and this package declare, or
    `OTHER`.
    """

    # Not a dataclass, whose __init__ would set each of these for each frame.

    #: The prefix of the stream; None if there is no such stream, or the message names none.
    stream: str | None = None
    #: The frame's own word for its action, None if it cannot be read.
    action: str | None = None
    #: The declared name of the action, or of one of the connection's own.
    operation: str = OTHER
    #: The HTTP verb, in lower case; None if no view was asked.
    verb: str | None = None
    request_id: str | int | None = None
    #: The frame's header X-Request-ID, else the handshake's; None without any.
    correlation_id: str | None = None
    #: The frame's own headers, for trace contexts. They may contain credentials.
    headers: Mapping[str, str] | None = None
    #: The status of the last reply; 0 before it. 499: the frame was given up without a reply.
    status: int = 0
    #: From the receipt until the last reply was handed to the outbox.
    seconds: float = 0.0
    #: How long its work waited for worker threads, all hops together.
    thread_seconds: float = 0.0
    #: The statements that its hops into worker threads have sent to databases through Django.
    queries: int = 0
    bytes_out: int = 0
    #: The items of a generator action, each sent as a reply of its own before the last.
    parts: int = 0
    #: How long its reply waited for a fence; None without a fence.
    fence_seconds: float | None = None
    #: Whether the reply was stored for an earlier frame with the same idempotency key.
    is_replayed: bool = False
    #: Whether a throttle, or the bound on frames a second, has refused it.
    is_throttled: bool = False
    #: Whether the outbox took the last reply; it does not once the socket is closed.
    is_sent: bool = False
    #: The primary key of the user that DRF has found; None for a stranger.
    user_pk: Any = None
    #: The id in the text of a reply with status 500 or 503, which is also in the log.
    error_id: str | None = None

    def __init__(self, received_at: float, bytes_in: int) -> None:
        self.received_at = received_at
        self.bytes_in = bytes_in

    def __repr__(self) -> str:
        seconds = f"{self.seconds:.4f} s"
        return f"<FrameReport {self.stream} {self.operation} {self.status} {seconds}>"

    @property
    def is_over(self) -> bool:
        """Whether observers have received it."""
        return self.status != 0


class RefusalReason(enum.StrEnum):
    """The reason why a handshake was refused, or its socket closed before the first frame."""

    ORIGIN = "origin"
    CREDENTIALS = "credentials"
    NOT_AUTHENTICATED = "not_authenticated"
    NOT_ALLOWED = "not_allowed"
    NO_SUCH_ROUTE = "no_such_route"
    TOO_MANY = "too_many"


@dataclass(slots=True, eq=False)
class SocketReport:
    """
    One socket that was accepted.

    `path` is that of its URL, without the query string. `code` and `seconds` are set once it is
    closed: the code it was closed with, and how long it was open.
    """

    path: str
    opened_at: float
    #: The prefix of its only stream; None on a root.
    stream: str | None = None
    user_pk: Any = None
    code: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RefusalReport:
    """A handshake that was refused. `path` is that of its URL, which a client may make up."""

    path: str
    reason: RefusalReason


@dataclass(slots=True, eq=False)
class SubscriptionReport:
    """
    A subscription that has begun, or a watch.

    `seconds` and `status` are set at its end: how long it lasted, and the status of the `revoke`
    that ended it, None if the client has ended it or its socket is closed.
    """

    began_at: float
    stream: str | None
    #: The declared name of the action that is followed.
    operation: str
    is_watch: bool
    is_resumed: bool
    request_id: str | int | None = None
    user_pk: Any = None
    seconds: float = 0.0
    status: int | None = None


@dataclass(slots=True, eq=False)
class PassReport:
    """
    One pass over a database, and the delivery of its events.

    `changes` is the number of rows whose changes it has read from the log, `audiences` the number
    of audiences whose rows it has read, `subscriptions` the number of their subscribers, and
    `joined` the number of new subscribers that it has judged. `seconds` is how long the pass took,
    with the hop to its thread; `telling_seconds` how long the loop then took to hand its events to
    the outboxes. `began_at` is a time of `time.perf_counter`.
    """

    database: str
    track: str
    began_at: float
    seconds: float = 0.0
    changes: int = 0
    audiences: int = 0
    subscriptions: int = 0
    joined: int = 0
    #: Whether nothing was read, because the database is absent or the pass has raised an exception.
    has_failed: bool = False
    telling_seconds: float = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it has found nothing to do: a follower also looks without a reason."""
        return not (self.changes or self.audiences or self.joined or self.has_failed)
