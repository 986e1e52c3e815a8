"""
djangochannelsrestframework's consumers as streams, unchanged.

    router.register("legacy", OldConsumer)

Each socket that the stream is on gets a consumer instance of its own, a `Guest`: an ASGI
application within the connection, which opens with it and whose end is its own alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from channels.auth import AuthMiddlewareStack
from djangochannelsrestframework.consumers import AsyncAPIConsumer

from rest_channels.outbox import Wire
from rest_channels.protocol import Frame, Reply
from rest_channels.request import Scope

logger = logging.getLogger("rest_channels")

# A handshake waits no longer for a consumer: uvicorn and daphne give a whole one about as much.
_SECONDS_TO_OPEN: Final = 5

# Channels gives a consumer as long to end after its socket has.
_SECONDS_TO_END: Final = 10


class HostedStream:
    """One registered consumer class; the counterpart of `rest_channels.streams.Stream`."""

    def __init__(self, consumer: type[AsyncAPIConsumer], prefix: str) -> None:
        self.consumer = consumer
        self.prefix = prefix
        self.application = _with_user(consumer.as_asgi())

    def __repr__(self) -> str:
        return f"<HostedStream {self}>"

    def __str__(self) -> str:
        return f"{self.prefix}  ({self.consumer.__name__})"


class Guest:
    """
    A consumer on one socket; the counterpart of `rest_channels.lanes.Lane`. On the loop.

    Its length is the number of frames that wait to be read by it. `on_close` is told the code
    that it closes with once it had accepted, 1011 where it failed.
    """

    def __init__(
        self, stream: HostedStream, scope: Scope, wire: Wire, on_close: Callable[[int], None]
    ) -> None:
        self.stream = stream
        self.wire = wire
        self.is_open = False
        self._on_close = on_close
        self._to_consumer: asyncio.Queue[tuple[Mapping[str, Any], Frame | None]] = asyncio.Queue()
        self._read: Frame | None = None
        self._judged: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._to_consumer.put_nowait(({"type": "websocket.connect"}, None))
        self._task = asyncio.ensure_future(self._run(dict(scope)))

    def __len__(self) -> int:
        return self._to_consumer.qsize()

    async def opens(self) -> bool:
        """Whether the consumer accepts; waits until it has said so, has failed, or is too slow."""
        await asyncio.wait([self._judged], timeout=_SECONDS_TO_OPEN)
        self._judge(False)
        return self._judged.result()

    def answers_at_once(self, frame: Frame) -> bool:
        """The consumer reads its frames in their order."""
        return False

    def take(self, frame: Frame, payload: Any) -> None:
        """Hand the consumer a payload, as it came."""
        if self.is_open:
            message = {"type": "websocket.receive", "text": json.dumps(payload)}
            self._to_consumer.put_nowait((message, frame))
        else:
            self._refuse(frame)

    def answer(self, reply: Reply) -> None:
        """Send a reply that is not the consumer's."""
        self.wire.post(reply)

    async def finish(self, code: int) -> None:
        """Tell the consumer that the socket is closed, and see it off."""
        self.is_open = False
        self._to_consumer.put_nowait(({"type": "websocket.disconnect", "code": code}, None))
        await asyncio.wait([self._task], timeout=_SECONDS_TO_END)

    def abandon(self) -> None:
        """Stop without a word; after `finish`, or where the connection itself was stopped."""
        self._task.cancel()

    async def _run(self, scope: dict[str, Any]) -> None:
        code = 1000
        try:
            await self.stream.application(scope, self._receive, self._on_message)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            code = 1011
            self._on_failure(exc)
        finally:
            self._judge(False)
        self._closed(code)

    async def _receive(self) -> Mapping[str, Any]:
        message, self._read = await self._to_consumer.get()
        return message

    def _on_failure(self, exc: Exception) -> None:
        """The consumer raised: the frame it was at is answered, as a viewset's would be."""
        error_id = uuid.uuid4().hex
        extra = {"error_id": error_id}
        logger.error("%r failed (error %s)", self.stream, error_id, exc_info=exc, extra=extra)
        if self.is_open and self._read is not None:
            detail = f"Server error (error {error_id})."
            self.wire.post(Reply.error(500, detail, "error", to=self._read))

    def _refuse(self, frame: Frame) -> None:
        self.wire.post(Reply.error(403, "This stream is closed.", "stream_closed", to=frame))

    async def _on_message(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            self.is_open = True
            self._judge(True)
        elif message["type"] == "websocket.close":
            self._judge(False)
            self._closed(message.get("code") or 1000)
        elif message["type"] == "websocket.send" and self.is_open:
            if message.get("text") is None:
                raise ValueError(f"{self.stream!r} sent a binary message: frames are text.")
            await self.wire.put_payload(message["text"])

    def _judge(self, opens: bool) -> None:
        if not self._judged.done():
            self._judged.set_result(opens)

    def _closed(self, code: int) -> None:
        if self.is_open:
            self.is_open = False
            while not self._to_consumer.empty():
                _, frame = self._to_consumer.get_nowait()
                if frame is not None:
                    self._refuse(frame)
            self._on_close(code)


def _with_user(application: Any) -> Any:
    """`application` with the scope's user and session, where no middleware gave it any."""
    with_user = AuthMiddlewareStack(application)

    async def hosted(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await (application if "user" in scope else with_user)(scope, receive, send)

    return hosted
