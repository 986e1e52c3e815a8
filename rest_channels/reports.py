"""
`rest_channels.stats()` in the log, every `STATS_SECONDS` while sockets are open.
"""

from __future__ import annotations

import asyncio
import json
import logging
from weakref import WeakSet

from rest_channels.counters import stats
from rest_channels.settings import socket_settings

logger = logging.getLogger("rest_channels.stats")

_reporting: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def begin() -> None:
    """Report from now on, where the setting asks for it; on the loop, with a socket open."""
    loop = asyncio.get_running_loop()
    if socket_settings.STATS_SECONDS and loop not in _reporting:
        _reporting.add(loop)
        loop.call_later(socket_settings.STATS_SECONDS, _report, loop)


def _report(loop: asyncio.AbstractEventLoop) -> None:
    _reporting.discard(loop)
    found = stats()
    logger.info("%s", json.dumps(found), extra={"stats": found})
    if found["connections"]:
        begin()
