"""Many streams on one socket: envelopes, and those that are none."""

from __future__ import annotations

import json

import pytest
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from rest_channels.sockets.demultiplexer import Demultiplexer
from rest_channels.test import SocketClient, SocketClosed
from tests.support.talk import OpenViewSet


class RoomViewSet(OpenViewSet):
    @action(detail=False)
    def title(self, request):
        return Response("room")

    @action(detail=False)
    def letters(self, request):
        yield from "ab"


class UserViewSet(OpenViewSet):
    @action(detail=False)
    def title(self, request):
        return Response("user")


router = DefaultRouter()
router.register("rooms", RoomViewSet, "room")
router.register("some/users", UserViewSet, "user")


@pytest.fixture
def client():
    with SocketClient(router.as_asgi()) as client:
        yield client


def tell(client, message):
    """Send a message; the next that comes back."""
    client.send_text(json.dumps(message))
    return client.receive()


def test_each_reply_comes_in_the_envelope_of_its_stream(client):
    frame = {"action": "title", "request_id": 1}
    assert tell(client, {"stream": "rooms", "payload": frame}) == {
        "stream": "rooms",
        "payload": {
            "errors": [],
            "data": "room",
            "action": "title",
            "response_status": 200,
            "request_id": 1,
        },
    }
    reply = tell(client, {"stream": "some/users", "payload": frame})
    assert (reply["stream"], reply["payload"]["data"]) == ("some/users", "user")


def test_every_item_of_a_generator_comes_in_its_envelope(client):
    client.send("letters", "rooms", request_id=1)
    messages = [client.receive() for _ in range(3)]
    assert [message["stream"] for message in messages] == ["rooms"] * 3
    assert [message["payload"]["data"] for message in messages] == ["a", "b", None]


def test_an_unknown_stream_is_404_and_echoes_what_it_was_asked(client):
    message = {"stream": "attic", "payload": {"action": "title", "request_id": "r"}}
    assert tell(client, message) == {
        "stream": "attic",
        "payload": {
            "errors": ["There is no such stream."],
            "codes": ["not_found"],
            "data": None,
            "action": "title",
            "response_status": 404,
            "request_id": "r",
        },
    }


@pytest.mark.parametrize("stream", ["", "Rooms", "rooms/", " rooms", "__class__", "\u0000", "é"])
def test_names_that_are_no_stream(client, stream):
    reply = tell(client, {"stream": stream, "payload": {"action": "title", "request_id": 1}})
    assert (reply["stream"], reply["payload"]["response_status"]) == (stream, 404)


@pytest.mark.parametrize(
    "payload,action,request_id",
    [
        (None, None, None),
        ([], None, None),
        ({"request_id": 1}, None, 1),
        ({"action": "title", "request_id": [1]}, "title", None),
        ({"action": "title", "request_id": 1, "query": 1}, "title", 1),
    ],
)
def test_an_unknown_stream_and_no_frame_is_404_with_what_could_be_read(
    client, payload, action, request_id
):
    reply = tell(client, {"stream": "attic", "payload": payload})["payload"]
    assert reply["response_status"] == 404
    assert (reply["action"], reply["request_id"]) == (action, request_id)


@pytest.mark.parametrize(
    "message",
    [
        None,
        1,
        "rooms",
        [],
        {},
        {"payload": {"action": "title"}},
        {"stream": None, "payload": {"action": "title"}},
        {"stream": 1, "payload": {"action": "title"}},
        {"stream": True, "payload": {"action": "title"}},
        {"stream": ["rooms"], "payload": {"action": "title"}},
        {"stream": {}, "payload": {"action": "title"}},
        {"action": "title", "request_id": 1},
    ],
)
def test_what_is_no_envelope_is_400_from_no_stream(client, message):
    reply = tell(client, message)
    assert (reply["stream"], reply["payload"]["response_status"]) == (None, 400)
    assert client.request("title", "rooms").data == "room"


@pytest.mark.parametrize(
    "payload", [{"action": "title", "request_id": 7}, {"action": 1, "request_id": 7}]
)
def test_what_could_be_read_of_a_payload_without_a_stream_is_echoed(client, payload):
    assert tell(client, {"stream": 5, "payload": payload})["payload"]["request_id"] == 7


def test_what_could_be_read_without_an_envelope_is_echoed(client):
    # A client of a single stream that has come to the wrong address can tell what failed.
    reply = tell(client, {"action": "title", "request_id": 7})["payload"]
    assert (reply["response_status"], reply["action"], reply["request_id"]) == (400, "title", 7)


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"stream": "rooms", "stream": "rooms"}'])
def test_what_is_no_json_is_400_from_no_stream(client, text):
    client.send_text(text)
    reply = client.receive()
    assert (reply["stream"], reply["payload"]["response_status"]) == (None, 400)


def test_a_binary_message_is_400_from_no_stream(client):
    client.send_bytes(b"{}")
    reply = client.receive()
    assert (reply["stream"], reply["payload"]["response_status"]) == (None, 400)


@pytest.mark.parametrize("message", [{"stream": "rooms"}, {"stream": "rooms", "payload": None}])
def test_a_missing_payload_is_400_from_its_stream(client, message):
    reply = tell(client, message)
    assert (reply["stream"], reply["payload"]["response_status"]) == ("rooms", 400)


def test_other_keys_of_an_envelope_are_ignored(client):
    message = {"stream": "rooms", "payload": {"action": "title"}, "self": 1, "action": "letters"}
    assert tell(client, message)["payload"]["data"] == "room"


def test_an_action_of_another_stream_is_405(client):
    assert client.request("letters", "some/users").status_code == 405


def test_a_frame_too_long_closes_the_whole_socket(client, settings):
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": 100, "MAX_SUBSCRIPTION_ROWS": 1}
    client.send_text(" " * 101)
    with pytest.raises(SocketClosed) as caught:
        client.receive()
    assert caught.value.code == 1009


def test_a_demultiplexer_class_of_the_projects_own(settings):
    settings.REST_CHANNELS = {
        "DEMULTIPLEXER_CLASS": "tests.sockets.test_demultiplexer.CuriousDemultiplexer"
    }
    own = DefaultRouter()
    own.register("rooms", RoomViewSet, "room")
    with SocketClient(own.as_asgi()) as client:
        assert tell(client, {"stream": "?"}) == {"streams": ["rooms"]}
        assert client.request("title", "rooms").data == "room"


class CuriousDemultiplexer(Demultiplexer):
    def on_unknown_stream(self, name, payload):
        self.outbox.post(json.dumps({"streams": list(self.streams_by_prefix)}))
