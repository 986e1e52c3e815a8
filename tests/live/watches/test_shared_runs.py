"""One run answers clients of many users, each of whom is permitted to have the answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import override_settings
from rest_framework import filters, pagination, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response

from rest_channels.decorators import live_shared
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.watches import shared_groups
from rest_channels.live.watches.watch_hub import WatchHub, current_watch_hub
from rest_channels.metrics import figures
from rest_channels.routers import DefaultRouter
from tests.models import Room
from tests.support.gates import Gate
from tests.support.room_viewsets import RoomSerializer
from tests.support.subscription_stories import ByHeader, as_user, run, written
from tests.support.talk import happened, talking_to
from tests.support.watch_stories import Runs, all_is_read, change, groups, runs_settle, watched

pytestmark = pytest.mark.django_db(transaction=True)


class MayView(BasePermission):
    def has_permission(self, request, view):
        return request.user.has_perm("tests.view_room")


class Pages(pagination.PageNumberPagination):
    page_size = 2


class Rooms(viewsets.ModelViewSet):
    authentication_classes = [ByHeader]
    permission_classes = [IsAuthenticated, MayView]
    queryset = Room.objects.order_by("name")
    serializer_class = RoomSerializer
    pagination_class = Pages
    filter_backends = [filters.SearchFilter, filters.OrderingFilter]
    search_fields = ["name"]
    gate: Gate

    def perform_create(self, serializer):
        serializer.save()

    @action(detail=False)
    @live_shared
    def count(self, request):
        return Response(Room.objects.count())

    @action(detail=False)
    @live_shared
    def gated(self, request):
        names = sorted(Room.objects.values_list("name", flat=True))
        if names:
            self.gate.pass_through()
        return Response(names)

    @action(detail=False)
    @live_shared
    def first(self, request):
        room = Room.objects.order_by("name").first()
        if room is None:
            raise NotFound
        return Response(room.name)


router = DefaultRouter()
router.register("rooms", Rooms, "rooms")
application = router.as_asgi()


def users(*names):
    permission = Permission.objects.get(codename="view_room")
    found = [User.objects.create_user(name) for name in names]
    for one in found:
        one.user_permissions.add(permission)
    return found


def forbid(user):
    user.user_permissions.clear()


@asynccontextmanager
async def watching(users, of="list", **keys):
    """A socket for each of `users`, all watching the same."""
    async with AsyncExitStack() as stack:
        sockets = []
        for one in users:
            talk = talking_to(application, "/rooms/", as_user(one))
            sockets.append(await stack.enter_async_context(talk))
            await watched(sockets[-1], of, **keys)
        await runs_settle()
        yield sockets


def names(page):
    return [room["name"] for room in page["results"]]


async def is_quiet(socket):
    return (await socket.ask("ping"))["action"] == "ping"


class Checks:
    """How often permissions of clients that share a run were checked since this was made."""

    def __init__(self):
        self._before = figures.watch_checks.value

    @property
    def count(self):
        return figures.watch_checks.value - self._before


@pytest.fixture
def long_leases(settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 600}


def test_a_page_of_a_hundred_users_costs_one_run(long_leases):
    everybody = users(*(f"user{number}" for number in range(100)))

    async def story():
        async with watching(everybody) as sockets:
            assert len(groups()) == 1
            for number in range(2):
                runs, checks = Runs(), Checks()
                await written(Room.objects.create, name=f"room{number}")
                await runs_settle()
                assert (runs.count, checks.count) == (1, 0)
                pages = [await change(socket) for socket in sockets]
                assert all(len(page["results"]) == number + 1 for page in pages)

    run(story)


@pytest.mark.parametrize(
    ("of", "keys"),
    [
        ("list", {"query": {"search": "a", "ordering": "-name"}}),
        ("list", {}),
        ("count", {}),
    ],
)
def test_actions_that_are_shared(of, keys, long_leases):
    async def story():
        async with watching(await written(users, "ann", "ben"), of, **keys) as sockets:
            runs = Runs()
            await written(Room.objects.create, name="attic")
            await runs_settle()
            answers = [await change(socket) for socket in sockets]
            assert answers[0] == answers[1]
            assert (runs.count, len(groups())) == (1, 1)

    run(story)


def test_a_row(long_leases):
    room = Room.objects.create(name="attic")

    async def story():
        ann, ben = await written(users, "ann", "ben")
        async with watching([ann, ben], "retrieve", pk=room.pk) as sockets:
            runs = Runs()
            await written(Room.objects.update, name="barn")
            await runs_settle()
            assert [(await change(socket))["name"] for socket in sockets] == ["barn", "barn"]
            assert runs.count == 1
            await written(Room.objects.all().delete)
            for socket in sockets:
                event = await socket.receive()
                assert (event["action"], event["response_status"]) == ("revoke", 404)

    run(story)


def test_permissions_are_checked_again_after_a_lease(settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 0}

    async def story():
        async with watching(await written(users, "ann", "ben", "cal")) as sockets:
            for number in range(3):
                await written(Room.objects.create, name=str(number))
                await runs_settle()
                for socket in sockets:
                    await change(socket)

    run(story)


def test_a_check_costs_no_run(long_leases):
    async def story():
        ann, ben = await written(users, "ann", "ben")
        async with watching([ann, ben]) as sockets:
            runs, checks = Runs(), Checks()
            # It concerns the permissions of all users.
            await written(users, "cal")
            await runs_settle()
            assert runs.count == 0
            assert checks.count >= 2
            for socket in sockets:
                assert await is_quiet(socket)
            await written(Room.objects.create, name="attic")
            await runs_settle()
            assert runs.count == 1
            assert [names(await change(socket)) for socket in sockets] == [["attic"]] * 2

    run(story)


def test_a_permission_that_goes_away_ends_one_watch(long_leases):
    async def story():
        ann, ben = await written(users, "ann", "ben")
        async with watching([ann, ben]) as (of_ann, of_ben):
            for_nothing = Runs()
            await written(forbid, ann)
            event = await of_ann.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 403)
            assert for_nothing.count == 0
            await written(Room.objects.create, name="attic")
            assert names(await change(of_ben)) == ["attic"]
            await runs_settle()
            assert await is_quiet(of_ann)

    run(story)


@pytest.mark.parametrize("forbidden", [0, 1])
def test_a_write_with_which_a_permission_goes_away_is_not_shown(forbidden, long_leases):
    def write(user):
        with transaction.atomic():
            forbid(user)
            Room.objects.create(name="secret")

    async def story():
        both = await written(users, "ann", "ben")
        async with watching(both) as sockets:
            await written(write, both[forbidden])
            event = await sockets[forbidden].receive()
            assert (event["action"], event["data"]) == ("revoke", None)
            assert names(await change(sockets[1 - forbidden])) == ["secret"]
            await runs_settle()
            assert await is_quiet(sockets[forbidden])

    run(story)


def look_only_to_read_on():
    """Let no follower look at the log until a fence waits for a commit."""
    hub = current_hub()
    (follower,) = hub._followers.values()
    ring, read_commits = follower.ring, hub.read_commits

    def reading(alias):
        follower.ring = ring
        return read_commits(alias)

    follower.ring = lambda: None
    hub.read_commits = reading


def test_a_permission_that_goes_away_during_the_run_of_another(long_leases):
    gate = Rooms.gate = Gate()

    async def story():
        ann, ben = await written(users, "ann", "ben")
        async with watching([ann, ben], "gated") as (of_ann, of_ben):
            await written(Room.objects.create, name="attic")
            await happened(gate.reached)
            await all_is_read()
            look_only_to_read_on()
            await written(forbid, ben)
            gate.opened.set()
            assert await change(of_ann) == ["attic"]
            event = await of_ben.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 403)

    with override_settings(REST_CHANNELS={"LEASE_SECONDS": 600, "POLL_SECONDS": 60}):
        run(story)


def test_a_permission_that_comes_after_a_row_has_gone(long_leases):
    """Nobody receives an older answer by a younger permission."""
    gate = Rooms.gate = Gate()

    def hide_and_permit(user):
        with transaction.atomic():
            Room.objects.filter(name="secret").delete()
            user.user_permissions.set(Permission.objects.filter(codename="view_room"))

    def forbid_and_write(user):
        with transaction.atomic():
            forbid(user)
            Room.objects.create(name="secret")

    async def story():
        ann, ben = await written(users, "ann", "ben")
        async with watching([ann, ben], "gated") as (of_ann, of_ben):
            (group,) = groups()
            # Ben's check waits meanwhile, and no second run begins by itself.
            checked = asyncio.Event()
            group._rest_of = lambda member: checked.wait()
            await written(forbid_and_write, ben)
            while not group.is_due:
                await all_is_read()
            group._hurry.set()
            await happened(gate.reached)
            await written(hide_and_permit, ben)
            gate.opened.set()
            assert await change(of_ann) == ["secret"]
            await all_is_read()
            checked.set()
            while group._checking:
                await all_is_read()
            assert await is_quiet(of_ben)
            await runs_settle()
            assert await change(of_ann) == []
            assert await is_quiet(of_ben)

    with override_settings(REST_CHANNELS={"LEASE_SECONDS": 600, "WATCH_SECONDS": 60}):
        run(story)


def test_a_socket_whose_user_changes_is_checked(long_leases):
    async def story():
        cal, ann, ben = await written(users, "cal", "ann", "ben")
        async with watching([cal, ann, ben]) as (of_cal, of_ann, of_ben):
            await written(forbid, ben)
            assert (await of_ben.receive())["action"] == "revoke"
            await runs_settle()
            reply = await of_ann.ask("authenticate", data={"authorization": str(ben.pk)})
            assert reply["response_status"] == 200
            await written(Room.objects.create, name="attic")
            assert names(await change(of_cal)) == ["attic"]
            event = await of_ann.receive()
            assert (event["action"], event["response_status"]) == ("revoke", 403)

    run(story)


def test_an_answer_that_is_gone_ends_the_watches_of_all(long_leases):
    Room.objects.create(name="attic")

    async def story():
        three = await written(users, "ann", "ben", "cal")
        async with watching(three, "first") as sockets:
            await written(Room.objects.all().delete)
            for socket in sockets:
                event = await socket.receive()
                assert (event["action"], event["response_status"]) == ("revoke", 404)
            assert groups() == []

    run(story)


def test_an_answer_that_is_too_large_ends_the_watches_of_all(settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 600, "MAX_WATCH_BYTES": 100}

    async def story():
        async with watching(await written(users, "ann", "ben", "cal")) as sockets:
            await written(Room.objects.create, name="a" * 100)
            for socket in sockets:
                event = await socket.receive()
                assert (event["action"], event["codes"]) == ("revoke", ["too_large"])
            assert groups() == []

    run(story)


def test_an_answer_is_not_kept_once_all_have_it(settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 0.2}

    async def story():
        async with watching(await written(users, "ann", "ben", "cal")) as sockets:
            await written(Room.objects.create, name="attic")
            for socket in sockets:
                await change(socket)
            await runs_settle()
            assert [group._event for group in groups()] == [""]

    run(story)


def test_nothing_is_left_when_the_sockets_close(long_leases):
    async def story():
        async with watching(await written(users, "ann", "ben")):
            await written(Room.objects.create, name="attic")
        assert groups() == []
        assert current_watch_hub().gauges() == {"watches": 0, "watch_groups": 0}

    run(story)


# Mutations of the rules


def without_checks(monkeypatch):
    monkeypatch.setattr(WatchHub, "holds", lambda self, check, watching: True)
    monkeypatch.setattr(shared_groups.SharedGroup, "on_written", on_written_without_checks)


def on_written_without_checks(self, alias, written):
    if written.concern(self.basis.heads[alias], self.basis.tables[alias]):
        self.ring()


def without_reading_on(monkeypatch):
    async def read_on(self, basis):
        return True

    monkeypatch.setattr(WatchHub, "read_on", read_on)


def without_the_age_of_a_check(monkeypatch):
    def deliver(self, member):
        member.tell(self._token, self._event)

    monkeypatch.setattr(shared_groups.SharedGroup, "_deliver", deliver)


def without_identities(monkeypatch):
    holds = WatchHub.holds

    def of_anybody(self, check, watching):
        return holds(self, replace(check, identity=watching.watch.credentials.identity), watching)

    monkeypatch.setattr(WatchHub, "holds", of_anybody)


@pytest.mark.parametrize(
    ("mutate", "story"),
    [
        (without_checks, partial(test_a_write_with_which_a_permission_goes_away_is_not_shown, 1)),
        (without_reading_on, test_a_permission_that_goes_away_during_the_run_of_another),
        (without_the_age_of_a_check, test_a_permission_that_comes_after_a_row_has_gone),
        (without_identities, test_a_socket_whose_user_changes_is_checked),
    ],
)
def test_a_broken_rule_is_found(mutate, story, monkeypatch, long_leases):
    mutate(monkeypatch)
    with pytest.raises((AssertionError, KeyError, TimeoutError)):
        story(None)
