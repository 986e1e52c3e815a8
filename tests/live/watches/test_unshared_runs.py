"""Answers that may differ for other users are not shared, however their code finds the user."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from functools import cached_property

import pytest
from django.contrib.auth.models import User
from django.db import connection, models
from django.utils import translation
from django.utils.translation import gettext
from django_filters.rest_framework import FilterSet
from rest_framework import filters, pagination, serializers, viewsets
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response

from rest_channels.decorators import live_shared
from rest_channels.live.visibility import answer_proofs
from rest_channels.routers import DefaultRouter
from rest_channels.sockets import watch_exchange
from tests.models import Room
from tests.support.room_viewsets import RoomNameSerializer
from tests.support.subscription_stories import ByHeader, as_user, run, written
from tests.support.talk import talking_to
from tests.support.watch_stories import change, groups, runs_settle, watched

pytestmark = pytest.mark.django_db(transaction=True)

here = threading.local()
around: ContextVar[str] = ContextVar("around")


class Rooms(viewsets.ModelViewSet):
    authentication_classes = [ByHeader]
    permission_classes = [IsAuthenticated]
    queryset = Room.objects.order_by("name")
    serializer_class = RoomNameSerializer


def leaving(leave):
    """A permission that leaves the user somewhere."""

    class Leaving(BasePermission):
        def has_permission(self, request, view):
            leave(request, view)
            return True

    return Leaving


def own(user):
    return Room.objects.filter(name__startswith=user.username).order_by("name")


def on_view(request, view):
    view.reader = request.user


def on_request(request, view):
    request.reader = request.user


def in_kwargs(request, view):
    view.kwargs["reader"] = request.user


def in_thread(request, view):
    here.reader = request.user


def in_context(request, view):
    around.set(request.user.username)


def in_language(request, view):
    translation.activate("de" if request.user.username == "ann" else "fr")


def in_queryset(request, view):
    view.queryset = own(request.user)


def as_method(request, view):
    rooms = own(request.user)
    view.get_queryset = lambda: rooms


# Each reads the user in its own way, and declares all the same that nobody does.


class Declared(Rooms):
    def shown(self):
        raise NotImplementedError

    @live_shared
    def list(self, request):
        return Response([room.name for room in self.shown()])


class ByRequest(Declared):
    def shown(self):
        return own(self.request.user)


class ByDjangosRequest(Declared):
    def shown(self):
        return own(self.request._request.user)


class ByHeaders(Declared):
    def shown(self):
        return own(User.objects.get(pk=self.request.headers["authorization"]))


class ByView(Declared):
    permission_classes = [leaving(on_view)]

    def shown(self):
        return own(self.reader)


class ByCachedProperty(Declared):
    @cached_property
    def reader(self):
        return self.request.user

    permission_classes = [leaving(lambda request, view: view.reader)]

    def shown(self):
        return own(self.reader)


class ByAttribute(Declared):
    permission_classes = [leaving(on_request)]

    def shown(self):
        return own(self.request.reader)


class ByKwargs(Declared):
    permission_classes = [leaving(in_kwargs)]

    @live_shared
    def list(self, request, reader):
        return Response([room.name for room in own(reader)])


class ByThread(Declared):
    permission_classes = [leaving(in_thread)]

    def shown(self):
        return own(here.reader)


class ByContext(Declared):
    permission_classes = [leaving(in_context)]

    def shown(self):
        return Room.objects.filter(name__startswith=around.get())


class ByInitial(Declared):
    def initial(self, request, *args, **kwargs):
        super().initial(request, *args, **kwargs)
        self.rooms = own(request.user)

    def shown(self):
        return self.rooms


class ByDispatch(Declared):
    """The value that it leaves for the action is gone afterwards."""

    def dispatch(self, request, *args, **kwargs):
        here.name = User.objects.get(pk=request.headers["authorization"]).username
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            del here.name

    def shown(self):
        return Room.objects.filter(name__startswith=here.name)


class ByLanguage(Declared):
    permission_classes = [leaving(in_language)]

    @live_shared
    def list(self, request):
        name = "ann" if gettext("Yes") == "Ja" else "ben"
        return Response(sorted(Room.objects.filter(name__startswith=name).values_list("name")))


# Code of a project's own, undeclared.


class ByQueryset(Rooms):
    def get_queryset(self):
        return own(self.request.user)


class ByReplacedQueryset(Rooms):
    permission_classes = [leaving(in_queryset)]


class ByReplacedMethod(Rooms):
    permission_classes = [leaving(as_method)]


class OwnRooms(filters.BaseFilterBackend):
    def filter_queryset(self, request, queryset, view):
        return queryset.filter(name__startswith=request.user.username)


class ByFilter(Rooms):
    filter_backends = [OwnRooms]


class OwnPages(pagination.PageNumberPagination):
    page_size = 5

    def paginate_queryset(self, queryset, request, view=None):
        return super().paginate_queryset(own(request.user), request, view)


class ByPages(Rooms):
    pagination_class = OwnPages


class OfReader(RoomNameSerializer):
    reader = serializers.SerializerMethodField()

    def get_reader(self, room):
        return self.context["request"].user.username

    class Meta(RoomNameSerializer.Meta):
        fields = ["name", "reader"]


class BySerializer(Rooms):
    serializer_class = OfReader


class KeepingOnView(RoomNameSerializer):
    def to_representation(self, room):
        view = self.context["view"]
        view.reader = getattr(view, "reader", None) or view.request.user.username
        return {"name": room.name, "reader": view.reader}


class BySerializerThatKeeps(Rooms):
    serializer_class = KeepingOnView


READERS = [
    *[ByRequest, ByDjangosRequest, ByHeaders, ByView, ByCachedProperty, ByAttribute, ByKwargs],
    *[ByThread, ByContext, ByInitial, ByDispatch, ByLanguage],
    *[ByQueryset, ByReplacedQueryset, ByReplacedMethod, ByFilter, ByPages],
    *[BySerializer, BySerializerThatKeeps],
]


def application(viewset):
    router = DefaultRouter()
    router.register("rooms", viewset, "rooms")
    return router.as_asgi()


def make_users():
    return [User.objects.create_user(name) for name in ("ann", "ben")]


async def answers_of_two(viewset):
    """Return the answers of two users' watches after a write for each of them."""
    ann, ben = await written(make_users)
    served = application(viewset)
    async with (
        talking_to(served, "/rooms/", as_user(ann)) as of_ann,
        talking_to(served, "/rooms/", as_user(ben)) as of_ben,
    ):
        for socket in (of_ann, of_ben):
            await watched(socket)
        await runs_settle()
        number = len(groups())
        await written(Room.objects.bulk_create, [Room(name="ann1"), Room(name="ben1")])
        await runs_settle()
        return number, await change(of_ann), await change(of_ben)


