"""Rooms that several server processes share, over Redis."""

from __future__ import annotations

import django
from channels.routing import URLRouter

from rest_channels.consumers import RoomConsumers, presence
from rest_channels.routers import SameOrigin

django.setup()

# A process that dies is noticed soon, for tests are impatient.
presence.SECONDS_BETWEEN_BEATS, presence.SECONDS_TO_DEATH = 0.2, 2


class Chat(RoomConsumers):
    authentication_classes = []
    path = r"/(?P<user>\w+)"
    presence_grace = 0

    def get_user_key(self):
        return self.kwargs["user"]

    def get_user_data(self):
        return {"name": self.kwargs["user"]}


application = SameOrigin(
    URLRouter([*Chat.as_routes(), *Chat.as_routes(path=r"/kept/(?P<user>\w+)", history=50)])
)
