"""Each row of the tables of docs/protocol.md: keys of frames and replies, order, ways in, ends."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import threading

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from rest_framework import authentication, pagination, permissions, serializers, viewsets
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from rest_channels.routers import DefaultRouter
from rest_channels.test import LiveList, SocketClient, SocketClosed
from tests.models import Item, Room, Shelf


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name", "is_staff_only"]


class OneThatRefuses(BaseThrottle):
    def allow_request(self, request, view):
        return False

    def wait(self):
        return 7


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("name")
    serializer_class = RoomSerializer
    pagination_class = pagination.PageNumberPagination
    pagination_class.page_size_query_param = "page_size"
    lookup_field = "name"
    filterset_fields = ["is_staff_only"]

    @action(detail=False, methods=["post", "get"])
    def seen(self, request):
        """The view's part of the frame."""
        return Response({
            "method": request.method,
            "data": request.data,
            "query": dict(request.query_params),
            "headers": dict(request.headers),
            "kwargs": self.kwargs,
        })  # fmt: skip

    @action(detail=True)
    def kwargs_of_row(self, request, **kwargs):
        return Response(kwargs)

    @action(detail=False)
    def items(self, request):
        yield 1
        yield 2

    @action(detail=False)
    def items_gone_wrong(self, request):
        yield 1
        raise ValidationError("Enough.")

    @action(detail=False)
    async def forever(self, request):
        await asyncio.Event().wait()

    @action(detail=False)
    async def endless(self, request):
        for number in itertools.count():
            yield number

    @action(detail=False)
    def refused(self, request):
        raise ValidationError(["one", "two"])

    @action(detail=False)
    def teapot(self, request):
        return HttpResponse("short", status=418, headers={"X-Colour": "blue"})

    @action(detail=False, throttle_classes=[OneThatRefuses])
    def limited(self, request):
        return Response()

    @action(detail=False)
    def broken(self, request):
        raise RuntimeError("secret")


class QuickViewSet(viewsets.ViewSet):
    def list(self, request):
        return Response("quick")


class SideBySideViewSet(RoomViewSet):
    max_in_flight = 2


class MembersViewSet(viewsets.ViewSet):
    authentication_classes = [
        authentication.TokenAuthentication,
        authentication.SessionAuthentication,
    ]
    permission_classes = [permissions.IsAuthenticated]

    def list(self, request):
        return Response(request.user.username)


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("quick", QuickViewSet, "quick")
router.register("side-by-side", SideBySideViewSet, "side-by-side")
router.register("members", MembersViewSet, "members")


@pytest.fixture
def root(db):
    with SocketClient(router.as_asgi()) as client:
        yield client


@pytest.fixture
def rooms(db):
    Room.objects.create(name="lobby")
    with SocketClient(router.as_asgi(), "/rooms/") as client:
        yield client


@pytest.fixture
def row(rooms):
    with SocketClient(router.as_asgi(), "/rooms/lobby/") as client:
        yield client


@pytest.fixture
def ann(db):
    return User.objects.create_user("ann", password="pw")


# Frames


def test_a_frame_on_a_viewsets_own_socket_is_the_payload(rooms):
    rooms.send_text('{"action": "list", "request_id": 1}')
    assert rooms.receive()["request_id"] == 1


def test_a_frame_on_the_root_socket_is_in_an_envelope_both_ways(root):
    root.send_text('{"stream": "quick", "payload": {"action": "list", "request_id": 1}}')
    message = root.receive()
    assert message.keys() == {"stream", "payload"}
    assert (message["stream"], message["payload"]["data"]) == ("quick", "quick")


def test_without_a_subprotocol_offered_none_is_accepted(rooms):
    rooms.list()
    assert rooms.subprotocol is None


@pytest.mark.parametrize("offered", [["rest-channels"], ["other", "rest-channels"]])
def test_the_subprotocol_rest_channels_is_echoed_when_offered(db, offered):
    with SocketClient(router.as_asgi(), subprotocols=offered) as client:
        client.connect()
        assert client.subprotocol == "rest-channels"


def test_another_subprotocol_is_not_echoed(db):
    with SocketClient(router.as_asgi(), subprotocols=["graphql-ws"]) as client:
        client.connect()
        assert client.subprotocol is None


