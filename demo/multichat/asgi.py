"""The door: HTTP to Django, websockets to the router."""

import os

from channels.routing import ProtocolTypeRouter
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "multichat.settings")
http = get_asgi_application()  # first: it loads the apps whose models the routing imports

from multichat.routing import router  # noqa: E402

application = ProtocolTypeRouter(
    {
        # Static files from Django, as `runserver` does; elsewhere that is the web server's work.
        "http": ASGIStaticFilesHandler(http),
        # With origin check, session and user.
        "websocket": router.as_asgi(),
    }
)
