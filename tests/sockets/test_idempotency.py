"""A frame with a key writes once, however often it is sent."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import timedelta

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.db import IntegrityError, connection, transaction
from django.http import HttpResponse
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone
from rest_framework import serializers, viewsets
from rest_framework.authentication import TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny, BasePermission, DjangoModelPermissions
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle

from rest_channels.consumers import CRUDConsumers
from rest_channels.live.log.maintenance import tidy
from rest_channels.models import StoredReply
from rest_channels.routers import DefaultRouter
from rest_channels.sockets import reply_store
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet, as_consumer
from tests.models import Room, Tag
from tests.support.recorded_changes import another_database
from tests.support.room_viewsets import FullRoomSerializer

pytestmark = pytest.mark.django_db


class StaffForStaff(BasePermission):
    def has_object_permission(self, request, view, room):
        return request.user.is_staff or not room.is_staff_only


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = FullRoomSerializer
    permission_classes = [StaffForStaff]

    @action(detail=False, methods=["post", "put"])
    def stamp(self, request):
        """Makes a room and gives the answer that the test asks for."""
        Room.objects.create(name=f"stamp-{Room.objects.count()}")
        return Response(request.data, status=int(request.query_params.get("status", 200)))

    @action(detail=True, methods=["post"])
    def knock(self, request, pk):
        return self.stamp(request)

    @action(detail=False, methods=["post"])
    def other(self, request):
        return self.stamp(request)

    @action(detail=False, methods=["post"])
    def refuse(self, request):
        Room.objects.create(name="undone")
        raise ValidationError("No.")

    @action(detail=False, methods=["post"])
    def crash(self, request):
        Room.objects.create(name="undone")
        raise ZeroDivisionError


class TagSerializer(serializers.ModelSerializer):
    class Meta:
        model = Tag
        fields = ["id", "name"]


class TagViewSet(viewsets.ModelViewSet):
    queryset = Tag.objects.order_by("name")
    serializer_class = TagSerializer


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("tags", TagViewSet)


@pytest.fixture
def ann(db):
    return User.objects.create_user("ann")


@pytest.fixture
def socket(ann):
    with socket_of(ann) as client:
        yield client


@contextmanager
def socket_of(user, application=None, path="/", **options):
    with SocketClient(application or router.as_asgi(), path, **options) as client:
        client.force_authenticate(user)
        yield client


def names():
    return sorted(Room.objects.values_list("name", flat=True))


def of_one(viewset):
    """The application and the path of a single viewset."""
    return URLRouter(as_consumer(viewset).as_routes("x", "x")), "/x/"


# The stored reply


def test_a_repeated_frame_gets_the_first_reply_and_writes_nothing(socket):
    first = socket.create("rooms", data={"name": "hall"}, idempotency_key="k1")
    again = socket.create("rooms", data={"name": "hall"}, idempotency_key="k1", request_id="again")
    assert first.payload == {
        "errors": [], "data": {"id": first.data["id"], "name": "hall", "is_staff_only": False},
        "action": "create", "response_status": 201, "request_id": first.request_id,
    }  # fmt: skip
    assert again.payload == {**first.payload, "request_id": "again", "replayed": True}
    assert (first.replayed, again.replayed) == (False, True)
    assert names() == ["hall"]


def test_a_stored_reply_has_its_text_and_headers(ann):
    class ViewSet(viewsets.ViewSet):
        def create(self, request):
            Room.objects.create(name=request.data)
            headers = {"Location": "/rooms/7/", "X-Colour": "blue"}
            return Response({"b": 1.50, "a": "é\u2028"}, status=202, headers=headers)

    with socket_of(ann, *of_one(ViewSet)) as socket:
        first, again = (socket.create(data="hall", idempotency_key="k") for _ in range(2))
    assert again.data == first.data == {"b": 1.5, "a": "é\u2028"}
    assert again.headers == first.headers == {"Location": "/rooms/7/", "X-Colour": "blue"}
    assert again.status_code == 202
    assert names() == ["hall"]


def test_a_row_that_was_destroyed_is_destroyed_once(socket):
    room = Room.objects.create(name="hall")
    first, again = (socket.destroy("rooms", room.pk, idempotency_key="k") for _ in range(2))
    assert (first.status_code, again.status_code) == (204, 204)
    assert again.replayed
    assert socket.destroy("rooms", room.pk).status_code == 404


def test_a_key_means_nothing_to_a_verb_that_is_safe(socket):
    Room.objects.create(name="hall")
    for key in ("k", "k", 7, ""):
        assert socket.list("rooms", idempotency_key=key).status_code == 200
        assert socket.metadata("rooms", idempotency_key=key).status_code == 200
    assert not StoredReply.objects.exists()
    # It was not used up, either.
    assert not socket.create("rooms", data={"name": "attic"}, idempotency_key="k").replayed


def test_any_socket_of_the_stream_repeats_it(ann):
    room = Room.objects.create(name="hall")
    with socket_of(ann) as root:
        first = root.request("knock", "rooms", pk=room.pk, data="x", idempotency_key="k")
    with socket_of(ann, path="/rooms/") as own:
        again = own.request("knock", pk=room.pk, data="x", idempotency_key="k")
    with socket_of(ann, path=f"/rooms/{room.pk}/") as row:
        once_more = row.request("knock", data="x", idempotency_key="k")
    assert [first.replayed, again.replayed, once_more.replayed] == [False, True, True]
    assert names() == ["hall", "stamp-1"]


@pytest.mark.parametrize("status", [200, 201, 204, 304])
def test_replies_below_400_are_stored(socket, status):
    keys = {"data": "x", "query": {"status": status}, "idempotency_key": "k"}
    replies = [socket.request("stamp", "rooms", **keys) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [status, status]
    assert names() == ["stamp-0"]


class NeedsData(JSONRenderer):
    def render(self, data, *args, **kwargs):
        return super().render({"shown": data["name"]}, *args, **kwargs)


def test_a_renderer_that_expects_data_is_not_called_for_a_replay(ann):
    class ViewSet(RoomViewSet):
        renderer_classes = [NeedsData]

    with socket_of(ann, *of_one(ViewSet)) as socket:
        replies = [socket.create(data={"name": "hall"}, idempotency_key="k") for _ in range(2)]
    assert [reply.data for reply in replies] == [{"shown": "hall"}] * 2
    assert replies[1].replayed


@pytest.mark.parametrize(
    "content, shown, encoding",
    [("short", "short", {}), (b"\xff\0", "/wA=", {"Content-Transfer-Encoding": "base64"})],
)
def test_other_content_is_stored_as_it_was_sent(ann, content, shown, encoding):
    class ViewSet(viewsets.ViewSet):
        def create(self, request):
            return HttpResponse(content)

    with socket_of(ann, *of_one(ViewSet)) as socket:
        first, again = (socket.create(idempotency_key="k") for _ in range(2))
    assert first.data == again.data == shown
    assert first.headers == {"Content-Type": "text/html; charset=utf-8", **encoding}
    assert again.headers == first.headers
    assert again.replayed


# Who has a key


def test_another_user_with_the_same_key_is_another_frame(ann, socket):
    mine = socket.create("tags", data={"name": "red"}, idempotency_key="k")
    with socket_of(User.objects.create_user("ben")) as bens:
        his = bens.create("tags", data={"name": "red"}, idempotency_key="k")
    assert not his.replayed
    assert his.data["id"] != mine.data["id"]
    assert Tag.objects.count() == 2


def test_users_of_two_kinds_share_no_keys(ann):
    class Service:
        is_authenticated = True
        is_staff = True

        def __init__(self, pk):
            self.pk = pk

    replies = []
    for user in (ann, Service(ann.pk), Service(str(ann.pk))):
        with socket_of(user) as socket:
            replies.append(socket.create("tags", data={"name": "red"}, idempotency_key="k"))
    assert [reply.replayed for reply in replies] == [False, False, False]
    assert Tag.objects.count() == 3


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("tenant, replayed", [("one", True), ("two", False)])
def test_schemas_may_have_users_of_their_own(ann, tenant, replayed):
    class ViewSet(TagViewSet):
        def perform_authentication(self, request):
            super().perform_authentication(request)
            with connection.cursor() as cursor:
                cursor.execute(f"SET search_path = public, {request.query_params['tenant']}")

    for name in ("one", tenant):
        application, path = of_one(ViewSet)
        with socket_of(ann, application, f"{path}?tenant={name}") as socket:
            reply = socket.create(data={"name": "red"}, idempotency_key="k")
    assert (reply.status_code, reply.replayed) == (201, replayed)


def test_databases_may_have_users_of_their_own(ann, tmp_path):
    class Router:
        tenant = "default"

        def db_for_write(self, model, **hints):
            return self.tenant if model is User else None

    replies = []
    with another_database(tmp_path), override_settings(DATABASE_ROUTERS=[Router()]):
        for Router.tenant in ("default", "other", "other"):
            with socket_of(ann) as socket:
                replies.append(socket.create("tags", data={"name": "red"}, idempotency_key="k"))
    assert [reply.replayed for reply in replies] == [False, False, True]


def test_a_user_who_was_read_from_a_replica_is_the_same(ann, socket):
    socket.create("tags", data={"name": "red"}, idempotency_key="k")
    ann._state.db = "replica"
    assert socket.create("tags", data={"name": "red"}, idempotency_key="k").replayed


def test_a_proxy_is_the_user_behind_it(ann, socket):
    class Member(User):
        class Meta:
            proxy = True
            app_label = "tests"

    try:
        socket.create("tags", data={"name": "red"}, idempotency_key="k")
        with socket_of(Member.objects.get(pk=ann.pk)) as other:
            assert other.create("tags", data={"name": "red"}, idempotency_key="k").replayed
    finally:
        from django.apps import apps

        del apps.all_models["tests"]["member"]
        apps.clear_cache()


def test_two_tokens_of_a_user_share_its_keys(ann):
    class ViewSet(RoomViewSet):
        authentication_classes = [TokenAuthentication]

    replies = []
    for _ in range(2):
        Token.objects.all().delete()
        header = f"Token {Token.objects.create(user=ann)}"
        application, path = of_one(ViewSet)
        with SocketClient(application, path, headers={"authorization": header}) as socket:
            replies.append(socket.create(data={"name": "hall"}, idempotency_key="k"))
    assert [(reply.status_code, reply.replayed) for reply in replies] == [(201, False), (201, True)]


@pytest.mark.parametrize("classes, status", [([], 403), ([TokenAuthentication], 401)])
def test_strangers_have_no_keys(db, classes, status):
    class ViewSet(RoomViewSet):
        authentication_classes = classes
        permission_classes = [AllowAny]

    with SocketClient(*of_one(ViewSet)) as socket:
        refused = socket.create(data={"name": "hall"}, idempotency_key="k")
        assert refused.status_code == status
        assert refused.codes == ["not_authenticated"]
        assert "sign in, or send the frame without it" in refused.errors[0]
        assert socket.create(data={"name": "hall"}).status_code == 201


def test_another_stream_has_keys_of_its_own(socket):
    red = socket.create("tags", data={"name": "red"}, idempotency_key="k")
    room = socket.create("rooms", data={"name": "red"}, idempotency_key="k")
    assert (red.status_code, room.status_code) == (201, 201)
    assert not room.replayed


def test_two_viewsets_without_a_prefix_are_two_streams(ann):
    class Left(TagViewSet):
        pass

    class Right(TagViewSet):
        pass

    application = URLRouter([
        path("a/", URLRouter(as_consumer(Left).as_routes("", "a"))),
        path("b/", URLRouter(as_consumer(Right).as_routes("", "b"))),
        path("c/", URLRouter(as_consumer(Right).as_routes("", "c"))),
    ])  # fmt: skip
    for place in ("/a/", "/b/", "/c/"):
        with socket_of(ann, application, place) as socket:
            assert not socket.create(data={"name": "red"}, idempotency_key="k").replayed
    assert Tag.objects.count() == 3


@pytest.mark.parametrize("key", [None, 7, True, [], {}, "", "x" * 129])
def test_a_key_is_a_short_text(socket, key):
    refused = socket.create("rooms", data={"name": "hall"}, idempotency_key=key)
    assert refused.status_code == 400
    assert refused.errors == [{"idempotency_key": ["Must be a string of 1 to 128 characters."]}]
    assert refused.codes == [{"idempotency_key": ["invalid"]}]
    assert names() == []


@pytest.mark.parametrize("key", ["x" * 128, "\0", "é\U0001f600", " ", "'; --"])
def test_any_short_text_is_a_key(socket, key):
    replies = [socket.create("rooms", data={"name": "h"}, idempotency_key=key) for _ in range(2)]
    assert [reply.replayed for reply in replies] == [False, True]


# The same request


BASE = {"action": "stamp", "data": {"a": 1, "b": [2]}, "query": {"page": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"action": "other"},
        {"method": "PUT"},
        {"data": {"a": 1, "b": [3]}},
        {"data": {"a": True, "b": [2]}},
        {"data": {"a": 1.0, "b": [2]}},
        {"data": {"a": "1", "b": [2]}},
        {"data": None},
        {"query": {"page": 2}},
        {"query": {}},
        {"query": {"page": 1, "x": ""}},
        {"headers": {"accept-language": "de"}},
        {"headers": {"accept": "application/json; version=2"}},
    ],
    ids=str,
)
def test_another_request_with_the_same_key_is_refused(socket, change):
    first = socket.request(**BASE, stream="rooms", idempotency_key="k")
    assert first.status_code == 200
    refused = socket.request(**{**BASE, **change}, stream="rooms", idempotency_key="k")
    assert refused.status_code == 422
    assert refused.codes == ["idempotency_mismatch"]
    assert names() == ["stamp-0"]
    # The first reply is still there.
    assert socket.request(**BASE, stream="rooms", idempotency_key="k").replayed


def test_no_data_differs_from_null(socket):
    socket.request("stamp", "rooms", data=None, idempotency_key="k")
    assert socket.request("stamp", "rooms", idempotency_key="k").status_code == 422


def test_another_row_with_the_same_key_is_refused(socket):
    one, two = Room.objects.create(name="one"), Room.objects.create(name="two")
    assert socket.destroy("rooms", one.pk, idempotency_key="k").status_code == 204
    assert socket.destroy("rooms", two.pk, idempotency_key="k").status_code == 422
    assert names() == ["two"]


def test_the_order_of_keys_and_other_words_for_the_action_do_not_matter(ann, socket):
    room = Room.objects.create(name="hall")
    data = {"name": "attic", "is_staff_only": False}
    socket.partial_update("rooms", room.pk, data, idempotency_key="k")
    data = dict(reversed(data.items()))
    again = socket.request("patch", "rooms", pk=str(room.pk), data=data, idempotency_key="k")
    assert again.replayed
    assert again.action == "patch"


def test_the_host_and_the_query_of_the_handshake_do_not_matter(ann):
    # The client may repeat it at another server, with a ticket that is new for each socket.
    for host, ticket in [("localhost", "1"), ("testserver", "2")]:
        with socket_of(ann, path=f"/?ticket={ticket}", headers={"host": host}) as socket:
            reply = socket.create("rooms", data={"name": "hall"}, idempotency_key="k")
    assert reply.replayed


def test_a_lookup_of_that_name_is_the_viewsets(ann):
    class ViewSet(viewsets.ModelViewSet):
        queryset = Tag.objects.all()
        serializer_class = TagSerializer
        lookup_field = "name"
        lookup_url_kwarg = "idempotency_key"

    Tag.objects.create(name="red")
    with socket_of(ann, *of_one(ViewSet)) as socket:
        for _ in range(2):
            reply = socket.request("patch", idempotency_key="red", data={"name": "red"})
            assert (reply.status_code, reply.replayed) == (200, False)
        # If the URL has no such lookup, it is a key.
        for _ in range(2):
            reply = socket.create(data={"name": "blue"}, idempotency_key="k")
    assert reply.replayed
    assert Tag.objects.count() == 2


# What is not stored


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 503])
def test_a_failure_changes_nothing_and_may_be_tried_again(socket, status):
    keys = {"data": "x", "idempotency_key": "k"}
    failed = socket.request("stamp", "rooms", query={"status": status}, **keys)
    assert failed.status_code == status
    assert names() == []
    assert not StoredReply.objects.exists()
    again = socket.request("stamp", "rooms", **keys)
    assert (again.status_code, again.replayed) == (200, False)


@pytest.mark.parametrize("word, status", [("refuse", 400), ("crash", 500)])
def test_an_exception_changes_nothing_and_is_not_stored(socket, word, status):
    for _ in range(2):
        failed = socket.request(word, "rooms", idempotency_key="k")
        assert (failed.status_code, failed.replayed) == (status, False)
    assert names() == []
    assert not StoredReply.objects.exists()


def test_async_and_generator_actions_take_no_key(ann):
    begun = []

    class ViewSet(viewsets.ViewSet):
        @action(detail=False, methods=["post"])
        async def later(self, request):
            begun.append("later")

        @action(detail=False, methods=["post"])
        def items(self, request):
            begun.append("items")
            yield 1

        @action(detail=False, methods=["post"])
        async def async_items(self, request):
            begun.append("async items")
            yield 1

        @action(detail=False, methods=["post"])
        def half(self, request):
            Room.objects.create(name="undone")
            return asyncio.sleep(0)

    with socket_of(ann, *of_one(ViewSet)) as socket:
        for word in ("later", "items", "async_items", "half"):
            refused = socket.request(word, idempotency_key="k")
            assert refused.status_code == 400, word
            assert refused.errors == [
                {
                    "idempotency_key": [
                        "Async and generator actions take no key: send the frame without it."
                    ]
                }
            ]
            assert refused.codes == [{"idempotency_key": ["invalid"]}]
    assert begun == []
    assert names() == []


def test_an_action_that_subscribes_takes_no_key(ann):
    class ViewSet(ModelConsumerViewSet):
        queryset = Room.objects.all()
        serializer_class = FullRoomSerializer

        @action(detail=False, methods=["post"])
        def follow(self, request):
            Room.objects.create(name="undone")
            return self.subscribe(request)

    with socket_of(ann, *of_one(ViewSet)) as socket:
        refused = socket.request("follow", idempotency_key="k")
        assert refused.codes == [{"idempotency_key": ["invalid"]}]
        assert "subscribes" in refused.errors[0]["idempotency_key"][0]
        assert names() == []
        # A subscription has a safe verb.
        assert socket.request("subscribe", idempotency_key="k").status_code == 201


def test_an_action_that_rolls_back_and_succeeds_takes_no_key(ann):
    Room.objects.create(name="hall")

    class ViewSet(viewsets.ViewSet):
        @action(detail=False, methods=["post"])
        def dry_run(self, request):
            Room.objects.create(name="undone")
            transaction.set_rollback(True)
            return Response("would work")

        @action(detail=False, methods=["post"])
        def ignore(self, request):
            Room.objects.create(name="undone")
            with pytest.raises(IntegrityError):
                Room.objects.create(name="hall")
            return Response("ignored")

        @action(detail=False, methods=["post"])
        def ignore_well(self, request):
            with pytest.raises(IntegrityError), transaction.atomic():
                Room.objects.create(name="hall")
            Room.objects.create(name="attic")
            return Response("ignored")

    with socket_of(ann, *of_one(ViewSet)) as socket:
        for word in ("dry_run", "ignore"):
            refused = socket.request(word, idempotency_key="k")
            assert refused.codes == [{"idempotency_key": ["invalid"]}], word
            assert names() == ["hall"]
        replies = [socket.request("ignore_well", idempotency_key="k") for _ in range(2)]
    assert [reply.replayed for reply in replies] == [False, True]
    assert names() == ["attic", "hall"]


@override_settings(REST_CHANNELS={"MAX_STORED_REPLY_BYTES": 100})
def test_a_reply_that_is_too_large_undoes_its_write(socket):
    fits = socket.request("stamp", "rooms", data="x" * 96, idempotency_key="fits")
    assert fits.status_code == 200
    assert names() == ["stamp-0"]
    for data in ("x" * 97, "é" * 49):
        refused = socket.request("stamp", "rooms", data=data, idempotency_key="k")
        assert refused.status_code == 400
        assert refused.codes == [{"idempotency_key": ["too_large"]}]
        assert "not have more than 100 bytes" in refused.errors[0]["idempotency_key"][0]
    assert names() == ["stamp-0"]
    assert StoredReply.objects.count() == 1


@override_settings(REST_CHANNELS={"MAX_STORED_REPLIES": 2, "RETENTION_SECONDS": 100})
def test_a_user_has_so_many_keys_at_a_time(ann, socket):
    for key in ("1", "2"):
        socket.create("tags", data={"name": key}, idempotency_key=key)
    refused = socket.create("tags", data={"name": "3"}, idempotency_key="3")
    assert refused.status_code == 429
    assert refused.codes == ["too_many_stored_replies"]
    assert 90 <= int(refused.headers["Retry-After"]) <= 101
    assert Tag.objects.count() == 2
    # Old keys are remembered, other users have their own bound, and frames without a key none.
    assert socket.create("tags", data={"name": "1"}, idempotency_key="1").replayed
    assert socket.create("tags", data={"name": "3"}).status_code == 201
    with socket_of(User.objects.create_user("ben")) as bens:
        assert bens.create("tags", data={"name": "3"}, idempotency_key="3").status_code == 201
    # Once the first is too old, there is room again.
    age(StoredReply.objects.order_by("created_at")[:1], 101)
    assert socket.create("tags", data={"name": "3"}, idempotency_key="3").status_code == 201


def age(rows, seconds):
    keys = [row.key for row in rows]
    created_at = timezone.now() - timedelta(seconds=seconds)
    StoredReply.objects.filter(key__in=keys).update(created_at=created_at)


@override_settings(REST_CHANNELS={"RETENTION_SECONDS": 100})
def test_after_the_retention_the_key_is_new(socket):
    socket.create("tags", data={"name": "red"}, idempotency_key="k")
    age(StoredReply.objects.all(), 99)
    assert socket.create("tags", data={"name": "red"}, idempotency_key="k").replayed
    age(StoredReply.objects.all(), 101)
    # Not pruned yet.
    again = socket.create("tags", data={"name": "blue"}, idempotency_key="k")
    assert (again.status_code, again.replayed) == (201, False)
    assert socket.create("tags", data={"name": "blue"}, idempotency_key="k").replayed
    assert StoredReply.objects.count() == 1


@override_settings(REST_CHANNELS={"RETENTION_SECONDS": 100})
def test_old_replies_are_pruned_with_the_log(socket):
    for key in ("old", "new"):
        socket.create("tags", data={"name": key}, idempotency_key=key)
    age(StoredReply.objects.order_by("created_at")[:1], 101)
    tidy("default")
    assert StoredReply.objects.count() == 1
    assert socket.create("tags", data={"name": "new"}, idempotency_key="new").replayed


# Permissions


def test_a_user_who_lost_the_permission_gets_no_stored_reply(ann):
    class ViewSet(RoomViewSet):
        permission_classes = [DjangoModelPermissions]

    ann.user_permissions.add(Permission.objects.get(codename="add_room"))
    keys = {"data": {"name": "hall"}, "idempotency_key": "k"}
    with socket_of(ann, *of_one(ViewSet)) as socket:
        assert socket.create(**keys).status_code == 201
        assert socket.create(**keys).replayed
    ann.user_permissions.clear()
    with socket_of(User.objects.get(pk=ann.pk), *of_one(ViewSet)) as socket:
        refused = socket.create(**keys)
    assert refused.status_code == 403
    assert refused.data is None
    assert not refused.replayed


def test_of_a_row_that_the_user_may_not_see_any_more_only_the_status_is_left(socket):
    room = Room.objects.create(name="hall")
    keys = {"pk": room.pk, "data": {"name": "attic"}, "idempotency_key": "k"}
    assert socket.partial_update("rooms", **keys).data["name"] == "attic"
    assert socket.partial_update("rooms", **keys).data["name"] == "attic"
    # The permission of the object is gone; then the object itself.
    Room.objects.update(is_staff_only=True)
    hidden = socket.partial_update("rooms", **keys)
    assert (hidden.status_code, hidden.data, hidden.replayed) == (200, None, True)
    Room.objects.all().delete()
    gone = socket.partial_update("rooms", **keys)
    assert (gone.status_code, gone.data, gone.replayed) == (200, None, True)


def test_the_check_of_the_row_changes_nothing(ann):
    class ViewSet(RoomViewSet):
        def get_object(self):
            Room.objects.create(name=f"seen-{Room.objects.count()}")
            return super().get_object()

        @action(detail=True, methods=["post"])
        def touch(self, request, pk):
            return Response("touched")

    room = Room.objects.create(name="hall")
    with socket_of(ann, *of_one(ViewSet)) as socket:
        for _ in range(2):
            reply = socket.request("touch", pk=room.pk, idempotency_key="k")
    assert (reply.data, reply.replayed) == ("touched", True)
    assert names() == ["hall"]


def test_checks_that_follow_initial_refuse_a_replay(ann):
    class ViewSet(ModelConsumerViewSet):
        queryset = Room.objects.all()
        serializer_class = FullRoomSerializer
        is_closed = False

        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            if ViewSet.is_closed:
                raise ValidationError("Closed.")

    keys = {"data": {"name": "hall"}, "idempotency_key": "k"}
    with socket_of(ann, *of_one(ViewSet)) as socket:
        assert socket.create(**keys).status_code == 201
        ViewSet.is_closed = True
        refused = socket.create(**keys)
        assert (refused.status_code, refused.data, refused.replayed) == (400, None, False)
        ViewSet.is_closed = False
        assert socket.create(**keys).replayed


def test_a_viewset_that_skips_the_checks_does_not_take_a_key_for_granted(ann, caplog):
    class ViewSet(ModelConsumerViewSet):
        queryset = Room.objects.all()
        serializer_class = FullRoomSerializer

        def initial(self, request, *args, **kwargs):
            self.format_kwarg = None
            request.accepted_renderer, request.accepted_media_type = (
                self.perform_content_negotiation(request)
            )

    with socket_of(ann, *of_one(ViewSet)) as socket:
        assert socket.create(data={"name": "hall"}, idempotency_key="k").status_code == 500
    assert "call super() in the viewset's dispatch() and initial()" in caplog.text


def test_a_viewset_that_calls_its_action_twice_is_not_committed(ann, caplog):
    class ViewSet(RoomViewSet):
        def dispatch(self, request, *args, **kwargs):
            super().dispatch(request, *args, **kwargs)
            return super().dispatch(request, *args, **kwargs)

    with socket_of(ann, *of_one(ViewSet)) as socket:
        for _ in range(2):
            failed = socket.create(data={"name": "hall"}, idempotency_key="k")
            assert failed.status_code == 500
    assert "must run once" in caplog.text
    assert names() == []


def test_a_viewset_under_consumers_of_a_model_takes_keys(ann):
    application = URLRouter(CRUDConsumers.as_routes(path="/rooms", model=Room))
    with SocketClient(application, "/rooms") as socket:
        socket.force_login(ann)
        replies = [socket.create(data={"name": "hall"}, idempotency_key="k") for _ in range(2)]
    assert [(reply.status_code, reply.replayed) for reply in replies] == [(201, False), (201, True)]
    assert names() == ["hall"]


def test_a_replay_counts_for_the_throttles(ann):
    class Twice(UserRateThrottle):
        rate = "2/day"

    class ViewSet(TagViewSet):
        throttle_classes = [Twice]

    cache.clear()
    with socket_of(ann, *of_one(ViewSet)) as socket:
        statuses = [
            socket.create(data={"name": "red"}, idempotency_key="k").status_code for _ in range(3)
        ]
    cache.clear()
    assert statuses == [201, 201, 429]


# What it costs


@pytest.fixture(autouse=True)
def no_count_is_remembered(monkeypatch):
    monkeypatch.setattr(reply_store, "allowances", reply_store.Allowances())


def test_replies_of_a_user_are_not_counted_for_each_write(socket):
    for number in range(3):
        with CaptureQueriesContext(connection) as captured:
            socket.create("tags", data={"name": "red"}, idempotency_key=str(number))
        counts = [query for query in captured if "COUNT(*)" in query["sql"]]
        assert len(counts) == (1 if number == 0 else 0)


@override_settings(REST_CHANNELS={"MAX_STORED_REPLIES": 40})
def test_a_bound_that_is_not_counted_for_each_write_is_exact(socket):
    statuses = [
        socket.create("tags", data={"name": "red"}, idempotency_key=str(n)).status_code
        for n in range(42)
    ]
    assert statuses == [201] * 40 + [429] * 2


def statements(captured):
    return [query["sql"].split()[0] for query in captured]


def test_a_frame_without_a_key_costs_no_query_more(socket):
    with CaptureQueriesContext(connection) as captured:
        socket.create("tags", data={"name": "red"})
    assert statements(captured) == ["INSERT"]


@pytest.mark.only_on("postgresql")
def test_the_queries_of_a_frame_with_a_key_on_postgresql(socket):
    for wanted in (
        # The schema of the user and the table; the row of the key, within the patience with locks.
        ["SELECT", "SAVEPOINT", "SELECT", "INSERT", *["SELECT"] * 2]
        + ["INSERT", "UPDATE", "RELEASE"],
        ["SELECT", "SAVEPOINT", "SELECT", "INSERT", "SELECT", "RELEASE", "SELECT"],
    ):
        with CaptureQueriesContext(connection) as captured:
            socket.create("tags", data={"name": "red"}, idempotency_key="k")
        assert statements(captured) == wanted


@pytest.mark.only_on("sqlite")
def test_the_queries_of_a_frame_with_a_key(socket):
    for wanted in (
        # The row of the key, the bound, the write, the reply.
        ["SAVEPOINT", "INSERT", "SELECT", "INSERT", "UPDATE", "RELEASE"],
        # The row of the key is there.
        ["SAVEPOINT", "INSERT", "RELEASE", "SELECT"],
    ):
        with CaptureQueriesContext(connection) as captured:
            socket.create("tags", data={"name": "red"}, idempotency_key="k")
        assert statements(captured) == wanted
