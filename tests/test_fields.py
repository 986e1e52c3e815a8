"""Serializer fields that are copied: nobody can tell, and nothing leaks from one to the next."""

from __future__ import annotations

from unittest import mock

import pytest
from django.core.validators import MaxLengthValidator, RegexValidator
from django.db import models
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict
from rest_framework.validators import UniqueValidator

from rest_channels.fields import lend_fields
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Message, Room


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "is_staff_only"]


class MessageSerializer(serializers.ModelSerializer):
    room = RoomSerializer(read_only=True)
    author_name = serializers.CharField(source="author.username", default="nobody")
    shout = serializers.SerializerMethodField()

    class Meta:
        model = Message
        fields = ["id", "room", "author", "author_name", "text", "shout"]

    def get_shout(self, message):
        return self.context.get("shout", "").upper()


def lent(serializer):
    lend_fields(serializer)
    assert "fields" in vars(serializer), "its fields could not be copied"
    return serializer


def is_lent(serializer) -> bool:
    lend_fields(serializer)
    return "fields" in vars(serializer)


def test_fields_are_built_once_for_a_class():
    lent(RoomSerializer())
    build = mock.patch.object(RoomSerializer, "get_fields", side_effect=AssertionError)
    with build:
        assert list(lent(RoomSerializer()).fields) == ["id", "name", "is_staff_only"]


def test_copies_belong_to_their_own_serializer():
    message = Message(pk=1, room=Room(pk=2, name="lobby"), text="hi")
    one = lent(MessageSerializer(message, context={"shout": "one"}))
    other = lent(MessageSerializer(message, context={"shout": "other"}))
    assert (one.data["shout"], other.data["shout"]) == ("ONE", "OTHER")
    assert one.fields["room"].fields["name"].root is one
    assert other.fields["room"].fields["name"].root is other


def test_a_change_to_one_is_no_others():
    changed = lent(MessageSerializer()).fields
    changed["text"].read_only = True
    changed["text"].validators.clear()
    changed["author"].queryset = Room.objects.none()
    changed["room"].fields["name"].error_messages["invalid"] = "changed"
    del changed["shout"]
    fresh, built = lent(MessageSerializer()).fields, MessageSerializer().fields
    assert list(fresh) == list(built)
    assert fresh["text"].read_only is False
    assert len(fresh["text"].validators) == len(built["text"].validators)
    assert fresh["author"].queryset.model is built["author"].queryset.model
    assert fresh["room"].fields["name"].error_messages["invalid"] != "changed"


def test_many():
    rooms = [Room(pk=1, name="a"), Room(pk=2, name="b")]
    serializer = RoomSerializer(rooms, many=True)
    lend_fields(serializer)
    assert isinstance(vars(serializer.child)["fields"], BindingDict)
    assert serializer.data == RoomSerializer(rooms, many=True).data


def test_what_customises_its_fields_builds_them_itself():
    class ByRequest(RoomSerializer):
        def get_fields(self):
            return super().get_fields()

    class ByArgument(RoomSerializer):
        def __init__(self, *args, only=None, **kwargs):
            super().__init__(*args, **kwargs)

    class OwnField(serializers.CharField):
        pass

    class WithOwnField(serializers.Serializer):
        name = OwnField()

    class Holder(serializers.Serializer):
        rooms = ByRequest(many=True)

    for serializer_class in (ByRequest, ByArgument, WithOwnField, Holder):
        assert not is_lent(serializer_class()), serializer_class


def test_choices_and_limits_that_a_function_makes_are_made_each_time():
    class Booking(models.Model):
        colour = models.CharField(max_length=9, choices=lambda: [("red", "Red")])

        class Meta:
            app_label = "fields_of_functions"

    class Guest(models.Model):
        room = models.ForeignKey(Room, models.CASCADE, limit_choices_to=lambda: {"name": "x"})

        class Meta:
            app_label = "fields_of_functions"

    def serializer_of(of_model):
        class OfModel(serializers.ModelSerializer):
            class Meta:
                model = of_model
                fields = "__all__"

        return OfModel()

    assert not is_lent(serializer_of(Booking))
    assert not is_lent(serializer_of(Guest))


