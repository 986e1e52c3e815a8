"""A group that several server processes share, over Redis."""

from __future__ import annotations

import django
from channels.routing import URLRouter

from rest_channels.consumers import Group, GroupConsumers, consumer
from rest_channels.routers import SameOrigin

django.setup()


class Room(GroupConsumers):
    authentication_classes = []
    path = r"/(?P<room>\w+)/"
    group_name = "room {room}"

    @consumer(command="burst")
    def burst(self, message):
        for number in range(message.content["count"]):
            self.broadcast({"n": number})

    @consumer(command="invite")
    async def invite(self, message):
        await Group("room party").aadd(message.content["address"])

    @consumer(command="address")
    def address(self, message):
        self.reply({"address": self.reply_channel.name})


application = SameOrigin(URLRouter(Room.as_routes()))
