"""The part of the clients for sync and for async tests that does not wait."""

from __future__ import annotations

import builtins
import contextlib
import itertools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from django.db import connections
from django.test import Client

from rest_channels.protocol import MISSING
from rest_channels.sockets.request import FORCED_AUTHENTICATION

#: The result of a request: a `SocketReply`, or an awaitable of one.
Answer = TypeVar("Answer")


class SocketClosed(Exception):
    """
    The application closed or refused the socket.

    `code` is the close code; None if the handshake was refused (HTTP 403).
    """

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}" if code else "the handshake was refused")
        self.code = code


@dataclass(frozen=True)
class SocketReply:
    """
    One reply or event, with the attributes of DRF's test responses.

    `parts` are the data of the preceding replies with status 206, from a generator. `position`,
    `previous` and `resumed` belong to messages of subscriptions and are None in others: each
    event's `previous` is the `position` of the message before it. `fenced` is None unless the
    request had a fence. `replayed` says that the reply was stored: the request's
    `idempotency_key` had been used before.
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
    position: str | None = None
    previous: str | None = None
    resumed: bool | None = None
    fenced: bool | None = None
    replayed: bool = False

    @classmethod
    def from_payload(cls, payload: dict[str, Any], parts: list[Any] | None = None) -> SocketReply:
        """Read a payload as it arrived, without its envelope."""
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
            position=payload.get("position"),
            previous=payload.get("previous"),
            resumed=payload.get("resumed"),
            fenced=payload.get("fenced"),
            replayed=payload.get("replayed", False),
        )

    def json(self) -> dict[str, Any]:
        """Return the payload as it arrived."""
        return self.payload


class Inbox:
    """Messages that arrived before a test asked for them, replies apart from events."""

    def __init__(self) -> None:
        self._replies: deque[dict[str, Any]] = deque()
        self._events: deque[dict[str, Any]] = deque()
        self._asked: set[tuple[type, Any]] = set()

    def expect(self, request_id: Any) -> None:
        """Expect replies to a request with that id, which is about to be sent."""
        self._asked.add(_id_key(request_id))

    def add(self, message: dict[str, Any]) -> None:
        """Keep a decoded message of the application's."""
        payload = message.get("payload", message) if "stream" in message else message
        is_reply = _id_key(payload["request_id"]) in self._asked
        (self._replies if is_reply else self._events).append(payload)

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """Everything kept: replies, then events."""
        return [*self._replies, *self._events]

    def take_event(self) -> dict[str, Any] | None:
        """Return the oldest message that does not answer a request; None without any."""
        return self._events.popleft() if self._events else None

    def take_reply(self, request_id: Any) -> dict[str, Any] | None:
        """Return the oldest reply to the request with that id, 206 included; None without any."""
        key = _id_key(request_id)
        for payload in self._replies:
            if _id_key(payload["request_id"]) == key:
                self._replies.remove(payload)
                if payload["response_status"] != 206:
                    self._asked.discard(key)
                return payload
        return None


def _id_key(request_id: Any) -> tuple[type, Any]:
    # 1 is not "1" or true.
    return type(request_id), request_id


