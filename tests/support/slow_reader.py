"""A client that reads a message only when a story asks for it."""

from __future__ import annotations

import asyncio
import json


class Reader:
    """A client of a server whose `send` waits until the client reads: `reads` counts messages."""

    def __init__(self, application) -> None:
        self.told = []
        self.closed_with = None
        self._permits = asyncio.Semaphore(0)
        self._heard = asyncio.Condition()
        self._inbox = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        scope = {
            **{"type": "websocket", "path": "/", "raw_path": b"/", "query_string": b""},
            **{"headers": [(b"host", b"testserver")], "subprotocols": [], "root_path": ""},
            **{"client": ("127.0.0.1", 1), "server": ("testserver", 80), "scheme": "ws"},
        }
        self.reads(1)
        self._serving = asyncio.ensure_future(application(scope, self._inbox.get, self._send))

    async def _send(self, message) -> None:
        await self._permits.acquire()
        if message["type"] == "websocket.send":
            self.told.append(json.loads(message["text"]))
        elif message["type"] == "websocket.close":
            self.closed_with = message["code"]
        async with self._heard:
            self._heard.notify_all()

    def reads(self, count) -> None:
        """Let the next `count` messages be sent."""
        for _ in range(count):
            self._permits.release()

    def send(self, action, **keys) -> None:
        text = json.dumps({"action": action, **keys})
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def send_to(self, stream, action, **keys) -> None:
        """Send a frame to a stream of the root."""
        text = json.dumps({"stream": stream, "payload": {"action": action, **keys}})
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    async def until(self, is_true) -> None:
        async with asyncio.timeout(10):
            async with self._heard:
                await self._heard.wait_for(is_true)

    async def hears(self, count):
        """Reads, and returns, `count` messages."""
        already = len(self.told)
        self.reads(count)
        await self.until(lambda: len(self.told) == already + count)
        return self.told[already:]

    async def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(self._serving, 10)
