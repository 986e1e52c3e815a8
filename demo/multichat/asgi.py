"""The entry point: HTTP goes to Django, websockets to the router."""

import os

from channels.routing import ProtocolTypeRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "multichat.settings")
http = get_asgi_application()  # first, because it loads the apps whose models the routing imports

from multichat.routing import router  # noqa: E402

application = ProtocolTypeRouter(
    {
        # Django serves static files here, as `runserver` does. In production a web server does.
        "http": ASGIStaticFilesHandler(http),
        # The router checks the origin and adds session and user.
        "websocket": router.as_asgi(),
    }
)
