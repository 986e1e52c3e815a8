"""Code that may look at anything: a text that it makes for one user reaches no other."""

from __future__ import annotations

import logging
from functools import cached_property

import pytest
from django.db.models import Count, Prefetch, Q, prefetch_related_objects
from rest_framework import serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.viewsets import ModelViewSet

from rest_channels.metrics import figures
from rest_channels.routers import SimpleRouter
from tests.models import Message, Room
from tests.support.greeting_rooms import Rooms, RoomSerializer, greets, two_users, who_is_told
from tests.support.subscription_stories import (
    ByHeader,
    event,
    routes,
    run,
    subscribed,
    told,
    written,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_track]


def name_in(context):
    return context["request"].user.username


# What a serializer keeps


class Keeping(RoomSerializer):
    """Right over HTTP, where a row serves one request."""

    hello = serializers.SerializerMethodField()

    def get_hello(self, room):
        if not hasattr(room, "_hello"):
            room._hello = name_in(self.context)
        return room._hello

    class Meta(RoomSerializer.Meta):
        fields = ["hello"]


def test_what_is_kept_on_the_row():
    class Kept(Rooms):
        serializer_class = Keeping

    async def story():
        assert await who_is_told(Kept) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_what_is_kept_on_a_related_row():
    class ByRoom(serializers.ModelSerializer):
        hello = serializers.SerializerMethodField()

        def get_hello(self, message):
            if not hasattr(message.room, "_hello"):
                message.room._hello = name_in(self.context)
            return message.room._hello

        class Meta:
            model = Message
            fields = ["hello"]

    async def heard(queryset):
        viewset = type("Kept", (Rooms,), {"queryset": queryset, "serializer_class": ByRoom})
        application = routes(viewset)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            await written(Message.objects.create, room=room, text="hello")
            return (await event(anns))[1], (await event(bobs))[1]

    ann = bob = room = None

    async def story():
        nonlocal ann, bob, room
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        for queryset in (
            Message.objects.select_related("room"),
            Message.objects.prefetch_related("room"),
        ):
            assert await heard(queryset) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_what_is_kept_on_prefetched_rows():
    class WithMessages(RoomSerializer):
        said = serializers.SerializerMethodField()

        def get_said(self, room):
            messages = room.messages.all()
            for message in messages:
                message.reader = getattr(message, "reader", name_in(self.context))
            return [message.reader for message in messages]

        class Meta(RoomSerializer.Meta):
            fields = ["said"]

    class Kept(Rooms):
        queryset = Room.objects.prefetch_related("messages")
        serializer_class = WithMessages

    async def story():
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        await written(Message.objects.create, room=room, text="hello")
        application = routes(Kept)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            assert await subscribed(anns) == [{"said": ["ann"]}]
            assert await subscribed(bobs) == [{"said": ["bob"]}]
            await written(room.save)
            assert await event(anns) == ("update", {"said": ["ann"]})
            assert await event(bobs) == ("update", {"said": ["bob"]})

    run(story)


def test_what_a_serializer_prefetches_to_an_attribute():
    class WithOwn(RoomSerializer):
        def to_representation(self, room):
            own = Message.objects.filter(author__username=name_in(self.context))
            prefetch_related_objects([room], Prefetch("messages", own, to_attr="own"))
            return {"own": [message.text for message in room.own]}

    class OwnRooms(Rooms):
        serializer_class = WithOwn

    async def story():
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        await written(Message.objects.create, room=room, author=ann, text="ann's secret")
        application = routes(OwnRooms)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            assert await subscribed(anns) == [{"own": ["ann's secret"]}]
            assert await subscribed(bobs) == [{"own": []}]
            await written(room.save)
            assert await event(anns) == ("update", {"own": ["ann's secret"]})
            assert await event(bobs) == ("update", {"own": []})

    run(story)


def test_rows_that_cannot_be_copied_are_read_again():
    class Tag:
        """A class that is not known."""

    class Tagged(type(Room.objects.all())):
        def _fetch_all(self):
            super()._fetch_all()
            for row in self._result_cache:
                row.tag = row.tag if hasattr(row, "tag") else Tag()

    class ByTag(RoomSerializer):
        def to_representation(self, room):
            if not hasattr(room.tag, "name"):
                room.tag.name = name_in(self.context)
            return {"hello": room.tag.name}

    class Kept(Rooms):
        serializer_class = ByTag

        def get_queryset(self):
            return Tagged(Room).order_by("id")

    async def story():
        assert await who_is_told(Kept) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_rows_that_refer_to_one_that_the_view_has_read():
    """`room.messages.all()` gives rows that refer to the very `room`, and to what is kept on it."""

    class OfRoom(serializers.ModelSerializer):
        mine = serializers.IntegerField(source="room.mine")

        class Meta:
            model = Message
            fields = ["mine", "text"]

    class InLobby(Rooms):
        serializer_class = OfRoom

        def get_queryset(self):
            mine = Count("messages", filter=Q(messages__author=self.request.user))
            return Room.objects.annotate(mine=mine).get(name="lobby").messages.order_by("id")

    async def story():
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        message = await written(Message.objects.create, room=room, author=ann, text="hello")
        application = routes(InLobby)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            assert await subscribed(anns) == [{"mine": 1, "text": "hello"}]
            assert await subscribed(bobs) == [{"mine": 0, "text": "hello"}]
            message.text = "bye"
            await written(message.save)
            assert await event(anns) == ("update", {"mine": 1, "text": "bye"})
            assert await event(bobs) == ("update", {"mine": 0, "text": "bye"})

    run(story)


