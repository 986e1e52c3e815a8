"""Queries that the client's own parameters break are not taken for a database that is gone."""

from __future__ import annotations

import sqlite3

import pytest
from django.db import InterfaceError, OperationalError
from django_filters import CharFilter, FilterSet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.filters import SearchFilter

from rest_channels.routers import DefaultRouter
from rest_channels.sockets.response import is_unavailable
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.room_viewsets import RoomNameSerializer

pytestmark = pytest.mark.django_db(transaction=True)

# SQLite's expressions are a thousand levels deep at most; PostgreSQL takes all of these.
TERMS = {"search": " ".join(f"t{number}" for number in range(3000))}
BROKEN = {"pattern": "(unclosed"}


class Pattern(FilterSet):
    pattern = CharFilter(field_name="name", lookup_expr="regex")


class RoomViewSet(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomNameSerializer
    filter_backends = [SearchFilter, DjangoFilterBackend]
    filterset_class = Pattern
    search_fields = ["name"]


@pytest.fixture
def application():
    Room.objects.create(name="attic")
    router = DefaultRouter()
    router.register("rooms", RoomViewSet)
    return router.as_asgi()


def answer(socket, action, query):
    reply = socket.request(action, snapshot=True, query=query)
    return reply.status_code, reply.codes


def test_a_broken_pattern_is_answered_alike_everywhere(application):
    with SocketClient(application, "/rooms/") as socket:
        for action in ("list", "subscribe"):
            assert answer(socket, action, BROKEN) == (500, ["error"])
        assert answer(socket, "list", {"pattern": "^att"}) == (200, None)
        assert answer(socket, "subscribe", {"pattern": "^att"}) == (201, None)


def test_thousands_of_search_terms_are_answered_alike_everywhere(application):
    with SocketClient(application, "/rooms/") as socket:
        listed, shown = (answer(socket, action, TERMS) for action in ("list", "subscribe"))
        assert (listed, shown) in [
            ((500, ["error"]), (500, ["error"])),
            ((200, None), (201, None)),
        ]


def test_nobody_elses_subscription_ends(application):
    with (
        SocketClient(application, "/rooms/") as socket,
        SocketClient(application, "/rooms/") as other,
    ):
        assert answer(other, "subscribe", {}) == (201, None)
        assert answer(socket, "subscribe", BROKEN) == (500, ["error"])
        Room.objects.create(name="cellar")
        assert other.event().data == {"name": "cellar"}


class Driver(Exception):
    """An exception as a driver raises it, with its details of the error."""

    def __init__(self, **facts):
        super().__init__()
        vars(self).update(facts)


def raised(exc, cause):
    exc.__cause__ = cause
    return exc


BUSY, FUNCTION, TOO_BIG = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG


@pytest.mark.parametrize(
    ("facts", "is_gone"),
    [
        ({"sqlite_errorcode": BUSY}, True),
        ({"sqlite_errorcode": sqlite3.SQLITE_BUSY_SNAPSHOT}, True),
        ({"sqlite_errorcode": sqlite3.SQLITE_IOERR}, True),
        ({"sqlite_errorcode": FUNCTION}, False),
        ({"sqlite_errorcode": TOO_BIG}, False),
        ({"sqlstate": None}, True),
        ({"sqlstate": "57P01"}, True),
        ({"sqlstate": "53300"}, True),
        ({"sqlstate": "40P01"}, True),
        ({"sqlstate": "57014"}, False),
        ({"pgcode": "54001"}, False),
    ],
)
def test_what_means_that_a_database_is_gone(facts, is_gone):
    assert is_unavailable(raised(OperationalError(), Driver(**facts))) is is_gone


def test_a_connection_that_is_closed_is_gone():
    assert is_unavailable(InterfaceError("closed"))
    assert not is_unavailable(ValueError("closed"))
