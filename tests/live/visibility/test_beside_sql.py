"""Answers with the same SQL may differ otherwise: that is compared, or is one user's own."""

from __future__ import annotations

import sys
from datetime import timedelta
from datetime import timezone as fixed
from types import ModuleType

import pytest
from django.contrib.auth.models import User
from django.db.models import CharField, Func, Prefetch
from django.urls import path, set_script_prefix, set_urlconf
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_variables
from rest_framework import serializers

from rest_channels.live.visibility.proofs import Unproven, check_text
from rest_channels.live.visibility.trust import is_own
from rest_channels.metrics import figures
from tests.live.visibility.test_proofs import reason
from tests.models import Book, Club, Message, Note, Room
from tests.support.greeting_rooms import Rooms, RoomSerializer, two_users
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_track]


async def heard(viewset, write):
    """Return the last events of ann and bob after one `write`."""
    application = routes(viewset)
    ann, bob = await two_users()
    async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
        await subscribed(anns)
        await subscribed(bobs)
        await written(write)
        return (await event(anns))[1], (await event(bobs))[1]


# Rows that the queryset gives to its own


class Role(serializers.ModelSerializer):
    role = serializers.CharField(source="club.role")

    class Meta:
        model = Note
        fields = ["role"]


class ClubName(serializers.ModelSerializer):
    club = serializers.CharField(source="club.name")

    class Meta:
        model = Note
        fields = ["club"]


class Notes(Rooms):
    """The notes of a club, as a nested route shows them: each note refers to this very club."""

    serializer_class = ClubName

    def get_queryset(self):
        club = Club.objects.get()
        self.adorn(club)
        return club.notes.order_by("id")

    def adorn(self, club):
        pass


def write_note():
    Note.objects.create(club=Club.objects.get(), text="hello")


def test_a_parent_that_says_the_role_of_who_asks():
    class ByRole(Notes):
        serializer_class = Role

        def adorn(self, club):
            club.role = self.request.user.username

    async def story():
        await written(Club.objects.create, name="chess")
        assert await heard(ByRole, write_note) == ({"role": "ann"}, {"role": "bob"})

    run(story)


def test_a_parent_whose_column_is_changed_for_who_asks():
    class Renamed(Notes):
        def adorn(self, club):
            club.name = f"{club.name} of {self.request.user}"

    async def story():
        await written(Club.objects.create, name="chess")
        assert await heard(Renamed, write_note) == (
            {"club": "chess of ann"},
            {"club": "chess of bob"},
        )

    run(story)


def test_a_parent_that_is_written_to():
    async def story():
        await written(Club.objects.create, name="chess")
        await written(write_note)
        rename = Club.objects.get
        assert await heard(Notes, lambda: _save(rename(), name="go")) == (
            {"club": "go"},
            {"club": "go"},
        )

    run(story)


def _save(row, **values):
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def test_a_parent_that_is_the_same_for_all_is_shared():
    async def story():
        await written(Club.objects.create, name="chess")
        before = figures.encodes.value
        assert await heard(Notes, write_note) == ({"club": "chess"}, {"club": "chess"})
        assert figures.encodes.value - before == 1

    run(story)


class OwnMessages(Prefetch):
    """Says what it fetches when it does."""

    def __init__(self, user):
        super().__init__("messages", to_attr="own")
        self.user = user

    def get_current_queryset(self, level):
        return Message.objects.filter(author=self.user)

    def get_current_querysets(self, level):
        return [self.get_current_queryset(level)]


def test_a_prefetch_of_the_projects_own():
    class WithOwn(RoomSerializer):
        def to_representation(self, room):
            return {"own": [message.text for message in room.own]}

    class OwnRooms(Rooms):
        serializer_class = WithOwn

        def get_queryset(self):
            return Room.objects.prefetch_related(OwnMessages(self.request.user))

    async def story():
        room = await written(Room.objects.create, name="lobby")

        def write():
            for author in User.objects.order_by("pk"):
                Message.objects.create(room=room, author=author, text=f"of {author}")
            room.save()

        assert await heard(OwnRooms, write) == ({"own": ["of ann"]}, {"own": ["of bob"]})

    run(story)


