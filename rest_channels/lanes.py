"""
One stream on one socket: its frames in their order, each answered by an exchange.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from rest_channels.exceptions import FrameError
from rest_channels.exchange import Authentication, Exchange
from rest_channels.live.memberships import Memberships
from rest_channels.live.subscriptions import Subscription
from rest_channels.outbox import Wire
from rest_channels.protocol import Frame, Reply
from rest_channels.request import Handshake
from rest_channels.streams import Stream

#: What waits in a lane: a frame to be answered by the viewset, an answer that is known, or the
#: end of a subscription.
Job = Exchange | Reply | Frame

#: How subscriptions end, where the viewset has no such action.
ENDINGS: Final = ("unsubscribe", "unsubscribe_instance")


class Lane:
    """
    The frames of one stream: first in, first out, `stream.max_in_flight` of them at a time.

    Its length is the number of frames not answered yet. `on_crash` is told what an exchange
    raises, which is only what `DEBUG_PROPAGATE_EXCEPTIONS` asks to propagate. On the loop.
    """

    #: The groups of the channel layer that it is in: none, but in subclasses.
    groups: AbstractSet[str] = frozenset()

    def __init__(
        self,
        stream: Stream,
        handshake: Handshake,
        wire: Wire,
        on_crash: Callable[[BaseException], None],
        memberships: Memberships,
        *,
        is_row: bool = False,
    ) -> None:
        self.stream = stream
        self.memberships = memberships
        self.handshake = handshake
        self.wire = wire
        self.is_row = is_row
        self._on_crash = on_crash
        self._waiting: deque[Job] = deque()
        self._running: dict[asyncio.Task[None], Job] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def answers_at_once(self, frame: Frame) -> bool:
        """Whether `frame` is the connection's own `cancel` or `ack`, which wait for no turn."""
        return self._is_own("cancel", frame) or self._is_own("ack", frame)

    def take(self, frame: Frame, payload: Any) -> None:
        """Answer `frame` in its turn; the connection's own actions where the viewset has none."""
        if self.answers_at_once(frame):
            self._take_at_once(frame)
        elif any(self._is_own(action, frame) for action in ENDINGS):
            self._put(frame)
        elif self._is_own("authenticate", frame):
            try:
                self._put(Authentication(self.stream, frame, self.handshake))
            except FrameError as error:
                self.answer(Reply.refusal(error))
        else:
            self._put(Exchange(self.stream, frame, self.handshake, is_row=self.is_row))

    def answer(self, reply: Reply) -> None:
        """Send a reply that is known already, in its turn."""
        self._put(reply)

    async def finish(self, code: int) -> None:
        """
        The socket is closed: let plain actions end, in their order, for what was sent counts;
        stop async and generator actions.
        """
        for exchange in self._exchanges():
            exchange.stop()
        while self._running:
            await asyncio.wait(self._running)

    def abandon(self) -> None:
        """Drop what waits and interrupt what runs."""
        self._waiting.clear()
        for task in self._running:
            task.cancel()

    def _is_own(self, action: str, frame: Frame) -> bool:
        return frame.action == action and action not in self.stream.actions

    def _take_at_once(self, frame: Frame) -> None:
        if frame.action == "cancel":
            self.wire.post(self._cancel(frame))
            return
        try:
            self.memberships.acknowledge(frame, self.wire)
        except FrameError as error:
            self.wire.post(Reply.refusal(error))

    def _cancel(self, frame: Frame) -> Reply:
        if not isinstance(frame.data, dict) or frame.data.get("request_id") is None:
            detail = "'data' names the 'request_id' to cancel."
            return Reply.error(400, detail, "required", to=frame)
        request_id = frame.data["request_id"]
        named = [e for e in self._exchanges() if _is_same_id(e.frame.request_id, request_id)]
        for exchange in named:
            exchange.cancel()
        if named:
            return Reply(204, action=frame.action, request_id=frame.request_id)
        return Reply.error(404, "No request of that id is in flight.", "not_found", to=frame)

    def _exchanges(self) -> list[Exchange]:
        jobs = [*self._running.values(), *self._waiting]
        return [job for job in jobs if isinstance(job, Exchange)]

    def _put(self, job: Job) -> None:
        self._waiting.append(job)
        self._advance()

    def _advance(self) -> None:
        while self._waiting and len(self._running) < self.stream.max_in_flight:
            job = self._waiting.popleft()
            task = asyncio.ensure_future(self._serve(job))
            self._running[task] = job
            task.add_done_callback(self._on_done)

    async def _serve(self, job: Job) -> None:
        """Send everything that `job` has to say, as the client reads it."""
        if isinstance(job, Reply):
            await self.wire.put(job)
            return
        if isinstance(job, Frame):
            await self.wire.put(self.memberships.remove(job, self.wire, self.stream.row_named(job)))
            return
        if (reply := await job.reply()) is not None:
            await self._answer(job, reply)
        else:
            async for reply in job.replies():
                await self._answer(job, reply)
        if job.signs_out:
            self.handshake.credentials.end()

    async def _answer(self, exchange: Exchange, reply: Reply) -> None:
        if exchange.subscribes is None:
            await self.wire.put(reply)
        elif exchange.subscribes[1].credit is not None and "ack" in self.stream.actions:
            detail = "No 'credit' here: 'ack' is an action of this stream's own."
            await self.wire.put(Reply.error(400, detail, "invalid", to=exchange.frame))
        else:
            # Answered by those who know from where on the client will be told.
            subscription = Subscription(*exchange.subscribes, exchange.frame, self.wire)
            await self.memberships.add(subscription)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._on_crash(exc)
        self._advance()


def _is_same_id(one: Any, other: Any) -> bool:
    # 1 is not "1", nor true.
    return type(one) is type(other) and one == other