def test_settings_that_a_test_overrides_are_heard():
    class Price(serializers.Serializer):
        price = serializers.DecimalField(max_digits=5, decimal_places=2)

    from decimal import Decimal

    assert lent(Price({"price": Decimal("1.50")})).data == {"price": "1.50"}
    with override_settings(REST_FRAMEWORK={"COERCE_DECIMAL_TO_STRING": False}):
        assert lent(Price({"price": Decimal("1.50")})).data == {"price": Decimal("1.50")}


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.text(max_size=9), st.floats()
)
makers = st.sampled_from(
    [
        lambda **kwargs: serializers.CharField(max_length=5, **kwargs),
        lambda **kwargs: serializers.IntegerField(min_value=0, **kwargs),
        lambda **kwargs: serializers.BooleanField(**kwargs),
        lambda **kwargs: serializers.FloatField(**kwargs),
        lambda **kwargs: serializers.ChoiceField(choices=["a", "b", 3], **kwargs),
        lambda **kwargs: serializers.EmailField(**kwargs),
        lambda **kwargs: serializers.UUIDField(**kwargs),
        lambda **kwargs: serializers.DateTimeField(**kwargs),
        lambda **kwargs: serializers.ListField(child=serializers.IntegerField(), **kwargs),
        lambda **kwargs: serializers.DictField(child=serializers.CharField(), **kwargs),
        lambda **kwargs: serializers.JSONField(**kwargs),
    ]
)
options = st.sampled_from(
    [{}, {"required": False}, {"allow_null": True}, {"default": None}, {"write_only": True}]
)


@st.composite
def serializer_classes(draw, depth: int = 2) -> type[serializers.Serializer]:
    """A serializer of up to four fields, some of them serializers."""
    declared = {}
    for name in draw(st.sets(st.sampled_from("abcd"), min_size=1)):
        if depth and draw(st.booleans()):
            inner = draw(serializer_classes(depth=depth - 1))
            declared[name] = inner(many=draw(st.booleans()), required=draw(st.booleans()))
        else:
            declared[name] = draw(makers)(**draw(options))
    return type("Generated", (serializers.Serializer,), declared)


values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
    ),
    max_leaves=12,
)


def outcome(serializer):
    """All that a serializer says of its input."""
    if serializer.is_valid():
        return serializer.validated_data
    return serializer.errors, [str(serializer.errors)]


@given(serializer_classes(), st.lists(values, min_size=1, max_size=3))
def test_generated_serializers_say_the_same_of_any_input(serializer_class, inputs):
    for data in inputs:
        built, copied = serializer_class(data=data), lent(serializer_class(data=data))
        assert repr(outcome(copied)) == repr(outcome(built))
        assert repr(copied) == repr(built)


@given(serializer_classes(), st.lists(values, min_size=1, max_size=3))
def test_generated_serializers_show_the_same_of_any_value(serializer_class, instances):
    def shown(serializer):
        try:
            return repr(serializer.data)
        except Exception as exc:
            return type(exc)

    for instance in instances:
        built, copied = serializer_class(instance), lent(serializer_class(instance))
        assert shown(copied) == shown(built)


@pytest.mark.django_db
def test_a_frame_builds_no_fields_once_they_are_built():
    class RoomViewSet(ModelConsumerViewSet):
        queryset = Room.objects.order_by("id")
        serializer_class = RoomSerializer

    router = DefaultRouter()
    router.register("rooms", RoomViewSet)
    with SocketClient(router.as_asgi()) as client:
        client.create("rooms", {"name": "lobby"})
        with mock.patch.object(RoomSerializer, "get_fields", side_effect=AssertionError):
            assert client.list("rooms").status_code == 200
            assert client.create("rooms", {"name": "attic"}).status_code == 201


class Code(serializers.Serializer):
    code = serializers.CharField(max_length=5, validators=[RegexValidator("^[a-z]+$")])
    words = serializers.ListField(child=serializers.CharField(max_length=3), min_length=1)


def test_a_validator_that_a_serializer_changes_is_no_others():
    changed = lent(Code(data={"code": "abcdef", "words": ["abcd", "ab"]})).fields
    for field in (changed["code"], changed["words"].child):
        longest = next(v for v in field.validators if isinstance(v, MaxLengthValidator))
        longest.limit_value = 1
    fresh = lent(Code(data={"code": "abc", "words": ["abc"]}))
    assert fresh.is_valid(), fresh.errors
    assert not changed["code"].parent.is_valid()


def test_validators_are_shared_where_drf_shares_them():
    def own(serializer):
        validators = serializer.fields["code"].validators
        return next(v for v in validators if isinstance(v, RegexValidator))

    assert own(lent(Code())) is own(Code())


def test_validators_that_drf_makes_of_the_model_belong_to_one_serializer():
    def unique(serializer):
        validators = serializer.fields["name"].validators
        return next(v for v in validators if isinstance(v, UniqueValidator))

    assert unique(lent(RoomSerializer())) is not unique(lent(RoomSerializer()))
    assert unique(lent(RoomSerializer())).queryset.model is Room


def test_fields_are_a_mapping_as_drf_makes_it():
    lent_fields, built = lent(RoomSerializer()).fields, RoomSerializer().fields
    assert isinstance(lent_fields, BindingDict)
    assert repr(lent_fields) == repr(built)
    assert [repr(field) for field in lent_fields.values()] == [repr(f) for f in built.values()]
    assert [name for name, _ in lent_fields.items()] == list(built) == list(lent_fields.keys())
    lent_fields["more"] = serializers.CharField()
    assert list(lent_fields.values())[-1].parent is lent_fields.serializer
    assert len(lent_fields.items()) == len(built) + 1
