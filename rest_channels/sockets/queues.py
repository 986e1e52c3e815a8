"""
One stream on one socket: its frames in their order, each answered by an exchange.

A stream that answers several frames at a time keeps the order of frames about one subscription:

    with turns.take("hall") as turn:
        ...                     # side by side with all others
        await turn.come()       # after earlier frames of the same name
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from rest_channels.exceptions import FrameError
from rest_channels.live.delivery.registry import Memberships
from rest_channels.live.delivery.window_subscription import new_subscription
from rest_channels.live.watches.watch_hub import current_watch_hub
from rest_channels.live.watches.watching import Watching
from rest_channels.metrics.instruments import OTHER
from rest_channels.observing.observers import end_frame, observers, tell
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import Frame, Reply
from rest_channels.sockets.admission import BEGINNINGS, excess_subscription
from rest_channels.sockets.dispatch import Authentication, Exchange, Stage
from rest_channels.sockets.fencing import Fencing
from rest_channels.sockets.keyed_exchange import exchange_of
from rest_channels.sockets.outbox import StreamWriter
from rest_channels.sockets.request import Handshake
from rest_channels.sockets.response import CLIENT_CLOSED_REQUEST
from rest_channels.sockets.streams import Stream
from rest_channels.sockets.watch_exchange import InvalidWatch, WatchExchange
from rest_channels.workers.monitoring import Wait


@dataclass(slots=True, eq=False)
class Known:
    """A reply that is known before its turn, and the report of the frame that it answers."""

    reply: Reply
    report: FrameReport | None


#: An item of a queue: a frame for the viewset, an answer that is known, or the end of a
#: subscription.
Job = Exchange | Known | Frame

#: Actions that end subscriptions, unless the viewset has its own.
ENDINGS: Final = ("unsubscribe", "unsubscribe_instance")

#: The connection's own actions; a viewset's action of the same name takes precedence.
OWN_ACTIONS: Final = frozenset(
    {"ack", "authenticate", "cancel", "fence", "ping", "unwatch", "watch", *ENDINGS}
)

#: Actions answered at once, unless the viewset has its own.
AT_ONCE: Final = ("cancel", "ack", "ping")

#: Actions that an exchange answers in their turn, unless the viewset has its own.
EXCHANGED: Final[Mapping[str, Callable[[Stream, Frame, Handshake], Exchange]]] = {
    "authenticate": Authentication,
    "fence": Fencing,
}


class StreamQueue:
    """
    The frames of one stream: first in, first out, `stream.max_in_flight` of them at a time.

    Its length is the number of frames not answered yet. `on_crash` receives what an exchange
    raises, which is only what `DEBUG_PROPAGATE_EXCEPTIONS` asks to propagate. On the loop.
    """

    #: The groups of the channel layer that it has joined; only subclasses join any.
    groups: AbstractSet[str] = frozenset()

    #: Whether a close code may tell pages that it refused the socket.
    refuses_readably = True

    #: The subprotocol that it speaks, if it is another than the connection's.
    subprotocol: str | None = None

    def __init__(
        self,
        stream: Stream,
        handshake: Handshake,
        wire: StreamWriter,
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
        self._turns = Turns()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def has_long(self) -> bool:
        """Whether a long frame is in memory, because it has not been answered yet."""
        return any(exchange.keeps_long for exchange in self._exchanges())

    def answers_at_once(self, frame: Frame) -> bool:
        """Return whether `frame` is the connection's own and does not wait for its turn."""
        action = frame.action
        return action in AT_ONCE and self._is_own(action, frame)

    def operation(self, frame: Frame) -> str:
        """Return the declared name of the action that `frame` asks for, else `OTHER`."""
        name = self.stream.action_name(frame.action or "")
        is_known = name in self.stream.actions or name in OWN_ACTIONS or name == "metadata"
        return name if is_known else OTHER

    def take(self, frame: Frame, payload: Any) -> None:
        """
        Answer `frame` in its turn; the connection does if the viewset does not have its action.
        """
        action = frame.action
        if action not in OWN_ACTIONS or not self._is_own(action, frame):
            self._put(exchange_of(self.stream, frame, self.handshake, is_row=self.is_row))
        elif action in AT_ONCE:
            self._take_at_once(frame)
        elif action == "watch":
            self._take_watch(frame, self.stream, self.handshake)
        elif action in EXCHANGED:
            try:
                self._put(EXCHANGED[action](self.stream, frame, self.handshake))
            except FrameError as error:
                self.answer(Reply.refusal(error), frame.report)
        else:
            self._put(frame)

    def answer(self, reply: Reply, report: FrameReport | None = None) -> None:
        """Send a reply that is known already, in its turn."""
        self._put(Known(reply, report))

    async def finish(self, code: int) -> None:
        """
        Finish plain actions in their order, and stop async and generator actions.

        The socket is closed, but a frame that was sent counts.
        """
        for exchange in self._exchanges():
            exchange.stop()
        while self._running:
            await asyncio.wait(self._running)

    def abandon(self) -> None:
        """Drop waiting frames and interrupt running ones."""
        self._waiting.clear()
        for task in self._running:
            task.cancel()

    def waits(self) -> Iterable[Wait]:
        """Return the frames that are not answered yet."""
        for job in self._running.values():
            if self._is_answered(job):
                yield Wait(job, self._named(job), Stage.ANSWERING)
            elif isinstance(job, Exchange):
                level = logging.INFO if job.stage is Stage.ACTING else logging.WARNING
                thread = job.thread if job.stage is Stage.WORKING else None
                yield Wait(job, self._named(job), job.stage, thread, level)
            else:
                yield Wait(job, self._named(job), Stage.TURN)
        for job in self._waiting:
            yield Wait(job, self._named(job), "it is in the queue of its stream")

    def _is_answered(self, job: Job) -> bool:
        """Return whether `job` only has to be sent, or was sent to a client that reads nothing."""
        if isinstance(job, Exchange) and job.stage is not Stage.JOINING:
            return job.stage is Stage.ANSWERING
        return isinstance(job, Known) or not self.wire.outbox.has_room

    def _named(self, job: Job) -> str:
        action = _asked(job).action
        return f"A frame {action!r} of stream {self.stream.prefix!r}"

    def _is_own(self, action: str, frame: Frame) -> bool:
        return frame.action == action and action not in self.stream.actions

    def _take_at_once(self, frame: Frame) -> None:
        if frame.action == "cancel":
            self.wire.post(self._cancel(frame), frame.report)
            return
        if frame.action == "ping":
            self.wire.post(Reply.pong(frame, datetime.now(UTC)), frame.report)
            return
        try:
            self.memberships.acknowledge(frame, self.wire)
        except FrameError as error:
            self.wire.post(Reply.refusal(error), frame.report)

    def _take_watch(self, frame: Frame, stream: Stream, handshake: Handshake) -> None:
        try:
            followed = current_watch_hub().places()
            exchange = WatchExchange(
                stream, frame, handshake, is_row=self.is_row, followed=followed
            )
        except InvalidWatch as error:
            self.answer(error.reply, frame.report)
        else:
            self._put(exchange)

    def _cancel(self, frame: Frame) -> Reply:
        if not isinstance(frame.data, dict) or frame.data.get("request_id") is None:
            detail = "'data' must name the 'request_id' to cancel."
            return Reply.error(400, detail, "required", to=frame)
        request_id = frame.data["request_id"]
        named = [e for e in self._exchanges() if _is_same_id(e.frame.request_id, request_id)]
        for exchange in named:
            exchange.cancel()
        if named:
            return Reply(204, action=frame.action, request_id=frame.request_id)
        return Reply.error(404, "No request with that id is in flight.", "not_found", to=frame)

    def _exchanges(self) -> list[Exchange]:
        jobs = [*self._running.values(), *self._waiting]
        return [job for job in jobs if isinstance(job, Exchange)]

    def _put(self, job: Job) -> None:
        self._waiting.append(job)
        self._advance()

    def _advance(self) -> None:
        while self._waiting and len(self._running) < self.stream.max_in_flight:
            job = self._waiting.popleft()
            report = _report_of(job)
            serving = self._serve(job) if report is None else self._serve_reported(job, report)
            task = asyncio.ensure_future(serving)
            self._running[task] = job
            task.add_done_callback(self._on_done)

    async def _serve(self, job: Job) -> None:
        """Send all replies of `job`, as the client reads them."""
        if isinstance(job, Known):
            await self.wire.put(job.reply, job.report)
            return
        # Tasks begin in the order of their frames.
        with self._turns.take(self._subscription_named_by(job)) as turn:
            if isinstance(job, Frame):
                await turn.come()
                ended = self._ended(job)
                if job.fence:
                    # It commits nothing.
                    ended.extra = {"fenced": "true"}
                await self.wire.put(ended, job.report)
            elif (reply := await job.reply()) is not None:
                await self._answer(job, reply, turn)
            else:
                # It may run without end: no frame waits for it.
                turn.leave()
                async for reply in job.replies():
                    await self._answer(job, reply, turn)
        if isinstance(job, Exchange) and job.signs_out:
            self.handshake.credentials.end()

    async def _serve_reported(self, job: Job, report: FrameReport) -> None:
        """Do the same, and tell observers that the frame begins, and that it has ended."""
        if observers.frame_begun:
            tell(observers.frame_begun, report)
        status = CLIENT_CLOSED_REQUEST
        try:
            await self._serve(job)
        except Exception:
            status = 500
            raise
        finally:
            # Unless it was answered.
            end_frame(report, status)

    def _ended(self, frame: Frame) -> Reply:
        """End the subscriptions or the watch that `frame` names."""
        if frame.action == "unwatch":
            return self.memberships.remove_watch(frame, self.wire)
        return self.memberships.remove(frame, self.wire, self.stream.row_named(frame))

    def _subscription_named_by(self, job: Exchange | Frame) -> Hashable:
        """Return the subscription that `job` may begin or end; None if it may be any."""
        if isinstance(job, Frame):
            if job.action != "unwatch" and self.stream.row_named(job) is not None:
                return None
            return type(job.request_id), job.request_id
        return type(job.frame.request_id), job.frame.request_id

    async def _answer(self, exchange: Exchange, reply: Reply, turn: Turn) -> None:
        if self.handshake.credentials.has_ended:
            # The socket closes with 4401 as soon as the loop takes its turn.
            return
        if exchange.frame.hints and reply.status != 206:
            reply.extra = {**reply.extra, "hints": json.dumps(exchange.frame.hints)}
        if exchange.fence is not None and reply.status != 206:
            exchange.stage = Stage.FENCING
            began = perf_counter()
            is_fenced = await exchange.fence.wait(self.memberships)
            if exchange.frame.report is not None:
                exchange.frame.report.fence_seconds = perf_counter() - began
            reply.extra = {**reply.extra, "fenced": json.dumps(is_fenced)}
        if isinstance(exchange, WatchExchange) and exchange.watches is not None:
            await self._watch(exchange, turn, reply.extra)
        elif exchange.subscribes is None:
            exchange.stage = Stage.ANSWERING
            await self.wire.put(reply, exchange.frame.report)
            exchange.stage = Stage.ACTING
        elif (excess := self._excess(exchange)) is not None:
            excess.extra = reply.extra
            await self.wire.put(excess, exchange.frame.report)
        elif exchange.subscribes[1].credit is not None and "ack" in self.stream.actions:
            detail = "No 'credit' here: this stream has its own action 'ack'."
            refusal = Reply.error(400, detail, "invalid", to=exchange.frame)
            refusal.extra = reply.extra
            await self.wire.put(refusal, exchange.frame.report)
        else:
            exchange.stage = Stage.TURN
            await turn.come()
            exchange.stage = Stage.JOINING
            await self._subscribe(exchange, reply.extra)

    def _excess(self, exchange: Exchange) -> Reply | None:
        """Return the refusal of an action of the viewset's own that subscribes too often."""
        if exchange.frame.action in BEGINNINGS:
            return None  # It was counted as it arrived.
        return excess_subscription(self.handshake.credentials, exchange.frame)

    async def _watch(self, exchange: WatchExchange, turn: Turn, extra: Mapping[str, str]) -> None:
        """Begin the watch that `exchange` asks for; `extra` is for its reply."""
        exchange.stage = Stage.TURN
        await turn.come()
        exchange.stage = Stage.JOINING
        assert exchange.answer is not None and exchange.watches is not None
        watching = Watching(exchange.watches, exchange.answer, exchange.frame, self.wire)
        watching.extra = extra
        exchange.settled = watching.settled
        await self.memberships.add(watching)

    async def _subscribe(self, exchange: Exchange, extra: Mapping[str, str]) -> None:
        """Begin the subscription that `exchange` asks for; `extra` is for its reply."""
        assert exchange.subscribes is not None
        # The live half answers it, because it knows the position from which events follow.
        subscription = new_subscription(*exchange.subscribes, exchange.frame, self.wire)
        subscription.extra = extra
        exchange.settled = subscription.settled
        await self.memberships.add(subscription)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._on_crash(exc)
        self._advance()


