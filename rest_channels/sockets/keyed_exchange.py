"""
The exchange of a frame with an idempotency key.

It differs from that of other frames in two ways: the transaction includes the rendering, because
the text is stored in it; and while another frame has the key, the exchange waits on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.core.handlers.base import BaseHandler
from django.http import HttpResponseBase
from rest_framework.permissions import SAFE_METHODS
from rest_framework.views import set_rollback

from rest_channels.live.log.maintenance import housekeeper
from rest_channels.protocol import IDEMPOTENCY_KEY, Frame, Reply
from rest_channels.sockets.dispatch import Exchange, Stage
from rest_channels.sockets.idempotency import Attempt, KeyedRequest
from rest_channels.sockets.ratelimit import retry_headers
from rest_channels.sockets.request import Call, Handshake, MessageRequest
from rest_channels.sockets.response import reply_to
from rest_channels.sockets.running_keys import running_keys
from rest_channels.sockets.streams import Stream

# How long a frame waits for an earlier one with its key, in all (seconds). Later frames of the
# stream wait behind it.
_PATIENCE_SECONDS: Final = 10.0

# How long it waits before it looks again whether another process still has the key (seconds).
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5


def exchange_of(
    stream: Stream, frame: Frame, handshake: Handshake, *, is_row: bool = False
) -> Exchange:
    """Return the exchange of a frame to a viewset; see `Exchange` for the arguments."""
    kind = KeyedExchange if IDEMPOTENCY_KEY in frame.rest else Exchange
    return kind(stream, frame, handshake, is_row=is_row)


class KeyedExchange(Exchange):
    """
    The life of one frame with an idempotency key.

    Each attempt is a visit to a worker thread as of any frame, with authentication and permissions.
    """

    attempt: Attempt | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_blocked = False
        self._woken: asyncio.Event | None = None

    async def reply(self) -> Reply | None:
        """Return the only reply; wait while another frame has the key, up to ten seconds."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + _PATIENCE_SECONDS, _FIRST_PAUSE
        reply = await super().reply()
        while self._is_blocked and (left := deadline - loop.time()) > 0:
            await self._wait(left, min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._is_blocked = False
            reply = await super().reply()
        return reply

    def cancel(self) -> None:
        """Stop, or do not begin, and do not wait any longer."""
        super().cancel()
        if self._woken is not None:
            self._woken.set()

    async def _wait(self, left: float, pause: float) -> None:
        """Wait until the key is free, at most `left` seconds; `pause` if another process has it."""
        assert self.attempt is not None
        self.stage = Stage.KEY
        self._woken = woken = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        is_here = running_keys.when_ended(self.attempt.place, wake)
        if not self._is_cancelled:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), left if is_here else pause)
        self._woken = None
        self.stage = Stage.QUEUED

    def _request(self, frame: Frame, call: Call) -> MessageRequest:
        is_again, self.attempt = self.attempt is not None, None
        if call.refusal is not None or call.method.upper() in SAFE_METHODS:
            return super()._request(frame, call)
        if IDEMPOTENCY_KEY in call.kwargs:
            # A lookup of the viewset's own.
            return super()._request(frame, call)
        self.attempt = Attempt(self.frame, self._stream_name())
        return KeyedRequest(self.handshake, frame, call, self.attempt, is_again=is_again)

    def _stream_name(self) -> tuple[str, ...]:
        """Return texts that name the stream, in every process and on each of its sockets."""
        viewset = self.stream.viewset
        place = self.handshake.mount, self.stream.prefix
        return *place, viewset.__module__, viewset.__qualname__

    def _dispatched(self) -> Reply | None:
        attempt = self.attempt
        if attempt is None:
            return super()._dispatched()
        try:
            response, reply = self._atomic(attempt)()
        finally:
            attempt.end()
        self._is_blocked = attempt.is_busy and reply.status < 400
        if self._is_blocked:
            return self._in_progress()
        if attempt.has_stored:
            housekeeper.tidy_in_time(attempt.alias)
        return self._noted(response, reply)

    def _in_progress(self) -> Reply:
        detail = (
            "An earlier frame with this 'idempotency_key' is still running, or the database is "
            "busy: repeat it later."
        )
        code = "idempotency_in_progress"
        return Reply.error(503, detail, code, to=self.frame, headers=retry_headers())

    def _atomic(self, attempt: Attempt) -> Callable[[], tuple[HttpResponseBase, Reply]]:
        """
        Return a function that dispatches, renders and stores, atomic as `ATOMIC_REQUESTS` asks.

        Its transaction must begin before the one of the attempt and end after it. So it is made
        around all of this, not around the view alone.
        """
        call = self.request.call
        endpoint = self.stream.actions[self.stream.action_name(self.frame.action or "")]
        callback = endpoint.pattern.callback

        @wraps(callback)
        def answered() -> tuple[HttpResponseBase, Reply]:
            with attempt.open():
                response = callback(self.request, **call.kwargs)
                # A renderer of the project's may expect data.
                is_empty = response is attempt.empty and response.status_code < 400
                reply = attempt.settle(
                    Reply(response.status_code) if is_empty else reply_to(self.frame, response)
                )
            if reply.status >= 400:
                set_rollback()
            return response, reply

        atomic: Callable[[], tuple[HttpResponseBase, Reply]]
        atomic = BaseHandler().make_view_atomic(answered)
        return atomic
