"""Rooms, and rows, that several server processes share, over Redis."""

from __future__ import annotations

import django
from channels.routing import URLRouter

from rest_channels.routers import SameOrigin, SimpleRouter
from tests.support.chat_rooms import Chat

django.setup()

from tests.support.apps.abuse_app import TagViewSet  # noqa: E402

kept = Chat.as_routes(path=r"/kept/(?P<user>\w+)", history=50)
rows = SimpleRouter()
rows.register("tags", TagViewSet)

application = SameOrigin(URLRouter([*Chat.as_routes(), *kept, *rows.urls]))