def _asked(job: Job) -> Frame | Reply:
    """Return what names the action of `job`."""
    match job:
        case Exchange():
            return job.frame
        case Known():
            return job.reply
    return job


def _report_of(job: Job) -> FrameReport | None:
    return job.frame.report if isinstance(job, Exchange) else job.report


def _is_same_id(one: Any, other: Any) -> bool:
    # 1 is not "1" or true.
    return type(one) is type(other) and one == other


class Turns:
    """The frames of one queue that may change its subscriptions. On the loop."""

    def __init__(self) -> None:
        self._open: list[Turn] = []

    def take(self, name: Hashable) -> Turn:
        """Take a turn for a frame about the subscription `name`; None for all of them."""
        before = [turn for turn in self._open if turn.is_before(name)] if self._open else []
        turn = Turn(self._open, name, before)
        self._open.append(turn)
        return turn


class Turn:
    """One frame's turn, which ends with the block or with `leave`."""

    def __init__(self, turns: list[Turn], name: Hashable, before: list[Turn]) -> None:
        self.name = name
        self._turns = turns
        self._before = before
        self._is_over = False
        # Made for the first turn that waits for this one; few do.
        self._over: asyncio.Event | None = None

    def is_before(self, name: Hashable) -> bool:
        """Return whether a later turn of `name` waits for this one."""
        return None in (name, self.name) or self.name == name

    async def come(self) -> None:
        """Wait until all turns taken before are over."""
        for turn in self._before:
            await turn._end()
        self._before = []

    def leave(self) -> None:
        """Let the turns that wait continue."""
        if not self._is_over:
            self._is_over = True
            self._turns.remove(self)
            if self._over is not None:
                self._over.set()

    async def _end(self) -> None:
        if self._is_over:
            return
        if self._over is None:
            self._over = asyncio.Event()
        await self._over.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
