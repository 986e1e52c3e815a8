"""Rooms that several server processes share, over Redis; and rows to subscribe to."""

from __future__ import annotations

import django
from channels.routing import URLRouter

from rest_channels.consumers import RoomConsumers
from rest_channels.routers import SameOrigin, SimpleRouter

django.setup()

from tests.abuse_app import TagViewSet  # noqa: E402


class Chat(RoomConsumers):
    authentication_classes = []
    path = r"/(?P<user>\w+)"
    presence_grace = 0

    def get_user_key(self):
        return self.kwargs["user"]

    def get_user_data(self):
        return {"name": self.kwargs["user"]}


kept = Chat.as_routes(path=r"/kept/(?P<user>\w+)", history=50)
rows = SimpleRouter()
rows.register("tags", TagViewSet)

application = SameOrigin(URLRouter([*Chat.as_routes(), *kept, *rows.urls]))
