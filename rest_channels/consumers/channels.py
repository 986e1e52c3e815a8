"""
Internal channels and groups of sockets by name.

    Channel("mail").send({"to": "ann"})         # from sync code
    await Channel("mail").asend({"to": "ann"})  # on an event loop
    Group("room_5").send({"text": "Hello"})     # from either

Messages are JSON, even if the layer accepts more. A layer may lose a message without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asgiref.sync import async_to_sync

from rest_channels.consumers.groups.group_hub import (
    change_membership,
    send_to_group,
    send_to_socket,
)
from rest_channels.consumers.groups.layers import is_address, message, send_to_layer, to_json


class Channel:
    """An internal channel by its name, or the address of a socket."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def send(
        self,
        content: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        reply_channel: Channel | str | None = None,
    ) -> None:
        """
        Send `content` to the handlers of this channel, or to the socket. From sync code.

        `kwargs` become the handlers' `self.kwargs`, and `reply_channel` is the address they reply
        to. Raises `ConsumerError` with status 503 if the layer does not accept it within 2 seconds.
        """
        async_to_sync(self.asend)(content, kwargs=kwargs, reply_channel=reply_channel)

    async def asend(
        self,
        content: Any,
        *,
        kwargs: Mapping[str, Any] | None = None,
        reply_channel: Channel | str | None = None,
    ) -> None:
        """Send `content` as `send` does, on an event loop."""
        text = to_json(content)
        if is_address(self.name):
            await send_to_socket(self.name, text)
            return
        reply_to = None if reply_channel is None else str(reply_channel)
        await send_to_layer(self.name, message(text, kwargs or {}, reply_to))


class Group:
    """
    The sockets that are in a group, in all processes.

    Any text is a name. The layer may lose a message without an error; members in the process that
    sends it receive it all the same.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def send(self, content: Any) -> None:
        """
        Send `content` to all members, encoded once for all processes. From any thread.

        Returns at once if an event loop runs in this process; else it waits up to 2 seconds.
        """
        send_to_group(self.name, to_json(content))

    def add(self, reply_channel: Channel | str) -> None:
        """Let a socket join, by its `reply_channel`, in whichever process it is; from sync code."""
        async_to_sync(self.aadd)(reply_channel)

    def discard(self, reply_channel: Channel | str) -> None:
        """Let a socket leave; from sync code."""
        async_to_sync(self.adiscard)(reply_channel)

    async def aadd(self, reply_channel: Channel | str) -> None:
        await change_membership(self.name, str(reply_channel), joins=True)

    async def adiscard(self, reply_channel: Channel | str) -> None:
        await change_membership(self.name, str(reply_channel), joins=False)