# Request payload: action


def test_action_list(rooms):
    assert rooms.list().data == [{"name": "lobby", "is_staff_only": False}]


def test_action_retrieve(rooms):
    assert rooms.retrieve(pk="lobby").data["name"] == "lobby"


def test_action_create(rooms):
    assert rooms.create(data={"name": "attic"}).status_code == 201
    assert Room.objects.filter(name="attic").exists()


def test_action_update(rooms):
    reply = rooms.update(pk="lobby", data={"name": "hall", "is_staff_only": True})
    assert reply.data == {"name": "hall", "is_staff_only": True}


@pytest.mark.parametrize("word", ["partial_update", "patch"])
def test_action_partial_update_or_patch(rooms, word):
    reply = rooms.request(word, pk="lobby", data={"is_staff_only": True})
    assert (reply.action, reply.data) == (word, {"name": "lobby", "is_staff_only": True})


@pytest.mark.parametrize("word", ["destroy", "delete"])
def test_action_destroy_or_delete(rooms, word):
    reply = rooms.request(word, pk="lobby")
    assert (reply.action, reply.status_code, reply.data) == (word, 204, None)
    assert not Room.objects.exists()


def test_action_metadata(rooms):
    assert "POST" in rooms.metadata().data["actions"]
    assert "PUT" in rooms.metadata(pk="lobby").data["actions"]


def test_action_of_the_viewsets_own(rooms):
    assert rooms.request("seen").status_code == 200


@pytest.mark.parametrize("bad", ["null", "1", "true", "[]", "{}", '""', '"' + "x" * 129 + '"'])
def test_a_bad_action_is_400_with_action_null(rooms, bad):
    rooms.send_text(f'{{"action": {bad}, "request_id": 1}}')
    reply = rooms.receive()
    assert (reply["response_status"], reply["action"], reply["request_id"]) == (400, None, 1)


def test_action_is_required(rooms):
    rooms.send_text('{"request_id": 1}')
    assert rooms.receive()["response_status"] == 400


# Request payload: request_id


@pytest.mark.parametrize("request_id", ["1", 1, -1, 0, "", "\U0001f4a5", 2**383, None])
def test_request_id_is_echoed_exactly(rooms, request_id):
    reply = rooms.request("list", request_id=request_id)
    assert (type(reply.request_id), reply.request_id) == (type(request_id), request_id)


def test_without_a_request_id_it_is_null(rooms):
    rooms.send_text('{"action": "list"}')
    assert rooms.receive()["request_id"] is None


@pytest.mark.parametrize("bad", ["true", "1.5", "[]", "{}", '"' + "x" * 129 + '"', "9" * 200])
def test_a_bad_request_id_is_400_with_request_id_null(rooms, bad):
    rooms.send_text(f'{{"action": "list", "request_id": {bad}}}')
    reply = rooms.receive()
    assert (reply["response_status"], reply["action"], reply["request_id"]) == (400, "list", None)


# Request payload: lookups


@pytest.mark.parametrize("name", ["pk", "name"])
def test_pk_or_the_viewsets_lookup_name(rooms, name):
    assert rooms.request("kwargs_of_row", **{name: "lobby"}).data == {"name": "lobby"}


def test_a_lookup_may_be_an_integer(rooms):
    Room.objects.create(name="7")
    assert rooms.request("retrieve", pk=7).data["name"] == "7"


@pytest.mark.parametrize("pk", [None, True, 1.5, [], {}, ["lobby"]])
def test_a_lookup_that_is_no_scalar_is_missing(rooms, pk):
    reply = rooms.request("retrieve", pk=pk)
    assert (reply.status_code, reply.codes) == (400, [{"name": ["required"]}])


def test_a_lookup_that_the_url_does_not_admit_is_404(rooms):
    assert rooms.retrieve(pk="lobby/../attic").status_code == 404


@pytest.mark.parametrize("action", ["retrieve", "subscribe_instance", "destroy"])
@pytest.mark.parametrize("pk", ["\0", "lob\0by"])
def test_a_lookup_that_no_database_stores_is_404(rooms, action, pk):
    assert rooms.request(action, pk=pk).status_code == 404


