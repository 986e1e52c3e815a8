"""Rooms whose serializers say who asks: what two users hear of one room tells who is mixed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.routing import URLRouter
from django.contrib.auth.models import User
from rest_framework import serializers

from tests.models import Room
from tests.support.room_viewsets import OpenRooms, RoomSerializer
from tests.support.subscription_stories import ByHeader, as_user, event, routes, subscribed, written
from tests.support.talk import talking_to


class Rooms(OpenRooms):
    authentication_classes = [ByHeader]


def greets(get_name: Callable[[dict[str, Any]], str]) -> type[RoomSerializer]:
    """A serializer that says the name `get_name` finds in its context."""

    class Greeting(RoomSerializer):
        hello = serializers.SerializerMethodField()

        def get_hello(self, room):
            return get_name(self.context)

        class Meta(RoomSerializer.Meta):
            fields = ["hello"]

    return Greeting


async def two_users() -> list[User]:
    return [await written(User.objects.create_user, name) for name in ("ann", "bob")]


async def who_is_told(viewset: Any) -> tuple[Any, Any]:
    """Return what ann and bob receive of one room."""
    ann, bob = await two_users()
    return await what_is_told(routes(viewset), as_user(ann), as_user(bob))


async def what_is_told(
    application: URLRouter, headers: dict[str, str], others: dict[str, str]
) -> tuple[Any, Any]:
    """Return what two sockets receive of one room, and of nothing else."""
    async with (
        talking_to(application, "/", headers) as one,
        talking_to(application, "/", others) as other,
    ):
        await subscribed(one)
        await subscribed(other)
        await written(Room.objects.create, name="lobby")
        return (await event(one))[1], (await event(other))[1]
