"""Django 6.1's fetch modes: a subscription shows what `list` shows, and fails where it fails."""

from __future__ import annotations

import pytest
from django.db import models, transaction
from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Message, Room
from tests.support.greeting_rooms import two_users
from tests.support.subscription_stories import (
    ByHeader,
    event,
    routes,
    run,
    subscribed,
    told,
    written,
)

pytestmark = pytest.mark.django_db(transaction=True)


class MessageSerializer(serializers.ModelSerializer):
    """Reads the room of each message by itself."""

    room = serializers.CharField(source="room.name")

    class Meta:
        model = Message
        fields = ["id", "text", "room"]


class Messages(ModelConsumerViewSet):
    authentication_classes = [ByHeader]
    permission_classes = []
    serializer_class = MessageSerializer
    filterset_fields = ["text"]
    fetch_mode = models.FETCH_ONE

    def get_queryset(self):
        return Message.objects.order_by("id").fetch_mode(self.fetch_mode)


@transaction.atomic
def write_messages(*texts):
    """Make one change for each text, all read in one look."""
    room = Room.objects.create(name="lobby")
    for text in texts:
        Message.objects.create(room=room, text=text)


@pytest.mark.parametrize("mode", [models.FETCH_ONE, models.FETCH_PEERS], ids=str)
def test_rows_are_told_as_list_has_them(mode):
    class Following(Messages):
        fetch_mode = mode

    texts = ["a", "b", "c", "d", "e"]

    async def story():
        application = routes(Following)
        async with told(application) as socket:
            for text in texts:
                await subscribed(socket, request_id=text, query={"text": text})
            await written(write_messages, *texts)
            events = [await socket.receive() for _ in texts]
            listed = (await socket.ask("list"))["data"]
            assert {e["request_id"]: e["data"] for e in events} == {m["text"]: m for m in listed}
            assert {m["room"] for m in listed} == {"lobby"}

    run(story)


class Strict(Messages):
    """Some users may not read columns that were not selected."""

    def get_queryset(self):
        is_strict = self.request.user.username == "ann"
        mode = models.FETCH_RAISE if is_strict else models.FETCH_ONE
        return super().get_queryset().fetch_mode(mode)


def test_a_read_that_is_blocked_ends_the_subscription_as_list_fails():
    async def story():
        ann, _ = await two_users()
        async with told(routes(Strict), user=ann) as socket:
            assert await subscribed(socket) == []
            await written(write_messages, "a")
            ended = await socket.receive()
            assert (ended["action"], ended["response_status"]) == ("revoke", 500)
            assert (await socket.ask("list"))["response_status"] == 500
            assert (await socket.ask("subscribe", snapshot=True))["response_status"] == 500

    run(story)


@pytest.mark.parametrize("texts", [["a"], ["a", "b", "c", "d", "e"]], ids=["one", "many"])
def test_users_of_one_sql_have_their_own_modes(texts):
    async def story():
        ann, bob = await two_users()
        application = routes(Strict)
        async with told(application, user=bob) as bobs, told(application, user=ann) as anns:
            for text in texts:
                for socket in (bobs, anns):
                    await subscribed(socket, request_id=text, query={"text": text})
            await written(write_messages, *texts)
            for _ in texts:
                assert (await event(bobs))[1]["room"] == "lobby"
                assert (await event(anns))[0] == "revoke"

    run(story)