class BaseSocketClient(Generic[Answer]):
    """
    A client of one socket, which opens when it is first needed.

    `application` is an ASGI application, by default the project's `ASGI_APPLICATION`; `path` is the
    socket's, with an optional query string. Pass `stream` with each request on the root socket, and
    omit it on a viewset's own socket. `timeout` is in seconds; after a `TimeoutError` the
    application keeps running, and its answer can be awaited again.
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
        self._ids = itertools.count(1)
        self._inbox = Inbox()

    @property
    def unread(self) -> builtins.list[SocketReply]:
        """Replies and events that arrived while the test waited for another message."""
        return [SocketReply.from_payload(payload) for payload in self._inbox.payloads]

    # Credentials

    def force_authenticate(self, user: Any = None, token: Any = None) -> None:
        """Make every frame come from `user`, as `APIClient.force_authenticate` does."""
        self._forced.update(user=user, token=token)

    def credentials(self, **headers: str) -> None:
        """
        Set headers for the handshake and every frame, named as for `APIClient`.

        For example `credentials(HTTP_AUTHORIZATION="Token ...")`. None removes them.
        """
        self._credentials = {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in headers.items()
        }

    # Requests

    def request(
        self, action: str, stream: str | None = None, *, timeout: float | None = None, **keys: Any
    ) -> Answer:
        """
        Send a request for `action` and wait for its last reply.

        `keys` are the payload's: `data`, `query`, `headers`, `method`, `request_id`, `fence`,
        `idempotency_key`, `pk` and other lookups. With `fence=True` all events of what the action
        commits are in `unread` once the reply is here.
        """
        raise NotImplementedError

    def list(self, stream: str | None = None, **options: Any) -> Answer:
        return self.request("list", stream, **options)

    def retrieve(self, stream: str | None = None, pk: Any = MISSING, **options: Any) -> Answer:
        return self.request("retrieve", stream, pk=pk, **options)

    def create(self, stream: str | None = None, data: Any = MISSING, **options: Any) -> Answer:
        return self.request("create", stream, data=data, **options)

    def update(
        self, stream: str | None = None, pk: Any = MISSING, data: Any = MISSING, **options: Any
    ) -> Answer:
        return self.request("update", stream, pk=pk, data=data, **options)

    def partial_update(
        self, stream: str | None = None, pk: Any = MISSING, data: Any = MISSING, **options: Any
    ) -> Answer:
        return self.request("partial_update", stream, pk=pk, data=data, **options)

    def destroy(self, stream: str | None = None, pk: Any = MISSING, **options: Any) -> Answer:
        return self.request("destroy", stream, pk=pk, **options)

    def metadata(self, stream: str | None = None, **options: Any) -> Answer:
        return self.request("metadata", stream, **options)

    def watch(self, of: str, stream: str | None = None, **options: Any) -> Answer:
        """
        Watch the action `of`; `options` are what it takes, such as `query` and `pk`.

        Its later answers are events, with the action `change` and the `request_id` of the reply.
        """
        return self.request("watch", stream, of=of, **options)

    def unwatch(self, request_id: str | int | None, stream: str | None = None) -> Answer:
        """End the watch with that id."""
        return self.request("unwatch", stream, request_id=request_id)

    # For subclasses

    def _forget_credentials(self) -> None:
        self._forced.clear()
        self._credentials = {}

    def _text(
        self, action: str, stream: str | None, keys: dict[str, Any]
    ) -> tuple[str | int | None, str]:
        """Return the id and the message of a request, and expect its replies from here on."""
        request_id = keys.setdefault("request_id", next(self._ids))
        payload: dict[str, Any] = {"action": action}
        payload.update((name, value) for name, value in keys.items() if value is not MISSING)
        if self._credentials:
            payload["headers"] = {**self._credentials, **payload.get("headers", {})}
        message = payload if stream is None else {"stream": stream, "payload": payload}
        self._inbox.expect(request_id)
        return request_id, json.dumps(message)

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


def decoded(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an ASGI message. Raises `SocketClosed` if it closes the socket."""
    if message["type"] == "websocket.close":
        raise SocketClosed(message.get("code", 1000))
    frame: dict[str, Any] = json.loads(message["text"])
    return frame


# The number of sockets that keep each connection; they open and close in any order.
_kept: Counter[Any] = Counter()


@contextlib.contextmanager
def kept_connections() -> Iterator[None]:
    """
    Keep the connections of the test's own transaction.

    Channels would close them between the messages of a hosted consumer, as if a request had ended.
    """
    kept: list[Any] = [c for c in connections.all(initialized_only=True) if c.in_atomic_block]
    for connection in kept:
        connection.close_if_unusable_or_obsolete = lambda: None
    _kept.update(kept)
    try:
        yield
    finally:
        _kept.subtract(kept)
        for connection in kept:
            if not _kept[connection]:
                del _kept[connection]
                vars(connection).pop("close_if_unusable_or_obsolete", None)
