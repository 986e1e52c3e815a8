"""
The client for `async def` tests.

The application runs as a task on the test's own loop. Its sync work runs where asgiref runs the
test's, so a Django `TestCase` sees all of it in its transaction.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any

from asgiref.sync import sync_to_async
from channels.routing import get_default_application

from rest_channels.test.base_client import (
    BaseSocketClient,
    Inbox,
    SocketClosed,
    SocketReply,
    decoded,
    kept_connections,
)
from rest_channels.workers.threads import thread_sensitive


class AsyncSocketClient(BaseSocketClient[Awaitable[SocketReply]]):
    """
    A `SocketClient` for `async def` tests: the same methods, awaited.

        async with AsyncSocketClient() as socket:
            reply = await socket.create("messages", {"text": "Hello"})

    Call `force_authenticate` and `credentials` without `await`: they wait for nothing.
    """

    _task: _Task | None = None

    async def login(self, **credentials: Any) -> bool:
        """Sign in by a session; before the socket opens, because the handshake sends the cookie."""
        is_signed_in: bool = await sync_to_async(self._http.login)(**credentials)
        return is_signed_in

    async def force_login(self, user: Any) -> None:
        """Sign `user` in without a password."""
        await sync_to_async(self._http.force_login)(user)

    async def logout(self) -> None:
        """Forget the user, and end the session if there is one."""
        self._forget_credentials()
        await sync_to_async(self._http.logout)()

    # The socket

    async def connect(self) -> None:
        """
        Open the socket.

        Raises `SocketClosed` if the handshake is refused, the application's exception, or
        `TimeoutError` if it does not answer. In each case the application has ended.
        """
        if self._task is not None:
            raise RuntimeError("The socket is already open.")
        self._task = _Task(self.application or get_default_application(), self._scope())
        try:
            await self._task.begin()
            self._task.give({"type": "websocket.connect"})
            answer = await self._task.take(self.timeout)
            if answer["type"] != "websocket.accept":
                raise SocketClosed(None)
        except BaseException:
            await self.close()
            raise
        self.subprotocol = answer.get("subprotocol")

    async def close(self, code: int = 1000) -> None:
        """
        Close the socket and wait until the application has ended.

        Raises the application's exception, unless another method has already raised it.
        """
        task, self._task = self._task, None
        self._inbox = Inbox()
        if task is not None:
            task.give({"type": "websocket.disconnect", "code": code})
            await task.end(self.timeout)

    async def __aenter__(self) -> AsyncSocketClient:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.close()

    # Requests

    async def request(
        self, action: str, stream: str | None = None, *, timeout: float | None = None, **keys: Any
    ) -> SocketReply:
        request_id = await self.send(action, stream, **keys)
        return await self.reply(request_id, timeout=timeout)

    request.__doc__ = BaseSocketClient.request.__doc__

    async def send(self, action: str, stream: str | None = None, **keys: Any) -> str | int | None:
        """Send a request without waiting; return its id, a new one unless given."""
        request_id, text = self._text(action, stream, keys)
        await self.send_text(text)
        return request_id

    async def send_text(self, text: str) -> None:
        """Send a message unchanged, valid or not."""
        (await self._open()).give({"type": "websocket.receive", "text": text})

    async def send_bytes(self, content: bytes) -> None:
        """Send a binary message."""
        (await self._open()).give({"type": "websocket.receive", "bytes": content})

    async def reply(
        self, request_id: str | int | None, *, timeout: float | None = None
    ) -> SocketReply:
        """Return the last reply to the request with that id, with its parts."""
        parts: list[Any] = []
        async with self._within(timeout):
            while True:
                payload = await self._until(lambda: self._inbox.take_reply(request_id))
                if payload["response_status"] != 206:
                    return SocketReply.from_payload(payload, parts)
                parts.append(payload["data"])

    async def part(self, request_id: str | int | None, *, timeout: float | None = None) -> Any:
        """Return the data of the next reply with status 206 to the request with that id."""
        async with self._within(timeout):
            return (await self._until(lambda: self._inbox.take_reply(request_id)))["data"]

    async def event(self, *, timeout: float | None = None) -> SocketReply:
        """Return the next message that does not answer a request."""
        async with self._within(timeout):
            return SocketReply.from_payload(await self._until(lambda: self._inbox.take_event()))

    async def receive(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message, decoded. Raises `SocketClosed` at the end."""
        seconds = self.timeout if timeout is None else timeout
        return decoded(await (await self._open()).take(seconds))

    async def _open(self) -> _Task:
        if self._task is None:
            await self.connect()
        assert self._task is not None
        return self._task

    def _within(self, timeout: float | None) -> asyncio.Timeout:
        return asyncio.timeout(self.timeout if timeout is None else timeout)

    async def _until(self, find: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        while (payload := find()) is None:
            self._inbox.add(decoded(await (await self._open()).take(None)))
        return payload


class _Task:
    """An application as a task of the running loop."""

    def __init__(self, application: Callable[..., Any], scope: dict[str, Any]) -> None:
        self._application = application
        self._scope = scope
        self._to_application: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._messages: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._serving: asyncio.Task[None] | None = None
        self._raised: BaseException | None = None
        self._coming: asyncio.Task[Mapping[str, Any]] | None = None
        self._kept = ExitStack()

    async def begin(self) -> None:
        # Entered and left where the test's connections are: in asgiref's thread of this context.
        await sync_to_async(self._kept.enter_context)(kept_connections())
        context = contextvars.copy_context()
        context.run(thread_sensitive.set, True)
        self._serving = asyncio.get_running_loop().create_task(self._serve(), context=context)

    async def _serve(self) -> None:
        await self._application(self._scope, self._to_application.get, self._messages.put)

    def give(self, message: Mapping[str, Any]) -> None:
        self._to_application.put_nowait(message)

    async def take(self, timeout: float | None) -> Mapping[str, Any]:
        """
        Return the application's next message; raise its exception, or `SocketClosed` at its end.
        """
        # Kept if the caller is cancelled: the next call returns the message.
        assert self._serving is not None
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._messages.get())
        waiting = [self._coming, self._serving]
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._coming.done():
            coming, self._coming = self._coming, None
            return coming.result()
        if self._serving.done():
            self._raised = self._serving.exception()
            self._serving.result()
            raise SocketClosed(None)
        raise TimeoutError("The application sent nothing in time.")

    async def end(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._ended()
        finally:
            if self._coming is not None:
                self._coming.cancel()
                await asyncio.wait([self._coming])
            await sync_to_async(self._kept.close)()

    async def _ended(self) -> None:
        if self._serving is None:
            return
        try:
            await self._serving
        except BaseException as exc:
            if exc is not self._raised:
                raise
