"""Context variables that are set around sockets: an ASGI middleware says whose tenant one is."""

from __future__ import annotations

from contextvars import ContextVar
from decimal import Decimal

import pytest

from rest_channels.metrics import figures
from tests.models import Room
from tests.support.greeting_rooms import Rooms, RoomSerializer, two_users
from tests.support.subscription_stories import (
    as_user,
    event,
    routes,
    run,
    subscribed,
    told,
    written,
)
from tests.support.talk import talking_to

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_track]

tenant: ContextVar[str] = ContextVar("tenant", default="")


class State:
    """A value that a project keeps for one connection."""

    user = ""


state: ContextVar[State] = ContextVar("state")


def by_tenant(application):
    """The middleware: a header says the tenant."""

    async def middleware(scope, receive, send):
        tenant.set(dict(scope["headers"]).get(b"tenant", b"").decode())
        state.set(State())
        await application(scope, receive, send)

    return middleware


class OfTenant(Rooms):
    def get_queryset(self):
        return Room.objects.filter(name__startswith=tenant.get()).order_by("id")


class SaysTenant(RoomSerializer):
    def to_representation(self, room):
        return {"tenant": tenant.get(), "name": room.name}


def test_rows_of_the_tenant_that_a_middleware_has_set():
    async def story():
        application = by_tenant(routes(OfTenant))
        acme_1, beta_1 = [
            await written(Room.objects.create, name=name) for name in ("acme-1", "beta-1")
        ]
        async with (
            talking_to(application, "/", {"tenant": "acme"}) as acme,
            talking_to(application, "/", {"tenant": "beta"}) as beta,
        ):
            assert await subscribed(acme) == [{"id": acme_1.pk, "name": "acme-1"}]
            assert await subscribed(beta) == [{"id": beta_1.pk, "name": "beta-1"}]
            for name in ("acme-2", "beta-2"):
                await written(Room.objects.create, name=name)
            assert (await event(acme))[1]["name"] == "acme-2"
            assert (await event(beta))[1]["name"] == "beta-2"

    run(story)


def test_one_user_of_two_tenants():
    class Saying(Rooms):
        serializer_class = SaysTenant

    async def story():
        ann, _ = await two_users()
        application = by_tenant(routes(Saying))
        async with (
            talking_to(application, "/", {"tenant": "acme", **as_user(ann)}) as acme,
            talking_to(application, "/", {"tenant": "beta", **as_user(ann)}) as beta,
        ):
            await subscribed(acme)
            await subscribed(beta)
            await written(Room.objects.create, name="lobby")
            assert (await event(acme))[1] == {"tenant": "acme", "name": "lobby"}
            assert (await event(beta))[1] == {"tenant": "beta", "name": "lobby"}

    run(story)


def test_what_a_view_keeps_in_what_a_variable_holds():
    class SaysUser(RoomSerializer):
        def to_representation(self, room):
            return {"user": state.get().user}

    class Keeping(Rooms):
        serializer_class = SaysUser

        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            state.get().user = request.user.username

        def create(self, request, *args, **kwargs):
            state.get().user = "who wrote last"
            return super().create(request, *args, **kwargs)

    async def story():
        ann, bob = await two_users()
        application = by_tenant(routes(Keeping))
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            await bobs.send("create", data={"name": "lobby"})
            assert (await event(anns))[1] == {"user": "ann"}
            replies = [await bobs.receive() for _ in range(2)]
            assert [reply["data"] for reply in replies if "previous" in reply] == [{"user": "bob"}]

    run(story)


def test_calculations_leave_no_state():
    """The first one with decimals in a thread sets a variable of Python's."""

    class Calculated(Rooms):
        def get_queryset(self):
            return Room.objects.filter(id__gte=int(Decimal(1) / 3)).order_by("id")

    async def story():
        ann, bob = await two_users()
        application = routes(Calculated)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            before = figures.encodes.value
            await written(Room.objects.create, name="lobby")
            assert await event(anns) == await event(bobs)
            assert figures.encodes.value - before == 1

    run(story)
