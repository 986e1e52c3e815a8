"""The project's channel layer: whether it reaches other processes, and how long a call may take."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from channels.layers import InMemoryChannelLayer, get_channel_layer

from rest_channels.observing.paced_warnings import Pace
from rest_channels.settings import socket_settings

T = TypeVar("T")

logger = logging.getLogger("rest_channels")


def shared_layer() -> Any:
    """Return the layer if it reaches other processes, else None. Raises what its import raises."""
    layer = get_channel_layer()
    return None if isinstance(layer, InMemoryChannelLayer) else layer


async def bounded(awaitable: Awaitable[T]) -> T:
    """Await a call of the layer for at most `PUBLISH_SECONDS`, in case the layer hangs."""
    # Not `wait_for`: before Python 3.12 it may swallow a cancellation of its caller.
    async with asyncio.timeout(socket_settings.PUBLISH_SECONDS):
        return await awaitable


def is_cancelled() -> bool:
    """
    Return whether the running task is being cancelled; if not, a CancelledError is the layer's.
    """
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


_pace: Final = Pace()


def complain(what: str) -> None:
    """Log `what` with the current exception; the same text at most once a minute."""
    if _pace.is_due(what):
        logger.warning(what, exc_info=sys.exc_info()[0] is not None)
