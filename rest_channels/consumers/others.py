"""
The other processes, as a hub speaks to them over the channel layer: which groups it has members of,
and what is said there.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Collection, Iterable
from typing import Any, Final

from channels.layers import InMemoryChannelLayer, get_channel_layer

from rest_channels.consumers import layers
from rest_channels.consumers.layers import GROUP_TEXTS, group_on_layer
from rest_channels.protocol import byte_length
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels")

# How often membership is told to the layer again: what a layer has forgotten, by its group_expiry
# or with its memory, is back as soon.
_SECONDS_TO_REFRESH: Final = 30

# Texts for one group that wait while the layer takes others go in one message of about this size.
_BATCH_BYTES: Final = 256 * 1024

#: Which messages of the layer's are this process's own.
PROCESS: Final = uuid.uuid4().hex


class Others:
    """
    What one hub tells the layer, which may fail: then others miss it. `groups` are those that the
    hub has members of, at any time. On the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, groups: Collection[str]) -> None:
        self._loop = loop
        self._groups = groups
        self._refreshing: asyncio.Task[None] | None = None
        # Texts that wait for the layer to take those before them.
        self._waiting: dict[str, list[str]] = {}
        self._waiting_bytes = 0
        # What is being told to the layer. The loop keeps only weak references to its tasks.
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._publishing: dict[str, asyncio.Task[None]] = {}

    def tell(self, group: str, channel: str) -> None:
        """
        Tell the layer whether `group` has members by way of `channel`: what is true by then. Until
        `rest`, the groups that have are told again now and then.
        """
        if self._refreshing is None:
            self._refreshing = self._loop.create_task(self._refresh(channel))
        before = self._telling.get(group)
        task = self._telling[group] = self._loop.create_task(
            self._tell_after(before, group, channel)
        )

        def on_done(done: asyncio.Task[None]) -> None:
            if self._telling.get(group) is done:
                del self._telling[group]

        task.add_done_callback(on_done)

    def rest(self) -> None:
        """There are no members any more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            self._refreshing = None

    async def settle(self, groups: Iterable[str]) -> None:
        """Wait until the layer knows who is in `groups`, or has failed to."""
        telling = [self._telling[group] for group in groups if group in self._telling]
        if telling:
            await asyncio.wait(telling)

    async def _tell_after(
        self, before: asyncio.Task[None] | None, group: str, channel: str
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        layer = get_channel_layer()
        tell = layer.group_add if group in self._groups else layer.group_discard
        try:
            async with asyncio.timeout(layers.SECONDS_TO_PUBLISH):
                await tell(group_on_layer(group), channel)
        except Exception:
            logger.warning("The channel layer was not told of a group: again soon.", exc_info=True)

    async def _refresh(self, channel: str) -> None:
        expiry = getattr(get_channel_layer(), "group_expiry", None) or _SECONDS_TO_REFRESH
        while True:
            await asyncio.sleep(min(_SECONDS_TO_REFRESH, expiry / 3))
            for group in list(self._groups):
                self.tell(group, channel)
                await self.settle([group])

    def publish(self, group: str, text: str) -> None:
        """Send text to the members of other processes, soon; a layer that fails loses it."""
        if not has_other_processes():
            return
        if self._waiting_bytes > socket_settings.MAX_QUEUE_BYTES:
            logger.warning("The channel layer is too slow: other processes miss a message.")
            return
        self._waiting_bytes += byte_length(text)
        self._waiting.setdefault(group, []).append(text)
        if group not in self._publishing:
            self._publishing[group] = self._loop.create_task(self._publish(group))

    async def _publish(self, group: str) -> None:
        try:
            while waiting := self._waiting.pop(group, None):
                self._waiting_bytes -= sum(map(byte_length, waiting))
                for batch in _batches(waiting):
                    await publish_to_layer(message_of_texts(group, batch))
        finally:
            del self._publishing[group]


def has_other_processes() -> bool:
    """Whether the channel layer reaches any: one in memory does not, and would only lose."""
    layer = get_channel_layer()
    return layer is not None and not isinstance(layer, InMemoryChannelLayer)


def message_of_texts(group: str, texts: list[str]) -> dict[str, Any]:
    """The message that carries `texts` to the members of other processes."""
    return {"type": GROUP_TEXTS, "process": PROCESS, "group": group, "texts": texts}


async def publish_to_layer(message: dict[str, Any]) -> None:
    """Send a message to the other processes that have members of its group."""
    try:
        async with asyncio.timeout(layers.SECONDS_TO_PUBLISH):
            await get_channel_layer().group_send(group_on_layer(message["group"]), message)
    except Exception:
        logger.warning(
            "The channel layer failed: other processes miss %s message(s).",
            len(message.get("texts", [message])),
            exc_info=True,
        )


def _batches(texts: list[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    yield batch
