"""
Server processes as threads with an event loop each, which a test may kill.

    with LoopProcess() as process:
        socket = await process.do(connect())

Each has hubs of its own, as a process has. A kill ends everything in it as it is: no reply is sent,
and no socket receives a close frame.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self


class LoopProcess:
    """A thread with an event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_running = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()])
        self._thread.start()
        assert self._is_running.wait(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._is_running.set()
        await self._end.wait()

    async def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do `work` in this process; called in another loop."""
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def kill(self) -> None:
        """End the process; all its tasks are cancelled."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._thread.is_alive():
            self.kill()
