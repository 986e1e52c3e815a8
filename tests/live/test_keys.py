"""
Every kind of key: what a writer assigns, the database gives back, triggers write and a client
holds name the same row.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from datetime import timezone as fixed
from decimal import Decimal

import pytest
from django.db import models
from django.test.utils import isolate_apps
from rest_framework.serializers import CharField, ModelSerializer

from rest_channels.live.keys import key_of, kin_of, pk_of, user_key, written_key
from rest_channels.live.log.sequencer import sequence
from rest_channels.viewsets import ModelConsumerViewSet
from tests.support.keyed_models import (
    Addresses,
    Bytes,
    Days,
    Decimals,
    Floats,
    Hue,
    Integers,
    Lowers,
    Moments,
    Shade,
    Spans,
    Texts,
    Ticket,
    Tickets,
    Times,
    ToDecimals,
    ToMoments,
    Uuids,
)
from tests.support.recorded_changes import (
    captured_by_signals,
    captured_by_triggers,
    forget_log,
    logged,
)
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_triggers")]


NOON = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
LATER = NOON.astimezone(fixed(timedelta(hours=2)))

#: By kind: the model, what a writer assigns, and the text.
KINDS = {
    "integer": (Integers, 7, "7"),
    "integer as text": (Integers, "7", "7"),
    "beyond 2^53": (Integers, 2**62, str(2**62)),
    "uuid as text": (Uuids, f"{{{uuid.UUID(int=10**30)}}}".upper(), str(uuid.UUID(int=10**30))),
    "uuid": (Uuids, uuid.UUID(int=10**30), str(uuid.UUID(int=10**30))),
    "text": (Texts, "it's", "it's"),
    "text given a number": (Texts, 7, "7"),
    "member of a str enum": (Texts, Hue.RED, "red"),
    "a choice": (Texts, Shade.DARK, "dark"),
    "decimal of fewer places": (Decimals, Decimal("1.5"), "1.50"),
    "decimal of an exponent": (Decimals, Decimal("1E+2"), "100.00"),
    "decimal as text": (Decimals, "1.5", "1.50"),
    "decimal given a number": (Decimals, 2, "2.00"),
    "moment": (Moments, NOON, "2024-02-29 12:30:00+00:00"),
    "moment of an offset": (Moments, LATER, "2024-02-29 12:30:00+00:00"),
    "moment as text": (Moments, "2024-02-29T14:30+02:00", "2024-02-29 12:30:00+00:00"),
    "day": (Days, date(2024, 2, 29), "2024-02-29"),
    "day given a moment": (Days, NOON, "2024-02-29"),
    "time as text": (Times, "12:30", "12:30:00"),
    "time": (Times, time(12, 30, 1, 5), "12:30:01.000005"),
    "span": (Spans, timedelta(days=1, seconds=2), "1 day, 0:00:02"),
    "float": (Floats, 1.5, "1.5"),
    "float given a number": (Floats, 2, "2.0"),
    "bytes": (Bytes, b"\x00\xff", "00ff"),
    "memory": (Bytes, memoryview(b"\x00\xff"), "00ff"),
    "address": (Addresses, "0:0::1", "::1"),
    "own field": (Tickets, Ticket(7), "T-7"),
    "own field given a number": (Tickets, 7, "T-7"),
    "own field that changes its value": (Lowers, "ABC", "abc"),
    "reference to a decimal": (ToDecimals, Decimal("1.5"), "1.50"),
    "reference to a moment": (ToMoments, LATER, "2024-02-29 12:30:00+00:00"),
}

#: Triggers do not know how Python writes these, and note the table.
UNKNOWN_TO_TRIGGERS = (Times, Spans, Floats, Addresses, Tickets)

every_kind = pytest.mark.parametrize(("model", "given", "key"), KINDS.values(), ids=KINDS)


def referred(model, given):
    """Make the rows that a row of `model` refers to."""
    target = model._meta.pk.remote_field
    if target is not None:
        models.QuerySet(target.model).bulk_create([target.model(pk=given)])


def write(model, given):
    """A row that comes, changes and goes, by the value that the writer has."""
    referred(model, given)
    forget_log()
    row = model(pk=given)
    row.save(force_insert=True)
    row.note = "changed"
    row.save()
    row.delete()
    sequence("default")
    return logged()


@every_kind
def test_signals_name_the_row_as_it_is_read(model, given, key):
    label = model.__name__
    with captured_by_signals():
        noted = write(model, given)
    assert noted == [(label, key, kind) for kind in ("create", "update", "delete")]
    row = model(pk=given)
    row.save(force_insert=True)
    read = model.objects.get().pk
    assert key_of(model, read) == key
    assert key_of(model, pk_of(model, key)) == key
    assert model.objects.filter(pk=pk_of(model, key)).exists()


@every_kind
def test_triggers_name_the_row_as_it_is_read(model, given, key):
    with captured_by_triggers(model._meta.label):
        expected = None if model in UNKNOWN_TO_TRIGGERS else key
        label = model.__name__
        kinds = ("create", "update", "delete")
        assert write(model, given) == [(label, expected, kind) for kind in kinds]


@pytest.mark.parametrize(
    ("model", "pk"),
    [
        (Integers, None),
        (Integers, "no number"),
        (Integers, "9" * 5_000),
        (Integers, (1, 2)),
        (Uuids, "x"),
        # The database rounds in its own way.
        (Decimals, Decimal("1.555")),
        (Decimals, "nobody"),
        (Moments, "yesterday"),
        (Days, "2024-02-30"),
        (Bytes, 7.5),
        (Tickets, "T-"),
    ],
)
def test_what_is_no_key_of_a_row(model, pk):
    assert key_of(model, pk) is None


@isolate_apps("tests")
def test_a_collation_decides_which_row_a_text_is():
    class Loud(models.Model):
        name = models.CharField(max_length=20, primary_key=True, db_collation="nocase")

        class Meta:
            app_label = "tests"

    assert (written_key(Loud, "A"), key_of(Loud, "A")) == (None, "A")


# To a socket and back


def shows(shown):
    class Rows(ModelConsumerViewSet):
        queryset = shown.objects.order_by("pk")
        authentication_classes = []
        permission_classes = []

        class serializer_class(ModelSerializer):
            class Meta:
                model = shown
                fields = ["key", "note"]

    if shown is Tickets:
        # DRF would take it for an integer.
        class TicketSerializer(Rows.serializer_class):
            key = CharField()

        Rows.serializer_class = TicketSerializer
    return Rows


@pytest.fixture(params=["signals", "triggers"])
def capture(request):
    if request.param == "signals":
        yield
    else:
        with captured_by_triggers("tests"):
            yield


@every_kind
def test_a_client_follows_rows_of_every_kind_of_key(model, given, key, capture):
    """Here, and after it was away, it receives the key that it was shown."""
    rows = {}

    async def told_next(socket):
        action, data = await event(socket)
        if action == "delete":
            del rows[data["pk"]]
        else:
            rows[data["key"]] = data["note"]
        return action

    def save(note):
        model(pk=given, note=note).save()

    async def story():
        application = routes(shows(model))
        await written(referred, model, given)
        async with told(application) as socket:
            await subscribed(socket)
            await written(save, "new")
            assert await told_next(socket) == "create"
            await written(save, "changed")
            assert await told_next(socket) in ("create", "update")
            ((name, note),) = rows.items()
            assert note == "changed"
            since = (await socket.ask("subscribe", request_id="s"))["position"]
        await written(save, "meanwhile")
        async with told(application) as socket:
            keys = {"request_id": "s", "since": since, "held": [name]}
            assert (await socket.ask("subscribe", **keys))["resumed"] is True
            assert await told_next(socket) == "update"
            assert rows == {name: "meanwhile"}
            since = (await socket.ask("subscribe", request_id="s"))["position"]
            await written(lambda: model.objects.get().delete())
            assert await told_next(socket) == "delete"
        rows[name] = "meanwhile"
        async with told(application) as socket:
            keys = {"request_id": "s", "since": since, "held": [name]}
            assert (await socket.ask("subscribe", **keys))["resumed"] is True
            assert await told_next(socket) == "delete"
        assert rows == {}

    run(story)


# A row in several tables


@isolate_apps("tests")
def test_the_tables_that_hold_part_of_a_row():
    class Vehicle(models.Model):
        class Meta:
            app_label = "tests"

    class Toy(models.Model):
        number = models.AutoField(primary_key=True)

        class Meta:
            app_label = "tests"

    class Car(Vehicle):
        class Meta:
            app_label = "tests"

    class ToyCar(Car, Toy):
        class Meta:
            app_label = "tests"

    class Proxy(ToyCar):
        class Meta:
            app_label = "tests"
            proxy = True

    assert kin_of(Vehicle) == {"tests.Car": True, "tests.ToyCar": True}
    assert kin_of(Car) == {"tests.Vehicle": True, "tests.ToyCar": True}
    # Toys have keys of their own.
    assert kin_of(Toy) == {"tests.ToyCar": False}
    assert kin_of(ToyCar) == {"tests.Car": True, "tests.Vehicle": True, "tests.Toy": False}
    assert kin_of(Proxy) == kin_of(ToyCar)


# Users by such keys


class Payer(models.Model):
    key = models.DecimalField(max_digits=8, decimal_places=2, primary_key=True)

    class Meta:
        app_label = "tests"


def test_a_user_is_known_by_the_key_that_the_log_has(settings):
    settings.AUTH_USER_MODEL = "tests.Payer"
    payer = Payer(Decimal("1.5"))
    assert user_key(payer.pk) == key_of(Payer, Decimal("1.50")) == "1.50"
    assert user_key("of a token") == "of a token"