# What a view keeps


class Remembering(Rooms):
    """A view that finds out once whom it serves: it serves one request."""

    serializer_class = greets(lambda context: context["view"].name_of_user)

    @cached_property
    def name_of_user(self):
        return self.request.user.username


def test_a_page_that_is_loaded_again_and_another_user():
    async def story():
        ann, bob = await two_users()
        await written(Room.objects.create, name="lobby")
        application = routes(Remembering)
        async with told(application, user=ann) as before:
            assert await subscribed(before) == [{"hello": "ann"}]
        async with told(application, user=bob) as other:
            # A pass that finds that nobody is there any more.
            await subscribed(other, query={"page": "2"}, snapshot=False)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            assert await subscribed(anns) == [{"hello": "ann"}]
            assert await subscribed(bobs) == [{"hello": "bob"}]
            room = await written(Room.objects.create, name="hall")
            assert (await event(anns))[1] == {"hello": "ann"}
            assert (await event(bobs))[1] == {"hello": "bob"}
            await written(room.save)
            assert (await event(anns))[1] == {"hello": "ann"}
            assert (await event(bobs))[1] == {"hello": "bob"}

    run(story)


class Liked(RoomSerializer):
    liked = serializers.SerializerMethodField()

    def get_liked(self, room):
        return room.pk in self.context["view"].liked

    class Meta(RoomSerializer.Meta):
        fields = ["id", "liked"]


class LikedRooms(Rooms):
    """To say something in a room is to like it."""

    serializer_class = Liked

    @cached_property
    def liked(self):
        own = Message.objects.filter(author=self.request.user.pk)
        return set(own.values_list("room", flat=True))


@pytest.mark.parametrize("is_shared", [False, True], ids=["undeclared", "declared"])
def test_what_a_view_found_out_once_is_found_out_again(is_shared):
    """Declared or not: within the lease of an answer, its view is not as old as the answer."""

    class Found(LikedRooms):
        shared = is_shared

        @cached_property
        def liked(self):
            return set(Message.objects.values_list("room", flat=True))

    async def story():
        ann, _ = await two_users()
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(Found), user=ann) as socket:
            assert await subscribed(socket) == [{"id": room.pk, "liked": False}]
            for is_liked in (True, False):
                if is_liked:
                    await written(Message.objects.create, room=room, author=ann, text="hello")
                else:
                    await written(Message.objects.all().delete)
                await written(room.save)
                assert await event(socket) == ("update", {"id": room.pk, "liked": is_liked})

    run(story)


def test_what_is_kept_on_the_user():
    """One of the same session, or token: a copy of it for each view."""

    class KeptOnUser(RoomSerializer):
        def to_representation(self, room):
            user = self.context["request"].user
            if not hasattr(user, "_said"):
                user._said = Message.objects.filter(author=user).count()
            return {"said": user._said}

    class Kept(Rooms):
        serializer_class = KeptOnUser

    async def story():
        ann, _ = await two_users()
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(Kept), user=ann) as socket:
            assert await subscribed(socket) == [{"said": 0}]
            await written(Message.objects.create, room=room, author=ann, text="hello")
            await written(room.save)
            assert await event(socket) == ("update", {"said": 1})

    run(story)


# A renderer of the project's own


def test_a_renderer_that_writes_who_asks_into_what_is_gone():
    class Signed(JSONRenderer):
        def render(self, data, media_type=None, renderer_context=None):
            if isinstance(data, int):
                data = f"{data} for {renderer_context['request'].user}"
            return super().render(data, media_type, renderer_context)

    class SignedRooms(Rooms):
        renderer_classes = [Signed]

    async def story():
        ann, bob = await two_users()
        room = await written(Room.objects.create, name="lobby")
        pk = room.pk
        application = routes(SignedRooms)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            await written(room.delete)
            assert await event(anns) == ("delete", {"pk": f"{pk} for ann"})
            assert await event(bobs) == ("delete", {"pk": f"{pk} for bob"})

    run(story)


# Declared


