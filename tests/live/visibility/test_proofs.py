"""Which renderings are known to be the same for all, and which code is the reason for others."""

from __future__ import annotations

import functools
import json
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import FileSystemStorage
from django.db import models
from django.db.models import Count, Manager, Model, QuerySet, Value
from django.db.models.functions import Upper
from django.db.models.signals import post_init
from django.utils.translation import gettext_lazy
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.renderers import JSONRenderer

from rest_channels.live.capture.managers import LiveManager
from rest_channels.live.delivery.renderings import Uncopyable, copies
from rest_channels.live.visibility.dependencies import dependencies
from rest_channels.live.visibility.proofs import (
    Unproven,
    check_column,
    check_model,
    check_rows,
    followed,
)
from rest_channels.live.visibility.sharing import unproven_rendering
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Book, Document, Item, Message, Note, Novel, Room, Tag
from tests.support.greeting_rooms import Rooms, RoomSerializer


def reason(serializer_class, queryset, viewset=Rooms, renderer=None):
    """Return the reasons why nothing is proven of a `viewset` that shows rows of `queryset`."""
    view = viewset()
    view.request = SimpleNamespace(
        accepted_renderer=renderer or JSONRenderer(), versioning_scheme=None
    )
    return unproven_rendering(view, serializer_class, queryset)


def showing(of, *names, depth=0, base=serializers.ModelSerializer, **attributes):
    """A serializer of a model with these fields."""
    meta = type("Meta", (), {"model": of, "fields": names or "__all__", "depth": depth})
    return type("Shown", (base,), {"Meta": meta, **attributes})


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ["id", "username", "last_login"]


class Proven(serializers.ModelSerializer):
    """All that is written has a say of its own; nothing that is read has."""

    room = serializers.PrimaryKeyRelatedField(queryset=Room.objects.all())
    room_name = serializers.CharField(source="room.name", read_only=True)
    author = UserSerializer(read_only=True)
    author_name = serializers.SlugRelatedField("username", source="author", read_only=True)
    spoken = serializers.DateTimeField(source="created", format="%H:%M", read_only=True)
    raw = serializers.ReadOnlyField(source="author_id")
    link = serializers.HyperlinkedIdentityField("message-detail")
    secret = serializers.CharField(write_only=True)

    class Meta:
        model = Message
        fields = [
            *["id", "pk", "room", "room_name", "author", "author_name", "spoken"],
            *["raw", "link", "text", "secret"],
        ]

    def validate_text(self, text):
        return text.strip()

    def validate(self, data):
        return {**data, "author": self.context["request"].user}

    def create(self, data):
        return super().create(data)

    def helper(self):
        """Nobody calls it to render."""


class OwnQueryset(serializers.PrimaryKeyRelatedField):
    def get_queryset(self):
        return Room.objects.filter(is_staff_only=self.context["request"].user.is_staff)


@pytest.mark.parametrize(
    ("serializer_class", "queryset"),
    [
        (RoomSerializer, Room.objects.all()),
        (Proven, Message.objects.select_related("room", "author")),
        (showing(Message, room=OwnQueryset()), Message.objects.all()),
        (showing(Message, depth=1), Message.objects.all()),
        (showing(Novel), Novel.objects.all()),
        (showing(Book, "tags"), Book.objects.prefetch_related("tags")),
        (showing(Tag, "books", books=showing(Book, "title")(many=True)), Tag.objects.all()),
        (showing(Item), Item.objects.all()),
        (showing(Note), Note.objects.all()),
        (showing(Document), Document.objects.all()),
        (showing(User), User.objects.all()),
        (
            showing(Room, "name", "said", said=serializers.IntegerField()),
            Room.objects.annotate(said=Count("messages")),
        ),
    ],
)
def test_what_is_proven(serializer_class, queryset):
    assert reason(serializer_class, queryset) is None
    check_rows(queryset, dependencies(queryset))


class Untitled(serializers.ModelSerializer):
    def get_fields(self):
        return super().get_fields()


