"""
The client for sync tests.

The application runs on an event loop in a thread of its own. Its sync work runs in the test's
thread, while the test waits for a reply, so that all of it happens within the test's transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, Final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from channels.routing import get_default_application
from django.test import TestCase

from rest_channels.test.base_client import (
    BaseSocketClient,
    Inbox,
    SocketClosed,
    SocketReply,
    decoded,
    kept_connections,
)
from rest_channels.workers.threads import thread_sensitive


class SocketClient(BaseSocketClient[SocketReply]):
    __doc__ = BaseSocketClient.__doc__

    _run: _Run | None = None

    def login(self, **credentials: Any) -> bool:
        """Sign in by a session; before the socket opens, because the handshake sends the cookie."""
        is_signed_in: bool = self._http.login(**credentials)
        return is_signed_in

    def force_login(self, user: Any) -> None:
        """Sign `user` in without a password."""
        self._http.force_login(user)

    def logout(self) -> None:
        """Forget the user, and end the session if there is one."""
        self._forget_credentials()
        self._http.logout()

    # The socket

    def connect(self) -> None:
        """
        Open the socket.

        Raises `SocketClosed` if the handshake is refused, the application's exception, or
        `TimeoutError` if it does not answer. In each case the application has ended.
        """
        if self._run is not None:
            raise RuntimeError("The socket is already open.")
        self._run = _Run(self.application or get_default_application(), self._scope())
        try:
            self._run.give({"type": "websocket.connect"})
            answer = self._run.take(self.timeout)
            if answer["type"] != "websocket.accept":
                raise SocketClosed(None)
        except BaseException:
            self.close()
            raise
        self.subprotocol = answer.get("subprotocol")

    def close(self, code: int = 1000) -> None:
        """
        Close the socket and wait until the application has ended.

        Raises the application's exception, unless another method has already raised it.
        """
        run, self._run = self._run, None
        self._inbox = Inbox()
        if run is not None:
            run.give({"type": "websocket.disconnect", "code": code})
            run.end(self.timeout)

    def __enter__(self) -> SocketClient:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    # Requests

    def request(
        self, action: str, stream: str | None = None, *, timeout: float | None = None, **keys: Any
    ) -> SocketReply:
        request_id = self.send(action, stream, **keys)
        return self.reply(request_id, timeout=timeout)

    request.__doc__ = BaseSocketClient.request.__doc__

    def send(self, action: str, stream: str | None = None, **keys: Any) -> str | int | None:
        """Send a request without waiting; return its id, a new one unless given."""
        request_id, text = self._text(action, stream, keys)
        self.send_text(text)
        return request_id

    def send_text(self, text: str) -> None:
        """Send a message unchanged, valid or not."""
        self._open().give({"type": "websocket.receive", "text": text})

    def send_bytes(self, content: bytes) -> None:
        """Send a binary message."""
        self._open().give({"type": "websocket.receive", "bytes": content})

    def reply(self, request_id: str | int | None, *, timeout: float | None = None) -> SocketReply:
        """Return the last reply to the request with that id, with its parts."""
        deadline = self._deadline(timeout)
        parts: list[Any] = []
        while True:
            payload = self._until(lambda: self._inbox.take_reply(request_id), deadline)
            if payload["response_status"] != 206:
                return SocketReply.from_payload(payload, parts)
            parts.append(payload["data"])

    def part(self, request_id: str | int | None, *, timeout: float | None = None) -> Any:
        """Return the data of the next reply with status 206 to the request with that id."""
        take = self._inbox.take_reply
        return self._until(lambda: take(request_id), self._deadline(timeout))["data"]

    def event(self, *, timeout: float | None = None) -> SocketReply:
        """Return the next message that does not answer a request."""
        payload = self._until(lambda: self._inbox.take_event(), self._deadline(timeout))
        return SocketReply.from_payload(payload)

    def receive(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message, decoded. Raises `SocketClosed` at the end."""
        return decoded(self._open().take(self.timeout if timeout is None else timeout))

    def _open(self) -> _Run:
        if self._run is None:
            self.connect()
        assert self._run is not None
        return self._run

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _until(self, find: Callable[[], dict[str, Any] | None], deadline: float) -> dict[str, Any]:
        while (payload := find()) is None:
            self._inbox.add(self.receive(timeout=deadline - time.monotonic()))
        return payload


