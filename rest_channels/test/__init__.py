"""
Test tools for projects, in the manner of DRF's `APIClient` and `APITestCase`.

    class MessageTests(SocketTestCase):
        def test_members_post(self):
            self.socket.force_authenticate(ann)
            reply = self.socket.create("messages", {"text": "Hello"})
            assert reply.status_code == 201

        async def test_members_post_too(self):
            async with AsyncSocketClient() as socket:
                socket.force_authenticate(ann)
                reply = await socket.create("messages", {"text": "Hello"})
                assert reply.status_code == 201

They need neither a server nor a server package. All database work happens within the transaction of
a plain `TestCase`. With pytest, the fixture `socket_client` returns a client.
"""

from __future__ import annotations

from rest_channels.test.async_client import AsyncSocketClient
from rest_channels.test.base_client import SocketClosed, SocketReply
from rest_channels.test.live_list import LiveList
from rest_channels.test.sync_client import SocketClient, SocketTestCase

__all__ = [
    "AsyncSocketClient",
    "LiveList",
    "SocketClient",
    "SocketClosed",
    "SocketReply",
    "SocketTestCase",
]
