"""
What a socket hears in groups and rooms, as long as it may.

A permission that was found longer than `LEASE_SECONDS` ago is asked for again before anything more
is told. Meanwhile what is said waits; where the permission has ended, it is told nobody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rest_channels.protocol import Reply, byte_length
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from rest_channels.consumers.hub import Hub

#: Where something is said: a room by its name; None is all that the socket hears besides.
Place = str | None


class Refusal(NamedTuple):
    """Why a socket may hear a place no more; `is_total`: nor any other."""

    reply: Reply
    is_total: bool


class Listener(Protocol):
    """A socket that hears places."""

    hub: Hub

    def post(self, text: str) -> None:
        """Send JSON text to the client at once."""

    def offer(self, text: str) -> None:
        """Send JSON text if the client is keeping up."""

    def is_known(self, place: Place) -> bool:
        """Whether it is known without asking that the client may hear `place`."""

    async def review(self, place: Place) -> Refusal | None:
        """Ask whether the client may still hear `place`."""

    def on_refused(self, place: Place, refusal: Refusal) -> None:
        """The client may not."""

    def on_unknown(self) -> None:
        """More waits for an answer than may."""


class Held(NamedTuple):
    """What waits until it is known whether the client may hear it."""

    text: str
    may_be_lost: bool


class Hearing:
    """What one socket hears. On the loop."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        #: When the permission was asked for that holds.
        self._allowed_at: dict[Place, float] = {}
        self._held: dict[Place, list[Held]] = {}
        self._held_bytes = 0

    def allow(self, place: Place, asked_at: float) -> None:
        """The client may hear `place`, by what was asked at `asked_at`, a `time.monotonic()`."""
        self._allowed_at[place] = asked_at

    def forget(self, place: Place) -> None:
        """The client is no longer there; what waits is not told."""
        self._allowed_at.pop(place, None)
        self._take(place)

    def hear(self, place: Place, text: str, *, may_be_lost: bool = False) -> None:
        """Tell the client, now or once it is known that it may."""
        if place in self._held:
            self._hold(place, Held(text, may_be_lost))
        elif self._is_fresh(place):
            self._tell(Held(text, may_be_lost))
        else:
            held: list[Held] = []
            self._held[place] = held
            self._hold(place, Held(text, may_be_lost))
            self._listener.hub.start(self._review(place, held))

    def _is_fresh(self, place: Place) -> bool:
        asked_at = self._allowed_at.get(place)
        if asked_at is not None and time.monotonic() - asked_at < socket_settings.LEASE_SECONDS:
            return True
        return self._listener.is_known(place)

    def _hold(self, place: Place, item: Held) -> None:
        waiting = self._held_bytes + byte_length(item.text)
        if waiting <= socket_settings.MAX_QUEUE_BYTES:
            self._held[place].append(item)
            self._held_bytes = waiting
        elif not item.may_be_lost:
            self._listener.on_unknown()

    def _take(self, place: Place) -> list[Held]:
        held = self._held.pop(place, [])
        self._held_bytes -= sum(byte_length(item.text) for item in held)
        return held

    def _tell(self, item: Held) -> None:
        (self._listener.offer if item.may_be_lost else self._listener.post)(item.text)

    async def _review(self, place: Place, held: list[Held]) -> None:
        asked_at = time.monotonic()
        refusal = await self._listener.review(place)
        if self._held.get(place) is not held:
            # The client has left meanwhile, and perhaps come back.
            return
        self._take(place)
        if refusal is not None:
            self._allowed_at.pop(place, None)
            self._listener.on_refused(place, refusal)
            return
        self.allow(place, max(asked_at, self._allowed_at.get(place, asked_at)))
        for item in held:
            self._tell(item)
