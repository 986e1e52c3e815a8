"""Wait until something has happened, for as long as a slow machine may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

# Only a test that fails waits for so long.
_SECONDS = 60


async def until(is_true: Callable[[], object]) -> None:
    """Let the loop go on until `is_true`. Raises TimeoutError."""
    async with asyncio.timeout(_SECONDS):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def wait_until(is_true: Callable[[], object]) -> None:
    """Let other threads and processes go on until `is_true`. Raises TimeoutError."""
    began = time.monotonic()
    while not is_true():
        if time.monotonic() > began + _SECONDS:
            raise TimeoutError("It did not come true.")
        time.sleep(0.001)
