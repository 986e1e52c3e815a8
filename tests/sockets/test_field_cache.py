"""Serializer fields that are copied: nobody can tell, and nothing leaks from one to the next."""

from __future__ import annotations

from unittest import mock

import hypothesis
import pytest
from django.contrib.auth.models import User
from django.core.validators import MaxLengthValidator, RegexValidator
from django.db import models
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict
from rest_framework.validators import UniqueTogetherValidator, UniqueValidator

from rest_channels.routers import DefaultRouter
from rest_channels.sockets.field_cache import lend_fields
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Item, Message, Room, Shelf, Tag


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

    # A class made like this has the module in which DRF's metaclass is.
    made = type("Made", (RoomSerializer,), {"get_fields": ByRequest.get_fields})
    assert made.__module__ == "rest_framework.serializers"

    for serializer_class in (ByRequest, ByArgument, WithOwnField, Holder, made):
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


# Serializers of models


declarations = {
    "author": lambda: serializers.HiddenField(default=serializers.CurrentUserDefault()),
    "by": lambda: serializers.SerializerMethodField(),
    "place": lambda: serializers.CharField(source="room.name", default="nowhere"),
    "room": lambda: serializers.SlugRelatedField(slug_field="name", queryset=Room.objects.all()),
    "room_text": lambda: serializers.StringRelatedField(source="room"),
    "secret": lambda: serializers.CharField(write_only=True, validators=[RegexValidator("^[a-z]")]),
    "colour": lambda: serializers.ChoiceField([("r", "Red"), ("b", "Blue")], default="r"),
    "rooms": lambda: RoomSerializer(many=True, required=False),
    "messages": lambda: serializers.PrimaryKeyRelatedField(
        many=True, source="room.messages", read_only=True
    ),
}
together = UniqueTogetherValidator(queryset=Message.objects.all(), fields=["room", "text"])
messages_metas = st.fixed_dictionaries(
    {"model": st.just(Message)},
    optional={
        "read_only_fields": st.just(["text"]),
        "depth": st.just(1),
        "validators": st.sampled_from([[], [together]]),
        "extra_kwargs": st.sampled_from(
            [
                {"text": {"default": "hi", "min_length": 2}},
                {"text": {"validators": [MaxLengthValidator(3)]}},
                {"author": {"required": False, "allow_null": True}},
            ]
        ),
    },
)


@st.composite
def model_serializers(draw) -> type[serializers.ModelSerializer]:
    """A serializer of messages: some of the model's fields, some declared, options of `Meta`."""
    is_linked = draw(st.booleans())
    base = serializers.HyperlinkedModelSerializer if is_linked else serializers.ModelSerializer
    names = draw(st.sets(st.sampled_from([*declarations]), max_size=4))
    of_model = draw(st.sets(st.sampled_from(["id", "url", "room", "author", "created"])))
    meta = {**draw(messages_metas), "fields": ["text", "room", *({*names, *of_model} - {"room"})]}
    body = {name: declarations[name]() for name in sorted(names)}
    body |= {"Meta": type("Meta", (), meta), "get_by": lambda self, message: repr(self.context)}
    return type("GeneratedOfModel", (base,), body)


def of_another_model(model: type[models.Model]) -> type[serializers.ModelSerializer]:
    meta = type("Meta", (), {"model": model, "fields": "__all__"})
    return type("OfAnotherModel", (serializers.ModelSerializer,), {"Meta": meta})


@pytest.fixture
def lobby(db):
    lobby = Room.objects.create(pk=1, name="lobby")
    Message.objects.create(pk=1, room=lobby, text="hello")
    Shelf.objects.create(pk=1, name="top")
    Item.objects.create(pk=1, name="ball")
    return lobby


def said(serializer):
    """Return a serializer's data of its input or instance, or its failure."""
    try:
        return repr(outcome(serializer) if hasattr(serializer, "initial_data") else serializer.data)
    except Exception as exc:
        return type(exc), str(exc)


def context():
    request = RequestFactory().get("/")
    request.user = User(pk=7, username="ann")
    return {"request": request, "format": None}


bodies = st.fixed_dictionaries(
    {},
    optional={
        "room": st.sampled_from([1, 2, "lobby", "attic", None, "http://testserver/rooms/1/"]),
        "author": st.sampled_from([1, None, "x"]),
        "text": st.sampled_from(["hello", "", "h", "x" * 300, None, 3]),
        "place": st.text(max_size=3),
        "secret": st.sampled_from(["abc", "1", ""]),
        "colour": st.sampled_from(["r", "g", ""]),
        "rooms": st.lists(st.sampled_from([{}, {"name": "lobby"}, {"name": "attic"}, 3])),
    },
)


def right(serializer_class):
    """An input that a generated serializer takes."""
    room = "lobby" if "room" in serializer_class._declared_fields else 1
    return {"room": room, "author": None, "text": "ok", "secret": "abc", "rooms": []}


# Nothing is written: the examples share the rows.
@hypothesis.settings(
    max_examples=30, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@given(model_serializers(), st.lists(bodies, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_serializers_of_models_say_the_same(lobby, serializer_class, inputs, is_partial, updates):
    shared = context()
    message = Message.objects.get(pk=1)
    instance = message if updates else None
    for data in [right(serializer_class), *inputs]:
        options = {"data": data, "partial": is_partial, "context": shared}
        built = serializer_class(instance, **options)
        copied = lent(serializer_class(instance, **options))
        assert said(copied) == said(built)
        assert repr(copied) == repr(built)
    built = serializer_class(message, context=shared)
    assert said(lent(serializer_class(message, context=shared))) == said(built)
    many = serializer_class([message, message], many=True, context=shared)
    copied = serializer_class([message, message], many=True, context=shared)
    lend_fields(copied)
    assert said(copied) == said(many)


@pytest.mark.parametrize("model", [Book, Item, Shelf, Tag])
@pytest.mark.parametrize("name", [None, "", "ball", "x" * 60])
def test_what_a_model_says_of_its_fields_is_copied(lobby, model, name):
    serializer_class = of_another_model(model)
    for data in ({"name": name}, {"title": name, "tags": [3], "shelf": 1, "version": "x"}):
        built, copied = serializer_class(data=data), lent(serializer_class(data=data))
        assert said(copied) == said(built)
        assert repr(copied) == repr(built)


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
