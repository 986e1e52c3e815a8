"""One client's watch of an action: its reply, its events, its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rest_channels.live.interface import Answer, Check, Watch
from rest_channels.live.log import positions
from rest_channels.live.watches.watch_tokens import is_same, sealed, token_of
from rest_channels.metrics import figures
from rest_channels.observing.observers import begin_subscription, end_subscription
from rest_channels.observing.reports import SubscriptionReport
from rest_channels.protocol import Event, Frame, Reply, in_envelope

if TYPE_CHECKING:
    from rest_channels.sockets.outbox import StreamWriter


class Watching:
    """
    One watch of a client, named by its `request_id`. On the loop.

    `answer` is the answer of the first run. `told` is the token of the answer that the client has.
    `on_room` is called when an answer could not be sent because the client did not read, and it
    reads again.
    """

    on_room: Callable[[Watching], None]

    #: Whether the socket needs a heartbeat for it.
    is_kept_alive = True

    def __init__(self, watch: Watch, answer: Answer, frame: Frame, wire: StreamWriter) -> None:
        self.watch = watch
        self.answer: Answer | None = answer
        #: The permission to have an answer that was made for another user.
        self.check: Check | None = None
        self.frame = replace(frame, rest={}, report=None)
        #: The report of the frame, until it is answered.
        self.report = frame.report
        # For observers, if there are any, at its end.
        self._lifetime: SubscriptionReport | None = None
        self.wire = wire
        #: Keys of the reply, as JSON text, beside those of the watch.
        self.extra: Mapping[str, str] = {}
        self.is_over = False
        #: Set once the client has its reply, or is gone.
        self.settled = asyncio.Event()
        self.told = token_of(answer.reply.data)
        self._seal = positions.seal(str(watch.credentials.user_pk or ""), watch.name)
        self._position = sealed(self.told, self._seal)
        #: Whether an answer waits until the client reads.
        self.is_waiting = False
        self._request_id = json.dumps(frame.request_id)
        # The stream's envelope, before and after the text.
        self._before, self._after = in_envelope("\0", wire.stream).split("\0")

    @property
    def kept_bytes(self) -> int:
        """The memory that it takes, estimated (bytes)."""
        return self.watch.kept_bytes

    def acknowledge(self) -> None:
        """Reply to the frame; this is the client's first message of the watch."""
        assert self.answer is not None
        reply, self.answer = self.answer.reply, None
        is_resumed = is_same(self.watch.since, self._position)
        extra = {
            "position": json.dumps(self._position),
            "resumed": "true" if is_resumed else "false",
            **self.extra,
        }
        data = "null" if is_resumed else reply.data
        asked = self.report
        self._answer(Reply(201, data=data, headers=reply.headers, extra=extra))
        if not self.is_over:
            self._lifetime = begin_subscription(asked, is_watch=True, is_resumed=is_resumed)

    def refuse(self, reply: Reply) -> None:
        """Refuse the watch with `reply`."""
        reply.extra = self.extra
        self._answer(reply)
        self.end()

    def _answer(self, reply: Reply) -> None:
        reply.action, reply.request_id = self.frame.action, self.frame.request_id
        if not self.is_over:
            self.wire.post(reply, self.report)
            self.report = None
            self.settled.set()

    def end(self, status: int | None = None) -> None:
        """Send nothing more; `status` is that of a `revoke`, None if there was none."""
        self.is_over = True
        lifetime, self._lifetime = self._lifetime, None
        if lifetime is not None:
            end_subscription(lifetime, status)
        self.answer = None
        self.settled.set()

    def tell(self, token: str, shared: str) -> None:
        """
        Send an answer, unless the client has it.

        `token` is the part of its token that names it, `shared` the part of the event that is the
        same for all clients. If the client does not keep up, nothing waits: the action runs again
        once the client reads, and only that answer is sent.
        """
        outbox = self.wire.outbox
        if self.is_over or outbox.is_closed or self.watch.credentials.has_ended:
            return
        if token == self.told:
            return
        if outbox.has_room:
            previous, self._position = self._position, sealed(token, self._seal)
            self.told = token
            self._send(shared, self._position, previous)
        elif not self.is_waiting:
            self.is_waiting = True
            outbox.when_room(self._on_room)

    def _on_room(self) -> None:
        self.is_waiting = False
        if not self.is_over:
            self.on_room(self)

    def revoke(self, reply: Reply) -> None:
        """End the watch, and tell the client why."""
        event = Event("revoke", reply.status, errors=reply.errors, codes=reply.codes)
        if not (self.is_over or self.watch.credentials.has_ended):
            self._send(event.shared, self._position, self._position)
        self.end(reply.status)

    def _send(self, shared: str, position: str, previous: str) -> None:
        figures.deliveries.add()
        own = Event.address(self._request_id, position, previous)
        self.wire.outbox.post(f"{self._before}{shared}{own}{self._after}")

    def take_acknowledgement(self, position: Any) -> bool:
        """Ignore an acknowledgement: a watch has no credit."""
        return False
