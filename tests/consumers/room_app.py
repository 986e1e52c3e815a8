"""Rooms that several server processes share, over Redis."""

from __future__ import annotations

import django
from channels.routing import URLRouter

from rest_channels.routers import SameOrigin
from tests.consumers.rooms import Chat

django.setup()


application = SameOrigin(
    URLRouter([*Chat.as_routes(), *Chat.as_routes(path=r"/kept/(?P<user>\w+)", history=50)])
)
