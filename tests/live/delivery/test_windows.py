"""Ordered lists and windows: the whole way, from `save()` to the place of a row."""

from __future__ import annotations

import pytest
from channels.routing import URLRouter
from rest_framework import serializers

from rest_channels.consumers import CRUDConsumers, ModelSubscribeConsumers
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Item
from tests.support.consumer_talk import open_socket
from tests.support.ordered_lists import OrderedList
from tests.support.subscription_stories import routes, run, told, written

pytestmark = pytest.mark.django_db(transaction=True)


class ItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "name", "version"]


class Items(ModelConsumerViewSet):
    queryset = Item.objects.order_by("-version")
    serializer_class = ItemSerializer
    authentication_classes = []
    permission_classes = []
    filterset_fields = ["shelf"]


application = routes(Items)


async def created(**values):
    return await written(Item.objects.create, **values)


async def begun(socket, window=None, **keys):
    """A list of a client that subscribes with a snapshot."""
    asked = {"ordered": True} if window is None else {"window": window}
    reply = await socket.ask("subscribe", request_id="s", snapshot=True, **asked, **keys)
    assert reply["response_status"] == 201, reply
    held = OrderedList(window)
    held.take(reply)
    return held


async def after_events(socket, held, count):
    """The actions of the next events, and what the client holds then."""
    words = []
    for _ in range(count):
        words.append(held.take(await socket.receive()))
    return words, [row["name"] for row in held.rows]


def test_a_new_row_comes_behind_the_row_it_follows():
    async def story():
        low, high = await created(name="low", version=1), await created(name="high", version=9)
        async with told(application) as socket:
            held = await begun(socket)
            assert [row["name"] for row in held.rows] == ["high", "low"]
            await created(name="middle", version=5)
            payload = await socket.receive()
            assert (payload["action"], payload["after"]) == ("create", high.pk)
            held.take(payload)

            await written(Item.objects.filter(pk=low.pk).update, version=10)
            payload = await socket.receive()
            assert (payload["action"], payload["after"]) == ("update", None)
            held.take(payload)

            await written(Item.objects.filter(pk=low.pk).update, name="lowest")
            payload = await socket.receive()
            assert payload["action"] == "update"
            assert "after" not in payload
            held.take(payload)

            await written(high.delete)
            assert await after_events(socket, held, 1) == (["delete"], ["lowest", "middle"])

    run(story)


def test_a_row_pushed_out_leaves_before_the_other_enters_and_comes_back():
    async def story():
        rows = [await created(name=f"i{n}", version=n) for n in range(4)]
        async with told(application) as socket:
            held = await begun(socket, 2)
            assert [row["name"] for row in held.rows] == ["i3", "i2"]
            top = await created(name="top", version=9)
            gone = await socket.receive()
            assert gone["data"] == {"pk": rows[2].pk, "reason": "window"}
            held.take(gone)
            assert await after_events(socket, held, 1) == (["create"], ["top", "i3"])

            await written(top.delete)
            gone = await socket.receive()
            assert "reason" not in gone["data"]
            held.take(gone)
            assert await after_events(socket, held, 1) == (["create"], ["i3", "i2"])

    run(story)


# Options


@pytest.fixture
def items(db):
    with SocketClient(application) as client:
        yield client


@pytest.mark.parametrize("window", [0, -1, 10_001, True, "5", 1.5, [5]])
def test_a_window_is_an_integer_from_1_to_the_bound(items, window):
    reply = items.request("subscribe", window=window)
    assert (reply.status_code, reply.codes) == (400, [{"window": ["invalid"]}])
    assert reply.errors == [{"window": ["Must be an integer from 1 to 10000."]}]


@pytest.mark.parametrize("ordered", [1, "true", []])
def test_ordered_is_true_or_false(items, ordered):
    reply = items.request("subscribe", ordered=ordered)
    assert (reply.status_code, reply.codes) == (400, [{"ordered": ["invalid"]}])


def test_ordered_false_and_null_are_left_out(items):
    assert items.request("subscribe", ordered=False, window=None).status_code == 201
    Item.objects.create(name="one")
    assert "after" not in items.event().payload


@pytest.mark.parametrize("key", ["ordered", "window"])
def test_one_row_has_no_window(items, key):
    item = Item.objects.create(name="one")
    reply = items.request("subscribe_instance", pk=item.pk, **{key: 1 if key == "window" else True})
    assert (reply.status_code, reply.codes) == (400, [{key: ["invalid"]}])