def test_only_declared_lookups_are_passed(rooms):
    reply = rooms.request("kwargs_of_row", pk="lobby", room=1, cls=2, format="xml")
    assert reply.data == {"name": "lobby"}


@pytest.mark.parametrize("name", ["pk", "name"])
def test_a_lookup_bound_by_the_url_wins(row, name):
    Room.objects.create(name="attic")
    assert row.request("retrieve", **{name: "attic"}).data["name"] == "lobby"


# Request payload: data, query, headers, method


@pytest.mark.parametrize("data", [None, True, 0, 1.5, "text", [1, [2]], {"a": {"b": None}}])
def test_data_is_any_json_value(rooms, data):
    assert rooms.request("seen", data=data).data["data"] == data


def test_query_is_an_object_of_scalars_or_lists(rooms):
    query = {"a": "x", "b": 1, "c": True, "d": None, "e": ["x", 2]}
    expected = {"a": ["x"], "b": ["1"], "c": ["true"], "d": [""], "e": ["x", "2"]}
    assert rooms.request("seen", query=query).data["query"] == expected


@pytest.mark.parametrize("query", [None, 1, "a=1", [], {"a": {}}, {"a": [[]]}, {"a": [{}]}])
def test_a_query_of_another_type_is_400(rooms, query):
    reply = rooms.request("seen", query=query)
    assert (reply.status_code, reply.codes) == (400, ["parse_error"])


def test_query_is_merged_over_the_handshakes(db):
    with SocketClient(router.as_asgi(), "/rooms/?a=1&b=2") as client:
        assert client.request("seen", query={"b": 3}).data["query"] == {"a": ["1"], "b": ["3"]}
        assert client.request("seen").data["query"] == {"a": ["1"], "b": ["2"]}


def test_headers_of_a_frame_are_those_of_a_list(rooms):
    headers = {"Accept-Language": "de", "ACCEPT": "application/json", "cookie": "a=b", "x-y": "z"}
    traced = {"Traceparent": "00-1-2-01", "Tracestate": "a=b", "X-Request-Id": "r"}
    seen = rooms.request("seen", headers=headers | traced).data["headers"]
    assert traced.items() <= seen.items()
    assert (seen["Accept-Language"], seen["Accept"]) == ("de", "application/json")
    assert not seen.keys() & {"Cookie", "X-Y"}


def test_the_header_authorization(ann, root):
    key = Token.objects.create(user=ann).key
    assert root.list("members", headers={"authorization": f"Token {key}"}).data == "ann"
    assert root.list("members").status_code == 401


@pytest.mark.parametrize("headers", [None, [], "x", {"accept": 1}, {"x": None}, {"accept": "\n"}])
def test_headers_of_another_type_are_400(rooms, headers):
    reply = rooms.request("seen", headers=headers)
    assert (reply.status_code, reply.codes) == (400, ["parse_error"])


@pytest.mark.parametrize("method, verb", [(None, "POST"), ("get", "GET"), ("POST", "POST")])
def test_method_is_one_of_the_verbs_the_action_declares(rooms, method, verb):
    assert rooms.request("seen", method=method).data["method"] == verb


@pytest.mark.parametrize("method", ["DELETE", "options", "dispatch", "x"])
def test_another_method_is_405(rooms, method):
    assert rooms.request("seen", method=method).status_code == 405


@pytest.mark.parametrize("method", [1, [], {}, True, "", "get post", "g\u00e9t", "x" * 17])
def test_a_method_of_another_type_is_400(rooms, method):
    assert rooms.request("seen", method=method).status_code == 400


@pytest.mark.parametrize("fence", [None, 1, "true", [], {}])
def test_a_fence_of_another_type_is_400(rooms, fence):
    reply = rooms.list(fence=fence)
    assert (reply.status_code, reply.fenced) == (400, None)
    assert reply.errors == [{"fence": ["Must be true or false."]}]
    assert reply.codes == [{"fence": ["invalid"]}]


