"""Exceptions of user code: the status HTTP would give, logged once, and the socket goes on."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import io
import json
import sqlite3
import uuid
from contextlib import closing

import pytest
from django.core import exceptions as django
from django.core.files.base import ContentFile
from django.db import DatabaseError, IntegrityError, connection
from django.db.models import ProtectedError, RestrictedError
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.test import Client
from django.urls import include, path
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy
from rest_framework import exceptions as drf
from rest_framework import serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action
from rest_framework.filters import BaseFilterBackend
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.throttling import BaseThrottle
from rest_framework.versioning import BaseVersioning

from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient
from tests.models import Document, Room
from tests.support.room_viewsets import RoomSerializer

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

SECRET = "the secret"


class DoesNotExist(django.ObjectDoesNotExist):
    pass


RAISED = {
    "Http404": (Http404("There is none."), 404),
    "Django's PermissionDenied": (django.PermissionDenied("Not you."), 403),
    "DRF's PermissionDenied": (drf.PermissionDenied("Not you."), 403),
    "DRF's ValidationError": (drf.ValidationError({"name": ["Too long."]}), 400),
    "DRF's APIException": (drf.APIException("Out of order."), 500),
    "SuspiciousOperation": (django.SuspiciousOperation(SECRET), 400),
    "SuspiciousFileOperation": (django.SuspiciousFileOperation(SECRET), 400),
    "RequestDataTooBig": (django.RequestDataTooBig(SECRET), 400),
    "BadRequest": (django.BadRequest(SECRET), 400),
    "Django's ValidationError": (django.ValidationError(SECRET), 500),
    "ObjectDoesNotExist": (DoesNotExist(SECRET), 500),
    "MultipleObjectsReturned": (django.MultipleObjectsReturned(SECRET), 500),
    "ImproperlyConfigured": (django.ImproperlyConfigured(SECRET), 500),
    "FieldError": (django.FieldError(SECRET), 500),
    "ProtectedError": (ProtectedError(SECRET, set()), 500),
    "RestrictedError": (RestrictedError(SECRET, set()), 500),
    "IntegrityError": (IntegrityError(SECRET), 500),
    "DatabaseError": (DatabaseError(SECRET), 500),
    "KeyError": (KeyError(SECRET), 500),
    "AttributeError": (AttributeError(SECRET), 500),
    "RecursionError": (RecursionError(SECRET), 500),
    "StopIteration": (StopIteration(SECRET), 500),
    "UnicodeDecodeError": (UnicodeDecodeError("ascii", b"\xff", 0, 1, SECRET), 500),
    "OSError": (OSError(SECRET), 500),
    "TimeoutError": (TimeoutError(SECRET), 500),
}

# HTTP under Django's test client lets them through; uvicorn answers them with 500.
BEYOND_EXCEPTION = {
    "SystemExit": SystemExit(SECRET),
    "CancelledError": asyncio.CancelledError(SECRET),
}


def exception(name: str) -> BaseException:
    return BEYOND_EXCEPTION[name] if name in BEYOND_EXCEPTION else RAISED[name][0]


class FailingViewSet(viewsets.ViewSet):
    @action(detail=False)
    def fail(self, request):
        raise exception(request.query_params["what"])

    @action(detail=False)
    async def fail_async(self, request):
        await asyncio.sleep(0)
        raise exception(request.query_params["what"])

    @action(detail=False)
    def fail_late(self, request):
        yield 1
        raise exception(request.query_params["what"])

    @action(detail=False)
    async def fail_late_async(self, request):
        yield 1
        raise exception(request.query_params["what"])

    def list(self, request):
        return Response("fine")


router = DefaultRouter()
router.register("failing", FailingViewSet, basename="failing")

http_router = SimpleRouter()
http_router.register("failing", FailingViewSet, basename="failing")
urlpatterns = [path("", include(http_router.urls))]


def assert_opaque(reply, caplog, status=500):
    """The reply has an id and no more; the log has that id and the traceback, once."""
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.name == "rest_channels"
    assert record.levelname == "ERROR"
    assert reply.status_code == status
    assert (reply.data, len(reply.errors)) == (None, 1)
    assert reply.errors[0].endswith(f"(error {record.error_id}).")
    text = json.dumps(reply.payload)
    assert SECRET not in text
    assert "Error" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("what", RAISED)
def test_the_status_is_that_of_http(what):
    response = Client(raise_request_exception=False).get("/failing/fail/", {"what": what})
    with SocketClient(router.as_asgi()) as socket:
        for word in ("fail", "fail_async", "fail_late", "fail_late_async"):
            if what == "StopIteration" and word != "fail":
                continue  # Python makes it a RuntimeError there.
            reply = socket.request(word, "failing", query={"what": what})
            assert reply.status_code == response.status_code == RAISED[what][1]
            assert SECRET not in json.dumps(reply.payload)
        assert socket.list("failing").data == "fine"


@pytest.mark.parametrize("word", ["fail", "fail_async", "fail_late", "fail_late_async"])
@pytest.mark.parametrize(
    "what",
    [*BEYOND_EXCEPTION, "KeyError", "StopIteration", "ProtectedError", "Django's ValidationError"],
)
def test_a_server_error_is_opaque_and_logged_once(what, word, caplog):
    with SocketClient(router.as_asgi()) as socket:
        reply = socket.request(word, "failing", query={"what": what})
        assert_opaque(reply, caplog)
        assert socket.list("failing").data == "fine"


@pytest.mark.parametrize("what", ["SuspiciousOperation", "Http404", "Django's PermissionDenied"])
def test_what_is_the_clients_fault_is_no_error_in_the_log(what, caplog):
    with SocketClient(router.as_asgi()) as socket:
        socket.request("fail", "failing", query={"what": what})
    assert not [r for r in caplog.records if r.levelname == "ERROR" or r.exc_info]


def test_debug_propagate_exceptions_lets_the_server_see_it(settings):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    with SocketClient(router.as_asgi()) as socket:
        socket.send("fail", "failing", query={"what": "KeyError"})
        with pytest.raises(KeyError):
            socket.receive()


# Wherever user code runs


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer


class Pages(PageNumberPagination):
    page_size = 2


def failing(base: type, *names: str):
    """A subclass of `base` whose methods of these names raise what `failing.error` is."""

    def fail(self, *args, **kwargs):
        raise failing.error

    return type(f"Failing{base.__name__}", (base,), dict.fromkeys(names, fail))


def attribute(name: str, base: type, *names: str, many: bool = False):
    value = failing(base, *names)
    return {name: [value] if many else value}


PLACES = {
    "authentication": attribute(
        "authentication_classes", BaseAuthentication, "authenticate", many=True
    ),
    "permission": attribute("permission_classes", BasePermission, "has_permission", many=True),
    "throttle": attribute("throttle_classes", BaseThrottle, "allow_request", many=True),
    "negotiation": attribute(
        "content_negotiation_class", DefaultContentNegotiation, "select_renderer"
    ),
    "versioning": attribute("versioning_class", BaseVersioning, "determine_version"),
    "filter": attribute("filter_backends", BaseFilterBackend, "filter_queryset", many=True),
    "paginator": attribute("pagination_class", Pages, "paginate_queryset"),
    "page": attribute("pagination_class", Pages, "get_paginated_response"),
    "serializer": attribute("serializer_class", RoomSerializer, "to_representation"),
    "renderer": attribute("renderer_classes", JSONRenderer, "render", many=True),
    "permissions": vars(failing(object, "get_permissions")),
    "queryset": vars(failing(object, "get_queryset")),
    "serializer class": vars(failing(object, "get_serializer_class")),
    "initial": vars(failing(object, "initial")),
    "request": vars(failing(object, "initialize_request")),
    "exception handler": {
        **vars(failing(object, "get_queryset")),
        **vars(failing(object, "get_exception_handler")),
    },
    "last step": vars(failing(object, "finalize_response")),
}


@pytest.mark.parametrize(
    "error",
    [KeyError(SECRET), AttributeError(SECRET), SystemExit(SECRET)],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", PLACES)
def test_an_error_anywhere_is_a_500(place, error, caplog, monkeypatch):
    monkeypatch.setattr(failing, "error", error, raising=False)
    attributes = {k: v for k, v in PLACES[place].items() if not k.startswith("__")}
    Room.objects.create(name="lobby")
    broken = DefaultRouter()
    broken.register("broken", type("BrokenViewSet", (RoomViewSet,), attributes), basename="broken")
    broken.register("rooms", RoomViewSet)
    with SocketClient(broken.as_asgi()) as socket:
        caplog.clear()
        reply = socket.list("broken")
        assert_opaque(reply, caplog)
        assert socket.list("rooms").status_code == 200


def test_the_serializer_of_a_create(caplog):
    class Careless(RoomSerializer):
        def validate(self, data):
            return data["nonsense"]

    careless = DefaultRouter()
    careless.register("rooms", type("Rooms", (RoomViewSet,), {"serializer_class": Careless}))
    with SocketClient(careless.as_asgi()) as socket:
        assert_opaque(socket.create("rooms", {"name": "lobby"}), caplog)
        assert socket.list("rooms").data == []


def test_a_row_that_others_need(caplog):
    room = Room.objects.create(name="lobby")
    Document.objects.create(room=room, price=1)
    rooms = DefaultRouter()
    rooms.register("rooms", RoomViewSet)
    with SocketClient(rooms.as_asgi()) as socket:
        assert_opaque(socket.destroy("rooms", room.pk), caplog)
        assert socket.retrieve("rooms", room.pk).status_code == 200


# A database that does not answer


class DatabaseViewSet(RoomViewSet):
    @action(detail=False)
    def lose(self, request):
        """The database ends this frame's own connection."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [pid] = cursor.fetchone()
        with closing(connection.copy(alias="default")) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        return Response(Room.objects.count())


