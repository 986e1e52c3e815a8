"""Sockets that receive the changes of rows: created, updated, deleted."""

from __future__ import annotations

import asyncio

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from rest_framework import serializers
from rest_framework.permissions import BasePermission

from rest_channels.consumers import ModelSubscribeConsumers, ObjectSubscribeConsumers, consumer
from rest_channels.routers import DefaultRouter
from tests.models import Ban, Book, Item, Room, Shelf
from tests.support.consumer_talk import open_socket
from tests.support.subscription_stories import ByHeader, as_user, written

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS = {"fields": ["username", "is_active"]}


def run(story):
    asyncio.run(story())


def one_user(**keywords):
    """The card's socket of one user, open to anybody."""
    return ObjectSubscribeConsumers.as_routes(
        path=r"/(?P<pk>\d+)/?", model=User, serializer_kwargs=FIELDS, **keywords
    )


def all_users(**keywords):
    return ModelSubscribeConsumers.as_routes(
        path="/users/?", model=User, serializer_kwargs=FIELDS, **keywords
    )


async def make(model, **values):
    return await written(model.objects.create, **values)


async def save(row, *names, **values):
    """Save `values`, by their names where `names` are given."""
    for name, value in values.items():
        setattr(row, name, value)
    await written(row.save, update_fields=names or None)


# What the card promises


def test_a_socket_of_one_user_is_told_of_its_changes_and_of_no_other():
    async def story():
        john, other = [await make(User, username=name) for name in ("john", "other")]
        async with open_socket(one_user(), f"/{john.pk}/") as socket:
            await save(other, username="somebody")
            await save(john, username="John")
            data = {"username": "John", "is_active": True}
            assert await socket.receive_message() == {"action": "updated", "data": data}
            pk = john.pk
            await written(john.delete)
            assert await socket.receive_message() == {"action": "deleted", "data": {"pk": pk}}

    run(story)


def test_all_sockets_of_one_user_are_told():
    async def story():
        john = await make(User, username="john")
        routes = one_user()
        path = f"/{john.pk}"
        async with open_socket(routes, path) as one, open_socket(routes, f"{path}/") as two:
            await save(john, "is_active", is_active=False)
            told = {"action": "updated", "data": {"is_active": False}}
            assert [await socket.receive_message() for socket in (one, two)] == [told, told]

    run(story)


def test_a_socket_of_one_user_opens_before_there_is_one():
    async def story():
        async with open_socket(one_user(), "/7/") as socket:
            await make(User, username="other", pk=8)
            await make(User, username="John", pk=7)
            data = {"username": "John", "is_active": True}
            assert await socket.receive_message() == {"action": "created", "data": data}

    run(story)


def test_a_socket_of_all_users():
    async def story():
        async with open_socket(all_users(), "/users/") as socket:
            john = await make(User, username="John")
            data = {"username": "John", "is_active": True}
            assert await socket.receive_message() == {"action": "created", "data": data}
            await save(john, is_active=False)
            data["is_active"] = False
            assert await socket.receive_message() == {"action": "updated", "data": data}
            pk = john.pk
            await written(john.delete)
            assert await socket.receive_message() == {"action": "deleted", "data": {"pk": pk}}

    run(story)


# What was saved


def test_only_what_was_saved_is_sent_and_nothing_when_none_was():
    async def story():
        john, jane = [await make(User, username=name) for name in ("john", "jane")]
        async with open_socket(all_users(), "/users/") as socket:
            await save(john, "first_name", first_name="John")
            await save(jane, "is_active", "last_name", is_active=False, last_name="Doe")
            told = {"action": "updated", "data": {"is_active": False}}
            assert await socket.receive_message() == told

    run(story)


def test_of_two_saves_in_one_transaction_all_that_either_saved_is_sent():
    async def story():
        john = await make(User, username="john")

        def both():
            with transaction.atomic():
                john.save(update_fields=["username"])
                john.save(update_fields=["is_active"])

        def one_of_them_whole():
            with transaction.atomic():
                john.save(update_fields=["is_active"])
                john.save()

        async with open_socket(one_user(), f"/{john.pk}/") as socket:
            await written(both)
            whole = {"username": "john", "is_active": True}
            assert await socket.receive_message() == {"action": "updated", "data": whole}
            await written(one_of_them_whole)
            assert await socket.receive_message() == {"action": "updated", "data": whole}

    run(story)


def test_the_key_goes_with_what_was_saved_but_never_alone():
    routes = ModelSubscribeConsumers.as_routes(
        model=Room, serializer_kwargs={"fields": ["id", "name"]}
    )

    async def story():
        room, other = [await make(Room, name=name) for name in ("attic", "cellar")]
        async with open_socket(routes) as socket:
            await save(other, "is_staff_only", is_staff_only=True)
            await save(room, "name", name="loft")
            data = {"id": room.pk, "name": "loft"}
            assert await socket.receive_message() == {"action": "updated", "data": data}

    run(story)


