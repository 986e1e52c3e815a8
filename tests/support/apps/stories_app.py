"""The application of the servers of `tests.whole.test_servers`."""

from __future__ import annotations

import asyncio
import os
import threading

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from channels.routing import URLRouter  # noqa: E402
from django.urls import re_path  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from rest_channels.routers import DefaultRouter  # noqa: E402
from tests.support.talk import OpenViewSet  # noqa: E402

stopped = asyncio.Event()
opened = threading.Event()


class StoryViewSet(OpenViewSet):
    """Actions of the stories; one socket learns what happened on another."""

    @action(detail=False, methods=["post"])
    def echo(self, request):
        return Response(request.data)

    @action(detail=False)
    def long(self, request):
        return Response("x" * int(request.query_params["length"]))

    @action(detail=False)
    async def waits(self, request):
        try:
            yield "waiting"
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @action(detail=False)
    async def has_stopped(self, request):
        await stopped.wait()
        return Response()

    @action(detail=False)
    def gated(self, request):
        assert opened.wait(10)
        return Response("through")

    @action(detail=False)
    def open(self, request):
        opened.set()
        return Response()


router = DefaultRouter()
router.register("one", StoryViewSet, "one")
router.register("other", StoryViewSet, "other")


def wrapped(application):
    """Middleware with a `send` of its own: what lies behind does not know the server."""

    async def middleware(scope, receive, send):
        async def own_send(message):
            await send(message)

        await application(scope, receive, own_send)

    return middleware


everything = router.as_asgi()
application = URLRouter([re_path("^wrapped/", wrapped(everything)), re_path("", everything)])