@pytest.mark.parametrize("is_union", [True, False])
def test_rows_without_an_order_of_their_own_are_refused(db, is_union):
    rows = Item.objects.order_by("?")
    if is_union:
        rows = Item.objects.filter(version=1).union(Item.objects.filter(version=2))
    Any = type("Any", (Items,), {"queryset": rows, "filter_backends": []})
    with SocketClient(routes(Any)) as client:
        reply = client.request("subscribe", window=5)
        assert (reply.status_code, reply.codes) == (400, ["cannot_subscribe"])
        assert "'watch'" in reply.errors[0]
        assert client.request("subscribe").status_code == 201


def test_values_are_refused(db):
    Any = type("Any", (Items,), {"queryset": Item.objects.values("name"), "filter_backends": []})
    with SocketClient(routes(Any)) as client:
        reply = client.request("subscribe", window=5)
        assert (reply.status_code, reply.codes) == (400, ["cannot_subscribe"])
        assert "'watch'" in reply.errors[0]


def test_the_bound_is_that_of_the_window_not_of_the_rows_behind_it(items, settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "MAX_SUBSCRIPTION_ROWS": 3}
    for number in range(5):
        Item.objects.create(name=f"i{number}", version=number)
    assert len(items.request("subscribe", window=3, snapshot=True).data) == 3
    for keys in ({"ordered": True}, {}):
        reply = items.request("subscribe", **keys)
        assert (reply.status_code, reply.codes) == (400, ["too_many_rows"])
        assert "'window'" in reply.errors[0]
    assert items.request("subscribe", window=4).status_code == 400


def test_a_list_with_an_order_ends_when_it_has_too_many_rows(items, settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "MAX_SUBSCRIPTION_ROWS": 2}
    for number in range(2):
        Item.objects.create(name=f"i{number}", version=number)
    assert items.request("subscribe", ordered=True).status_code == 201
    Item.objects.create(name="one too many")
    event = items.event()
    assert (event.action, event.status_code) == ("revoke", 400)


def test_a_position_is_valid_for_every_window_of_a_topic(items):
    item = Item.objects.create(name="one")
    position = items.request("subscribe", request_id="a").position
    reply = items.request("subscribe", request_id="b", window=5, since=position, held=[item.pk])
    assert reply.resumed is True


def test_a_list_without_pages_has_the_order_of_its_windows(items):
    made = [Item.objects.create(name=f"i{number}", version=1) for number in range(3)]
    # The table's own order is another one, on PostgreSQL.
    Item.objects.filter(pk=made[0].pk).update(shelf=None)
    shown = [row["id"] for row in items.list().data]
    assert shown == [item.pk for item in made]


# Sockets of consumers


def test_consumers_of_a_model_have_windows(db):
    consumers = CRUDConsumers.as_routes(path="/items", queryset=Item.objects.order_by("-version"))
    made = [Item.objects.create(name=f"i{number}", version=number) for number in range(3)]
    with SocketClient(URLRouter(consumers), "/items") as client:
        reply = client.request("subscribe", request_id="w", window=2, snapshot=True)
        assert [row["name"] for row in reply.data] == ["i2", "i1"]
        client.create(data={"name": "top", "version": 9})
        assert client.event().data == {"pk": made[1].pk, "reason": "window"}
        assert client.event().payload["after"] is None


def test_sockets_of_changes_have_windows_of_whole_rows():
    consumers = ModelSubscribeConsumers.as_routes(
        path="/items", queryset=Item.objects.order_by("-version")
    )

    async def story():
        low = await created(name="low", version=1)
        async with open_socket(consumers, "/items") as socket:
            await socket.send("subscribe", window=1, snapshot=True)
            assert [row["name"] for row in (await socket.receive_message())["data"]] == ["low"]
            high = await created(name="high", version=2)
            message = await socket.receive_message()
            assert (message["action"], message["data"]) == (
                "deleted",
                {"pk": low.pk, "reason": "window"},
            )
            message = await socket.receive_message()
            assert (message["action"], message["after"]) == ("created", None)
            high.name = "higher"
            await written(high.save, update_fields=["name"])
            message = await socket.receive_message()
            assert (message["action"], message["data"]["version"]) == ("updated", 2)

    run(story)