databases = DefaultRouter()
databases.register("rooms", DatabaseViewSet)

if connection.vendor == "sqlite":

    @pytest.mark.django_db(transaction=True)
    def test_a_locked_database(caplog, monkeypatch):
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.01)
        connection.close()
        writer = sqlite3.connect(connection.settings_dict["NAME"], uri=True, isolation_level=None)
        with SocketClient(databases.as_asgi()) as socket:
            writer.execute("BEGIN IMMEDIATE")
            reply = socket.create("rooms", {"name": "lobby"})
            writer.close()
            assert_opaque(reply, caplog, status=503)
            assert reply.codes == ["unavailable"]
            assert "locked" not in str(reply)
            assert socket.create("rooms", {"name": "lobby"}).status_code == 201

else:

    @pytest.mark.django_db(transaction=True)
    def test_a_database_that_vanishes(caplog):
        with SocketClient(databases.as_asgi()) as socket:
            reply = socket.request("lose", "rooms")
            assert_opaque(reply, caplog, status=503)
            assert reply.codes == ["unavailable"]
            assert "terminating" not in str(reply)
            assert socket.create("rooms", {"name": "lobby"}).status_code == 201


# What can and what cannot be sent

DATA = {
    "datetime": lambda: datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, datetime.UTC),
    "date": lambda: datetime.date(2024, 2, 29),
    "time": lambda: datetime.time(12, 30, 15, 123456),
    "timedelta": lambda: datetime.timedelta(days=1, seconds=1.5),
    "UUID": lambda: uuid.UUID(int=7),
    "Decimal": lambda: decimal.Decimal("1.10"),
    "lazy text": lambda: gettext_lazy("Not found."),
    "lazy string": lambda: lazystr("late"),
    "bytes": lambda: b"text",
    "tuple": lambda: (1, 2),
    "generator": lambda: iter([1, 2]),
    "queryset": lambda: Room.objects.values("name").order_by("name"),
    "keys": lambda: {1: "one", None: "none"},
    "emoji": lambda: "\N{GRINNING FACE}\u2028",
    "big": lambda: 2**70,
    "set": lambda: {1},
    "file": lambda: ContentFile("some text", name="text.txt"),
    "NaN": lambda: float("nan"),
    "infinity": lambda: [float("inf")],
    "NaN Decimal": lambda: decimal.Decimal("NaN"),
    "object": lambda: object(),
    "model": lambda: Room(name="lobby"),
    "exception": lambda: KeyError("x"),
    "cycle": lambda: (lambda items: items.append(items) or items)([]),
    "surrogate": lambda: "\ud800",
}


