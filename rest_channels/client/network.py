"""The websocket of a client, on the package `websockets`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from rest_channels.client.line import LOST, Line

try:
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.client import connect as open_websocket
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
except ImportError as error:
    raise ImportError(
        "The client needs the package websockets: pip install 'django-rest-channels[client]'"
    ) from error

logger = logging.getLogger("rest_channels.client")

#: A function that returns the value of an `Authorization` header, or None if nobody is signed in.
Auth = Callable[[bool], str | Awaitable[str | None] | None]

# A reset with all rows is one message: the server allows 10,000 rows.
_MAX_BYTES: Final = 64 * 1024 * 1024
# For the other end's half of a close (seconds): the socket is of no use any more.
_CLOSE_SECONDS: Final = 2

_CREDENTIALS_ENDED: Final = 4401
_NOT_ALLOWED: Final = 4403


def address_of(url: str, query: Mapping[str, Any] | None = None) -> str:
    """
    Return the address of a websocket: http becomes ws, and `query` is added.

    Raises `ValueError` if `url` has no host.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} must be an address such as ws://localhost:8000/.")
    pairs = [*parse_qsl(parts.query, keep_blank_values=True), *(query or {}).items()]
    return urlunsplit((scheme, parts.netloc, parts.path or "/", urlencode(pairs), ""))


class WebsocketNetwork:
    """
    The network of a client on the running loop.

    `options` are those of `websockets.connect`, for example `ssl` and `proxy`. Each attempt is a
    task, which ends with its socket.
    """

    def __init__(
        self,
        url: str,
        auth: Auth | None,
        headers: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> None:
        self._url = url
        self._auth = auth
        self._headers = headers
        self._options = options
        self._line: Line | None = None
        self._task: asyncio.Task[None] | None = None
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def report_to(self, line: Line) -> None:
        self._line = line

    def open(self, *, is_expired: bool) -> None:
        self._outgoing = asyncio.Queue()
        self._task = asyncio.create_task(self._attempt(is_expired, self._outgoing))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    def send(self, text: str) -> None:
        self._outgoing.put_nowait(text)

    def drop(self) -> None:
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all sockets are closed."""
        while self._tasks:
            await asyncio.wait([*self._tasks])

    async def _attempt(self, is_expired: bool, outgoing: asyncio.Queue[str]) -> None:
        """Open a socket and serve it; report how it ends, unless it was dropped."""
        task = asyncio.current_task()
        try:
            code, reason = await self._serve(is_expired, outgoing)
        except (OSError, WebSocketException) as error:
            code, reason = _code_of(error, has_auth=self._auth is not None), str(error)
            logger.info("No connection to %s: %r", self._url.partition("?")[0], error)
        except Exception as error:
            code, reason = LOST, repr(error)
            logger.exception("The connection is lost because of an error.")
        line = self._line
        if self._task is not task or line is None:
            return
        self._task = None
        line.lose(code, reason)

    async def _serve(self, is_expired: bool, outgoing: asyncio.Queue[str]) -> tuple[int, str]:
        headers = dict(self._headers)
        if self._auth is not None:
            credentials = await _awaited(self._auth(is_expired))
            if credentials is None:
                self._report_no_credentials()
                return LOST, ""
            headers["Authorization"] = credentials
        options = {
            "ping_interval": None,  # the client has pings of its own, which servers answer in turn
            "open_timeout": None,
            "close_timeout": _CLOSE_SECONDS,
            "max_size": _MAX_BYTES,
            "compression": None,
            **self._options,
        }
        async with open_websocket(self._url, additional_headers=headers, **options) as socket:
            await self._talk(socket, outgoing)
        return socket.close_code or LOST, socket.close_reason or ""

    async def _talk(self, socket: ClientConnection, outgoing: asyncio.Queue[str]) -> None:
        line = self._line
        assert line is not None
        writer = asyncio.create_task(_write(socket, outgoing))
        try:
            line.opened()
            # The line may drop the socket because of a message.
            while self._task is asyncio.current_task():
                line.receive(await socket.recv())
        except ConnectionClosed:
            logger.debug("The socket is closed: %s %s", socket.close_code, socket.close_reason)
        finally:
            writer.cancel()

    def _report_no_credentials(self) -> None:
        self._task = None
        if self._line is not None:
            self._line.no_credentials()


async def _write(socket: ClientConnection, outgoing: asyncio.Queue[str]) -> None:
    with contextlib.suppress(ConnectionClosed):  # the reader reports it
        while True:
            await socket.send(await outgoing.get())


async def _awaited(value: str | Awaitable[str | None] | None) -> str | None:
    return await value if inspect.isawaitable(value) else value


def _code_of(error: Exception, *, has_auth: bool) -> int:
    """Return the close code that means the same as a refused handshake."""
    status = error.response.status_code if isinstance(error, InvalidStatus) else None
    if status == 401 or (status == 403 and has_auth):
        return _CREDENTIALS_ENDED
    return _NOT_ALLOWED if status == 403 else LOST
