"""Hearing the doorbells of other processes, as a hub does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rest_channels.bus.messages import Look
from rest_channels.bus.process_channel import current_channel
from rest_channels.bus.publisher import DOORBELL_GROUP


@asynccontextmanager
async def doorbells(on_look: Callable[[Look], None]) -> AsyncIterator[None]:
    """Call `on_look` with each doorbell that this process's channel brings meanwhile."""
    channel = current_channel()
    channel.handle(Look, on_look)
    channel.hold(on_look)
    channel.join(DOORBELL_GROUP)
    try:
        yield
    finally:
        channel.leave(DOORBELL_GROUP)
        channel.release(on_look)
        await channel.settle([DOORBELL_GROUP])
