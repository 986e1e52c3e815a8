"""
Tools for the tests of a project, in the manner of DRF's `APIClient` and `APITestCase`.

    class MessageTests(SocketTestCase):
        def test_members_post(self):
            self.socket.force_authenticate(ann)
            reply = self.socket.create("messages", {"text": "Hello"})
            assert reply.status_code == 201

The application runs on an event loop in a thread of its own; its sync work runs in the test's
thread, while the test waits for a reply, so that all of it happens within the transaction of a
plain `TestCase`. With pytest, the fixture `socket_client` gives a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from channels.routing import get_default_application
from django.db import connections
from django.test import Client, TestCase

from rest_channels.protocol import MISSING
from rest_channels.request import FORCED_AUTHENTICATION
from rest_channels.threads import thread_sensitive

__all__ = ["SocketClient", "SocketClosed", "SocketReply", "SocketTestCase"]


class SocketClosed(Exception):
    """
    The application closed or refused the socket. `code` is the close code; None where the
    handshake was refused (HTTP 403).
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}" if code else "the handshake was refused")
        self.code = code


@dataclass(frozen=True)
class SocketReply:
    """
    One reply, in the words of DRF's test responses.

    `parts` are the data of the replies with status 206 that came before it, from a generator.
    """

    status_code: int
    data: Any
    errors: list[Any]
    codes: Any
    headers: dict[str, str]
    action: str | None
    request_id: str | int | None
    payload: dict[str, Any]
    parts: list[Any] = field(default_factory=list)

    @classmethod
    def from_payload(cls, payload: dict[str, Any], parts: list[Any] | None = None) -> SocketReply:
        return cls(
            status_code=payload["response_status"],
            data=payload["data"],
            errors=payload["errors"],
            codes=payload.get("codes"),
            headers=payload.get("headers", {}),
            action=payload["action"],
            request_id=payload["request_id"],
            payload=payload,
            parts=parts or [],
        )

    def json(self) -> dict[str, Any]:
        """The payload as it came."""
        return self.payload


