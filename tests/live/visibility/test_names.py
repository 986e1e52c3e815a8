"""The names of rows for clients: the `pk` of a `delete`, and `held`; neither reveals more."""

from __future__ import annotations

import uuid

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.db import models, transaction
from rest_framework import serializers

from rest_channels.consumers import ModelSubscribeConsumers, ObjectSubscribeConsumers
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.recorded_changes import captured_by_triggers
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = pytest.mark.django_db(transaction=True)


class Customer(models.Model):
    slug = models.SlugField(unique=True)

    class Meta:
        app_label = "tests"


class Order(models.Model):
    """Clients know it by `public`."""

    public = models.CharField(max_length=40, unique=True, default=uuid.uuid4)
    customer = models.OneToOneField(Customer, models.CASCADE, null=True)
    note = models.CharField(max_length=20, default="")
    is_hidden = models.BooleanField(default=False)

    class Meta:
        app_label = "tests"


class Reading(models.Model):
    value = models.FloatField(primary_key=True)
    note = models.CharField(max_length=20, default="")

    class Meta:
        app_label = "tests"


class OrderSerializer(serializers.ModelSerializer):
    class Meta:
        model = Order
        fields = ["public", "note"]


class Orders(ModelConsumerViewSet):
    queryset = Order.objects.filter(is_hidden=False).order_by("id")
    serializer_class = OrderSerializer
    lookup_field = "public"
    authentication_classes = []
    permission_classes = []


class OrdersWithKeys(Orders):
    """Clients are shown the primary key as well."""

    class serializer_class(OrderSerializer):
        class Meta(OrderSerializer.Meta):
            fields = ["id", *OrderSerializer.Meta.fields]


class OrdersOfCustomers(Orders):
    queryset = Order.objects.order_by("id")
    lookup_field = "customer__slug"
    lookup_url_kwarg = "customer"

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Order
            fields = ["note"]


class CodedSerializer(serializers.ModelSerializer):
    id = serializers.SerializerMethodField()

    class Meta:
        model = Order
        fields = ["id"]

    def get_id(self, order):
        return f"code-{order.pk}"


class Coded(Orders):
    lookup_field = "pk"
    serializer_class = CodedSerializer


class Texted(Orders):
    """The key as a string, as for clients whose numbers end at 2^53."""

    lookup_field = "pk"

    class serializer_class(serializers.ModelSerializer):
        id = serializers.CharField(read_only=True)

        class Meta:
            model = Order
            fields = ["id"]


@pytest.fixture(params=["signals", "triggers"])
def capture(request):
    if request.param == "signals":
        yield
    else:
        with captured_by_triggers("tests"):
            yield


async def made(*names, **values):
    """An order of each public name."""
    return [await written(Order.objects.create, public=name, **values) for name in names]


async def position(application):
    async with told(application) as socket:
        return (await socket.ask("subscribe", request_id="s"))["position"]


async def resumed(socket, since, held):
    reply = await socket.ask("subscribe", request_id="s", since=since, held=held)
    assert (reply["response_status"], reply.get("resumed")) == (201, True), reply


def test_a_hidden_key_stays_hidden(capture):
    async def story():
        (first,) = await made("a")
        async with told(routes(Orders)) as socket:
            assert await subscribed(socket) == [{"public": "a", "note": ""}]
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": "a"})

    run(story)


def test_without_a_snapshot_as_well():
    async def story():
        (first,) = await made("a")
        async with told(routes(Orders)) as socket:
            await subscribed(socket, snapshot=False)
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": "a"})

    run(story)


def test_one_row_by_its_public_name():
    async def story():
        (first,) = await made("a")
        async with told(routes(Orders)) as socket:
            keys = {"request_id": "s", "public": "a", "snapshot": True}
            assert (await socket.ask("subscribe_instance", **keys))["data"]["public"] == "a"
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": "a"})

    run(story)


def test_where_the_key_is_shown_a_delete_has_both():
    async def story():
        (first,) = await made("a")
        pk = first.pk
        async with told(routes(OrdersWithKeys)) as socket:
            await subscribed(socket)
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": pk, "public": "a"})

    run(story)


