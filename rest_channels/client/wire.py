"""
Frames and their replies on a connection that may be lost.

At most as many frames are in flight as the server takes, and no more a second; others queue. A call
that may be repeated is sent again after a loss, within a bound of time and number.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from rest_channels.client.errors import ConnectionLost
from rest_channels.client.incoming import Incoming, encode
from rest_channels.client.limits import Limits
from rest_channels.client.ports import Clock, Timer
from rest_channels.protocol import MISSING

# Longer frames go one at a time (docs/protocol.md, "Long lists"): a few bytes below the bound.
_LONG_BYTES: Final = 60_000


def _ignore(_: Any) -> None:
    pass


@dataclass(eq=False)
class Call:
    """
    A frame that will have a reply.

    `repeat` says whether it may be sent again if its reply was lost, and `per_connection` that it
    is of no use on another connection. Raises what `encode` raises.
    """

    stream: str | None
    payload: Mapping[str, Any]
    on_reply: Callable[[Incoming], None] = _ignore
    on_lost: Callable[[ConnectionLost], None] = _ignore
    repeat: bool = False
    is_write: bool = False
    per_connection: bool = False
    times: int = 0
    deadline: float | None = None
    timer: Timer | None = None
    text: str = field(init=False)
    is_long: bool = field(init=False)

    def __post_init__(self) -> None:
        self.text = encode(self.stream, self.payload)
        self.is_long = len(self.text) * 4 > _LONG_BYTES and len(self.text.encode()) > _LONG_BYTES

    @property
    def request_id(self) -> Any:
        return self.payload["request_id"]

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(frozen=True)
class PendingWrite:
    """A write without an answer, which is lost if the program ends now."""

    stream: str | None
    action: str
    pk: Any
    data: Any
    was_sent: bool


class Wire:
    """
    The calls of one client.

    `send` sends a text over the open connection; `changed` is called when `pending` may differ;
    `hung` when a call has had no answer for too long.
    """

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        random: Random,
        *,
        send: Callable[[str], None],
        changed: Callable[[], None],
        hung: Callable[[], None],
    ) -> None:
        self.is_open = False
        self._clock = clock
        self._limits = limits
        self._random = random
        self._send = send
        self._changed = changed
        self._hung = hung
        self._ids = itertools.count(1)
        self._queue: deque[Call] = deque()
        self._sent: dict[Any, Call] = {}
        # Signed out or closed: nothing will be sent before the application does something.
        self._is_ended = False
        self._timer: Timer | None = None
        self._paused_until = 0.0
        # When the frames sent until now would have been sent at `rate`.
        self._spent_until = 0.0

    @property
    def pending(self) -> list[PendingWrite]:
        """Writes that have no answer yet, in order."""
        calls = [*self._sent.values(), *self._queue]
        return [
            PendingWrite(
                call.stream,
                call.payload["action"],
                _known(call.payload.get("pk")),
                _known(call.payload.get("data")),
                call.times > 0,
            )
            for call in calls
            if call.is_write
        ]

    def next_id(self) -> int:
        return next(self._ids)

    def post(self, stream: str, payload: Mapping[str, Any]) -> None:
        """Send a frame whose reply is of no interest; nothing while there is no connection."""
        if self.is_open:
            self._send(encode(stream, payload))

    def push(self, call: Call) -> None:
        """Send a call when its turn comes, or report it lost."""
        if self._is_ended or len(self._queue) >= self._limits.pending:
            call.on_lost(ConnectionLost(was_sent=False))
            return
        self._queue.append(call)
        if not self.is_open:
            self._expire(call)
        self._changed()
        self._pump()

    def withdraw(self, call: Call) -> bool:
        """Forget a call that was not sent; return whether it was there."""
        if call not in self._queue:
            return False
        call.stop_timer()
        self._queue.remove(call)
        return True

    def cancel(self, call: Call) -> None:
        """Forget a call, and stop it on the server if it is there."""
        self.withdraw(call)
        if call.stream is not None and self._sent.get(call.request_id) is call:
            # Its reply still frees its place.
            data = {"request_id": call.request_id}
            self.post(call.stream, {"action": "cancel", "data": data})
        call.on_reply = call.on_lost = _ignore
        call.repeat = call.is_write = False
        self._changed()

    def opened(self, resume: Callable[[], None]) -> None:
        """Begin to send; `resume` pushes what has to be sent before anything that waits."""
        self.is_open = True
        self._is_ended = False
        waiting, self._queue = self._queue, deque()
        resume()
        self._queue.extend(waiting)
        self._pump()

    def lost(self, *, is_final: bool) -> None:
        """Keep the calls that may wait; `is_final` says that nothing is sent again by itself."""
        self.is_open = False
        self._is_ended = is_final
        self._stop_pump()
        sent, waiting = [*self._sent.values()], [*self._queue]
        self._sent.clear()
        kept = [call for call in sent if self._may_repeat(call)] + waiting
        kept = [call for call in kept if not is_final and not call.per_connection]
        self._queue = deque(kept)
        for call in kept:
            self._expire(call)
        for call in (*sent, *waiting):
            if call not in kept:
                self._fail(call)
        self._changed()

    def receive(self, reply: Incoming) -> bool:
        """Hand a reply to its call; return whether there is one."""
        call = self._sent.get(reply.request_id) if _is_id(reply.request_id) else None
        if call is None or reply.action not in (call.payload["action"], None):
            return False
        if reply.status == 206:
            self._await_answer(call)
            call.on_reply(reply)
            return True
        call.stop_timer()
        del self._sent[call.request_id]
        if reply.status >= 500 and self._may_repeat(call, reply):
            pause = reply.retry_after or 1 + self._random.random()
            self._paused_until = self._clock.time() + pause
            self._queue.appendleft(call)
        else:
            call.on_reply(reply)
        self._changed()
        self._pump()
        return True

    def _may_repeat(self, call: Call, reply: Incoming | None = None) -> bool:
        """Return whether to send a call again after a loss, or after a reply of 500 or more."""
        is_crowded = reply is not None and reply.codes[:1] == ["too_many_in_flight"]
        is_safe = call.repeat or (is_crowded and not call.per_connection)
        most = self._limits.retry_times
        if reply is not None and reply.status != 503:
            # A keyed write that was answered 500 may have been stored: one repetition finds out.
            most = 2 if call.is_write else 0
        return is_safe and call.times < most

    def _fail(self, call: Call) -> None:
        call.stop_timer()
        call.on_lost(ConnectionLost(was_sent=call.times > 0))

    def _expire(self, call: Call) -> None:
        """Give up a call that waits for a connection longer than the bound."""
        now = self._clock.time()
        if call.deadline is None:
            call.deadline = now + self._limits.retry_seconds

        def give_up() -> None:
            self.withdraw(call)
            self._fail(call)
            self._changed()

        self._wait(call, call.deadline - now, give_up)

    def _await_answer(self, call: Call) -> None:
        # The server answers every frame: a connection without an answer is broken.
        self._wait(call, self._limits.answer_seconds, self._hung)

    def _wait(self, call: Call, delay: float, then: Callable[[], None]) -> None:
        call.stop_timer()
        call.timer = self._clock.call_later(max(0.0, delay), then)

    def _stop_pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pump(self) -> None:
        """Send what may be sent now."""
        self._stop_pump()
        while self.is_open and self._queue and len(self._sent) < self._limits.in_flight:
            now = self._clock.time()
            delay = self._delay(now)
            if delay > 0:
                self._timer = self._clock.call_later(delay, self._pump)
                return
            call = self._queue[0]
            if call.is_long and any(other.is_long for other in self._sent.values()):
                return
            self._send_call(self._queue.popleft(), now)

    def _delay(self, now: float) -> float:
        """Return the seconds until another frame may be sent."""
        ahead = (self._limits.burst - 1) / self._limits.rate
        return max(self._paused_until, self._spent_until - ahead) - now

    def _send_call(self, call: Call, now: float) -> None:
        call.times += 1
        self._await_answer(call)
        self._spent_until = max(self._spent_until, now) + 1 / self._limits.rate
        self._sent[call.request_id] = call
        self._send(call.text)


def _is_id(request_id: Any) -> bool:
    return isinstance(request_id, (int, str))


def _known(value: Any) -> Any:
    return None if value is MISSING else value