@pytest.mark.parametrize(("fence", "keys"), [(True, {"fenced"}), (False, set())])
def test_fenced_if_the_frame_has_a_fence(rooms, fence, keys):
    usual = rooms.create(data={"name": "hall"}).json().keys()
    reply = rooms.create(data={"name": "attic"}, fence=fence)
    assert (reply.status_code, reply.json().keys() - usual) == (201, keys)
    assert reply.fenced is (True if fence else None)


def test_a_fence_of_an_answer_that_runs_no_action(root):
    for name, keys in [("ping", {}), ("cancel", {"data": {"request_id": 9}}), ("list", {})]:
        stream = "nowhere" if name == "list" else "rooms"
        assert root.request(name, stream, fence=True, **keys).fenced is None


class FencesViewSet(RoomViewSet):
    lookup_field = "name"
    lookup_url_kwarg = "fence"


@pytest.mark.parametrize("fence", ["lobby", True])
def test_a_name_of_the_viewsets_own_is_no_fence(db, fence):
    Room.objects.create(name="lobby")
    router = DefaultRouter()
    router.register("fences", FencesViewSet)
    with SocketClient(router.as_asgi(), "/fences/") as client:
        reply = client.request("retrieve", fence=fence)
        assert (reply.status_code, reply.fenced) == (200 if fence == "lobby" else 400, None)


@pytest.mark.parametrize("key", ["page", "page_size", "is_staff_only"])
def test_a_top_level_key_that_paginator_or_filter_declares_counts_as_query(rooms, key):
    assert rooms.request("seen", **{key: 1}).data["query"] == {key: ["1"]}


def test_any_other_unknown_key_is_ignored(rooms):
    names = ["self", "scope", "queryset", "__class__", "request", "format", "view", ""]
    rooms.send_text(json.dumps({**dict.fromkeys(names, 1), "action": "seen"}))
    seen = rooms.receive()["data"]
    assert (seen["query"], seen["kwargs"]) == ({}, {})


# Reply


def test_a_reply_of_success_has_five_keys(rooms):
    assert rooms.list(request_id=1).payload == {
        "errors": [],
        "data": [{"name": "lobby", "is_staff_only": False}],
        "action": "list",
        "response_status": 200,
        "request_id": 1,
    }


def test_an_error_has_codes_in_its_shape(rooms):
    reply = rooms.create(data={"name": ""})
    assert reply.data is None
    assert reply.errors == [{"name": ["This field may not be blank."]}]
    assert reply.codes == [{"name": ["blank"]}]


def test_a_string_detail_is_wrapped_in_a_list_of_one(rooms):
    reply = rooms.retrieve(pk="attic")
    assert reply.errors == ["No Room matches the given query."]


def test_a_list_of_errors_stays(rooms):
    assert rooms.request("refused").errors == ["one", "two"]


def test_headers_where_there_is_something_to_say(rooms):
    reply = rooms.request("teapot")
    assert (reply.status_code, reply.errors) == (418, ["short"])
    assert reply.headers["X-Colour"] == "blue"


@pytest.mark.parametrize("text", ["", "{", "[1]", "1", "null", '"list"', '{"a": NaN}'])
def test_what_is_no_object_is_400_with_action_and_request_id_null(rooms, text):
    rooms.send_text(text)
    reply = rooms.receive()
    assert (reply["response_status"], reply["codes"]) == (400, ["parse_error"])
    assert (reply["action"], reply["request_id"]) == (None, None)


def test_a_binary_message_is_400(rooms):
    rooms.send_bytes(b'{"action": "list"}')
    assert rooms.receive()["response_status"] == 400


@pytest.mark.parametrize("text", ["[]", "{}", '{"stream": 1, "payload": {}}', "x"])
def test_a_message_without_a_stream_is_400_of_the_stream_null(root, text):
    root.send_text(text)
    message = root.receive()
    assert (message["stream"], message["payload"]["response_status"]) == (None, 400)


@pytest.mark.parametrize("payload", ["null", "[]", "1", '"x"'])
def test_a_payload_that_is_no_object_is_400_of_its_stream(root, payload):
    root.send_text(f'{{"stream": "quick", "payload": {payload}}}')
    message = root.receive()
    assert (message["stream"], message["payload"]["response_status"]) == ("quick", 400)