@pytest.mark.parametrize("viewset", [Orders, OrdersWithKeys])
def test_a_row_that_gets_another_name_is_one_that_is_gone_and_one_that_is_new(viewset, capture):
    async def story():
        (first,) = await made("a")
        async with told(routes(viewset)) as socket:
            (row,) = await subscribed(socket)
            first.public = "b"
            await written(first.save)
            action, data = await event(socket)
            assert (action, data.get("public", data["pk"])) == ("delete", "a")
            assert await event(socket) == ("create", {**row, "public": "b"})

    run(story)


def test_rows_that_exchange_their_names():
    def exchange(first, second):
        with transaction.atomic():
            Order.objects.get(pk=first.pk).save()
            for row, name in ((first, "between"), (second, "a"), (first, "b")):
                row.public = name
                row.save()

    async def story():
        first, second = await made("a", "b")
        async with told(routes(Orders)) as socket:
            rows = {row["public"] for row in await subscribed(socket)}
            await written(exchange, first, second)
            events = [await event(socket) for _ in range(4)]
            for action, data in events:
                if action == "delete":
                    rows.discard(data["pk"])
                else:
                    rows.add(data["public"])
            assert rows == {"a", "b"}
            assert [action for action, _ in events[:2]] == ["delete", "delete"]

    run(story)


def test_a_name_through_a_reference():
    async def story():
        customer = await written(Customer.objects.create, slug="ann")
        await written(Order.objects.create, customer=customer, note="n")
        async with told(routes(OrdersOfCustomers)) as socket:
            await subscribed(socket)
            customer.slug = "anne"
            await written(customer.save)
            assert await event(socket) == ("delete", {"pk": "ann"})
            assert await event(socket) == ("create", {"note": "n"})
            await written(customer.delete)
            assert await event(socket) == ("delete", {"pk": "anne"})

    run(story)


def test_a_key_that_only_the_serializer_can_make():
    async def story():
        (first,) = await made("a")
        name = f"code-{first.pk}"
        since = await position(routes(Coded))
        async with told(routes(Coded)) as socket:
            await resumed(socket, since, [name, "code-0"])
            assert await event(socket) == ("delete", {"pk": "code-0"})
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": name})

    run(story)