class Shouting(RoomSerializer):
    """The same for all, but who knows."""

    def to_representation(self, room):
        return {"name": room.name.upper()}


class Shouted(Rooms):
    serializer_class = Shouting


async def encodes_of_two_users(application, path="/"):
    """How often a row is rendered for two of them, who receive it."""
    ann, bob = await two_users()
    async with (
        told(application, path, user=ann) as anns,
        told(application, path, user=bob) as bobs,
    ):
        await subscribed(anns)
        await subscribed(bobs)
        before = figures.encodes.value
        await written(Room.objects.create, name="lobby")
        assert await event(anns) == await event(bobs) == ("create", {"name": "LOBBY"})
        return figures.encodes.value - before


def test_a_text_that_nobody_vouches_for_is_made_for_each_user():
    async def story():
        assert await encodes_of_two_users(routes(Shouted)) == 2

    run(story)


def test_a_text_that_is_declared_is_made_once():
    class Declared(Shouted):
        shared = True

    async def story():
        assert await encodes_of_two_users(routes(Declared)) == 1

    run(story)


def test_a_text_that_a_route_declares_is_made_once():
    async def story():
        assert await encodes_of_two_users(routes(Shouted, shared=True)) == 1

    run(story)


def test_a_viewset_of_rest_frameworks_declares_as_well():
    class Plain(ModelViewSet):
        queryset = Room.objects.order_by("id")
        serializer_class = Shouting
        authentication_classes = [ByHeader]
        permission_classes = []
        shared = True

    router = SimpleRouter()
    router.register("rooms", Plain)

    async def story():
        assert await encodes_of_two_users(router.as_asgi(), "/rooms/") == 1

    run(story)


def test_an_action_of_that_name_declares_nothing():
    class Sharing(Shouted):
        def shared(self, request):
            """Those that others let one see."""

    async def story():
        assert await encodes_of_two_users(routes(Sharing)) == 2

    run(story)


def test_a_wrong_declaration_is_narrowed():
    class Wrong(Rooms):
        serializer_class = Keeping
        shared = True

    async def story():
        assert await who_is_told(Wrong) == ({"hello": "ann"}, {"hello": "bob"})

    run(story)


def test_a_wrong_declaration_is_an_error_under_debug(settings, caplog):
    settings.DEBUG = True

    class Wrong(Rooms):
        serializer_class = Keeping
        shared = True

    async def story():
        ann, _ = await two_users()
        await written(Room.objects.create, name="lobby")
        async with told(routes(Wrong), user=ann) as socket:
            reply = await socket.ask("subscribe", request_id=1, snapshot=True)
            assert reply["response_status"] == 500

    run(story)
    assert "Remove shared = True from Wrong, or do not read the request." in caplog.text


def test_one_line_of_the_log_says_why_and_what_to_do(caplog):
    caplog.set_level(logging.WARNING, "rest_channels")

    class Once(Shouted):
        pass

    async def story():
        ann, bob = await two_users()
        application = routes(Once)
        async with told(application, user=ann) as anns:
            await subscribed(anns)
            await written(Room.objects.create, name="lobby")
            await event(anns)
            assert caplog.messages == []
            async with told(application, user=bob) as bobs:
                await subscribed(bobs)
                for name in ("hall", "attic"):
                    await written(Room.objects.create, name=name)
                    assert await event(anns) == await event(bobs)

    run(story)
    [line] = caplog.messages
    assert "Shouting.to_representation" in line
    assert "set shared = True on Once" in line


def test_what_looks_the_same_is_not_told_again_to_each_user():
    """All rows are read again for a tag: each user gets those that look different to them."""

    class Counted(RoomSerializer):
        said = serializers.SerializerMethodField()

        def get_said(self, room):
            return len(room.messages.all())

        class Meta(RoomSerializer.Meta):
            fields = ["name", "said"]

    class CountedRooms(Rooms):
        queryset = Room.objects.prefetch_related("messages").order_by("id")
        serializer_class = Counted

    async def story():
        ann, bob = await two_users()
        for name in ("attic", "hall", "lobby"):
            room = await written(Room.objects.create, name=name)
        application = routes(CountedRooms)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            await written(Message.objects.create, room=room, text="hello")
            for socket in (anns, bobs):
                assert await event(socket) == ("update", {"name": "lobby", "said": 1})
            fence = await written(Room.objects.create, name="fence")
            for socket in (anns, bobs):
                assert await event(socket) == ("create", {"name": fence.name, "said": 0})

    run(story)


def test_a_serializer_chosen_by_the_user_is_not_chosen_again_for_each_text():
    class Chosen(Shouted):
        shared = True

        def get_serializer_class(self):
            assert self.request.user.username
            return Shouting

    async def story():
        assert await encodes_of_two_users(routes(Chosen)) == 1

    run(story)