@pytest.mark.parametrize("viewset", READERS)
def test_each_user_has_runs(viewset):
    async def story():
        number, of_ann, of_ben = await answers_of_two(viewset)
        assert number == 2
        assert of_ann != of_ben
        assert "ben" not in str(of_ann).replace("'name': 'ben1'", "")
        assert "ann" not in str(of_ben).replace("'name': 'ann1'", "")

    run(story)


class OwnQuerySet(models.QuerySet):
    def all(self):
        return super().all().filter(name__startswith=here.name)


class OfOwnQuerySet(Rooms):
    queryset = OwnQuerySet(Room)


class WithProperty(Rooms):
    @property
    def ordering(self):
        return self.request.user.username


class WithOwnList(Rooms):
    def list(self, request):
        return super().list(request)


class WithFinalize(Rooms):
    def finalize_response(self, request, response, *args, **kwargs):
        return super().finalize_response(request, response, *args, **kwargs)


class WithDeclaredList(Rooms):
    @live_shared
    def list(self, request):
        return super().list(request)


class WithOwnListAgain(WithDeclaredList):
    """A declaration says nothing of the method that takes its place."""

    def list(self, request):
        return super().list(request)


class RoomFilters(FilterSet):
    class Meta:
        model = Room
        fields = ["name"]


class WithFilters(Rooms):
    filterset_class = RoomFilters