def test_a_serializer_that_cannot_be_made_without_rows():
    class Counting(OrderSerializer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            rows = self.instance if isinstance(self.instance, list) else [self.instance]
            self.notes = [row.note for row in rows]

    class Counted(Orders):
        serializer_class = Counting

    async def story():
        (first,) = await made("a")
        async with told(routes(Counted)) as socket:
            await subscribed(socket)
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": "a"})

    run(story)


def test_a_key_travels_as_the_serializer_writes_it():
    async def story():
        pk = 2**53 + 1
        first = await written(Order.objects.create, pk=pk)
        since = await position(routes(Texted))
        async with told(routes(Texted)) as socket:
            assert await subscribed(socket) == [{"id": str(pk)}]
            await written(first.delete)
            assert await event(socket) == ("delete", {"pk": str(pk)})
        for held in (pk, str(pk)):
            async with told(routes(Texted)) as socket:
                await resumed(socket, since, [held])
                assert await event(socket) == ("delete", {"pk": str(pk)})

    run(story)


def test_a_row_whose_reference_is_empty_has_no_name():
    async def story():
        nameless = await written(Order.objects.create, note="n")
        since = await position(routes(OrdersOfCustomers))
        async with told(routes(OrdersOfCustomers)) as socket:
            await resumed(socket, since, ["null", ""])
            told_of = [await event(socket) for _ in range(3)]
            assert told_of[:2] == [("delete", {"pk": "null"}), ("delete", {"pk": ""})]
            assert told_of[2] == ("create", {"note": "n"})
            await written(nameless.delete)
            assert await event(socket) == ("delete", {"pk": None})

    run(story)


# Coming back


def test_who_comes_back_holds_rows_by_their_public_names(capture):
    async def story():
        kept, gone, renamed = await made("kept", "gone", "old")
        since = await position(routes(Orders))
        await written(gone.delete)
        renamed.public = "new"
        await written(renamed.save)
        kept.note = "changed"
        await written(kept.save)
        async with told(routes(Orders)) as socket:
            await resumed(socket, since, ["kept", "gone", "old"])
            assert [await event(socket) for _ in range(4)] == [
                ("delete", {"pk": "gone"}),
                ("delete", {"pk": "old"}),
                ("create", {"public": "new", "note": ""}),
                ("update", {"public": "kept", "note": "changed"}),
            ]

    run(story)


def test_a_hidden_key_is_not_what_a_client_holds():
    async def story():
        (first,) = await made("a")
        since = await position(routes(Orders))
        async with told(routes(Orders)) as socket:
            await resumed(socket, since, [first.pk])
            assert await event(socket) == ("delete", {"pk": first.pk})
            assert await event(socket) == ("create", {"public": "a", "note": ""})

    run(story)


def test_where_both_are_shown_a_client_holds_rows_by_either():
    async def story():
        first, second = await made("a", "b")
        since = await position(routes(OrdersWithKeys))
        first.note = second.note = "changed"
        await written(first.save)
        await written(second.save)
        async with told(routes(OrdersWithKeys)) as socket:
            await resumed(socket, since, [str(first.pk), "b"])
            assert [(await event(socket))[0] for _ in range(2)] == ["update", "update"]

    run(story)


def test_keys_of_rows_that_may_not_be_seen_are_all_alike():
    """Hidden, hidden and written since, hidden since, gone, or never there."""

    async def story():
        visible, hidden, written_since, hidden_since, gone = [
            (await made(str(n), is_hidden=n in (1, 2)))[0] for n in range(5)
        ]
        keys = [order.pk for order in (written_since, hidden, hidden_since, gone)]
        application = routes(Keyed)
        since = await position(application)
        await written(visible.save)
        await written(written_since.save)
        hidden_since.is_hidden = True
        await written(hidden_since.save)
        await written(gone.delete)
        await written(visible.save)
        async with told(application) as socket:
            held = [*keys[:2], 10**6, *keys[2:], "no key", visible.pk]
            await resumed(socket, since, held)
            events = [await socket.receive() for _ in range(7)]
        told_of = [(e["action"], e["data"].get("pk")) for e in events[:6]]
        assert told_of == [("delete", key) for key in held[:-1]]
        # No position of their own says when, or whether, they were written.
        assert {e["position"] for e in events[:6]} == {since}
        assert (events[6]["action"], events[6]["data"]["id"]) == ("update", visible.pk)

    run(story)


class Keyed(Orders):
    lookup_field = "pk"

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Order
            fields = ["id", "note"]


# Input of all kinds


class Readings(Orders):
    queryset = Reading.objects.order_by("pk")
    lookup_field = "pk"

    class serializer_class(serializers.ModelSerializer):
        class Meta:
            model = Reading
            fields = ["value", "note"]


@pytest.mark.parametrize("viewset", [Readings, Keyed, Orders, Coded, Texted])
def test_what_one_client_holds_ends_nobody_elses_subscription(viewset):
    odd = [
        *["nan", "inf", "-Infinity", "1e999", "", " ", "\0", "a\0b", "٣", "-0", "1_000"],
        *["'; DROP TABLE", "9" * 5_000, "x" * 10_000, "[1]", "null", "pk"],
        *[10**30, -(10**30), 2**63, 2**64, 1.5, -1.5, 1e308, 0],
    ]

    async def story():
        since = await position(routes(viewset))
        async with told(routes(viewset)) as other, told(routes(viewset)) as socket:
            await subscribed(other)
            await resumed(socket, since, odd)
            events = [await event(socket) for _ in odd]
            assert {action for action, _ in events} == {"delete"}
            model = viewset.queryset.model
            given = {"pk": 2.5} if model is Reading else {}
            await written(model.objects.create, **given)
            for each in (other, socket):
                assert (await event(each))[0] == "create"

    run(story)


@pytest.mark.parametrize("held", [[True], [None], [[1]], [{}], "1", {"1": 1}, 7])
def test_what_is_no_list_of_keys_is_refused(held):
    async def story():
        async with told(routes(Keyed)) as socket:
            reply = await socket.ask("subscribe", since="x", held=held)
            assert (reply["response_status"], list(reply["errors"][0])) == (400, ["held"])

    run(story)


# One row


def test_a_row_that_goes_before_its_subscription_begins_is_not_found(monkeypatch):
    """Between DRF's answer and the pass that lets the subscriber in."""
    wanted = ModelConsumerViewSet.subscribe_instance

    def late(self, request, *args, **kwargs):
        response = wanted(self, request, *args, **kwargs)
        Room.objects.all().delete()
        return response

    class Rooms(Orders):
        queryset = Room.objects.order_by("id")
        lookup_field = "pk"
        subscribe_instance = late

        class serializer_class(serializers.ModelSerializer):
            class Meta:
                model = Room
                fields = ["id"]

    async def story():
        for keys in ({"snapshot": True}, {}, {"since": "x"}):
            room = await written(Room.objects.create, name="lobby")
            async with told(routes(Rooms)) as socket:
                reply = await socket.ask("subscribe_instance", request_id="s", pk=room.pk, **keys)
                assert (reply["response_status"], reply["codes"]) == (404, ["not_found"])

    run(story)


def test_names_of_rows_that_wait_for_a_client_to_read():
    """A newer state takes the place of the one that waits for the same name, not the same row."""

    async def story():
        (first,) = await made("a")
        async with told(routes(Orders)) as socket:
            rows = {row["public"]: row for row in await subscribed(socket, credit=1)}
            await written(first.save)
            payload = await socket.receive()
            first.public = "b"
            await written(first.save)
            await made("a", note="another")
            first.note = "changed"
            await written(first.save)
            while True:
                if payload["action"] == "delete":
                    del rows[payload["data"]["pk"]]
                else:
                    rows[payload["data"]["public"]] = payload["data"]
                notes = {name: row["note"] for name, row in rows.items()}
                if notes == {"a": "another", "b": "changed"}:
                    break
                await socket.send("ack", request_id="s", data={"position": payload["position"]})
                payload = await socket.receive()

    run(story)


ODD = ["nan", "1e999", "\0", "a\0b", "٣", "1_000", "9" * 400, "x" * 300, 10**30, 2**64, -1]


@pytest.mark.parametrize("viewset", [Readings, Keyed, Orders, OrdersOfCustomers])
def test_a_row_of_an_odd_name_ends_nobody_elses_subscription(viewset):
    name = viewset.lookup_url_kwarg or viewset.lookup_field

    async def story():
        async with told(routes(viewset)) as other, told(routes(viewset)) as socket:
            await subscribed(other)
            for value in ODD:
                keys = {"request_id": str(value)[:9], name: value, "snapshot": True}
                reply = await socket.ask("subscribe_instance", **keys)
                assert reply["response_status"] >= 400, (value, reply)
            model = viewset.queryset.model
            await written(model.objects.create, **({"pk": 2.5} if model is Reading else {}))
            assert (await event(other))[0] == "create"

    run(story)


@pytest.mark.parametrize("key", ["nan", "\0", "a\0b", "1_000", "9" * 400, "1" + "0" * 30])
@pytest.mark.parametrize("model", [Order, Reading])
def test_a_row_awaited_under_an_odd_name_ends_nobody_elses_subscription(model, key):
    keywords = {"model": model, "serializer_kwargs": {"fields": ["note"]}}
    application = URLRouter([
        *ModelSubscribeConsumers.as_routes(path="/rows/", **keywords),
        *ObjectSubscribeConsumers.as_routes(path="/rows/(?P<pk>[^/]+)/", **keywords),
    ])  # fmt: skip

    async def story():
        async with told(application, "/rows/") as other:
            odd = WebsocketCommunicator(application, f"/rows/{key}/")
            is_open, _ = await odd.connect(timeout=10)
            given = {"pk": 2.5} if model is Reading else {}
            await written(model.objects.create, **given)
            assert (await other.receive_message())["action"] == "created"
            if is_open:
                await odd.disconnect()

    run(story)