def test_an_unknown_action_is_405(rooms):
    reply = rooms.request("explode")
    assert (reply.status_code, reply.codes) == (405, ["method_not_allowed"])
    assert reply.headers["Allow"]


def test_an_unknown_action_of_a_stranger_is_401_first(root):
    assert root.request("explode", "members").status_code == 401


def test_an_unknown_stream_is_404(root):
    reply = root.list("nowhere", request_id="x")
    assert (reply.status_code, reply.request_id, reply.codes) == (404, "x", ["not_found"])


def test_too_many_requests_of_a_throttle_are_429(rooms):
    reply = rooms.request("limited")
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "7")


def test_too_many_frames_a_second_are_429(settings, root):
    settings.REST_CHANNELS = {"FRAME_RATE": 0.1, "FRAME_BURST": 1}
    assert root.list("quick").status_code == 200
    reply = root.list("quick", request_id="x")
    assert (reply.status_code, reply.request_id, reply.codes) == (429, "x", ["throttled"])
    assert int(reply.headers["Retry-After"]) > 0


def test_too_much_at_once_is_503(settings, rooms):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 1}
    rooms.send("forever")
    reply = rooms.list()
    assert (reply.status_code, reply.codes) == (503, ["too_many_in_flight"])


def test_an_exception_is_500_with_an_opaque_id(rooms, caplog):
    reply = rooms.request("broken")
    (record,) = caplog.records
    assert (reply.status_code, reply.codes) == (500, ["error"])
    assert reply.errors == [f"Server error (error {record.error_id})."]
    assert "secret" not in str(reply.payload)


def test_each_item_of_a_generator_is_206_and_the_end_200(rooms):
    rooms.send("items", request_id="x")
    replies = [rooms.receive() for _ in range(3)]
    assert [(r["response_status"], r["data"]) for r in replies] == [(206, 1), (206, 2), (200, None)]
    assert {r["request_id"] for r in replies} == {"x"}


def test_a_generator_that_fails_ends_with_the_error(rooms):
    reply = rooms.request("items_gone_wrong")
    assert (reply.parts, reply.status_code, reply.errors) == ([1], 400, ["Enough."])


def test_cancel_stops_an_async_action(rooms):
    rooms.send("forever", request_id=1)
    assert rooms.request("cancel", data={"request_id": 1}).status_code == 204
    assert rooms.reply(1).status_code == 499


def test_cancel_stops_a_generator_between_its_items(rooms):
    rooms.send("endless", request_id=1)
    assert [rooms.part(1) for _ in range(3)] == [0, 1, 2]
    assert rooms.request("cancel", data={"request_id": 1}).status_code == 204
    assert rooms.reply(1).status_code == 499


@pytest.mark.parametrize("action", ["endless", "forever"])
def test_a_closed_socket_stops_what_has_no_end(rooms, action):
    rooms.send(action)
    rooms.close()


@pytest.mark.parametrize("request_id", ["1", 2, True])
def test_cancel_of_what_is_not_in_flight_is_404(rooms, request_id):
    rooms.send("forever", request_id=1)
    assert rooms.request("cancel", data={"request_id": request_id}).status_code == 404


@pytest.mark.parametrize("data", [None, {}, [], 1, {"request_id": None}])
def test_cancel_that_names_nothing_is_400(rooms, data):
    reply = rooms.request("cancel", data=data)
    assert (reply.status_code, reply.codes) == (400, ["required"])


# Order


def test_frames_of_one_stream_are_answered_first_in_first_out(rooms):
    sent = [rooms.send(a) for a in ["list", "items", "explode", "seen", "metadata"]]
    rooms.send_text("no frame")
    sent.append(None)
    answered = []
    while len(answered) < len(sent):
        reply = rooms.receive()
        answered += [reply["request_id"]] if reply["response_status"] != 206 else []
    assert answered == sent


def test_streams_do_not_wait_for_each_other(root):
    root.send("forever", "rooms")
    assert root.list("quick").data == "quick"


def test_a_viewset_may_allow_more_in_flight(db):
    with SocketClient(router.as_asgi(), "/side-by-side/") as client:
        client.send("forever")
        assert client.list().status_code == 200


