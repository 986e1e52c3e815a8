"""
Helpers of async stories: a client of a socket within the event loop, and frames as text.

    async def story():
        async with talking_to(application) as socket:
            await socket.send("list", request_id=1)
            assert (await socket.receive())["response_status"] == 200
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from rest_framework.viewsets import GenericViewSet

from rest_channels.viewsets import ConsumerViewSetMixin


class OpenViewSet(ConsumerViewSetMixin, GenericViewSet):
    """A viewset for everybody, that asks no database who it is."""

    authentication_classes = []
    permission_classes = []


class Talk:
    """One socket, driven from the loop that serves it."""

    def __init__(self, communicator: WebsocketCommunicator) -> None:
        self.communicator = communicator

    async def send(self, action: str, stream: str | None = None, **payload: Any) -> None:
        payload = {"action": action, **payload}
        message = payload if stream is None else {"stream": stream, "payload": payload}
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        await self.communicator.send_to(text_data=text)

    async def send_bytes(self, content: bytes) -> None:
        await self.communicator.send_to(bytes_data=content)

    async def receive(self) -> dict[str, Any]:
        """The next payload, whatever its stream."""
        message = await self.receive_message()
        return message.get("payload", message)

    async def receive_message(self) -> dict[str, Any]:
        message = await self.output()
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def output(self) -> dict[str, Any]:
        """Return the next message of the application; raise its exception as soon as it fails."""
        sent = asyncio.ensure_future(self.communicator.output_queue.get())
        ended = self.communicator.future
        await asyncio.wait([sent, ended], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if sent.done():
            return sent.result()
        sent.cancel()
        if ended.done():
            ended.result()
            raise AssertionError("the application has ended")
        raise TimeoutError("the application sent nothing")

    async def closed_with(self) -> int:
        """The code that the application closes with, after whatever else it says."""
        while (message := await self.output())["type"] == "websocket.send":
            pass
        assert message["type"] == "websocket.close"
        return message["code"]

    async def ask(self, action: str, stream: str | None = None, **payload: Any) -> dict[str, Any]:
        await self.send(action, stream, **payload)
        return await self.receive()

    async def disconnect(self) -> None:
        """Leave, and wait until the application has ended. Raises what it raises."""
        await self.communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.communicator.wait(10)

    async def leave(self) -> None:
        """Leave without waiting for the application."""
        await self.communicator.send_input({"type": "websocket.disconnect", "code": 1000})


@asynccontextmanager
async def talking_to(
    application: Any, path: str = "/", headers: dict[str, str] | None = None
) -> AsyncIterator[Talk]:
    """A socket of `application`, open; closed by the end of the block."""
    named = {"host": "testserver", **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in named.items()]
    communicator = WebsocketCommunicator(application, path, headers=encoded)
    connected, code = await communicator.connect(timeout=10)
    assert connected, f"refused with {code}"
    socket = Talk(communicator)
    yield socket
    if not communicator.future.done():
        await socket.disconnect()


def serving(viewset: type, **initkwargs: Any) -> URLRouter:
    """An application with the sockets of one viewset, at the root."""
    return URLRouter(viewset.as_routes("", "test", **initkwargs))


def ids(payloads: list[dict[str, Any]]) -> list[Any]:
    return [payload["request_id"] for payload in payloads]


async def happened(event: threading.Event) -> None:
    """Wait for what a worker thread does."""
    assert await asyncio.to_thread(event.wait, 10)
