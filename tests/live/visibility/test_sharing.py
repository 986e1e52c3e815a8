"""Results that depend on who asks are given to nobody else: `watch`, `evaluations`, `telling`."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db.models import Prefetch
from rest_framework import serializers
from rest_framework.permissions import BasePermission, IsAuthenticated

from tests.models import Message, Room
from tests.support.greeting_rooms import Rooms, RoomSerializer, greets, two_users, who_is_told
from tests.support.subscription_stories import (
    event,
    nothing_more,
    routes,
    run,
    subscribed,
    told,
    written,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "get_name",
    [
        lambda context: context["request"].user.username,
        lambda context: context["request"]._request.user.username,
        lambda context: User.objects.get(pk=context["request"].META["HTTP_AUTHORIZATION"]).username,
        lambda context: User.objects.get(pk=context["request"].headers["authorization"]).username,
        lambda context: context["view"].request.user.username,
        lambda context: getattr(context["request"], "user").username,  # noqa: B009
    ],
    ids=["user", "django's user", "META", "headers", "the view's request", "getattr"],
)
def test_a_serializer_that_reads_who_asks(get_name):
    class Greeted(Rooms):
        serializer_class = greets(get_name)

    async def story():
        assert await who_is_told(Greeted) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_a_context_that_holds_who_asks():
    class Greeted(Rooms):
        serializer_class = greets(lambda context: context["name"])

        def get_serializer_context(self):
            return {**super().get_serializer_context(), "name": self.request.user.username}

    async def story():
        assert await who_is_told(Greeted) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_a_view_that_remembers_who_asks():
    class Greeted(Rooms):
        serializer_class = greets(lambda context: context["view"].name_of_user)

        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            self.name_of_user = request.user.username

    async def story():
        assert await who_is_told(Greeted) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_a_serializer_chosen_by_who_asks():
    class ForAnn(RoomSerializer):
        class Meta(RoomSerializer.Meta):
            fields = ["name"]

    class ForOthers(RoomSerializer):
        class Meta(RoomSerializer.Meta):
            fields = ["is_staff_only"]

    class Chosen(Rooms):
        def get_serializer_class(self):
            return ForAnn if self.request.user.username == "ann" else ForOthers

    async def story():
        assert await who_is_told(Chosen) == ({"name": "lobby"}, {"is_staff_only": False})

    run(story)


def test_only_one_is_read_after_it_was_found_out_for_nobody():
    """That a serializer reads the user is found out at the first row for which it does."""

    class Sometimes(RoomSerializer):
        def to_representation(self, room):
            name = self.context["request"].user.username if room.name == "mine" else "all"
            return {"for": name}

    class SometimesRooms(Rooms):
        serializer_class = Sometimes

    async def story():
        ann, bob = await two_users()
        application = routes(SometimesRooms)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            for name, for_ann, for_bob in (
                ("public", "all", "all"),
                ("mine", "ann", "bob"),
                ("other", "all", "all"),
            ):
                await written(Room.objects.create, name=name)
                assert await event(anns) == ("create", {"for": for_ann})
                assert await event(bobs) == ("create", {"for": for_bob})

    run(story)


def test_a_prefetch_of_who_asks():
    class MessageNames(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["text"]

    class WithOwn(serializers.ModelSerializer):
        own = MessageNames(many=True)

        class Meta:
            model = Room
            fields = ["own"]

    class OwnRooms(Rooms):
        serializer_class = WithOwn

        def get_queryset(self):
            own = Message.objects.filter(author=self.request.user.pk)
            return super().get_queryset().prefetch_related(Prefetch("messages", own, to_attr="own"))

    async def story():
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        await written(Message.objects.create, room=room, author=ann, text="ann's")
        application = routes(OwnRooms)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            assert await subscribed(anns) == [{"own": [{"text": "ann's"}]}]
            assert await subscribed(bobs) == [{"own": []}]
            await written(room.save)
            assert await event(anns) == ("update", {"own": [{"text": "ann's"}]})
            assert await event(bobs) == ("update", {"own": []})

    run(story)


def test_an_object_permission_holds_for_a_row_as_retrieve_has_it():
    class OnlyAnn(BasePermission):
        def has_object_permission(self, request, view, obj):
            return request.user.username == "ann" or obj.name != "secret"

    class Guarded(Rooms):
        permission_classes = [OnlyAnn]

    async def story():
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        application = routes(Guarded)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            for socket in (anns, bobs):
                reply = await socket.ask("subscribe_instance", pk=room.pk, request_id=1)
                assert reply["response_status"] == 201
            room.name = "secret"
            await written(room.save)
            assert await event(anns) == ("update", {"id": room.pk, "name": "secret"})
            assert await event(bobs) == ("delete", {"pk": room.pk})
            reply = await bobs.ask("subscribe_instance", pk=room.pk, request_id=2)
            assert reply["response_status"] == 403
            room.name = "open"
            await written(room.save)
            assert await event(anns) == ("update", {"id": room.pk, "name": "open"})
            assert await event(bobs) == ("create", {"id": room.pk, "name": "open"})

    run(story)


def test_a_permission_that_reads_who_asks():
    class Members(BasePermission):
        def has_permission(self, request, view):
            return Room.objects.filter(name=f"pass-{request.user.username}").exists()

    class MembersRooms(Rooms):
        permission_classes = [IsAuthenticated, Members]
        queryset = Room.objects.exclude(name__startswith="pass")

    async def story():
        ann, bob = await two_users()
        passes = {
            user: await written(Room.objects.create, name=f"pass-{user.username}")
            for user in (ann, bob)
        }
        application = routes(MembersRooms)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            await written(passes[bob].delete)
            revoked = await bobs.receive()
            assert (revoked["action"], revoked["response_status"]) == ("revoke", 403)
            assert revoked["request_id"] == "s"
            lobby = await written(Room.objects.create, name="lobby")
            assert await event(anns) == ("create", {"id": lobby.pk, "name": "lobby"})
            reply = await bobs.ask("list", request_id=1)
            assert reply["response_status"] == 403

    run(story)


def test_languages_are_not_mixed(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]

    class Spoken(Rooms):
        serializer_class = greets(lambda context: _language())

    async def story():
        application = routes(Spoken)
        async with told(application) as english, told(application) as german:
            await subscribed(english, headers={"accept-language": "en"})
            await subscribed(german, headers={"accept-language": "de"})
            for _ in range(2):
                room = await written(Room.objects.create, name=f"room{_}")
                assert (await event(english))[1] == {"hello": "en"}
                assert (await event(german))[1] == {"hello": "de"}
            await written(room.delete)
            assert (await event(english))[0] == (await event(german))[0] == "delete"
            await nothing_more(english, lambda: Room.objects.create(name="fence"))

    run(story)


def _language():
    from django.utils.translation import get_language

    return get_language()
