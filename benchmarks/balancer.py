"""
A balancer of TCP connections, which can cut them.

It knows nothing of HTTP: each connection goes to one of the servers that accept one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

PIECE_BYTES = 64 * 1024


class Balancer:
    """
    A port in front of those of `servers`; for one event loop.

    `servers` may change at any time: it decides about connections that come later.
    """

    def __init__(self, servers: list[int]) -> None:
        self.servers = servers
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Listen on a free port; return its number."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def cut_some(self, share: float) -> None:
        """Cut this share of the connections, without a word to either end."""
        for connection in [*self._connections]:
            if random.random() < share:
                connection.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            server = await self._connected()
            if server is not None:
                await self._join(reader, writer, *server)
            writer.close()
        except asyncio.CancelledError:
            # It ends here, because Python's streams would log a task that was cancelled.
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in random.sample(self.servers, len(self.servers)):
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        ways = [
            asyncio.create_task(_pass_on(reader, to_server)),
            asyncio.create_task(_pass_on(from_server, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            to_server.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
