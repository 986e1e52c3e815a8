"""The rooms of `live_rooms_app`, and over HTTP the views of `tests.urls`."""

from __future__ import annotations

from channels.routing import ProtocolTypeRouter

from tests.support.apps.live_rooms_app import application as rooms

# isort: split
from django.core.asgi import get_asgi_application

application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": rooms})
