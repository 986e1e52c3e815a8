"""
Check that a socket may still receive the messages of its groups and rooms.

A permission that is older than `LEASE_SECONDS` is checked again before anything more is sent.
Meanwhile messages are held; if the permission has ended, they are dropped.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rest_channels.protocol import Reply, byte_length
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from rest_channels.consumers.groups.group_hub import Hub

#: The source of messages: a room's name, or None for all other messages of the socket.
Source = str | None


class Refusal(NamedTuple):
    """Why a socket may no longer receive from a source; if `is_total`, from any source."""

    reply: Reply
    is_total: bool


class Listener(Protocol):
    """A socket that receives from sources."""

    hub: Hub

    def post(self, text: str) -> None:
        """Send JSON text to the client immediately."""

    def offer(self, text: str) -> None:
        """Send JSON text if the client keeps up."""

    def is_known(self, source: Source) -> bool:
        """
        Return whether the client is known, without a check, to be allowed to receive from `source`.
        """

    async def review(self, source: Source) -> Refusal | None:
        """Check whether the client may still receive from `source`."""

    def on_refused(self, source: Source, refusal: Refusal) -> None:
        """Stop receiving from `source`, because the client may not."""

    def on_unknown(self) -> None:
        """Handle that more messages are held than the bound allows."""


class Held(NamedTuple):
    """A message that is held until the permission is checked."""

    text: str
    may_be_lost: bool


class GroupAuthorization:
    """The sources that one socket receives from. On the loop."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        #: By source: when the valid permission was checked.
        self._allowed_at: dict[Source, float] = {}
        self._held: dict[Source, list[Held]] = {}
        self._held_bytes = 0

    def allow(self, source: Source, asked_at: float) -> None:
        """Allow `source` by a check that began at `asked_at`, a `time.monotonic()`."""
        self._allowed_at[source] = asked_at

    def forget(self, source: Source) -> None:
        """Drop held messages of `source`, because the client has left it."""
        self._allowed_at.pop(source, None)
        self._take(source)

    def receive(self, source: Source, text: str, *, may_be_lost: bool = False) -> None:
        """Send a message to the client, now or once the permission is checked."""
        if source in self._held:
            self._hold(source, Held(text, may_be_lost))
        elif self._is_fresh(source):
            self._tell(Held(text, may_be_lost))
        else:
            held: list[Held] = []
            self._held[source] = held
            self._hold(source, Held(text, may_be_lost))
            self._listener.hub.start(self._review(source, held))

    def _is_fresh(self, source: Source) -> bool:
        asked_at = self._allowed_at.get(source)
        if asked_at is not None and time.monotonic() - asked_at < socket_settings.LEASE_SECONDS:
            return True
        return self._listener.is_known(source)

    def _hold(self, source: Source, item: Held) -> None:
        waiting = self._held_bytes + byte_length(item.text)
        if waiting <= socket_settings.MAX_QUEUE_BYTES:
            self._held[source].append(item)
            self._held_bytes = waiting
        elif not item.may_be_lost:
            self._listener.on_unknown()

    def _take(self, source: Source) -> list[Held]:
        held = self._held.pop(source, [])
        self._held_bytes -= sum(byte_length(item.text) for item in held)
        return held

    def _tell(self, item: Held) -> None:
        (self._listener.offer if item.may_be_lost else self._listener.post)(item.text)

    async def _review(self, source: Source, held: list[Held]) -> None:
        asked_at = time.monotonic()
        refusal = await self._listener.review(source)
        if self._held.get(source) is not held:
            # The client has left meanwhile, and perhaps joined again.
            return
        self._take(source)
        if refusal is not None:
            self._allowed_at.pop(source, None)
            self._listener.on_refused(source, refusal)
            return
        self.allow(source, max(asked_at, self._allowed_at.get(source, asked_at)))
        for item in held:
            self._tell(item)