class SocketClient:
    """
    A client of one socket, opened by the first thing that needs it.

    `application` is an ASGI application, by default the project's `ASGI_APPLICATION`; `path` the
    socket's, with a query string if need be. `stream` is given with each request on the root
    socket and left out on a viewset's own. `timeout` is in seconds; what raises `TimeoutError`
    leaves the application running, and its answer may be waited for again.
    """

    def __init__(
        self,
        application: Callable[..., Any] | None = None,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: list[str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.application = application
        self.path = path
        self.headers = dict(headers or {})
        self.subprotocols = subprotocols or []
        self.timeout = timeout
        self.subprotocol: str | None = None
        self._http = Client()
        self._forced: dict[str, Any] = {}
        self._credentials: dict[str, str] = {}
        self._run: _Run | None = None
        self._ids = itertools.count(1)
        self._replies: deque[dict[str, Any]] = deque()
        self._events: deque[dict[str, Any]] = deque()
        self._asked: set[tuple[type, Any]] = set()

    # Who is asking

    def force_authenticate(self, user: Any = None, token: Any = None) -> None:
        """Make every frame come from `user`, as `APIClient.force_authenticate` does."""
        self._forced.update(user=user, token=token)

    def credentials(self, **headers: str) -> None:
        """
        Headers for the handshake and every frame, named as for `APIClient`:
        `credentials(HTTP_AUTHORIZATION="Token ...")`. None removes them.
        """
        self._credentials = {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in headers.items()
        }

    def login(self, **credentials: Any) -> bool:
        """Sign in by a session; before the socket opens, for its cookie is the handshake's."""
        return self._http.login(**credentials)

    def force_login(self, user: Any) -> None:
        """Sign `user` in without a password."""
        self._http.force_login(user)

    def logout(self) -> None:
        """Forget who was asking; end the session where there is one."""
        self._forced.clear()
        self._credentials = {}
        self._http.logout()

    # The socket

    def connect(self) -> None:
        """Open the socket. Raises `SocketClosed` where the handshake is refused."""
        if self._run is not None:
            raise RuntimeError("The socket is open already.")
        self._run = _Run(self.application or get_default_application(), self._scope())
        self._run.give({"type": "websocket.connect"})
        answer = self._run.take(self.timeout)
        if answer["type"] != "websocket.accept":
            self.close()
            raise SocketClosed(None)
        self.subprotocol = answer.get("subprotocol")

    def close(self, code: int = 1000) -> None:
        """Close the socket and wait until the application has ended. Raises what it raised."""
        run, self._run = self._run, None
        self._replies.clear()
        self._events.clear()
        self._asked.clear()
        if run is not None:
            run.give({"type": "websocket.disconnect", "code": code})
            run.end(self.timeout)

    def __enter__(self) -> SocketClient:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    # Requests

    def list(self, stream: str | None = None, **options: Any) -> SocketReply:
        return self.request("list", stream, **options)

    def retrieve(self, stream: str | None = None, pk: Any = MISSING, **options: Any) -> SocketReply:
        return self.request("retrieve", stream, pk=pk, **options)

    def create(self, stream: str | None = None, data: Any = MISSING, **options: Any) -> SocketReply:
        return self.request("create", stream, data=data, **options)

    def update(
        self, stream: str | None = None, pk: Any = MISSING, data: Any = MISSING, **options: Any
    ) -> SocketReply:
        return self.request("update", stream, pk=pk, data=data, **options)

    def partial_update(
        self, stream: str | None = None, pk: Any = MISSING, data: Any = MISSING, **options: Any
    ) -> SocketReply:
        return self.request("partial_update", stream, pk=pk, data=data, **options)

    def destroy(self, stream: str | None = None, pk: Any = MISSING, **options: Any) -> SocketReply:
        return self.request("destroy", stream, pk=pk, **options)

    def metadata(self, stream: str | None = None, **options: Any) -> SocketReply:
        return self.request("metadata", stream, **options)

    def request(
        self, action: str, stream: str | None = None, *, timeout: float | None = None, **keys: Any
    ) -> SocketReply:
        """
        Ask for `action` and wait for its last reply.

        `keys` are the payload's: `data`, `query`, `headers`, `method`, `request_id`, `pk` and
        other lookups.
        """
        request_id = self.send(action, stream, **keys)
        return self.reply(request_id, timeout=timeout)

    def send(self, action: str, stream: str | None = None, **keys: Any) -> str | int | None:
        """Ask for `action` without waiting; returns the request's id, a new one unless given."""
        request_id = keys.setdefault("request_id", next(self._ids))
        payload: dict[str, Any] = {"action": action}
        payload.update((name, value) for name, value in keys.items() if value is not MISSING)
        if self._credentials:
            payload["headers"] = {**self._credentials, **payload.get("headers", {})}
        message = payload if stream is None else {"stream": stream, "payload": payload}
        self._asked.add(_id_key(request_id))
        self.send_text(json.dumps(message))
        return request_id

    def send_text(self, text: str) -> None:
        """Send a message as it stands, right or wrong."""
        self._open().give({"type": "websocket.receive", "text": text})

    def send_bytes(self, content: bytes) -> None:
        """Send a binary message."""
        self._open().give({"type": "websocket.receive", "bytes": content})

    def reply(self, request_id: str | int | None, *, timeout: float | None = None) -> SocketReply:
        """The last reply to the request of that id, with its parts."""
        key = _id_key(request_id)
        parts: list[Any] = []
        for payload in self._until(self._replies, key, timeout):
            if payload["response_status"] != 206:
                self._asked.discard(key)
                return SocketReply.from_payload(payload, parts)
            parts.append(payload["data"])
        raise AssertionError("unreachable: _until ends by raising")

    def part(self, request_id: str | int | None, *, timeout: float | None = None) -> Any:
        """The data of the next reply with status 206 to the request of that id."""
        return next(self._until(self._replies, _id_key(request_id), timeout))["data"]

    def event(self, *, timeout: float | None = None) -> SocketReply:
        """The next message that answers no request."""
        return SocketReply.from_payload(next(self._until(self._events, None, timeout)))

    def receive(self, *, timeout: float | None = None) -> dict[str, Any]:
        """The next message as it comes, decoded. Raises `SocketClosed` where it is the end."""
        message = self._open().take(self.timeout if timeout is None else timeout)
        if message["type"] == "websocket.close":
            raise SocketClosed(message.get("code", 1000))
        return json.loads(message["text"])

    def _open(self) -> _Run:
        if self._run is None:
            self.connect()
        assert self._run is not None
        return self._run

    def _until(self, kept: deque[dict[str, Any]], key: Any, timeout: float | None) -> Any:
        """Payloads of `kept` that have `key`, from what came before and what comes."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            for payload in list(kept):
                if key is None or _id_key(payload["request_id"]) == key:
                    kept.remove(payload)
                    yield payload
            message = self.receive(timeout=deadline - time.monotonic())
            payload = message.get("payload", message) if "stream" in message else message
            is_reply = _id_key(payload["request_id"]) in self._asked
            (self._replies if is_reply else self._events).append(payload)

    def _scope(self) -> dict[str, Any]:
        url = urlsplit(self.path)
        headers = {"host": "testserver", **self.headers, **self._credentials}
        cookies = "; ".join(f"{name}={m.value}" for name, m in self._http.cookies.items())
        if cookies:
            headers.setdefault("cookie", cookies)
        return {
            "type": "websocket",
            "scheme": "ws",
            "path": unquote(url.path),
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in headers.items()],
            "client": ("127.0.0.1", 0),
            "server": ("testserver", 80),
            "subprotocols": self.subprotocols,
            FORCED_AUTHENTICATION: self._forced,
        }


class SocketTestCase(TestCase):
    """
    A `TestCase` whose `socket` is a client of the root socket, closed after each test.

    `application` and `socket_path` say what it opens: the project's `ASGI_APPLICATION` and `/`
    unless set.
    """

    application: Callable[..., Any] | None = None
    socket_path = "/"

    def setUp(self) -> None:
        super().setUp()
        application = type(self).__dict__.get("application") or self.application
        self.socket = SocketClient(application, self.socket_path)
        self.addCleanup(self.socket.close)


def _id_key(request_id: Any) -> tuple[type, Any]:
    return type(request_id), request_id


class _Run:
    """An application on an event loop in a thread of its own, and its work in the caller's."""

    def __init__(self, application: Callable[..., Any], scope: dict[str, Any]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "SocketClient is for sync tests. In an async test use "
                "channels.testing.WebsocketCommunicator."
            )
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._messages: deque[Mapping[str, Any]] = deque()
        self._outcome: Future[None] | None = None
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
        """The application's next message; meanwhile its sync work is done here."""
        deadline = time.monotonic() + timeout
        while not self._messages:
            if self._outcome is not None:
                self._outcome.result()
                raise SocketClosed(None)
            self._work(deadline)
        return self._messages.popleft()

    def end(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        try:
            while self._outcome is None:
                self._work(deadline)
            self._outcome.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

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
            # Where asgiref looks for the thread of this context's sync code: ours, Channels' and
            # Django's own.
            SyncToAsync.context_to_thread_executor[context] = _CallerExecutor(self._inbox)
            await application(scope, self._to_application.get, self._send)

    async def _send(self, message: Mapping[str, Any]) -> None:
        self._inbox.put(message)


class _CallerExecutor(Executor):
    """Leaves work in `inbox`, for whoever reads it to call."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        self._inbox = inbox

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                with _kept_connections():
                    result = function(*args, **kwargs)
            except BaseException as exc:
                future.set_exception(exc)
            else:
                future.set_result(result)

        self._inbox.put(work)
        return future


@contextlib.contextmanager
def _kept_connections() -> Iterator[None]:
    """
    Keep the connections of the test's own transaction, which Channels would close between the
    messages of a hosted consumer, taking them for those of a request.
    """
    kept: list[Any] = [c for c in connections.all(initialized_only=True) if c.in_atomic_block]
    for connection in kept:
        connection.close_if_unusable_or_obsolete = lambda: None
    try:
        yield
    finally:
        for connection in kept:
            vars(connection).pop("close_if_unusable_or_obsolete", None)
