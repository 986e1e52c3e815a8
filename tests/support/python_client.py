"""
A server for stories of the Python client, and clients that are its users.

    with Chat("uvicorn") as chat:
        async with chat.user("ann") as ann:
            await ann.messages.list()
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from rest_channels.client import AnyApi, connect
from tests.support.server_processes import Server, answer


class Chat(Server):
    """A server of `tests.support.apps.client_app`."""

    def __init__(self, kind: str = "uvicorn", **rest_channels: Any) -> None:
        super().__init__(kind, "tests.support.apps.client_app:application", **rest_channels)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def token(self, username: str) -> str:
        """Sign a user up; a former token of this user ends."""
        with self.connect("/accounts/") as socket:
            token: str = answer(socket, "create", data={"username": username})["data"]["token"]
        return token

    def client(self, **options: Any) -> AnyApi:
        """Connect, on the running loop."""
        return connect(self.address, **options)

    def user(self, username: str, **options: Any) -> AnyApi:
        return self.client(token=self.token(username), **options)


def run(story: Coroutine[Any, Any, Any], *, seconds: float = 60) -> Any:
    """Run a story on a loop of its own."""
    return asyncio.run(asyncio.wait_for(story, seconds))


async def new_room(api: AnyApi) -> int:
    """Create a room of the test's own."""
    new_room.count = getattr(new_room, "count", 0) + 1
    room: dict[str, int] = await api.rooms.create({"name": f"room-{new_room.count}"})
    return room["id"]