# Authentication


def token_header(user):
    return {"authorization": f"Token {Token.objects.create(user=user).key}"}


def test_by_the_session_cookie_of_the_handshake(ann):
    client = SocketClient(router.as_asgi(), "/members/")
    client.force_login(ann)
    with client:
        assert client.list().data == "ann"


def test_by_the_authorization_header_of_the_handshake(ann):
    with SocketClient(router.as_asgi(), "/members/", headers=token_header(ann)) as client:
        assert client.list().data == "ann"


def test_by_a_subprotocol_that_is_never_echoed(ann):
    header = token_header(ann)["authorization"].encode()
    credentials = "authorization." + base64.urlsafe_b64encode(header).decode().rstrip("=")
    offered = ["rest-channels", credentials]
    with SocketClient(router.as_asgi(), "/members/", subprotocols=offered) as client:
        assert client.list().data == "ann"
        assert client.subprotocol == "rest-channels"


def test_by_authenticate_on_the_open_socket(ann, root):
    assert root.list("members").status_code == 401
    assert root.request("authenticate", "members", data=token_header(ann)).status_code == 200
    assert root.list("members").data == "ann"


def test_a_socket_that_every_stream_would_refuse_a_stranger_is_closed_with_4401(db):
    with SocketClient(router.as_asgi(), "/members/") as client:
        assert_closes_with(client, 4401)


def test_otherwise_a_refusal_is_a_frames(root):
    assert root.list("members").status_code == 401


# Order and windows


class ShelvedItemSerializer(serializers.ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "name", "version"]


class ShelvedItems(viewsets.ReadOnlyModelViewSet):
    """The highest versions first, within shelves by their names."""

    queryset = Item.objects.order_by("shelf__name", "-version")
    serializer_class = ShelvedItemSerializer
    authentication_classes = permission_classes = []


window_router = DefaultRouter()
window_router.register("items", ShelvedItems)


@pytest.fixture
def shelf(db):
    return Shelf.objects.create(name="m")


@pytest.fixture
def items(shelf):
    """A socket, of items `c`, `b` and `a` in this order."""
    for version, name in enumerate("abc"):
        Item.objects.create(name=name, version=version, shelf=shelf)
    with SocketClient(window_router.as_asgi(), "/items/") as client:
        yield client


def key(name):
    return Item.objects.get(name=name).pk


def followed(items, size=None, **keys):
    """A list that a client has just subscribed to: of a window of `size` rows, or of all."""
    asked = {"ordered": True} if size is None else {"window": size}
    return LiveList(items.request("subscribe", request_id="s", snapshot=True, **asked, **keys))


def names(held):
    return [row["name"] for row in held.rows]


def put(held, items, count):
    """Apply the next events; return them."""
    events = [items.event() for _ in range(count)]
    for event in events:
        held.apply(event)
    return events


@pytest.mark.parametrize(("size", "shown"), [(None, "cba"), (2, "cb")])
def test_the_reply_has_the_rows_in_order(items, size, shown):
    assert names(followed(items, size)) == list(shown)


def test_rows_that_are_equal_come_in_the_order_of_their_keys_also_in_a_list(items, shelf):
    for name in "yx":
        Item.objects.create(name=name, version=2, shelf=shelf)
    assert names(followed(items)) == list("cyxba")
    assert [row["name"] for row in items.list().data] == list("cyxba")


def test_a_reset_has_the_rows_in_order(items):
    reply = items.request("subscribe", request_id="s", window=2, snapshot=True, since="lost")
    assert (reply.data, reply.resumed) == (None, False)
    held = LiveList(reply)
    (reset,) = put(held, items, 1)
    assert (reset.action, names(held)) == ("reset", ["c", "b"])


def test_create_has_after_the_row_in_front_or_null(items, shelf):
    held = followed(items)
    Item.objects.create(name="between", version=1, shelf=shelf)
    (between,) = put(held, items, 1)
    Item.objects.create(name="first", version=9, shelf=shelf)
    (first,) = put(held, items, 1)
    assert (between.action, between.payload["after"]) == ("create", key("b"))
    assert (first.action, first.payload["after"]) == ("create", None)
    assert names(held) == ["first", "c", "b", "between", "a"]