def test_what_is_no_column_may_have_changed_with_any_save():
    class BookSerializer(serializers.ModelSerializer):
        where = serializers.CharField(source="shelf.name")
        display = serializers.SerializerMethodField()

        class Meta:
            model = Book
            fields = ["title", "where", "display"]

        def get_display(self, book):
            return f"{book.title}, {book.version}"

    routes = ModelSubscribeConsumers.as_routes(
        queryset=Book.objects.select_related("shelf"), serializer_class=BookSerializer
    )

    async def story():
        shelf = await make(Shelf, name="top")
        book = await make(Book, title="Emma", shelf=shelf)
        async with open_socket(routes) as socket:
            await save(book, "version", version=1)
            data = {"where": "top", "display": "Emma, 1"}
            assert await socket.receive_message() == {"action": "updated", "data": data}
            await save(shelf, "name", name="low")
            data = {"title": "Emma", "where": "low", "display": "Emma, 1"}
            assert await socket.receive_message() == {"action": "updated", "data": data}

    run(story)


@pytest.mark.parametrize("name", ["shelf", "shelf_id"])
def test_a_reference_is_saved_under_either_name(name):
    routes = ModelSubscribeConsumers.as_routes(
        model=Book, serializer_kwargs={"fields": ["title", "shelf"]}
    )

    async def story():
        shelf = await make(Shelf, name="top")
        book = await make(Book, title="Emma")
        async with open_socket(routes) as socket:
            await save(book, name, shelf=shelf)
            data = {"shelf": shelf.pk}
            assert await socket.receive_message() == {"action": "updated", "data": data}

    run(story)


def test_an_update_of_a_queryset_names_its_fields():
    routes = ModelSubscribeConsumers.as_routes(
        model=Item, serializer_kwargs={"fields": ["name", "version"]}
    )

    async def story():
        await make(Item, name="box")
        async with open_socket(routes) as socket:
            await written(Item.objects.update, version=2)
            assert await socket.receive_message() == {"action": "updated", "data": {"version": 2}}

    run(story)


# What may be seen


def test_a_queryset_limits_what_is_seen_deletes_included():
    routes = ModelSubscribeConsumers.as_routes(
        queryset=Room.objects.filter(is_staff_only=False),
        serializer_kwargs={"fields": ["name"]},
    )

    async def story():
        secret = await make(Room, name="vault", is_staff_only=True)
        async with open_socket(routes) as socket:
            await save(secret, name="safe")
            await written(secret.delete)
            hall = await make(Room, name="hall")
            told = {"action": "created", "data": {"name": "hall"}}
            assert await socket.receive_message() == told
            # The subscriber receives it as a deletion.
            await save(hall, "is_staff_only", is_staff_only=True)
            told = {"action": "deleted", "data": {"pk": hall.pk}}
            assert await socket.receive_message() == told
            await written(hall.delete)
            await make(Room, name="den")
            assert (await socket.receive_message())["data"] == {"name": "den"}

    run(story)


class NotBanned(BasePermission):
    def has_permission(self, request, view):
        return not Ban.objects.filter(user=request.user).exists()


GUARDED = {"authentication_classes": [ByHeader], "permission_classes": [NotBanned]}


def test_who_may_not_see_is_not_let_in():
    async def story():
        ann = await make(User, username="ann")
        await make(Ban, user=ann)
        async with open_socket(all_users(**GUARDED), "/users/", headers=as_user(ann)) as socket:
            assert await socket.closed_with() == 4403

    run(story)


def test_who_may_see_no_longer_is_told_and_the_socket_closes():
    async def story():
        ann = await make(User, username="ann")
        async with open_socket(all_users(**GUARDED), "/users/", headers=as_user(ann)) as socket:
            await make(Ban, user=ann)
            reply = await socket.receive_message()
            assert (reply["action"], reply["response_status"]) == ("revoke", 403)
            assert reply["errors"]
            assert await socket.closed_with() == 4403

    run(story)


class OnlyActive(BasePermission):
    def has_object_permission(self, request, view, obj):
        return obj.is_active


def test_an_object_permission_hides_the_row_from_a_socket_of_one():
    async def story():
        john = await make(User, username="john", is_active=False)
        routes = one_user(permission_classes=[OnlyActive])
        async with open_socket(routes, f"/{john.pk}/") as socket:
            await save(john, username="John", is_active=True)
            data = {"username": "John", "is_active": True}
            assert await socket.receive_message() == {"action": "created", "data": data}
            await save(john, "is_active", is_active=False)
            told = {"action": "deleted", "data": {"pk": john.pk}}
            assert await socket.receive_message() == told

    run(story)


