"""Parameters that look alike and are not: whose queryset is whose."""

from __future__ import annotations

import datetime
import enum
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db.models import CharField, F, Func, Value
from django.utils.safestring import mark_safe
from psycopg.types.json import Json, Jsonb
from psycopg.types.numeric import Int4, Int8
from psycopg.types.range import Range
from rest_framework import serializers

from rest_channels.live.exact_values import Inexact, exact
from tests.models import Parcel
from tests.support.greeting_rooms import Rooms, two_users
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

LONG = "acme-corporation-emea-with-a-name-that-no-repr-shows-to-its-end"
NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
ONE_EAST = datetime.timezone(datetime.timedelta(hours=1))


class Color(enum.Enum):
    RED = 1


class Name(str):
    """Text of a class that may be written in another way."""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (1, Decimal(1)),
        (1, "1"),
        (1, Int4(1)),
        (Int4(1), Int8(1)),
        (0.0, -0.0),
        (Decimal("1.0"), Decimal("1.00")),
        (Color.RED, 1),
        ("a", b"a"),
        (b"a", bytearray(b"a")),
        (memoryview(b"a"), memoryview(b"b")),
        ("a", mark_safe("a")),
        ((1,), [1]),
        ([[1, 2]], [[1, "2"]]),
        ({"a": 1}, {"a": True}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}),
        ({1}, frozenset({1})),
        (NOON, NOON.astimezone(ONE_EAST)),
        (NOON, NOON.replace(tzinfo=None)),
        (NOON.time(), NOON.time().replace(fold=1)),
        (UUID(int=1), str(UUID(int=1))),
        (Jsonb({"in": LONG, "user": 1}), Jsonb({"in": LONG, "user": 2})),
        (Json({"a": 1}), Jsonb({"a": 1})),
        (Range(1, 2), Range(1, 2, "[]")),
        (Range(1, 2), Range(1, None)),
        (Range(empty=True), Range()),
    ],
    ids=repr,
)
def test_values_that_differ(one, other):
    assert exact(one) != exact(other)
    assert exact([one]) != exact([other])


@pytest.mark.parametrize(
    "value",
    [
        *[None, 1, "a", NOON, Color.RED, [1, ("a", {2})], {"a": [1.5]}, memoryview(b"a")],
        *[Jsonb({"a": [LONG]}), Range(1, 5), Int8(3)],
    ],
    ids=repr,
)
def test_a_value_equals_itself(value):
    assert exact(value) == exact(value)
    assert hash(exact(value)) == hash(exact(value))


@pytest.mark.parametrize("value", [Name("a"), object(), [object()], {"a": Name("b")}, Value(1)])
def test_of_others_nothing_is_known(value):
    with pytest.raises(Inexact):
        exact(value)


class ParcelSerializer(serializers.ModelSerializer):
    class Meta:
        model = Parcel
        fields = ["text"]


class Parcels(Rooms):
    queryset = Parcel.objects.order_by("id")
    serializer_class = ParcelSerializer


@pytest.mark.django_db(transaction=True)
def test_rows_found_by_a_long_json_value():
    class Own(Parcels):
        def get_queryset(self):
            acl = {"organization": LONG, "user": self.request.user.pk}
            return super().get_queryset().filter(acl=acl)

    async def story():
        ann, bob = await two_users()
        for user in (ann, bob):
            acl = {"organization": LONG, "user": user.pk}
            await written(Parcel.objects.create, acl=acl, text=user.username)
        application = routes(Own)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            assert await subscribed(anns) == [{"text": "ann"}]
            assert await subscribed(bobs) == [{"text": "bob"}]

    run(story)


@pytest.mark.django_db(transaction=True)
def test_rows_found_by_bytes():
    class Own(Parcels):
        def get_queryset(self):
            return super().get_queryset().filter(seal=self.request.user.username.encode() * 50)

    def write():
        names = [f"user {number:02}" for number in range(30)]
        users = User.objects.bulk_create(User(username=name) for name in names)
        for name in names:
            Parcel.objects.create(seal=name.encode() * 50, text=name)
        return users

    async def story():
        application = routes(Own)
        for user in await written(write):
            async with told(application, user=user) as socket:
                assert await subscribed(socket) == [{"text": user.username}]
                # Another's, opened while this one's is there.
                async with told(application, user=user) as other:
                    assert await subscribed(other) == [{"text": user.username}]

    run(story)


@pytest.mark.django_db(transaction=True)
def test_everybody_stays_with_their_bytes():
    class Own(Parcels):
        def get_queryset(self):
            return super().get_queryset().filter(seal=self.request.user.username.encode() * 50)

    async def story():
        ann, bob = await two_users()
        application = routes(Own)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            for text in ("one", "two"):
                for user in (bob, ann):
                    seal = user.username.encode() * 50
                    await written(Parcel.objects.create, seal=seal, text=f"{user} {text}")
                assert await event(anns) == ("create", {"text": f"ann {text}"})
                assert await event(bobs) == ("create", {"text": f"bob {text}"})

    run(story)


class Secret(str):
    """Nothing is known of how it is written."""


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_compared_is_ones_own():
    class Own(Parcels):
        def get_queryset(self):
            said = Func(Value(Secret(self.request.user.username)), function="LOWER")
            shown = {"said": said, "output_field": CharField()}
            return super().get_queryset().annotate(said=shown["said"]).filter(text=F("said"))

    async def story():
        ann, bob = await two_users()
        application = routes(Own)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            for text in ("bob", "ann"):
                await written(Parcel.objects.create, text=text)
            assert await event(anns) == ("create", {"text": "ann"})
            assert await event(bobs) == ("create", {"text": "bob"})

    run(story)