class Initialised(serializers.ModelSerializer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class OwnText(serializers.ModelSerializer):
    def to_representation(self, instance):
        return super().to_representation(instance)


class OwnList(serializers.ListSerializer):
    pass


def wrapped(method):
    """A decorator's copy of the name, module and documentation of what it wraps."""

    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        return method(*args, **kwargs)

    return wrapper


class Decorated(serializers.ModelSerializer):
    to_representation = wrapped(serializers.ModelSerializer.to_representation)


class OwnField(serializers.CharField):
    def to_representation(self, value):
        return value.upper()


class OwnAttribute(serializers.CharField):
    def get_attribute(self, instance):
        return self.context["request"].user.username


class Encoder(json.JSONEncoder):
    pass


class Meta:
    model = Room
    fields = ["name"]
    list_serializer_class = OwnList


class Lazily:
    """A `Meta` whose fields are found out each time."""

    model = Room

    @property
    def fields(self):
        return ["name"]


def field_of(given, name="name"):
    return showing(Room, name, **{name: given})


@pytest.mark.parametrize(
    ("serializer_class", "piece"),
    [
        (showing(Room, base=Untitled), "Untitled.get_fields"),
        (showing(Room, base=Initialised), "Initialised.__init__"),
        (showing(Room, base=OwnText), "OwnText.to_representation"),
        (showing(Room, base=Decorated), "Decorated.to_representation"),
        (
            showing(Room, "x", x=serializers.SerializerMethodField(), get_x=lambda *_: 1),
            "Shown.get_x",
        ),
        (showing(Room, __getattr__=lambda self, name: None), "Shown.__getattr__"),
        (type("Shown", (serializers.ModelSerializer,), {"Meta": Meta}), "OwnList"),
        (type("Shown", (serializers.ModelSerializer,), {"Meta": Lazily}), "Shown.Meta.fields"),
        (field_of(OwnField()), "OwnField.to_representation"),
        (field_of(OwnAttribute()), "OwnAttribute.get_attribute"),
        (field_of(serializers.CharField(source="shout"), "x"), "Room.shout"),
        (field_of(serializers.ReadOnlyField(source="messages.count"), "x"), "Shown.x"),
        (field_of(serializers.StringRelatedField(source="messages", many=True), "x"), None),
        (field_of(serializers.JSONField(encoder=Encoder)), "Shown.name.encoder"),
        (field_of(serializers.ChoiceField(iter(["a"]))), "Shown.name.choices"),
        (field_of(serializers.ListField(child=OwnField())), "OwnField.to_representation"),
        (field_of(OwnText(source="*", read_only=True), "x"), "OwnText.to_representation"),
        (serializers.BaseSerializer, "BaseSerializer"),
    ],
)
def test_what_is_not(serializer_class, piece, monkeypatch):
    monkeypatch.setattr(Room, "shout", property(lambda room: room.name.upper()), raising=False)
    assert reason(serializer_class, Room.objects.all()) == piece


def test_a_text_of_a_row_by_the_projects_own_method(monkeypatch):
    shown = showing(Message, "room", room=serializers.StringRelatedField())
    assert reason(shown, Message.objects.all()) is None
    monkeypatch.setattr(Room, "__str__", lambda room: room.name)
    again = showing(Message, "room", room=serializers.StringRelatedField())
    assert reason(again, Message.objects.all()) == "Room.__str__"


def test_a_source_whose_default_the_project_makes():
    def nobody():
        return "nobody"

    field = serializers.CharField(source="author.username", default=nobody)
    shown = showing(Message, "name", name=field)
    assert reason(shown, Message.objects.all()) == "Shown.name.default"


# Views and renderers


class OwnContext(Rooms):
    def get_serializer_context(self):
        return {**super().get_serializer_context(), "by": self.request.user}


class OwnSerializer(Rooms):
    def get_serializer(self, *args, **kwargs):
        return super().get_serializer(*args, **kwargs)


class OwnRequest(Rooms):
    request = property(lambda view: None, lambda view, request: None)


class DecoratedContext(Rooms):
    get_serializer_context = wrapped(GenericAPIView.get_serializer_context)


class OwnHooks(ModelConsumerViewSet):
    """Its rules for rows are in their SQL; its side effects are looked for by themselves."""

    def get_queryset(self):
        return Room.objects.filter(is_staff_only=self.request.user.is_staff)

    def filter_queryset(self, queryset):
        return queryset

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)

    def get_serializer_class(self):
        return RoomSerializer


@pytest.mark.parametrize(
    ("viewset", "piece"),
    [
        (OwnContext, "OwnContext.get_serializer_context"),
        (OwnSerializer, "OwnSerializer.get_serializer"),
        (DecoratedContext, "DecoratedContext.get_serializer_context"),
        (OwnHooks, None),
    ],
)
def test_viewsets(viewset, piece):
    assert reason(RoomSerializer, Room.objects.all(), viewset) == piece


class Given(Rooms):
    def __init__(self):
        super().__init__()
        self.get_serializer_context = lambda: {"by": "ann"}


def test_a_context_that_one_view_has():
    assert reason(RoomSerializer, Room.objects.all(), Given) == "Given.get_serializer_context"


class Camel(JSONRenderer):
    pass


class OfEncoder(JSONRenderer):
    encoder_class = Encoder


@pytest.mark.parametrize("renderer", [Camel(), OfEncoder()], ids=["subclass", "encoder"])
def test_renderers(renderer):
    assert reason(RoomSerializer, Room.objects.all(), renderer=renderer) == type(renderer).__name__


# Models


def model(attributes):
    """A model that no registry keeps."""
    meta = type("Meta", (), {"app_label": "proofs"})
    made = type("Row", (Model,), {"__module__": __name__, "Meta": meta, **attributes})
    made._meta.apps.all_models["proofs"].clear()
    return made


class Loud(models.CharField):
    def from_db_value(self, value, expression, connection):
        return value.upper()


