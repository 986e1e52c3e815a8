"""Keys of a frame that are probably misspelt."""

from __future__ import annotations

import pytest
from rest_framework import viewsets
from rest_framework.pagination import PageNumberPagination

from rest_channels.protocol import PAYLOAD_KEYS
from rest_channels.routers import DefaultRouter
from rest_channels.sockets.frame_hints import hints
from rest_channels.test import SocketClient
from tests.models import Room
from tests.test_routers import RoomSerializer


class Pages(PageNumberPagination):
    page_size = 2


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    pagination_class = Pages


router = DefaultRouter()
router.register("rooms", RoomViewSet)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        *[("qurey", "query"), ("qery", "query"), ("Query", "query"), ("hedaers", "headers")],
        *[("requestId", "request_id"), ("request-id", "request_id"), ("metod", "method")],
        *[("dat", "data"), ("dtaa", "data"), ("actoin", "action")],
    ],
)
def test_what_a_key_was_meant_to_be(key, meant):
    expected = f"{key!r} has no meaning here. Did you mean {meant!r}?"
    assert hints([key], PAYLOAD_KEYS) == (expected,)


@pytest.mark.parametrize(
    "key", ["query", "filter", "id", "date", "room", "", "x" * 10_000, "queryset2"]
)
def test_other_keys_are_no_mistakes(key):
    assert hints([key], PAYLOAD_KEYS) == ()


def test_only_a_few_of_many_are_looked_at():
    assert len(hints([f"query{n}" for n in range(10_000)], PAYLOAD_KEYS)) == 4


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("action", "key"),
    [("list", "qurey"), ("list", "pgae"), ("subscribe", "snapshto"), ("retrieve", "kp")],
)
def test_the_reply_names_the_key_and_is_as_ever_beside(action, key):
    with SocketClient(router.as_asgi()) as socket:
        plain = socket.request(action, "rooms", request_id="a")
        other = socket.request(action, "rooms", request_id="b", **{key: 1})
    assert "hints" not in plain.payload
    (hint,) = other.payload["hints"]
    assert repr(key) in hint
    assert other.payload.keys() - plain.payload.keys() == {"hints"}
    assert other.status_code == plain.status_code


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [True, False])
def test_it_is_logged_while_a_project_is_made(debug, settings, caplog):
    settings.DEBUG = debug
    with SocketClient(router.as_asgi()) as socket:
        socket.list("rooms", qurey={"page": 2})
    assert ("Did you mean 'query'?" in caplog.text) is debug