class DataViewSet(viewsets.ViewSet):
    @action(detail=False)
    def data(self, request):
        return Response({"it": DATA[request.query_params["what"]]()})

    @action(detail=False)
    def response(self, request):
        return RESPONSES[request.query_params["what"]]()


data_router = DefaultRouter()
data_router.register("data", DataViewSet, basename="data")

http_data_router = SimpleRouter()
http_data_router.register("data", DataViewSet, basename="data")
urlpatterns += http_data_router.urls


@pytest.mark.parametrize("what", DATA)
def test_data_are_what_http_sends(what):
    Room.objects.create(name="lobby")
    response = Client(raise_request_exception=False).get("/data/data/", {"what": what})
    with SocketClient(data_router.as_asgi()) as socket:
        reply = socket.request("data", "data", query={"what": what})
        assert reply.status_code == response.status_code
        if response.status_code == 200:
            assert reply.data == json.loads(response.content)
        assert socket.request("data", "data", query={"what": "big"}).status_code == 200


RESPONSES = {
    "text": lambda: HttpResponse("some text", content_type="text/plain"),
    "file": lambda: FileResponse(io.BytesIO(b"some text"), filename="text.txt"),
    "stream": lambda: StreamingHttpResponse(iter([b"some ", b"text"]), content_type="text/plain"),
}


@pytest.mark.parametrize("what", RESPONSES)
def test_files_and_streams_are_text(what):
    with SocketClient(data_router.as_asgi()) as socket:
        reply = socket.request("response", "data", query={"what": what})
    assert reply.data == "some text"
    assert reply.headers["Content-Type"].startswith("text/plain")


def test_a_file_of_a_model_is_its_url(settings, tmp_path):
    class DocumentSerializer(serializers.ModelSerializer):
        class Meta:
            model = Document
            fields = ["id", "file", "price"]

    class DocumentViewSet(viewsets.ReadOnlyModelViewSet):
        queryset = Document.objects.all()
        serializer_class = DocumentSerializer

    settings.MEDIA_ROOT = tmp_path
    document = Document.objects.create(file=ContentFile("text", name="a.txt"), price="1.5")
    documents = DefaultRouter()
    documents.register("documents", DocumentViewSet)
    with SocketClient(documents.as_asgi()) as socket:
        data = socket.retrieve("documents", document.pk).data
    assert data["file"] == f"http://testserver/{document.file.name}"
    assert data["price"] == "1.50"
