"""
Replies of consumers while they serve one message, on their way to its sender.

An instance replies from any thread; a task of the loop sends the replies in order. Sessions that
the instance changed are saved before: a client that acts on a reply finds them changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import connections

from rest_channels.consumers.base import Consumers
from rest_channels.consumers.groups.group_hub import Hub
from rest_channels.consumers.groups.members import Member
from rest_channels.exceptions import ConsumerError
from rest_channels.protocol import CloseCode, byte_length
from rest_channels.settings import socket_settings
from rest_channels.sockets.request import Handshake, MessageRequest
from rest_channels.workers.threads import workers

#: JSON text for the client, or the code to close with.
Item = str | int


@dataclass(frozen=True, slots=True)
class Unsaved:
    """
    A reply of an `async def` handler on the loop, where no session can be saved.

    Its sessions must be saved before `item` is sent.
    """

    item: Item


def is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the caller is on `loop`."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def is_in_atomic_request() -> bool:
    """
    Return whether this thread is in the transaction of a message (`ATOMIC_REQUESTS`).

    Other connections see what is saved now only after the transaction.
    """
    there: Any = connections.all(initialized_only=True)
    return any(c.in_atomic_block and c.settings_dict["ATOMIC_REQUESTS"] for c in there)


class QueuedOutlet:
    """
    An `Outlet` whose items wait until the task that sends them asks for the `next_item`.

    `say` may be called from any thread, all else on the loop unless stated otherwise.
    """

    user_pk: Any = None
    session_key: str | None = None
    is_last = False

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        #: The instance that replies, once it exists.
        self.instance: Consumers | None = None
        # None ends it.
        self._said: asyncio.Queue[Item | Unsaved | None] = asyncio.Queue()

    @property
    def owner(self) -> Hashable:
        """The user or the address whose share of the worker threads its work takes."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Queue JSON text; from any thread."""
        self._tell(text)

    def end(self) -> None:
        """Let `next_item` return None after the queued items."""
        self._loop.call_soon(self._said.put_nowait, None)

    async def next_item(self) -> Item | None:
        """
        Return the next item, with the sessions before it saved; None at the end.

        Raises an exception of saving them.
        """
        told = await self._said.get()
        if not isinstance(told, Unsaved):
            return told
        if self.has_unsaved_session:
            await workers.run(self.save_sessions, owner=self.owner)
        return told.item

    @property
    def has_unsaved_session(self) -> bool:
        """Whether a session was changed and not saved yet; from any thread."""
        return self.instance is not None and self.instance.has_unsaved_session

    def save_sessions(self) -> None:
        """Save the sessions that `has_unsaved_session` reports; in a worker thread."""
        if self.instance is not None and self.instance.has_unsaved_session:
            self.instance.save_session()

    def _tell(self, item: Item) -> None:
        told: Item | Unsaved = item
        if self.has_unsaved_session:
            if is_running(self._loop):
                told = Unsaved(item)
            else:
                self._save_first()
        self._loop.call_soon_threadsafe(self._put, told)

    def _save_first(self) -> None:
        """Save sessions before an item that a worker thread has queued."""
        self.save_sessions()

    def _put(self, told: Item | Unsaved) -> None:
        self._said.put_nowait(told)


class OutletQueue(Member, Protocol):
    """The queue that a message came by. On the loop."""

    stream: Any
    handshake: Handshake
    hub: Hub
    connection: Any
    session_key: str | None
    last_request: Any

    def close(self, code: int) -> None:
        """Close the socket; on a shared socket, only this stream."""


class SocketOutlet(QueuedOutlet):
    """
    The socket of `queue`, while one message of it is served.

    Once it `is_over`, replies of the instance's own tasks are sent at once.
    """

    def __init__(self, queue: OutletQueue, *, is_over: bool = False, is_last: bool = False) -> None:
        super().__init__()
        self.queue = queue
        self.session_key = queue.session_key
        self.is_over = is_over or is_last
        self.is_last = is_last
        self._request: MessageRequest | None = None
        self._said_bytes = 0
        # Replies within a transaction wait for its end; None outside a transaction.
        self._held: list[Item | Unsaved] | None = None

    def begin(self, instance: Consumers, request: MessageRequest | None) -> None:
        """Let `instance`, which serves `request`, reply from now on; in a worker thread."""
        self.instance, self._request = instance, request

    @property
    def owner(self) -> Hashable:
        return self.queue.handshake.credentials.owner

    @property
    def address(self) -> str | None:
        return self.queue.hub.address(self.queue)

    def close(self, code: int) -> None:
        """Close the socket after the queued replies; from any thread."""
        self._tell(code)

    def release(self) -> None:
        """Queue the held replies, because the transaction has ended."""
        held, self._held = self._held, None
        for told in held or ():
            self._put(told)

    async def next_item(self) -> Item | None:
        item = await super().next_item()
        if isinstance(item, str):
            self._said_bytes -= byte_length(item)
        return item

    @property
    def has_unsaved_session(self) -> bool:
        if self.is_over:
            return False
        return super().has_unsaved_session or (
            self._request is not None and self._request.has_unsaved_session
        )

    def save_sessions(self) -> None:
        super().save_sessions()
        if self._request is not None and self._request.has_unsaved_session:
            self.queue.handshake.credentials.save_session(self._request)

    def _save_first(self) -> None:
        if is_in_atomic_request():
            self._loop.call_soon_threadsafe(self._hold)
        else:
            self.save_sessions()

    def _hold(self) -> None:
        self._held = self._held or []

    def _put(self, told: Item | Unsaved) -> None:
        item = told.item if isinstance(told, Unsaved) else told
        if self._held is not None:
            self._held.append(told)
        elif self.is_over:
            # The instance has outlived its message, in a task of its own.
            if isinstance(item, int):
                self.queue.close(item)
            else:
                self.queue.post(item)
        elif isinstance(item, int) or self._has_room(item):
            self._said.put_nowait(told)
        else:
            self.queue.connection.outbox.close(CloseCode.TOO_SLOW)

    def _has_room(self, text: str) -> bool:
        self._said_bytes += byte_length(text)
        return self._said_bytes <= socket_settings.MAX_QUEUE_BYTES or self._said.empty()


class ChannelOutlet(QueuedOutlet):
    """The socket at `address`, in whichever process it is; None if the message names none."""

    def __init__(self, address: Any, origin: Mapping[str, Any]) -> None:
        super().__init__()
        self.address = address
        self.user_pk = origin.get("user")
        self.session_key = origin.get("session")

    @property
    def owner(self) -> Hashable:
        return ("address", self.address) if self.address else None

    def say(self, text: str) -> None:
        if self.address is None:
            raise ConsumerError(
                "There is no socket to reply to: the message names no reply channel."
            )
        super().say(text)