class SocketTestCase(TestCase):
    """
    A `TestCase` whose `socket` is a client of the root socket, closed after each test.

    `application` and `socket_path` say what it opens: by default the project's `ASGI_APPLICATION`
    and `/`.
    """

    application: Callable[..., Any] | None = None
    socket_path = "/"

    def setUp(self) -> None:
        super().setUp()
        application = type(self).__dict__.get("application") or self.application
        self.socket = SocketClient(application, self.socket_path)
        self.addCleanup(self.socket.close)


# How long a cancelled application may take to end, on a busy machine (seconds).
_SECONDS_TO_CANCEL: Final = 10.0


class _Run:
    """
    An application on an event loop in a thread of its own, with its sync work in the caller's.
    """

    def __init__(self, application: Callable[..., Any], scope: dict[str, Any]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "SocketClient is for sync tests. In an async test use "
                "rest_channels.test.AsyncSocketClient, whose methods are awaited."
            )
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._messages: deque[Mapping[str, Any]] = deque()
        self._outcome: Future[None] | None = None
        self._raised: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._to_application: asyncio.Queue[Any] = asyncio.Queue()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="rest_channels.test", daemon=True
        )
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(self._serve(application, scope), self._loop)
        serving.add_done_callback(self._inbox.put)

    def give(self, message: Mapping[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._to_application.put_nowait, message)

    def take(self, timeout: float) -> Mapping[str, Any]:
        """Return the application's next message, and do its sync work here meanwhile."""
        deadline = time.monotonic() + timeout
        while not self._messages:
            if self._outcome is not None:
                self._raised = self._outcome.exception()
                self._outcome.result()
                raise SocketClosed(None)
            self._work(deadline)
        return self._messages.popleft()

    def end(self, timeout: float) -> None:
        """Wait for the application to end, and end the loop and its thread in any case."""
        try:
            outcome = self._ended(timeout)
            if (raised := outcome.exception()) is not None and raised is not self._raised:
                raise raised
        except TimeoutError:
            if self._outcome is None:
                self._cancel()
            raise
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _ended(self, timeout: float) -> Future[None]:
        deadline = time.monotonic() + timeout
        while self._outcome is None:
            self._work(deadline)
        return self._outcome

    def _cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel_tasks)
        # It may catch the cancellation and go on: the loop ends all the same.
        with contextlib.suppress(TimeoutError):
            self._ended(_SECONDS_TO_CANCEL)

    def _cancel_tasks(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _work(self, deadline: float) -> None:
        try:
            item = self._inbox.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError("The application sent nothing in time.") from None
        if isinstance(item, Future):
            self._outcome = item
        elif isinstance(item, Mapping):
            self._messages.append(item)
        else:
            item()

    async def _serve(self, application: Callable[..., Any], scope: dict[str, Any]) -> None:
        thread_sensitive.set(True)
        async with ThreadSensitiveContext() as context:
            # asgiref looks here for the thread of this context's sync code: ours, Channels' and
            # Django's.
            SyncToAsync.context_to_thread_executor[context] = _CallerExecutor(self._inbox)
            await application(scope, self._to_application.get, self._send)

    async def _send(self, message: Mapping[str, Any]) -> None:
        self._inbox.put(message)


class _CallerExecutor(Executor):
    """An executor that leaves work in `inbox`, for its reader to call."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self._inbox = inbox

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with kept_connections():
                    result = function(*args, **kwargs)
            except BaseException as exc:
                future.set_exception(exc)
            else:
                future.set_result(result)

        self._inbox.put(work)
        return future