class WithFieldsToFilter(Rooms):
    filterset_fields = ["name"]


@pytest.mark.parametrize(
    ("viewset", "named"),
    [
        (OfOwnQuerySet, "OwnQuerySet.all"),
        (WithProperty, "WithProperty.ordering"),
        (WithOwnList, "WithOwnList.list"),
        (WithFinalize, "WithFinalize.finalize_response"),
        (WithOwnListAgain, "WithOwnListAgain.list"),
        (ByQueryset, "ByQueryset.get_queryset"),
        (ByFilter, "OwnRooms"),
        (ByPages, "OwnPages.paginate_queryset"),
        (BySerializer, "OfReader.get_reader"),
        (Rooms, None),
        (WithFilters, "WithFilters.filterset_class"),
        (WithFieldsToFilter, None),
        (WithDeclaredList, None),
    ],
)
def test_code_that_is_not_proven(viewset, named, monkeypatch):
    found = []

    def entry_of(view, handler, handshake):
        found.append(answer_proofs.unproven_answer(view, handler))

    monkeypatch.setattr(watch_exchange, "entry_of", entry_of)

    async def story():
        ann, _ = await written(make_users)
        here.name = "ann"
        async with talking_to(application(viewset), "/rooms/", as_user(ann)) as socket:
            await socket.ask("watch", of="list", request_id="w")

    run(story)
    assert found == [named]


class Replicas:
    def db_for_read(self, model, **hints):
        return None


def test_a_router_of_a_projects_own(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.Replicas"]

    async def story():
        number, of_ann, of_ben = await answers_of_two(Rooms)
        assert number == 2
        assert of_ann == of_ben

    run(story)


def set_reader(request, view):
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.reader', %s, false)", [request.user.username])


class ByPolicy(Declared):
    """As policies for rows read a setting of the session."""

    permission_classes = [leaving(set_reader)]

    def shown(self):
        where = "starts_with(name, current_setting('app.reader'))"
        return Room.objects.extra(where=[where]).order_by("name")


@pytest.mark.only_on("postgresql")
def test_state_of_a_session():
    async def story():
        assert await answers_of_two(ByPolicy) == (2, ["ann1"], ["ben1"])

    run(story)


def test_a_method_of_the_framework_cannot_be_declared():
    with pytest.raises(ValueError, match="define list\\(\\) on the viewset"):
        live_shared(viewsets.ModelViewSet.list)


# Mutations of the rules


def tracking_nothing(monkeypatch):
    monkeypatch.setattr(watch_exchange, "reads_in", lambda view: frozenset())


def blind_for_views(monkeypatch):
    monkeypatch.setattr(
        "rest_channels.live.watches.answer_sharing.is_view_used", lambda view: False
    )


def blind_for_state(monkeypatch):
    monkeypatch.setattr(watch_exchange.State, "has_changed", lambda self: False)


def blind_before_the_action(monkeypatch):
    has_changed = watch_exchange.State.has_changed
    enter_body = watch_exchange.WatchExchange._enter_body

    def entered(self, view, handler):
        monkeypatch.setattr(watch_exchange.State, "has_changed", lambda self: False)
        try:
            return enter_body(self, view, handler)
        finally:
            monkeypatch.setattr(watch_exchange.State, "has_changed", has_changed)

    monkeypatch.setattr(watch_exchange.WatchExchange, "_enter_body", entered)


def blind_for_languages(monkeypatch):
    monkeypatch.setattr("rest_channels.live.watches.answer_sharing.ways_of_django", lambda: ())
    monkeypatch.setattr("rest_channels.sockets.dispatch.get_language", lambda: None)


@pytest.mark.parametrize(
    ("mutate", "viewset"),
    [
        (tracking_nothing, ByRequest),
        (tracking_nothing, ByHeaders),
        (blind_for_views, ByView),
        (blind_for_views, ByCachedProperty),
        (blind_for_state, ByThread),
        (blind_for_state, ByContext),
        (blind_before_the_action, ByDispatch),
        (blind_for_languages, ByLanguage),
    ],
)
def test_a_broken_rule_is_found(mutate, viewset, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        test_each_user_has_runs(viewset)
