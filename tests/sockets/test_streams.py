"""The request of a frame: the action, its verb, its lookups, and the order of refusals."""

from __future__ import annotations

import pytest
from channels.routing import URLRouter
from django.test import override_settings
from django.urls import include, path, register_converter
from rest_framework import pagination
from rest_framework import routers as drf
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from rest_channels.routers import DefaultRouter
from rest_channels.sockets.streams import Stream
from rest_channels.test import SocketClient
from rest_channels.viewsets import ConsumerViewSet, ModelConsumerViewSet
from tests.models import Room
from tests.support.room_viewsets import RoomSerializer

pytestmark = pytest.mark.django_db


class RoomViewSet(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    permission_classes = []

    @action(detail=True, methods=["post", "delete", "get"])
    def pin(self, request, pk):
        return Response(request.method)

    @pin.mapping.put
    def repin(self, request, pk):
        return Response("repinned")

    @action(detail=False, url_path=r"named/(?P<name>[a-z]+)/(?P<year>\d{4})")
    def named(self, request, name, year):
        return Response([name, year])

    @action(detail=True, methods=["post"])
    def path(self, request, pk):
        return Response([request.method, request.path, request.resolver_match.url_name])


def client(viewset=RoomViewSet, url="/", **initkwargs) -> SocketClient:
    return SocketClient(URLRouter(viewset.as_routes("", "room", **initkwargs)), url)


# Verbs


def test_each_action_has_the_verbs_it_declares():
    stream = Stream(RoomViewSet, "rooms", "room", SimpleRouter())
    verbs = {action: stream.verbs(action) for action in stream.actions}
    assert verbs == {
        "list": ["get"],
        "create": ["post"],
        "retrieve": ["get"],
        "update": ["put"],
        "partial_update": ["patch"],
        "destroy": ["delete"],
        "pin": ["post", "delete", "get"],
        "repin": ["put"],
        "named": ["get"],
        "path": ["post"],
        "subscribe": ["get"],
        "subscribe_instance": ["get"],
    }


def test_the_first_verb_declared_is_the_default():
    with client() as socket:
        assert socket.request("pin", pk=1).data == "POST"
        assert socket.request("pin", pk=1, method="delete").data == "DELETE"
        assert socket.request("pin", pk=1, method="GET").data == "GET"


@pytest.mark.parametrize("method", ["put", "patch", "options", "head", "trace", "connect", "nope"])
def test_no_other_verb_can_be_chosen(method):
    with client() as socket:
        reply = socket.request("pin", pk=1, method=method)
    assert (reply.status_code, reply.errors) == (405, [f'Method "{method.upper()}" not allowed.'])


def test_a_safe_verb_does_not_make_an_unsafe_action_safe():
    room = Room.objects.create(name="lobby")
    with client() as socket:
        assert socket.destroy(pk=room.pk, method="get").status_code == 405
        assert socket.create(data={"name": "attic"}, method="options").status_code == 405
    assert Room.objects.get() == room


def test_an_action_mapped_to_another_verb_has_its_own_name():
    with client() as socket:
        assert socket.request("repin", pk=1).data == "repinned"


@pytest.mark.parametrize(("word", "verb"), [("patch", "partial_update"), ("delete", "destroy")])
def test_dcrfs_words(word, verb):
    room = Room.objects.create(name="lobby")
    with client() as socket:
        reply = socket.request(word, pk=room.pk, data={"name": "attic"})
    assert reply.status_code in (200, 204) and reply.action == word
    assert not Room.objects.filter(name="lobby").exists()


# Refusals, in DRF's order


class Members(BasePermission):
    def has_permission(self, request, view):
        return view.action == "list"


@pytest.mark.parametrize(
    "frame",
    [
        {"action": "nothing_of_the_kind"},
        {"action": "retrieve"},
        {"action": "retrieve", "method": "post", "pk": 1},
        {"action": "pin", "method": "patch"},
        {"action": "metadata"},
    ],
)
def test_permissions_come_before_405_and_before_what_is_missing(frame):
    with client(permission_classes=[Members]) as socket:
        assert socket.list().status_code == 200
        assert socket.request(**frame).status_code == 403


def test_lookups_that_are_missing_are_named():
    with client() as socket:
        reply = socket.request("named", name="x")
    assert (reply.status_code, reply.errors) == (400, [{"year": ["This field is required."]}])
    assert reply.codes == [{"year": ["required"]}]


@pytest.mark.parametrize("pk", [None, True, 1.5, [], [1], {"pk": 1}, {}])
def test_a_lookup_is_a_string_or_an_integer(pk):
    with client() as socket:
        assert socket.retrieve(pk=pk).errors == [{"pk": ["This field is required."]}]


@pytest.mark.parametrize("pk", ["", "1/2", "1.json", "a.b", "/"])
def test_a_lookup_has_the_form_its_url_admits(pk):
    Room.objects.create(pk=1, name="lobby")
    with client() as socket:
        assert socket.retrieve(pk=pk).status_code == 404


@pytest.mark.parametrize("pk", ["abc", -1, 10**30, "%31", "1?", "1#", " 1 x", "\x00"])
def test_a_row_that_cannot_be_is_404_or_400_never_500(pk):
    with client() as socket:
        assert socket.retrieve(pk=pk).status_code in (400, 404)


def test_a_lookups_own_regex_holds():
    class Digits(RoomViewSet):
        lookup_value_regex = "[0-9]+"

    Room.objects.create(pk=7, name="lobby")
    with client(Digits) as socket:
        assert socket.retrieve(pk="7").status_code == 200
        assert [socket.retrieve(pk=pk).status_code for pk in ("7a", "-7", "7\n", " 7")] == [404] * 4


def test_extra_lookups_of_an_action():
    with client() as socket:
        assert socket.request("named", name="ann", year=2024).data == ["ann", "2024"]
        assert socket.request("named", name="Ann", year=2024).status_code == 404
        assert socket.request("named", name="ann", year=24).status_code == 404


# Paths


class URLconf:
    router = drf.SimpleRouter()
    router.register("rooms", RoomViewSet)
    urlpatterns = [path("api/", include(router.urls))]


@override_settings(ROOT_URLCONF=URLconf)
def test_the_path_is_that_of_http_where_django_has_one():
    with client() as socket:
        assert socket.request("path", pk=1).data == ["POST", "/api/rooms/1/path/", "room-path"]


@pytest.mark.parametrize(
    ("where", "keys"), [("/ws/5/rooms/", {"pk": 1}), ("/ws/5/rooms/1/", {}), ("/ws/5/", {"pk": 1})]
)
def test_else_the_path_is_where_the_router_is(where, keys):
    class Rooms(RoomViewSet):
        @action(detail=True)
        def path(self, request, pk, team):
            return Response([request.path, request.resolver_match.url_name])

    router = DefaultRouter()
    router.register("rooms", Rooms)
    application = URLRouter([path("ws/<int:team>/", URLRouter(router.urls))])
    with SocketClient(application, where) as socket:
        stream = "rooms" if where == "/ws/5/" else None
        reply = socket.request("path", stream, **keys)
    assert reply.data == ["/ws/5/rooms/1/path/", "room-path"]


# Query keys at the top level, as DCRF's clients write them


class Pages(pagination.PageNumberPagination):
    page_size = 1
    page_size_query_param = "size"


def test_keys_that_the_paginator_declares_are_query():
    for name in ("attic", "lobby"):
        Room.objects.create(name=name)
    with client(pagination_class=Pages) as socket:
        names = [r["name"] for r in socket.list(page=2).data["results"]]
        assert names == ["lobby"]
        assert len(socket.list(size=2).data["results"]) == 2
        names = [r["name"] for r in socket.list(page=2, query={"page": 1}).data["results"]]
        assert names == ["attic"]


def test_keys_that_filters_declare_are_query():
    for name in ("attic", "lobby"):
        Room.objects.create(name=name)
    backends = [SearchFilter, OrderingFilter]

    class Filtered(RoomViewSet):
        search_fields = ["name"]
        ordering_fields = ["name"]

    with client(Filtered, filter_backends=backends) as socket:
        assert [r["name"] for r in socket.list(search="lob").data] == ["lobby"]
        assert [r["name"] for r in socket.list(ordering="-name").data] == ["lobby", "attic"]


def test_keys_that_a_filterset_declares_are_query_and_others_are_not():
    class Filtered(RoomViewSet):
        filterset_fields = ["name"]

        @action(detail=False)
        def query(self, request):
            return Response(request.query_params)

    with client(Filtered) as socket:
        reply = socket.request("query", name="lobby", is_staff_only=True, page=2)
        assert reply.data == {"name": "lobby"}


def test_a_query_key_that_is_no_scalar_is_400():
    with client(pagination_class=Pages) as socket:
        assert socket.list(page={"a": 1}).status_code == 400


# Metadata


def test_metadata_is_of_the_row_where_one_is_named():
    room = Room.objects.create(name="lobby")
    with client() as socket:
        assert "POST" in socket.metadata().data["actions"]
        assert "PUT" in socket.metadata(pk=room.pk).data["actions"]
    with client(url=f"/{room.pk}/") as socket:
        assert "PUT" in socket.metadata().data["actions"]


def test_metadata_where_only_rows_are():
    class OnlyRows(ConsumerViewSet):
        queryset = Room.objects.all()
        permission_classes = []

        def retrieve(self, request, pk):
            raise NotImplementedError

    with client(OnlyRows) as socket:
        assert socket.metadata(pk=1).data["name"] == "Only Rows Instance"
        assert socket.metadata().errors == [{"pk": ["This field is required."]}]


def test_a_stream_is_written_as_its_prefix_and_class():
    router = DefaultRouter()
    router.register("rooms", RoomViewSet)
    assert repr(router.streams["rooms"]) == "<Stream rooms  (RoomViewSet)>"


class FourDigits:
    """A converter as Django's documentation has it: `to_url` takes what `to_python` gives."""

    regex = "[0-9]{4}"

    def to_python(self, value):
        if value == "0000":
            raise ValueError("There was no year 0.")
        return int(value)

    def to_url(self, value):
        return f"{value:04d}"


register_converter(FourDigits, "yyyy")


@pytest.fixture
def years():
    class YearViewSet(ConsumerViewSet):
        authentication_classes = []
        lookup_field = "year"
        lookup_value_converter = "yyyy"

        def retrieve(self, request, year):
            return Response([type(year).__name__, year])

    router = drf.SimpleRouter(use_regex_path=False)
    with SocketClient(URLRouter(YearViewSet.as_routes("years", "year", router=router))) as client:
        client.path = "/years/"
        yield client


@pytest.mark.parametrize("year,read", [(2024, 2024), ("2024", 2024), ("0987", 987)])
def test_a_lookup_is_read_by_the_converter_of_its_url(years, year, read):
    assert years.request("retrieve", year=year).data == ["int", read]


@pytest.mark.parametrize("year", ["", "x", "20240", 987, -2024, "0000", "2024\n", "\u0662024"])
def test_a_lookup_that_its_converter_does_not_take_is_404(years, year):
    assert years.request("retrieve", year=year).status_code == 404


def test_a_converter_that_fails_is_answered_500(years, caplog, monkeypatch):
    monkeypatch.setattr(FourDigits, "to_url", lambda self, year: 1 / 0)
    assert years.request("retrieve", year=2024).status_code == 500
    assert caplog.records[-1].exc_info[0] is ZeroDivisionError
    assert years.request("nothing").status_code == 405