class Greeting(Func):
    """In SQL the same for all; what it makes of it says who asks."""

    function = "LOWER"
    output_field = CharField()

    def __init__(self, source, user):
        super().__init__(source)
        self.user = user

    def get_db_converters(self, connection):
        return [lambda value, expression, connection: f"{value} to {self.user}"]


def test_an_expression_of_the_projects_own_within_a_prefetch():
    class Greeted(RoomSerializer):
        def to_representation(self, room):
            return {"said": [message.said for message in room.own]}

    class GreetedRooms(Rooms):
        serializer_class = Greeted

        def get_queryset(self):
            messages = Message.objects.annotate(said=Greeting("text", self.request.user))
            return Room.objects.prefetch_related(Prefetch("messages", messages, to_attr="own"))

    async def story():
        room = await written(Room.objects.create, name="lobby")
        await written(Message.objects.create, room=room, text="Hello")
        assert await heard(GreetedRooms, room.save) == (
            {"said": ["hello to ann"]},
            {"said": ["hello to bob"]},
        )

    run(story)


# What shows a row


class NamedByOthers(User):
    def get_username(self):
        return "any user"

    class Meta:
        abstract = True


def test_a_text_that_djangos_code_has_the_project_make():
    check_text(User)
    with pytest.raises(Unproven, match="get_username"):
        check_text(NamedByOthers)


def test_a_default_for_a_related_row_that_is_not_there():
    class WithNovel(serializers.ModelSerializer):
        novel = serializers.PrimaryKeyRelatedField(read_only=True, default=lambda: who_asks)

        class Meta:
            model = Book
            fields = ["novel"]

    who_asks = User(pk=1)
    assert reason(WithNovel, Book.objects.all()).endswith("WithNovel.novel.default")


# What Django keeps for a request


class Linked(RoomSerializer):
    class Meta(RoomSerializer.Meta):
        fields = ["url"]
        extra_kwargs = {"url": {"view_name": "room-detail"}}


@pytest.fixture
def urlconfs(monkeypatch):
    for name in ("ann", "bob"):
        module = ModuleType(f"urls_of_{name}")
        module.urlpatterns = [
            path(f"{name}/<int:pk>/", lambda request, pk: None, name="room-detail")
        ]
        monkeypatch.setitem(sys.modules, module.__name__, module)


class ByUrls(Rooms):
    serializer_class = Linked

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        set_urlconf(f"urls_of_{request.user}")


class ByPrefix(Rooms):
    serializer_class = Linked

    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        set_urlconf("urls_of_ann")
        set_script_prefix(f"/{request.user}/")


@pytest.mark.parametrize(
    ("viewset", "paths"),
    [(ByUrls, ("/ann/1/", "/bob/1/")), (ByPrefix, ("/ann/ann/1/", "/bob/ann/1/"))],
)
def test_urls_of_who_asks(viewset, paths, urlconfs):
    async def story():
        found = await heard(viewset, lambda: Room.objects.create(pk=1, name="lobby"))
        assert found == tuple({"url": f"http://testserver{path}"} for path in paths)

    run(story)


def test_time_zones_of_one_name():
    class When(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["created"]

    class Local(Rooms):
        queryset = Message.objects.order_by("id")
        serializer_class = When

        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            hours = {"ann": 1, "bob": 2}[request.user.username]
            timezone.activate(fixed(timedelta(hours=hours), "local"))

    async def story():
        room = await written(Room.objects.create, name="lobby")
        of_ann, of_bob = await heard(Local, lambda: Message.objects.create(room=room, text="hello"))
        assert of_ann["created"].endswith("+01:00")
        assert of_bob["created"].endswith("+02:00")

    run(story)


# Whose code a decorator runs


def counting(method):
    def counted(*args, **kwargs):
        return method(*args, **kwargs)

    return counted


class Decorated(RoomSerializer):
    @method_decorator(counting)
    def get_fields(self):
        return super().get_fields()

    @sensitive_variables()
    def to_representation(self, room):
        return super().to_representation(room)


class DecoratedByList(Decorated):
    to_representation = method_decorator([counting])(RoomSerializer.to_representation)


@pytest.mark.parametrize("viewed", [Decorated, DecoratedByList])
@pytest.mark.parametrize("name", ["get_fields", "to_representation"])
def test_a_decorator_of_djangos_makes_nothing_its_own(viewed, name):
    assert not is_own(viewed, name)
    assert is_own(RoomSerializer, name)
