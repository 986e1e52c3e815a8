"""Rooms that several server processes share, over Redis."""

from __future__ import annotations

import django
from channels.routing import URLRouter

from rest_channels.consumers import presence
from rest_channels.routers import SameOrigin
from tests.consumers.rooms import Chat

django.setup()

# A process that dies is noticed soon, for tests are impatient.
presence.SECONDS_BETWEEN_BEATS, presence.SECONDS_TO_DEATH = 0.2, 2


application = SameOrigin(
    URLRouter([*Chat.as_routes(), *Chat.as_routes(path=r"/kept/(?P<user>\w+)", history=50)])
)
