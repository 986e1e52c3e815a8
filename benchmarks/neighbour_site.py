"""
The project of `benchmarks.live_site`, with a slow viewset, for sockets of many users.

A path begins with the user: `/as/3/messages/`. Users have addresses of their own, as anonymous ones
are whose credentials are unknown. `/slow/` has three rows whose query takes `BENCH_SLOW` seconds.
"""

from __future__ import annotations

import os

from benchmarks.site import messages

# isort: split
from django.db import connection
from django_filters.rest_framework import DjangoFilterBackend

from benchmarks.live_site import MessageViewSet, writing
from rest_channels.routers import DefaultRouter

SECONDS = float(os.environ.get("BENCH_SLOW", "0.3"))


class Messages(MessageViewSet):
    filter_backends = [DjangoFilterBackend]
    filterset_fields = {"id": ["exact", "lte"], "score": ["exact", "lte"]}
    pagination_class = None
    shared = True


class SlowMessages(MessageViewSet):
    shared = True

    def get_queryset(self):
        function = "pg_sleep" if connection.vendor == "postgresql" else "sleep"
        slept = f"(SELECT CAST({function}({SECONDS}) AS text)) IS NULL"
        # An uncorrelated subquery runs once, however many rows there are.
        return messages().filter(id__lte=3).extra(where=[f"({slept}) IS NOT NULL"])


def application():
    router = DefaultRouter()
    router.register("messages", Messages)
    router.register("slow", SlowMessages, basename="slow")
    told = router.as_asgi()

    async def of_users(scope, receive, send):
        if scope["path"] == "/write/":
            await writing(scope, receive, send)
            return
        _, _, user, *rest = scope["path"].split("/")
        path = "/" + "/".join(rest)
        given = {**scope, "path": path, "raw_path": path.encode(), "client": (f"10.0.0.{user}", 1)}
        await told(given, receive, send)

    return of_users