def test_update_has_after_if_the_row_has_moved(items):
    held = followed(items)
    Item.objects.filter(name="a").update(version=9)
    (moved,) = put(held, items, 1)
    Item.objects.filter(name="a").update(name="A")
    (stayed,) = put(held, items, 1)
    assert (moved.action, moved.payload["after"]) == ("update", None)
    assert (stayed.action, "after" in stayed.payload) == ("update", False)
    assert names(held) == ["A", "c", "b"]


def test_delete_says_why_if_the_row_is_outside_the_window(items, shelf):
    held = followed(items, 2)
    Item.objects.create(name="d", version=9, shelf=shelf)
    pushed, _ = put(held, items, 2)
    assert pushed.data == {"pk": key("b"), "reason": "window"}
    gone = key("d")
    Item.objects.get(name="d").delete()
    deleted, _ = put(held, items, 2)
    assert deleted.data == {"pk": gone}


def test_a_delete_comes_first_and_only_the_last_event_has_a_new_position(items, shelf):
    held = followed(items, 2)
    began = held.position
    Item.objects.bulk_create(
        Item(name=name, version=version, shelf=shelf) for name, version in (("d", 8), ("e", 9))
    )
    events = put(held, items, 4)
    assert [event.action for event in events] == ["delete", "delete", "create", "create"]
    assert [event.position == began for event in events] == [True, True, True, False]


def test_the_next_row_enters_as_create_if_one_leaves(items):
    held = followed(items, 2)
    Item.objects.get(name="c").delete()
    _, entered = put(held, items, 2)
    assert (entered.action, entered.payload["after"]) == ("create", key("b"))
    assert names(held) == ["b", "a"]


def test_a_row_moves_because_one_that_the_order_refers_to_was_written(items, shelf):
    last = Shelf.objects.create(name="z")
    Item.objects.create(name="d", version=9, shelf=last)
    held = followed(items)
    assert names(held) == list("cbad")
    last.name = "a"
    last.save()
    (moved,) = put(held, items, 1)
    assert (moved.action, moved.payload["after"]) == ("update", None)
    assert names(held) == list("dcba")


@pytest.mark.parametrize("snapshot", [True, False])
def test_to_grow_subscribe_again_with_since_and_held(items, snapshot):
    held = followed(items, 1)
    keys = {"since": held.position, "held": held.held, "snapshot": snapshot}
    reply = items.request("subscribe", request_id="s", window=3, **keys)
    assert (reply.data, reply.resumed) == (None, True)
    held.apply(reply)
    assert [event.action for event in put(held, items, 2)] == ["create", "create"]
    assert names(held) == list("cba")


def test_to_shrink_as_well(items):
    held = followed(items, 3)
    keys = {"since": held.position, "held": held.held}
    held.apply(items.request("subscribe", request_id="s", window=1, **keys))
    left = put(held, items, 2)
    assert [event.data["reason"] for event in left] == ["window", "window"]
    assert names(held) == ["c"]


def test_to_resume_rows_that_stand_elsewhere_arrive_as_update_with_after(items):
    held = followed(items, 3)
    held.rows.reverse()
    keys = {"since": held.position, "held": held.held}
    held.apply(items.request("subscribe", request_id="s", window=3, **keys))
    assert {event.action for event in put(held, items, 2)} == {"update"}
    assert names(held) == list("cba")


def test_since_without_held_is_answered_with_a_reset(items):
    held = followed(items, 3)
    reply = items.request("subscribe", request_id="s", window=3, since=held.position)
    assert reply.resumed is False
    assert items.event().action == "reset"


def test_a_second_subscription_may_have_another_window(items, shelf):
    small = followed(items, 1)
    large = LiveList(items.request("subscribe", request_id="l", window=3, snapshot=True))
    Item.objects.create(name="d", version=9, shelf=shelf)
    for _ in range(4):
        event = items.event()
        (small if event.request_id == "s" else large).apply(event)
    assert (names(small), names(large)) == (["d"], list("dcb"))