# Positions, for who asks


def test_who_asks_is_told_positions():
    async def story():
        john = await make(User, username="john")
        async with open_socket(all_users(), "/users/") as socket:
            keys = {"request_id": 1, "snapshot": True}
            reply = await socket.ask({"action": "subscribe", **keys})
            assert (reply["response_status"], reply["request_id"]) == (201, 1)
            assert reply["data"] == [{"username": "john", "is_active": True}]
            assert reply["resumed"] is False
            await save(john, "is_active", is_active=False)
            told = await socket.receive_message()
            position = told.pop("position")
            assert told == {
                "action": "updated", "data": {"is_active": False}, "previous": reply["position"],
            }  # fmt: skip
            # What is not told leaves no gap.
            await save(john, "first_name", first_name="J")
            await make(User, username="jane")
            assert (await socket.receive_message())["previous"] == position

    run(story)


def test_who_comes_back_is_told_what_was_missed():
    async def story():
        john, jane = [await make(User, username=name) for name in ("john", "jane")]
        routes = all_users()
        async with open_socket(routes, "/users/") as socket:
            position = (await socket.ask({"action": "subscribe"}))["position"]
        await save(john, "is_active", is_active=False)
        await save(john, "first_name", first_name="J")
        pk = jane.pk
        await written(jane.delete)
        async with open_socket(routes, "/users/") as socket:
            held = [john.pk, pk]
            reply = await socket.ask({"action": "subscribe", "since": position, "held": held})
            assert (reply["resumed"], reply["position"]) == (True, position)
            missed = [await socket.receive_message() for _ in range(2)]
            assert [(m["action"], m["data"]) for m in missed] == [
                ("deleted", {"pk": pk}),
                ("updated", {"is_active": False}),
            ]
            assert missed[1]["previous"] == missed[0]["position"]

    run(story)


def test_a_position_of_another_socket_is_of_no_use():
    async def story():
        john = await make(User, username="john")
        async with open_socket(all_users(), "/users/") as socket:
            position = (await socket.ask({"action": "subscribe"}))["position"]
        others = ModelSubscribeConsumers.as_routes(
            path="/others", queryset=User.objects.filter(is_active=True), serializer_kwargs=FIELDS
        )
        async with open_socket(others, "/others") as socket:
            keys = {"since": position, "snapshot": True}
            reply = await socket.ask({"action": "subscribe", **keys})
            assert reply["resumed"] is False
            reset = await socket.receive_message()
            assert (reset["action"], reset["data"]) == (
                "reset", [{"username": john.username, "is_active": True}],
            )  # fmt: skip

    run(story)


def test_one_row_is_asked_for_by_its_own_word_and_by_no_other_key():
    async def story():
        john, jane = [await make(User, username=name) for name in ("john", "jane")]
        async with open_socket(one_user(), f"/{john.pk}/") as socket:
            keys = {"snapshot": True, "pk": jane.pk}
            reply = await socket.ask({"action": "subscribe_instance", **keys})
            assert reply["data"]["username"] == "john"
            assert (await socket.ask({"action": "subscribe"}))["response_status"] == 405
            assert (await socket.ask({"action": "list"}))["response_status"] == 405
            await save(jane, username="Jane")
            await save(john, username="John")
            assert (await socket.receive_message())["data"]["username"] == "John"

    run(story)


def test_a_socket_has_one_subscription_however_often_it_asks():
    async def story():
        john = await make(User, username="john")
        async with open_socket(all_users(), "/users/") as socket:
            for request_id in (1, "1", None, 1):
                await socket.ask({"action": "subscribe", "request_id": request_id})
            await save(john, "username", username="John")
            first = await socket.receive_message()
            await save(john, "username", username="Johnny")
            second = await socket.receive_message()
            assert second["data"] == {"username": "Johnny"}
            assert second["previous"] == first["position"]

    run(story)


def test_who_asks_wrongly_goes_on_as_before():
    async def story():
        john = await make(User, username="john")
        async with open_socket(all_users(), "/users/") as socket:
            reply = await socket.ask({"action": "subscribe", "held": "everything"})
            assert reply["response_status"] == 400
            await save(john, "is_active", is_active=False)
            told = {"action": "updated", "data": {"is_active": False}}
            assert await socket.receive_message() == told

    run(story)


