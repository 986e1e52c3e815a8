"""
The sockets of this process, as other processes reach them: one layer channel for all of them.

A hub belongs to an event loop, and all that it does it does there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer

from rest_channels.consumers.layers import (
    SOCKET_TEXT,
    parse_address,
    send_to_layer,
    socket_address,
)

logger = logging.getLogger("rest_channels")

# Between two tries to receive from a layer that fails.
_SECONDS_TO_RETRY: Final = 1


class Member(Protocol):
    """A socket of class-based consumers, as its hub knows it."""

    id: str

    def post(self, text: str) -> None:
        """Send JSON text to the client at once; on the loop."""


class Hub:
    """The sockets of one event loop. On the loop, but for `address` and `post`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.channel: str | None = None
        self._loop = loop
        self._members: dict[str, Member] = {}
        self._receiving: asyncio.Task[None] | None = None

    async def join(self, member: Member) -> None:
        """Let `member` be reached by its address."""
        self._members[member.id] = member
        if self.channel is None and (layer := get_channel_layer()) is not None:
            channel = await layer.new_channel("rest_channels")
            self.channel = self.channel or channel

    def leave(self, member: Member) -> None:
        """The socket is closed. With the last one the layer's channel is given up."""
        self._members.pop(member.id, None)
        if not self._members:
            self.channel = None
            if self._receiving is not None:
                self._receiving.cancel()
                self._receiving = None

    def address(self, member: Member) -> str | None:
        """What reaches `member` from any process; None without a layer. From any thread."""
        if self.channel is None:
            return None
        self._loop.call_soon_threadsafe(self.listen)
        return socket_address(self.channel, member.id)

    def listen(self) -> None:
        """Receive what other processes send, from now on: nobody does before there is need."""
        if self._receiving is None and self._members and self.channel is not None:
            self._receiving = self._loop.create_task(self._receive(self.channel))

    def post(self, socket_id: str, text: str) -> None:
        """Send text to a socket of this loop, if it is still there; from any thread."""
        self._loop.call_soon_threadsafe(self._post, socket_id, text)

    def _post(self, socket_id: str, text: str) -> None:
        member = self._members.get(socket_id)
        if member is not None:
            member.post(text)

    async def _receive(self, channel: str) -> None:
        while True:
            try:
                layer = get_channel_layer()
                self.on_message(await layer.receive(channel))
            except Exception:
                logger.warning("The channel layer failed to give messages.", exc_info=True)
                await asyncio.sleep(_SECONDS_TO_RETRY)

    def on_message(self, message: Mapping[str, Any]) -> None:
        """Take a message of another process's."""
        if message["type"] == SOCKET_TEXT:
            self._post(message["socket"], message["text"])


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def running_hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = Hub(loop)
    return hub


def local_hubs() -> list[Hub]:
    """The hubs of this process whose loops run: one, but in tests."""
    return [hub for loop, hub in list(_hubs.items()) if not loop.is_closed()]


async def send_to_socket(address: str, text: str) -> None:
    """
    Send JSON text to the socket of that address, in whichever process it is. Nobody is told where
    there is none any more. Raises `ConsumerError` where the layer does not take it.
    """
    channel, socket_id = parse_address(address)
    for hub in local_hubs():
        if hub.channel == channel:
            hub.post(socket_id, text)
            return
    await send_to_layer(channel, {"type": SOCKET_TEXT, "socket": socket_id, "text": text})