@pytest.mark.parametrize("option", [{"ordered": True}, {"window": 1}])
def test_one_row_takes_neither_key(items, option):
    reply = items.request("subscribe_instance", pk=key("a"), **option)
    assert (reply.status_code, reply.codes) == (400, [{next(iter(option)): ["invalid"]}])


# Names of rows


class OfOrders(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name"]


class Hiding(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("name")
    serializer_class = OfOrders
    permission_classes = []


class Showing(Hiding):
    class serializer_class(OfOrders):
        class Meta(OfOrders.Meta):
            fields = ["id", "name"]


class HidingByName(Hiding):
    lookup_field = "name"


class ShowingByName(Showing):
    lookup_field = "name"


NAMES = [
    (Showing, lambda room: {"pk": room.pk}, ["pk"]),
    (ShowingByName, lambda room: {"pk": room.pk, "name": room.name}, ["pk", "name"]),
    (HidingByName, lambda room: {"pk": room.name}, ["name"]),
    (Hiding, lambda room: {"pk": room.pk}, ["pk"]),
]


@pytest.mark.parametrize(("viewset", "expected", "names"), NAMES)
def test_what_delete_carries_and_held_takes(db, viewset, expected, names):
    named = DefaultRouter()
    named.register("rooms", viewset)
    with SocketClient(named.as_asgi(), "/rooms/") as client:
        room = Room.objects.create(name="lobby")
        keys = {"request_id": "r", "snapshot": True}
        since = client.request("subscribe", **keys).payload["position"]
        for name in names:
            value = getattr(room, name)
            for held in (value, str(value)):
                resumed = client.request("subscribe", request_id="r", since=since, held=[held])
                assert resumed.payload["resumed"]
        carried = expected(room)
        room.delete()
        # No resume received anything: the row is held.
        assert client.event().data == carried


# Close codes


def assert_closes_with(client, code):
    with pytest.raises(SocketClosed) as closed:
        while True:
            client.receive()
    assert closed.value.code == code


@pytest.mark.parametrize("keys", [{"data": "x" * 2**16}, {"held": [1] * 2**16}])
def test_413_frame_too_long(rooms, keys):
    reply = rooms.request("list", request_id="r", **keys)
    assert (reply.status_code, reply.codes) == (413, ["frame_too_long"])
    assert (reply.action, reply.payload["request_id"]) == ("list", "r")


@pytest.mark.parametrize("held", [{"held": [*range(10_000)]}, {"held_ranges": [[0, 9999]]}])
def test_held_as_long_as_a_subscription(rooms, held):
    since = rooms.request("subscribe", request_id="r").payload["position"]
    resumed = rooms.request("subscribe", request_id="r", since=since, **held)
    assert resumed.payload["resumed"] is True


def test_1009_a_frame_longer_than_any(rooms):
    rooms.send_text(" " * 640_001)
    assert_closes_with(rooms, 1009)


def test_4401_credentials_ended(ann):
    client = SocketClient(router.as_asgi(), "/members/", headers=token_header(ann))
    with client:
        assert client.list().data == "ann"
        Token.objects.all().delete()
        client.send("list")
        assert_closes_with(client, 4401)


def test_4404_no_such_route(db):
    with SocketClient(router.as_asgi(), "/nowhere/") as client:
        assert_closes_with(client, 4404)


def test_4408_too_slow_to_read(settings, db):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 1000, "MAX_IN_FLIGHT": 1}
    reads = threading.Event()

    async def read_late(scope, receive, send):
        async def late_send(message):
            if message["type"] != "websocket.accept":
                await asyncio.to_thread(reads.wait)
            await send(message)

        await router.as_asgi()(scope, receive, late_send)

    with SocketClient(read_late, "/rooms/") as client:
        client.send("forever")
        for _ in range(20):
            client.send("list")
        reads.set()
        assert_closes_with(client, 4408)


def test_4429_flooding_after_429(settings, db):
    settings.REST_CHANNELS = {"FRAME_RATE": 0.1, "FRAME_BURST": 2}
    with SocketClient(router.as_asgi(), "/rooms/") as client:
        for status in [400, 400, 429, 429]:
            client.send_text("no frame")
            assert client.receive()["response_status"] == status
        client.send_text("no frame")
        assert_closes_with(client, 4429)
