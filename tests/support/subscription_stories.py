"""
Helpers of stories about subscriptions: a socket, and writes from another thread.
"""

from __future__ import annotations

import asyncio
from typing import Any

from channels.db import database_sync_to_async
from channels.routing import URLRouter
from django.contrib.auth.models import User
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication

from rest_channels.viewsets import ModelConsumerViewSet
from tests.support.talk import Talk, talking_to


class ByHeader(BaseAuthentication):
    """The user that the handshake names by primary key: `authorization: 7`."""

    def authenticate(self, request):
        pk = request.headers.get("authorization")
        return (User.objects.get(pk=pk), None) if pk else None

    def authenticate_header(self, request):
        return "pk"


def as_user(user: Any) -> dict[str, str]:
    """The headers of a handshake of `user`."""
    return {"authorization": str(user.pk)} if user is not None else {}


def told(application: Any, path: str = "/", user: Any = None):
    """A socket of `user`, see `talking_to`."""
    return talking_to(application, path, as_user(user))


def routes(viewset: type, **initkwargs: Any) -> URLRouter:
    """The sockets of one viewset, at the root."""
    return URLRouter(viewset.as_routes("", "test", **initkwargs))


def viewset(queryset: Any, show: Any, **attributes: Any) -> type:
    """A viewset whose rows show what `show` makes of them."""

    class Shown(serializers.ModelSerializer):
        shown = serializers.SerializerMethodField()

        class Meta:
            model = queryset.model
            fields = ["pk", "shown"]

        def get_shown(self, row):
            return show(row)

    given = {"queryset": queryset.order_by("pk"), "serializer_class": Shown, **attributes}
    given |= {"authentication_classes": [], "permission_classes": []}
    return type("Rows", (ModelConsumerViewSet,), given)


async def subscribed(socket: Talk, **keys: Any) -> Any:
    """Subscribe with a snapshot; returns what it holds."""
    reply = await socket.ask("subscribe", **{"request_id": "s", "snapshot": True, **keys})
    assert reply["response_status"] == 201, reply
    return reply["data"]


async def written(write: Any, *args: Any, **kwargs: Any) -> Any:
    """Call what writes, as another request of this process would."""
    return await database_sync_to_async(write)(*args, **kwargs)


async def event(socket: Talk) -> tuple[str, Any]:
    """The next event: its action and data."""
    payload = await socket.receive()
    return payload["action"], payload["data"]


async def nothing_more(socket: Talk, fence: Any) -> None:
    """
    Check that earlier writes caused no event: that of `fence`, a write, comes next.
    """
    await written(fence)
    action, data = await event(socket)
    assert action in ("create", "update"), (action, data)


def run(story: Any) -> None:
    asyncio.run(story())
