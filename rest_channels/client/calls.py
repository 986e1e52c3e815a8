"""Requests as awaitables."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, TypeVar

from rest_channels.client.core import ClientCore, OnLost, OnReply
from rest_channels.client.errors import ApiError
from rest_channels.client.incoming import Incoming
from rest_channels.client.wire import Call
from rest_channels.client.writing import Writing

T = TypeVar("T")

#: Pushes a request; the returned object knows its call.
Push = Callable[[OnReply, OnLost], Call | Writing]


class Pushed:
    """A request on its way: a future of its reply, and the items of a generator action."""

    def __init__(self, core: ClientCore, stream: str, push: Push) -> None:
        self._core = core
        self._stream = stream
        self._reply: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self._items: deque[Any] = deque()
        self._changed = asyncio.Event()
        self._pushed = push(self._on_reply, self._fail)

    async def data(self) -> Any:
        """Return the reply's data; if this is cancelled, so is the request on the server."""
        try:
            return (await self._reply).data
        finally:
            self._leave()

    async def items(self) -> AsyncIterator[Any]:
        """Yield the items of a generator action; leaving the loop cancels it on the server."""
        try:
            while self._items or not self._reply.done():
                while self._items:
                    yield self._items.popleft()
                self._changed.clear()
                if not self._reply.done():
                    await self._changed.wait()
            self._reply.result()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._reply.done() and not self._reply.cancelled():
            return
        call = self._pushed.call if isinstance(self._pushed, Writing) else self._pushed
        self._core.wire.cancel(call)

    def _on_reply(self, reply: Incoming) -> None:
        if reply.status == 206:
            # Some of it has been read already.
            if isinstance(self._pushed, Call):
                self._pushed.repeat = False
            self._items.append(reply.data)
        elif reply.status >= 400:
            self._fail(ApiError(self._stream, reply))
        elif not self._reply.done():
            self._reply.set_result(reply)
        self._changed.set()

    def _fail(self, error: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)
        self._changed.set()


class Answer(Coroutine[Any, Any, T]):
    """
    The answer of an action: await it, or iterate over the items of a generator action.

        stats = await api.messages.stats()
        async for row in api.messages.export(): ...

    Nothing is sent before. It is a coroutine, so `asyncio.create_task` takes it.
    """

    def __init__(self, push: Callable[[], Pushed]) -> None:
        self._push = push
        self._running: Coroutine[Any, Any, T] | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._push().items()

    def send(self, value: Any, /) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()

    @property
    def _coroutine(self) -> Coroutine[Any, Any, T]:
        if self._running is None:
            self._running = self._push().data()
        return self._running
