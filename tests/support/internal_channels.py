"""
Stories of internal channels, told in one process.

    assert told(Pages.as_routes(channel_name="pages"), {"page": "1"}) == [{"title": "One"}]
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers

from rest_channels.consumers import Channel
from rest_channels.consumers.groups.layers import message, socket_address, to_json
from rest_channels.routers import ChannelRouter


@contextmanager
def a_layer(layer: Any = None) -> Iterator[Any]:
    """A channel layer in place of the project's: one in memory, unless another is given."""
    layer = layer or InMemoryChannelLayer()
    before = channel_layers.set("default", layer)
    try:
        yield layer
    finally:
        if before is None:
            # The project's is made when it is first asked for.
            del channel_layers.backends["default"]
        else:
            channel_layers.set("default", before)


def told(
    *routes: Any, content: Any, channel: str | None = None, kwargs: dict[str, Any] | None = None
) -> list[Any]:
    """Return all replies to `content`, sent to a channel of `routes`, decoded."""
    return asyncio.run(tells(*routes, content=content, channel=channel, kwargs=kwargs))


async def tells(
    *routes: Any, content: Any, channel: str | None = None, kwargs: dict[str, Any] | None = None
) -> list[Any]:
    with a_layer() as layer:
        mapping = ChannelRouter(*routes).mapping
        name = routes[0].channels[0] if channel is None else channel
        address = socket_address("asker", "1")
        await mapping[name].serve(message(to_json(content), kwargs or {}, address))
        return [json.loads((await layer.receive("asker"))["text"]) for _ in _waiting(layer)]


def _waiting(layer: InMemoryChannelLayer) -> range:
    queue = layer.channels.get("asker")
    return range(queue.qsize() if queue else 0)


__all__ = ["Channel", "a_layer", "tells", "told"]
