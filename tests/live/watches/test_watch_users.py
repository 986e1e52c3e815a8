"""Each client gets the answer of its own user: permissions, querysets, sessions, tokens, state."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from rest_framework import authentication, permissions, viewsets
from rest_framework.authtoken.models import Token
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from tests.models import Message, Room
from tests.support.subscription_stories import ByHeader, as_user, run, written
from tests.support.talk import talking_to
from tests.support.watch_stories import Runs, change, groups, runs_settle, watched

pytestmark = pytest.mark.django_db(transaction=True)

here = threading.local()


@contextmanager
def tenancy(request):
    """As a middleware for tenants does."""
    here.tenant = request.headers.get("tenant")
    try:
        yield
    finally:
        del here.tenant


class MayRead(BasePermission):
    def has_permission(self, request, view):
        return request.user.has_perm("tests.view_room")


class IsOfRoom(BasePermission):
    def has_object_permission(self, request, view, obj):
        return obj.messages.filter(author=request.user).exists()


class Mine(viewsets.GenericViewSet):
    """The rooms in which this user has written."""

    authentication_classes = [ByHeader]
    permission_classes = [permissions.IsAuthenticated]
    queryset = Room.objects.order_by("name")

    def list(self, request):
        return Response([room.name for room in self.get_queryset().filter(**self.mine())])

    def mine(self):
        return {"messages__author": self.request.user}

    @action(detail=False, permission_classes=[MayRead])
    def permitted(self, request):
        return Response(sorted(Room.objects.values_list("name", flat=True)))

    @action(detail=True, permission_classes=[IsOfRoom])
    def room(self, request, pk):
        return Response(self.get_object().name)


class OfSession(Mine):
    authentication_classes = [authentication.SessionAuthentication]

    @action(detail=False, permission_classes=[permissions.IsAdminUser])
    def staff(self, request):
        return Response(Room.objects.count())


class OfToken(Mine):
    authentication_classes = [authentication.TokenAuthentication]


class OfTenant(viewsets.ViewSet):
    """It reads nothing of the request."""

    authentication_classes = []
    permission_classes = []

    def list(self, request):
        rooms = Room.objects.filter(name__startswith=here.tenant)
        return Response(sorted(room.name for room in rooms))


router = DefaultRouter()
router.register("mine", Mine, "mine")
router.register("session", OfSession, "session")
router.register("token", OfToken, "token")
router.register("tenant", OfTenant, "tenant")
application = router.as_asgi()


def user(name, **attributes):
    return User.objects.create_user(name, **attributes)


def wrote_in(author, name):
    room, _ = Room.objects.get_or_create(name=name)
    Message.objects.create(room=room, author=author, text="Hello")


def signed_in(*users):
    """The headers of handshakes of users with a session."""
    found = []
    for one in users:
        client = Client()
        client.force_login(one)
        cookies = "; ".join(f"{name}={m.value}" for name, m in client.cookies.items())
        found.append({"cookie": cookies})
    return found


def test_users_with_querysets_of_their_own():
    ann, ben = user("ann"), user("ben")

    async def story():
        async with (
            talking_to(application, "/mine/", as_user(ann)) as of_ann,
            talking_to(application, "/mine/", as_user(ben)) as of_ben,
        ):
            await watched(of_ann)
            await watched(of_ben)
            await written(wrote_in, ann, "attic")
            assert await change(of_ann) == ["attic"]
            await written(wrote_in, ben, "barn")
            assert await change(of_ben) == ["barn"]
            await runs_settle()
            assert (await of_ann.ask("ping"))["action"] == "ping"
            assert (await of_ben.ask("ping"))["action"] == "ping"

    run(story)


def test_sockets_of_one_user_share_a_run():
    (headers,) = signed_in(ann := user("ann"))

    async def story():
        async with (
            talking_to(application, "/session/", headers) as one,
            talking_to(application, "/session/", headers) as other,
        ):
            await watched(one)
            await watched(other)
            await runs_settle()
            assert len(groups()) == 1
            runs = Runs()
            await written(wrote_in, ann, "attic")
            await runs_settle()
            # The room, and the message in another transaction.
            assert runs.count <= 2
            assert await change(one) == await change(other) == ["attic"]

    run(story)


def test_another_query_is_another_run():
    (headers,) = signed_in(user("ann"))

    async def story():
        async with talking_to(application, "/session/", headers) as socket:
            await watched(socket, request_id=1)
            await watched(socket, request_id=2, query={"page": 2})
            assert len(groups()) == 2

    run(story)


def test_state_of_a_middleware_that_no_request_shows(settings):
    settings.REST_CHANNELS = {"FRAME_CONTEXTS": [f"{__name__}.tenancy"]}

    async def story():
        async with (
            talking_to(application, "/tenant/", {"tenant": "a"}) as of_a,
            talking_to(application, "/tenant/", {"tenant": "b"}) as of_b,
        ):
            await watched(of_a)
            await watched(of_b)
            for name in ("a1", "b1", "b2"):
                await written(Room.objects.create, name=name)
                await runs_settle()
            assert await change(of_a) == ["a1"]
            assert [await change(of_b), await change(of_b)] == [["b1"], ["b1", "b2"]]
            assert (await of_a.ask("ping"))["action"] == "ping"

    run(story)


@pytest.mark.parametrize("take", ["permission", "group"])
def test_a_permission_that_goes_away_ends_it(take):
    ann, group = user("ann"), Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_room"))
    ann.groups.add(group)

    def taken():
        if take == "permission":
            group.permissions.clear()
        else:
            ann.groups.clear()

    async def story():
        async with talking_to(application, "/mine/", as_user(ann)) as socket:
            await watched(socket, "permitted")
            await written(Room.objects.create, name="attic")
            assert await change(socket) == ["attic"]
            await written(taken)
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 403)
            await written(Room.objects.create, name="barn")
            await runs_settle()
            assert (await socket.ask("ping"))["action"] == "ping"
            assert groups() == []

    run(story)


def test_an_object_permission_that_goes_away_ends_it():
    ann = user("ann")
    wrote_in(ann, "attic")
    room = Room.objects.get()

    async def story():
        async with talking_to(application, "/mine/", as_user(ann)) as socket:
            await watched(socket, "room", pk=room.pk)
            await written(Message.objects.all().delete)
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 403)

    run(story)


def test_a_user_of_a_session_who_is_changed():
    ann = user("ann", is_staff=True)
    (headers,) = signed_in(ann)

    async def story():
        async with talking_to(application, "/session/", headers) as socket:
            await watched(socket, "staff")
            await runs_settle()
            runs = Runs()
            ben = await written(user, "ben")
            await written(User.objects.filter(pk=ben.pk).update, first_name="Ben")
            await runs_settle()
            # Writes to other users concern nobody.
            assert runs.count == 0
            await written(User.objects.filter(pk=ann.pk).update, is_staff=False)
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 403)

    run(story)


def test_a_user_who_is_changed_before_the_first_run():
    ann = user("ann", is_staff=True)
    (headers,) = signed_in(ann)

    async def story():
        async with talking_to(application, "/session/", headers) as socket:
            # Its session has been read, and no follower runs yet.
            assert (await socket.ask("staff"))["response_status"] == 200
            await written(User.objects.filter(pk=ann.pk).update, is_staff=False)
            reply = await socket.ask("watch", of="staff", request_id="w")
            assert reply["response_status"] == 403

    run(story)


def test_a_user_who_signs_out_elsewhere():
    (headers,) = signed_in(ann := user("ann"))

    async def story():
        async with talking_to(application, "/session/", headers) as socket:
            await watched(socket)
            client = Client()
            client.cookies.load(headers["cookie"])
            await sync_to_async(client.logout)()
            assert await socket.closed_with() == 4401
            await written(wrote_in, ann, "attic")

    run(story)


def test_a_token_of_a_frame_that_is_deleted():
    token = Token.objects.create(user=user("ann"))

    async def story():
        async with talking_to(application) as socket:
            headers = {"authorization": f"Token {token.key}"}
            await watched(socket, stream="token", headers=headers)
            await written(Token.objects.all().delete)
            event = await socket.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 401)

    run(story)


def test_tokens_of_two_frames_of_one_socket():
    ann, ben = user("ann"), user("ben")
    tokens = [Token.objects.create(user=one) for one in (ann, ben)]

    async def story():
        async with talking_to(application) as socket:
            for number, token in enumerate(tokens):
                headers = {"authorization": f"Token {token.key}"}
                await watched(socket, stream="token", headers=headers, request_id=number)
            await written(wrote_in, ben, "barn")
            event = await socket.receive()
            assert (event["request_id"], event["data"]) == (1, ["barn"])
            await written(wrote_in, ann, "attic")
            event = await socket.receive()
            assert (event["request_id"], event["data"]) == (0, ["attic"])

    run(story)


def test_a_socket_whose_user_changes():
    ann, ben = user("ann"), user("ben")
    tokens = {one: Token.objects.create(user=one).key for one in (ann, ben)}

    async def story():
        headers = {"authorization": f"Token {tokens[ann]}"}
        async with (
            talking_to(application, "/token/", headers) as socket,
            talking_to(application, "/token/", headers) as of_ann,
        ):
            await watched(socket)
            await watched(of_ann)
            reply = await socket.ask("authenticate", data={"authorization": f"Token {tokens[ben]}"})
            assert reply["response_status"] == 200
            await written(wrote_in, ben, "barn")
            assert await change(socket) == ["barn"]
            await written(wrote_in, ann, "attic")
            assert await change(of_ann) == ["attic"]
            await runs_settle()
            assert (await socket.ask("ping"))["action"] == "ping"

    run(story)


def test_a_position_of_another_user_leads_to_the_answer():
    ann, ben = user("ann"), user("ben")

    async def story():
        async with talking_to(application, "/mine/", as_user(ann)) as socket:
            since = (await watched(socket))["position"]
            assert (await watched(socket, since=since))["resumed"] is True
        async with talking_to(application, "/mine/", as_user(ben)) as socket:
            assert (await watched(socket, since=since))["resumed"] is False

    run(story)


def test_a_stranger_learns_nothing():
    async def story():
        async with talking_to(application) as socket:
            for of in ("list", "invented", "create"):
                reply = await socket.ask("watch", "token", of=of, request_id="w")
                assert (reply["response_status"], reply["data"]) == (401, None)

    run(story)
