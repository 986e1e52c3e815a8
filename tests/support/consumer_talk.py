"""
Sockets of class-based consumers, talked to from the loop that serves them.

    async def story():
        async with open_socket(Chat.as_routes()) as socket:
            await socket.give({"command": "greet"})
            assert await socket.receive_message() == {"text": "Hello"}
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import Any

from channels.routing import URLRouter

from tests.support.talk import Talk, talking_to


class ConsumersTalk(Talk):
    """One socket of class-based consumers."""

    async def give(self, content: Any) -> None:
        await self.send_text(json.dumps(content))

    async def ask(self, content: Any) -> Any:
        """Send `content`, and receive what comes next."""
        await self.give(content)
        return await self.receive_message()


@asynccontextmanager
async def open_socket(routes: Any, path: str = "/", **options: Any) -> Any:
    """A socket of `routes`, or of an application."""
    application = URLRouter(routes) if isinstance(routes, list) else routes
    async with talking_to(application, path, **options) as socket:
        yield ConsumersTalk(socket.communicator)
