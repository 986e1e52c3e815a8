"""The AsyncAPI document of an application, compared with what goes over the wire."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from rest_channels.protocol import CloseCode
from rest_channels.schema.asyncapi import asyncapi
from rest_channels.schema.description import describe
from rest_channels.schema.formats import to_json
from rest_channels.settings import socket_settings
from rest_channels.test import SocketClient
from tests.support.apps import odd_api_app

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def over_http(settings):
    settings.ROOT_URLCONF = "tests.support.apps.odd_api_app"


@pytest.fixture(scope="module")
def documents():
    return {}


@pytest.fixture
def document(documents, over_http):
    if not documents:
        documents["odd"] = asyncapi(describe(odd_api_app.application), ["https://example.com/b/"])
    return documents["odd"]


def payload_errors(document, channel, message, value):
    """The errors of a message in view of the document."""
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry = Registry().with_resource("doc:", resource)
    schema = {"$ref": f"doc:#/channels/{channel}/messages/{message}/payload"}
    return [e.message for e in Draft202012Validator(schema, registry=registry).iter_errors(value)]


def test_a_path_is_a_channel(document):
    assert {name: item["address"] for name, item in document["channels"].items()} == {
        "ws": "/ws/",
        "ws_books": "/ws/books/",
        "ws_books_pk": "/ws/books/{pk}/",
        "ws_archive_documents": "/ws/archive/documents/",
        "ws_archive_documents_pk": "/ws/archive/documents/{pk}/",
        "ws_trees": "/ws/trees/",
        "ws_chat": "/ws/chat/",
        "ws_legacy": "/ws/legacy/",
        "v1_rooms": "/v1/rooms/",
        "v1_rooms_name": "/v1/rooms/{name}/",
        "v2_rooms": "/v2/rooms/",
        "v2_rooms_name": "/v2/rooms/{name}/",
        "ws_calls_number": "/ws/calls/{number}",
        "ws_changes": "/ws/changes",
    }
    assert list(document["channels"]["v1_rooms_name"]["parameters"]) == ["name"]


def test_an_action_is_an_operation_with_its_reply(document):
    labels = document["operations"]["ws.books.labels"]
    assert labels["action"] == "receive"
    assert labels["messages"] == [{"$ref": "#/channels/ws/messages/books.labels.frame"}]
    assert [item["$ref"].rpartition("/")[2] for item in labels["reply"]["messages"]] == [
        "books.labels.reply",
        "books.error",
    ]
    assert labels["x-errors"] == [400, 401, 403, 404, 409, 429]
    assert labels["x-throttles"] == ["UserRateThrottle"]


def test_events_are_sent(document):
    events = {
        name: [item["$ref"].rpartition("/")[2] for item in operation["messages"]]
        for name, operation in document["operations"].items()
        if operation["action"] == "send" and name.startswith("ws_books.")
    }
    assert events == {
        "ws_books.subscribe.events": [
            f"subscribe.{kind}" for kind in ("row", "delete", "sync", "reset", "revoke")
        ],
        "ws_books.subscribe_instance.events": [
            f"subscribe_instance.{kind}" for kind in ("row", "delete", "sync", "reset", "revoke")
        ],
        "ws_books.watch.events": ["watch.change", "watch.revoke"],
        "ws_books.connection.alive": ["connection.alive"],
    }


def test_actions_of_hosted_consumers_and_handlers_are_operations(document):
    greet = document["operations"]["ws_legacy.greet"]
    assert (greet["action"], greet["description"]) == ("receive", "Return a greeting.")
    frame = {"action": "greet", "anything": 1}
    assert payload_errors(document, "ws_legacy", "greet.frame", frame) == []
    dial = document["operations"]["ws_calls_number.dial"]
    assert (dial["description"], "reply" in dial) == ("Dial a tone.", False)
    for message, is_valid in {
        ("dial", "A"): True,
        ("dial", "E"): False,
        ("hum", "A"): False,
    }.items():
        content = dict(zip(("kind", "tone"), message, strict=True))
        errors = payload_errors(document, "ws_calls_number", "dial.message", content)
        assert (errors == []) is is_valid


def test_rooms_have_their_messages_and_events(document):
    operations = document["operations"]
    assert [name for name in operations if name.startswith("ws_chat.")] == [
        *(f"ws_chat.{name}" for name in ("join", "leave", "send", "presence", "typing")),
        "ws_chat.cursor.moved",
        "ws_chat.room.events",
    ]
    sent = [
        item["$ref"].rpartition("/")[2] for item in operations["ws_chat.room.events"]["messages"]
    ]
    assert sent == [
        *(f"room.{kind}" for kind in ("message", "presence", "reset", "revoke", "typing")),
        "room.cursor.moved",
    ]


def test_what_the_project_hides_over_http_is_hidden(document):
    text = to_json(document)
    assert "hidden" not in text
    assert "Hidden" not in text


def test_it_has_close_codes_bounds_servers_and_authentication(document):
    codes = document["info"]["x-close-codes"]
    assert {int(code): item["name"] for code, item in codes.items()} == {
        int(code): code.name for code in CloseCode
    }
    bounds = document["info"]["x-bounds"]
    assert bounds["MAX_FRAME_BYTES"] == socket_settings.MAX_FRAME_BYTES
    server = document["servers"]["server"]
    assert (server["host"], server["protocol"], server["pathname"]) == ("example.com", "wss", "/b")
    assert document["components"]["securitySchemes"] == {
        "basicAuth": {"type": "http", "scheme": "basic"},
        "cookieAuth": {"type": "httpApiKey", "in": "cookie", "name": "sessionid"},
    }


def test_components_have_the_names_and_schemas_of_the_http_document(document):
    over_http = {}
    for version in ("v1", "v2"):
        generator = SchemaGenerator(api_version=version)
        over_http |= generator.get_schema(public=True)["components"]["schemas"]
    ours = {name for name in document["components"]["schemas"] if "." not in name}
    of_class_based_consumers = {"ChangesBook"}
    assert ours - of_class_based_consumers == set(over_http)


def test_each_version_has_its_own_serializers(document):
    schemas = document["components"]["schemas"]
    for version, row in {"v1": "Room", "v2": "NewRoom"}.items():
        # The sockets have no root, so each names its payloads.
        ref = document["channels"][f"{version}_rooms"]["messages"]["retrieve.reply"]["payload"]
        reply = schemas[ref["$ref"].rpartition("/")[2]]
        data = reply["allOf"][-1]["properties"]["data"]
        assert data == {"$ref": f"#/components/schemas/{row}"}


def test_a_recursive_serializer_refers_to_itself(document):
    node = document["components"]["schemas"]["Node"]
    assert node["properties"]["children"]["items"] == {"$ref": "#/components/schemas/Node"}


def test_input_requires_nothing_that_only_the_server_writes(document):
    schemas = document["components"]["schemas"]
    assert "id" in schemas["Book"]["required"]
    assert "id" not in schemas["Book.input"]["required"]
    assert "secret" not in schemas["Node"]["required"]
    assert "secret" in schemas["Node.input"]["required"]
    frame = schemas["books.create.frame"]["allOf"][-1]["properties"]
    assert frame["data"] == {"$ref": "#/components/schemas/Book.input"}


def test_it_is_the_same_each_time(document):
    again = asyncapi(describe(odd_api_app.application), ["https://example.com/b/"])
    assert to_json(again) == to_json(document)


class Conversation:
    """A socket whose messages are compared with the document."""

    def __init__(self, document, channel, socket):
        self.document, self.channel, self.socket = document, channel, socket

    def says(self, name, /, **frame):
        """Send a frame, which must be valid as the message `name`."""
        assert payload_errors(self.document, self.channel, name, frame) == []
        self.socket.send_text(json.dumps(frame))

    def hears(self, *names):
        """Receive a message that is valid as each of `names` and as no other of the channel."""
        message = self.socket.receive(timeout=5)
        valid = {
            name
            for name in self.document["channels"][self.channel]["messages"]
            if not name.endswith(".frame")
            and not payload_errors(self.document, self.channel, name, message)
        }
        assert valid == set(names), message
        return message


@contextmanager
def conversation(document, channel, path):
    application = odd_api_app.application.application_mapping["websocket"]
    with SocketClient(application, path) as socket:
        yield Conversation(document, channel, socket)


@pytest.mark.django_db
def test_replies_on_the_wire_are_those_of_the_document(document):
    with conversation(document, "ws_trees", "/ws/trees/") as talk:
        talk.says("list.frame", action="list", request_id=1)
        talk.hears("list.reply")
        talk.says("thing.frame", action="thing", request_id="two")
        talk.hears("thing.reply")
        talk.says("everything.frame", action="everything", method="delete")
        talk.hears("everything.reply")
        talk.says("watch.frame", action="watch", of="list", request_id=3)
        talk.hears("watch.reply")
        talk.says("connection.unwatch.frame", action="unwatch", request_id=3)
        talk.hears("connection.unwatch.reply")
        talk.says("connection.ping.frame", action="ping", request_id=4)
        talk.hears("connection.ping.reply")
        talk.socket.send_text('{"action": "nothing"}')
        talk.hears("error", "connection.error")


@pytest.mark.django_db(transaction=True)
def test_events_on_the_wire_are_those_of_the_document(document):
    with conversation(document, "v2_rooms", "/v2/rooms/") as talk:
        talk.says("subscribe.frame", action="subscribe", request_id=1, snapshot=True, window=2)
        talk.hears("subscribe.reply")
        talk.says("create.frame", action="create", data={"name": "attic"}, fence=True)
        assert talk.hears("subscribe.row", "subscribe_instance.row")["after"] is None
        talk.hears("create.reply")
        talk.says("destroy.frame", action="delete", name="attic", fence=True)
        talk.hears("subscribe.delete", "subscribe_instance.delete")
        talk.hears("destroy.reply")
        talk.says("connection.unsubscribe.frame", action="unsubscribe", request_id=1)
        talk.hears("connection.unsubscribe.reply")


def test_frames_that_the_server_refuses_are_invalid(document):
    for name, frame in {
        "list.frame": {"action": "create"},
        "retrieve.frame": {"action": "retrieve"},
        "create.frame": {"action": "create"},
        "subscribe.frame": {"action": "subscribe", "window": 0},
        "watch.frame": {"action": "watch", "of": "create"},
        "partial_update.frame": {"action": "partial_update", "name": "a", "data": {"name": 1}},
    }.items():
        assert payload_errors(document, "v2_rooms", name, frame), name
