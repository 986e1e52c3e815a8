"""
A client in Python: DRF viewsets over one websocket, live. It needs no Django.

    async with connect("ws://localhost:8000/") as api:
        message = await api.messages.create({"room": 1, "text": "Hello"})
        async with api.messages.live(query={"room": 1}, window=50) as messages:
            async for change in messages:
                draw(messages.rows)

`pip install "django-rest-channels[client]"`. The names and the behaviour are those of the
JavaScript client, without optimistic writes.
"""

from __future__ import annotations

from rest_channels.client.api import AnyApi, Api, Stream
from rest_channels.client.calls import Answer
from rest_channels.client.changes import Change, Delete, Put, Reset
from rest_channels.client.connecting import Options, connect
from rest_channels.client.errors import ApiError, ClientError, ConnectionLost, NoKey
from rest_channels.client.handles import JoinedRoom, LiveRows, Watched
from rest_channels.client.limits import Limits
from rest_channels.client.line import ConnectionState
from rest_channels.client.wire import PendingWrite
from rest_channels.protocol import MISSING

__all__ = [
    "MISSING",
    "Answer",
    "AnyApi",
    "Api",
    "ApiError",
    "Change",
    "ClientError",
    "ConnectionLost",
    "ConnectionState",
    "Delete",
    "JoinedRoom",
    "Limits",
    "LiveRows",
    "NoKey",
    "Options",
    "PendingWrite",
    "Put",
    "Reset",
    "Stream",
    "Watched",
    "connect",
]
