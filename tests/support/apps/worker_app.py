"""
An application of two kinds of processes: servers that send on, workers that handle, one Redis.
"""

from __future__ import annotations

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter

from rest_channels.consumers import GroupConsumers, WebsocketConsumers, consumer
from rest_channels.routers import ChannelRouter, SameOrigin

django.setup()


class Pid(WebsocketConsumers):
    authentication_classes = []
    channel_name = "pid"
    internal = True

    @consumer(ask="pid")
    def pid(self, message):
        self.reply({"pid": os.getpid(), "kwargs": self.kwargs, "content": message.content})

    @consumer(ask="async")
    async def pid_async(self, message):
        for number in range(3):
            self.reply({"pid": os.getpid(), "number": number})


class Shared(GroupConsumers):
    authentication_classes = []
    channel_name = "shared"
    internal = True
    group_name = "shared {room}"

    @consumer(kind="async")
    async def shared(self, message):
        self.broadcast({"pid": os.getpid(), **message.content})


pids = Pid.as_routes(path=r"/pid/(?P<room>\w+)/")
groups = Shared.as_routes(path=r"/shared/(?P<room>\w+)/")
application = ProtocolTypeRouter(
    {
        "websocket": SameOrigin(URLRouter([*pids, *groups])),
        "channel": ChannelRouter(pids, groups).as_asgi(),
    }
)