def test_who_unsubscribes_is_told_nothing_more():
    async def story():
        john = await make(User, username="john")
        async with open_socket(all_users(), "/users/") as socket:
            await socket.ask({"action": "subscribe", "request_id": 5})
            reply = await socket.ask({"action": "unsubscribe", "request_id": 5})
            assert reply["response_status"] == 204
            await save(john, username="John")
            await socket.ask({"action": "subscribe", "request_id": 6})
            await save(john, username="Johnny")
            assert (await socket.receive_message())["data"]["username"] == "Johnny"

    run(story)


# The same machine


def test_a_socket_counts_as_one_of_the_connections_subscriptions(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTIONS": 0}

    async def story():
        with pytest.raises(AssertionError, match="refused"):
            async with open_socket(all_users(), "/users/"):
                pass

    run(story)


def test_more_rows_than_a_subscription_may_have_refuse_the_socket(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTION_ROWS": 1}

    async def story():
        for name in ("john", "jane"):
            await make(User, username=name)
        with pytest.raises(AssertionError, match="refused"):
            async with open_socket(all_users(), "/users/"):
                pass

    run(story)


def test_a_crash_while_telling_ends_the_socket():
    class Crashing(serializers.ModelSerializer):
        class Meta:
            model = Room
            fields = ["name"]

        def to_representation(self, room):
            if room.name == "trap":
                raise RuntimeError("boom")
            return super().to_representation(room)

    routes = ModelSubscribeConsumers.as_routes(model=Room, serializer_class=Crashing)

    async def story():
        async with open_socket(routes) as socket:
            await make(Room, name="trap")
            reply = await socket.receive_message()
            assert (reply["action"], reply["response_status"]) == ("revoke", 500)
            assert await socket.closed_with() == 1011

    run(story)


def test_on_a_shared_socket_it_is_one_stream():
    class Users(ModelSubscribeConsumers):
        model = User
        serializer_kwargs = FIELDS

    class Rooms(ModelSubscribeConsumers):
        model = Room
        permission_classes = [NotBanned]
        authentication_classes = [ByHeader]

    router = DefaultRouter()
    router.register("users", Users)
    router.register("rooms", Rooms)

    async def story():
        ann = await make(User, username="ann")
        async with open_socket(router.as_asgi(), headers=as_user(ann)) as socket:
            john = await make(User, username="John")
            assert await socket.receive_message() == {
                "stream": "users",
                "payload": {"action": "created", "data": {"username": "John", "is_active": True}},
            }
            attic = await make(Room, name="attic")
            told = await socket.receive_message()
            assert (told["stream"], told["payload"]["data"]["id"]) == ("rooms", attic.pk)
            # The end of one leaves the others open.
            await make(Ban, user=ann)
            told = await socket.receive_message()
            assert (told["stream"], told["payload"]["action"]) == ("rooms", "revoke")
            await save(attic, name="loft")
            await save(john, "is_active", is_active=False)
            assert (await socket.receive_message())["payload"]["data"] == {"is_active": False}

    run(story)


def test_handlers_of_a_subclass_are_asked_first():
    class Users(ModelSubscribeConsumers):
        @consumer(action="greet")
        def greet(self, message):
            self.reply("Hello")

    async def story():
        routes = Users.as_routes(model=User, serializer_kwargs=FIELDS)
        async with open_socket(routes) as socket:
            assert await socket.ask({"action": "greet"}) == "Hello"
            assert (await socket.ask({"action": "list"}))["data"] == []
            assert (await socket.ask({"action": "create"}))["response_status"] == 405

    run(story)


def test_a_path_that_is_no_key_is_refused():
    routes = ObjectSubscribeConsumers.as_routes(path=r"/(?P<pk>\w+)", model=Room)

    async def story():
        with pytest.raises(AssertionError, match="refused"):
            async with open_socket(routes, "/attic"):
                pass

    run(story)


def test_users_need_fields_and_rows_a_model():
    with pytest.raises(ImproperlyConfigured, match="password hashes"):
        ObjectSubscribeConsumers.as_routes(path=r"/(?P<pk>\d+)", model=User)
    with pytest.raises(ImproperlyConfigured, match="no rows"):
        ModelSubscribeConsumers.as_routes()


def test_what_is_told_links_to_the_path_of_the_socket():
    class Linked(serializers.ModelSerializer):
        link = serializers.SerializerMethodField()

        class Meta:
            model = Room
            fields = ["name", "link"]

        def get_link(self, room):
            return self.context["request"].build_absolute_uri("help")

    async def story():
        routes = ModelSubscribeConsumers.as_routes(
            path="/rooms/", model=Room, serializer_class=Linked
        )
        async with open_socket(routes, "/rooms/") as socket:
            await make(Room, name="attic")
            told = await socket.receive_message()
            assert told["data"] == {"name": "attic", "link": "http://testserver/rooms/help"}

    run(story)