class Described(models.CharField):
    """Another column, or another form, and the same values."""

    def db_type(self, connection):
        return "varchar(10)"

    def formfield(self, **kwargs):
        return super().formfield(**kwargs)


class Signed(FileSystemStorage):
    def url(self, name):
        return f"/signed/{name}"


class Mine(Manager):
    def get_queryset(self):
        return super().get_queryset().filter(name="mine")


class Visible(QuerySet):
    """More methods, and no other meaning of those that there are."""

    def visible_to(self, user):
        return self.filter(user=user)


class Decoder(json.JSONDecoder):
    pass


@pytest.mark.parametrize(
    ("attributes", "piece"),
    [
        ({}, None),
        ({"save": lambda self, **kwargs: None, "label": property(str)}, None),
        ({"objects": LiveManager()}, None),
        ({"objects": Visible.as_manager()}, None),
        ({"name": Described(max_length=10)}, None),
        ({"data": models.JSONField()}, None),
        ({"from_db": classmethod(lambda cls, *args: cls())}, "Row.from_db"),
        ({"__init__": lambda self, *args: None}, "Row.__init__"),
        ({"__getattr__": lambda self, name: None}, "Row.__getattr__"),
        ({"refresh_from_db": lambda self: None}, "Row.refresh_from_db"),
        ({"objects": Mine()}, "Mine.get_queryset"),
        ({"name": Loud(max_length=10)}, "Loud.from_db_value"),
        ({"data": models.JSONField(decoder=Decoder)}, "Decoder"),
        ({"file": models.FileField(storage=Signed())}, "Signed"),
    ],
)
def test_models(attributes, piece):
    made = model(attributes)
    if piece is None:
        check_model(made)
        return
    with pytest.raises(Unproven) as found:
        check_model(made)
    assert found.value.piece == piece


def test_a_model_whose_rows_a_receiver_changes():
    def stamp(instance, **kwargs):
        instance.stamp = 1

    made = model({})
    post_init.connect(stamp, made)
    try:
        with pytest.raises(Unproven, match="stamp"):
            check_model(made)
    finally:
        post_init.disconnect(stamp, made)


class ByOwnCode(Upper):
    def convert_value(self, value, expression, connection):
        return f"{value} for me"


@pytest.mark.parametrize(
    "queryset",
    [
        Room.objects.annotate(x=ByOwnCode("name")),
        Room.objects.annotate(x=Value("a", output_field=Loud())),
        type("Own", (QuerySet,), {"_fetch_all": lambda self: None})(Room),
        type("Own", (QuerySet,), {"iterator": lambda self: None})(Room),
    ],
    ids=["expression", "output field", "fetching", "iterator"],
)
def test_querysets_whose_rows_the_project_makes(queryset):
    with pytest.raises(Unproven):
        check_rows(queryset, dependencies(queryset))


def test_texts_of_choices():
    choosing = model(
        {
            "plain": models.CharField(choices=[("a", "A"), ("b", gettext_lazy("B"))]),
            "own": models.CharField(choices=[("a", "A")]),
            "get_own_display": lambda row: "own",
        }
    )
    assert followed(choosing, "get_plain_display") == (None, None)
    with pytest.raises(Unproven, match="get_own_display"):
        followed(choosing, "get_own_display")


def test_an_array_is_as_good_as_what_is_in_it():
    from django.contrib.postgres.fields import ArrayField

    check_column(ArrayField(models.CharField(max_length=1)))
    with pytest.raises(Unproven, match="from_db_value"):
        check_column(ArrayField(Loud(max_length=1)))


# Copies


@pytest.mark.django_db
def test_copies_share_nothing_with_rows():
    room = Room.objects.create(name="lobby")
    for text in ("one", "two"):
        Message.objects.create(room=room, text=text)
    messages = Message.objects.select_related("room").prefetch_related("room__messages")
    rows = list(messages.order_by("id"))
    first, second = copies(rows)
    assert [first, second] == rows
    assert first is not rows[0]
    assert first.room is not rows[0].room
    first.room.name = "changed"
    first.room.messages.all()[0].text = "changed"
    assert rows[0].room.name == "lobby"
    assert [m.text for m in rows[0].room.messages.all()] == ["one", "two"]


@pytest.mark.django_db
def test_copies_ask_no_database(django_assert_num_queries):
    room = Room.objects.create(name="lobby")
    Message.objects.create(room=room, text="one")
    [row] = Room.objects.prefetch_related("messages__room")
    with django_assert_num_queries(0):
        [copied] = copies([row])
        [message] = copied.messages.all()
        assert message.room.name == "lobby"
        assert message.room is not row.messages.all()[0].room


def test_what_two_rows_have_in_common_their_copies_have():
    room = Room(name="lobby")
    one, other = copies([Message(room=room), Message(room=room)])
    assert one.room is other.room
    assert one.room is not room


def test_what_is_not_known_is_not_copied():
    room = Room(name="lobby")
    room.tag = object()
    with pytest.raises(Uncopyable):
        copies([room])
