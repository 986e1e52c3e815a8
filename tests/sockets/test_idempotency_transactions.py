"""The reply and the write are one transaction."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, connections, transaction
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from rest_channels.models import StoredReply
from rest_channels.sockets import reply_store
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet, as_consumer
from tests.models import Shelf
from tests.support.recorded_changes import InThread, another_database
from tests.support.talk import serving

pytestmark = pytest.mark.django_db(transaction=True)


class ShelfSerializer(serializers.ModelSerializer):
    class Meta:
        model = Shelf
        fields = ["id", "name"]


class ShelfViewSet(viewsets.ModelViewSet):
    queryset = Shelf.objects.order_by("id")
    serializer_class = ShelfSerializer
    permission_classes = [AllowAny]


@pytest.fixture
def ann():
    return User.objects.create_user("ann")


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


@contextmanager
def socket_of(user, viewset):
    with SocketClient(serving(as_consumer(viewset))) as client:
        if user is not None:
            client.force_authenticate(user)
        yield client


def shelves(alias="default"):
    return list(Shelf.objects.using(alias).order_by("id").values_list("name", flat=True))


def stored_and_written():
    """Return what another connection sees at this moment."""
    return InThread(lambda: (StoredReply.objects.count(), Shelf.objects.count())).result()


@pytest.mark.parametrize("fails", [False, True], ids=["stored", "fails to be stored"])
def test_no_write_is_committed_without_its_reply(ann, monkeypatch, fails):
    def failing(*args):
        raise DatabaseError("The disk is full.")

    if fails:
        monkeypatch.setattr(reply_store, "fill", failing)
    with socket_of(ann, ShelfViewSet) as socket:
        reply = socket.create(data={"name": "left"}, idempotency_key="k")
    assert reply.status_code == (500 if fails else 201)
    assert (StoredReply.objects.count(), Shelf.objects.count()) == ((0, 0) if fails else (1, 1))


def test_an_action_that_forgets_its_key_is_not_committed(ann):
    class ViewSet(ShelfViewSet):
        def perform_create(self, serializer):
            StoredReply.objects.all().delete()
            super().perform_create(serializer)

    with socket_of(ann, ViewSet) as socket:
        assert socket.create(data={"name": "left"}, idempotency_key="k").status_code == 500
    assert shelves() == []


def test_on_commit_happens_once_and_after_both(ann):
    seen = []

    class ViewSet(ShelfViewSet):
        def perform_create(self, serializer):
            super().perform_create(serializer)
            transaction.on_commit(lambda: seen.append(counts()))

    def counts():
        return StoredReply.objects.count(), Shelf.objects.count(), connection.in_atomic_block

    with socket_of(ann, ViewSet) as socket:
        for _ in range(2):
            reply = socket.create(data={"name": "left"}, idempotency_key="k")
    assert reply.replayed
    assert seen == [(1, 1, False)]


def test_a_failure_on_commit_comes_too_late_to_undo_the_write(ann):
    class ViewSet(ShelfViewSet):
        def perform_create(self, serializer):
            super().perform_create(serializer)
            transaction.on_commit(lambda: 1 / 0)

    with socket_of(ann, ViewSet) as socket:
        first, again = (socket.create(data={"name": "left"}, idempotency_key="k") for _ in range(2))
    assert (first.status_code, again.status_code, again.replayed) == (500, 201, True)
    assert shelves() == ["left"]


class Strict(ShelfViewSet):
    def perform_create(self, serializer):
        super().perform_create(serializer)
        if self.request.data["name"] == "bad":
            raise ValidationError("No.")

    @action(detail=False, methods=["post"])
    def answer_no(self, request):
        Shelf.objects.create(name="undone")
        return Response("No.", status=409)


def test_atomic_requests(ann, atomic_requests):
    authenticated = []

    class ViewSet(Strict):
        def perform_authentication(self, request):
            super().perform_authentication(request)
            authenticated.append(connection.in_atomic_block)
            Shelf.objects.create(name="seen")

    with socket_of(ann, ViewSet) as socket:
        # The handshake asks, too.
        socket.connect()
        Shelf.objects.all().delete()
        authenticated.clear()
        for word, name in [("create", "bad"), ("answer_no", "x")]:
            refused = socket.request(word, data={"name": name}, idempotency_key="k")
            assert refused.status_code in (400, 409)
            # As over HTTP, a failure undoes what authentication wrote; here a returned one, too.
            assert shelves() == []
        first, again = (socket.create(data={"name": "good"}, idempotency_key="k") for _ in range(2))
    assert (first.replayed, again.replayed) == (False, True)
    assert shelves() == ["seen", "good", "seen"]
    assert authenticated == [True] * 4


def test_a_view_that_opts_out_of_atomic_requests(ann, atomic_requests):
    class ViewSet(Strict):
        def perform_authentication(self, request):
            super().perform_authentication(request)
            assert not connection.in_atomic_block

        @classmethod
        def as_view(cls, *args, **kwargs):
            return transaction.non_atomic_requests(super().as_view(*args, **kwargs))

    with socket_of(ann, ViewSet) as socket:
        for _ in range(2):
            reply = socket.create(data={"name": "good"}, idempotency_key="k")
    assert (reply.status_code, reply.replayed) == (201, True)
    assert shelves() == ["good"]


def test_the_reply_is_stored_where_the_queryset_is(ann, tmp_path):
    class Elsewhere(ShelfViewSet):
        def get_queryset(self):
            return Shelf.objects.using("other")

        def perform_create(self, serializer):
            Shelf(**serializer.validated_data).save(using="other")
            if serializer.validated_data["name"] == "bad":
                raise ValidationError("No.")

    with another_database(tmp_path) as other, socket_of(ann, Elsewhere) as socket:
        assert socket.create(data={"name": "bad"}, idempotency_key="k").status_code == 400
        for _ in range(2):
            reply = socket.create(data={"name": "good"}, idempotency_key="k")
        assert reply.replayed
        assert shelves(other) == ["good"]
        assert StoredReply.objects.using(other).count() == 1
    assert not StoredReply.objects.exists()


def test_a_database_without_the_table_is_named(ann, tmp_path, caplog):
    class Elsewhere(ShelfViewSet):
        def get_queryset(self):
            return Shelf.objects.using("other")

    with another_database(tmp_path, is_migrated=False), socket_of(ann, Elsewhere) as socket:
        assert socket.create(data={"name": "left"}, idempotency_key="k").status_code == 500
    assert "manage.py migrate rest_channels --database=other" in caplog.text
    assert shelves() == []


def test_a_database_that_django_does_not_commit_is_named(ann, monkeypatch, caplog):
    with socket_of(ann, ShelfViewSet) as socket:
        socket.connect()
        monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
        assert socket.create(data={"name": "left"}, idempotency_key="k").status_code == 500
        monkeypatch.undo()
    assert "remove AUTOCOMMIT = False from DATABASES['default']" in caplog.text
    assert shelves() == []


def test_a_viewset_without_a_queryset_uses_the_default_database(ann):
    class ViewSet(viewsets.ViewSet):
        def create(self, request):
            Shelf.objects.create(name="left")
            return Response()

    with socket_of(ann, ViewSet) as socket:
        replies = [socket.create(idempotency_key="k") for _ in range(2)]
    assert [reply.replayed for reply in replies] == [False, True]
    assert shelves() == ["left"]


def test_a_queryset_that_refuses_is_refused(ann):
    class ViewSet(ShelfViewSet):
        def get_queryset(self):
            raise ValidationError("Not here.")

    with socket_of(ann, ViewSet) as socket:
        assert socket.create(data={"name": "left"}, idempotency_key="k").status_code == 400


def test_the_reply_is_rendered_within_the_transaction(ann):
    class Slow(ShelfSerializer):
        seen = serializers.SerializerMethodField()

        class Meta(ShelfSerializer.Meta):
            fields = ["name", "seen"]

        def get_seen(self, shelf):
            return [connection.in_atomic_block, *stored_and_written()]

    class ViewSet(ShelfViewSet):
        serializer_class = Slow

        def get_queryset(self):
            return Shelf.objects.all()

    with socket_of(ann, ViewSet) as socket:
        first, again = (socket.create(data={"name": "left"}, idempotency_key="k") for _ in range(2))
    # Another connection sees neither yet.
    assert first.data["seen"] == again.data["seen"] == [True, 0, 0]


def test_a_user_signs_in_once(ann):
    """Changes of an action to the session are saved after its reply is stored."""

    class ViewSet(viewsets.ViewSet):
        @action(detail=False, methods=["post"])
        def sign_in_again(self, request):
            login(request._request, request.user, "django.contrib.auth.backends.ModelBackend")
            request.session["count"] = request.session.get("count", 0) + 1
            return Response(request.session["count"])

        @action(detail=False)
        def count(self, request):
            return Response(request.session.get("count"))

    with SocketClient(serving(as_consumer(ViewSet))) as socket:
        socket.force_login(ann)
        replies = [socket.request("sign_in_again", idempotency_key="k") for _ in range(2)]
        assert [(reply.data, reply.replayed) for reply in replies] == [(1, False), (1, True)]
        assert socket.request("count").data == 1


@pytest.mark.only_on("postgresql")
def test_the_patience_with_locks_is_the_projects_again_in_the_action(ann):
    class ViewSet(viewsets.ViewSet):
        def perform_authentication(self, request):
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '7s'")

        def create(self, request):
            with connection.cursor() as cursor:
                cursor.execute("SHOW lock_timeout")
                return Response(cursor.fetchone()[0])

    with socket_of(ann, ViewSet) as socket:
        assert socket.create(idempotency_key="k").data == "7s"


def test_the_fence_of_a_repeated_frame_covers_the_first_write(ann):
    class ViewSet(ModelConsumerViewSet):
        queryset = Shelf.objects.order_by("id")
        serializer_class = ShelfSerializer

    keys = {"data": {"name": "left"}, "idempotency_key": "k", "fence": True}
    with socket_of(ann, ViewSet) as writer:
        writer.create(**keys)
    with socket_of(ann, ViewSet) as socket:
        socket.request("subscribe")
        Shelf.objects.create(name="meanwhile")
        again = socket.create(**keys)
        assert (again.replayed, again.fenced) == (True, True)
        assert [event.data["name"] for event in socket.unread] == ["meanwhile"]


@pytest.mark.only_on("postgresql")
def test_a_statement_that_fails_unnoticed_is_not_committed(ann):
    class ViewSet(viewsets.ViewSet):
        def create(self, request):
            Shelf.objects.create(name="undone")
            with connection.cursor() as cursor, pytest.raises(DatabaseError):
                cursor.execute("SELECT no_such_column")
            return Response("It seems to have worked.")

    with socket_of(ann, ViewSet) as socket:
        assert socket.create(idempotency_key="k").status_code == 500
    assert shelves() == []


@pytest.mark.parametrize("fails", [True, False])
def test_a_key_is_checked_before_the_queryset_is_made(fails):
    """Which may fail for a stranger."""

    class ViewSet(ShelfViewSet):
        def get_queryset(self):
            return Shelf.objects.filter(id=self.request.user.pk + 1)

    key = {"idempotency_key": "k"} if fails else {}
    with socket_of(None, ViewSet) as socket:
        reply = socket.create(data={"name": "left"}, **key)
    assert reply.status_code == (403 if fails else 201)
