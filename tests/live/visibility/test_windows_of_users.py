"""Windows of users who see different rows or texts: none holds a row outside its own list."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from django.contrib.auth.models import User
from rest_framework.permissions import BasePermission, IsAuthenticated

from tests.models import Ban, Room
from tests.support.greeting_rooms import Rooms, greets, two_users
from tests.support.ordered_lists import OrderedList
from tests.support.stepped_processes import running
from tests.support.subscription_stories import as_user, routes, run, told, written
from tests.support.talk import talking_to

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

tenant: ContextVar[str] = ContextVar("tenant_of_windows", default="")


def by_tenant(application):
    """A middleware that sets the tenant around a socket."""

    async def middleware(scope, receive, send):
        tenant.set(dict(scope["headers"]).get(b"tenant", b"").decode())
        await application(scope, receive, send)

    return middleware


#: The tenant that `get_queryset` has chosen: rows are read in a state of the socket's own.
chosen: ContextVar[str] = ContextVar("chosen_of_windows", default="")


class OfTenant(Rooms):
    def get_queryset(self):
        chosen.set(tenant.get())
        return Room.objects.filter(name__startswith=tenant.get()).order_by("-name")


async def begun(socket, size):
    reply = await socket.ask("subscribe", request_id="s", window=size, snapshot=True)
    assert reply["response_status"] == 201, reply
    held = OrderedList(size)
    held.take(reply)
    return held


async def until(socket, held, names):
    while [row["name"] for row in held.rows] != names:
        held.take(await socket.receive())


def test_windows_in_a_state_of_their_own():
    async def story():
        application = by_tenant(routes(OfTenant))
        for number in range(3):
            for name in ("acme", "beta"):
                await written(Room.objects.create, name=f"{name}-{number}")
        async with (
            talking_to(application, "/", {"tenant": "acme"}) as acme,
            talking_to(application, "/", {"tenant": "beta"}) as beta,
        ):
            ours, theirs = await begun(acme, 2), await begun(beta, 2)
            await written(Room.objects.create, name="acme-9")
            await until(acme, ours, ["acme-9", "acme-2"])
            await written(lambda: Room.objects.get(name="acme-9").delete())
            await until(acme, ours, ["acme-2", "acme-1"])
            await written(Room.objects.create, name="beta-9")
            await until(beta, theirs, ["beta-9", "beta-2"])

    run(story)


def test_each_user_has_a_text_of_their_own_in_the_same_order():
    class Greeting(greets(lambda context: context["request"].user.username)):
        class Meta:
            model = Room
            fields = ["id", "name", "hello"]

    class Greeted(Rooms):
        queryset = Room.objects.order_by("-name")
        serializer_class = Greeting

    async def story():
        ann, bob = await two_users()
        application = routes(Greeted)
        for name in "abc":
            await written(Room.objects.create, name=name)
        async with told(application, user=ann) as one, told(application, user=bob) as other:
            anns, bobs = await begun(one, 2), await begun(other, 2)
            await written(Room.objects.create, name="d")
            await until(one, anns, ["d", "c"])
            await until(other, bobs, ["d", "c"])
            await written(lambda: Room.objects.get(name="c").delete())
            await until(one, anns, ["d", "b"])
            await until(other, bobs, ["d", "b"])
            assert {row["hello"] for row in anns.rows} == {"ann"}
            assert {row["hello"] for row in bobs.rows} == {"bob"}

    run(story)


class NotBanned(BasePermission):
    def has_permission(self, request, view):
        return not Ban.objects.filter(user=request.user.pk).exists()


class StaffRooms(Rooms):
    """Rooms of staff show to staff alone; a user who is banned sees none."""

    permission_classes = [IsAuthenticated, NotBanned]

    def get_queryset(self):
        rooms = Room.objects.order_by("-name")
        return rooms if self.request.user.is_staff else rooms.filter(is_staff_only=False)


@pytest.fixture
def processes():
    with running() as shared:
        yield shared


class Follower:
    def __init__(self, process, user, size):
        self.process = process
        self.socket = process.connect(routes(StaffRooms), "/", as_user(user))
        _, reply = self.socket.ask("subscribe", request_id="s", window=size, snapshot=True)
        self.held = OrderedList(size)
        self.held.take(reply)

    def look(self):
        self.process.look()
        return self.take()

    def take(self):
        frames = self.socket.drain()
        for frame in frames:
            self.held.take(frame)
        return frames

    @property
    def names(self):
        return [row["name"] for row in self.held.rows]


def rooms(*names, **values):
    return [Room.objects.create(name=name, **values) for name in names]


def test_a_user_who_joins_the_staff_and_leaves_it_again(processes):
    ann = processes.write(lambda: User.objects.create_user("ann"))
    processes.write(lambda: (rooms("a", "c"), rooms("b", "d", is_staff_only=True)))
    follower = Follower(processes.start(), ann, 3)
    assert follower.names == ["c", "a"]

    def promote(is_staff):
        ann.is_staff = is_staff
        ann.save()

    processes.write(lambda: promote(True))
    follower.look()
    assert follower.names == ["d", "c", "b"]
    processes.write(lambda: promote(False))
    frames = follower.look()
    assert follower.names == ["c", "a"]
    # The rooms are hidden, not pushed out: nothing says that they are still there.
    assert all("reason" not in f["data"] for f in frames if f["action"] == "delete")


def test_a_pushed_out_row_that_is_hidden_meanwhile_has_no_reason(processes):
    ann = processes.write(lambda: User.objects.create_user("ann"))
    processes.write(lambda: rooms("a", "b"))
    follower = Follower(processes.start(), ann, 2)

    def hide_and_push_out():
        room = Room.objects.get(name="a")
        room.is_staff_only = True
        room.save()
        rooms("c")

    processes.write(hide_and_push_out)
    [gone] = [frame for frame in follower.look() if frame["action"] == "delete"]
    assert set(gone["data"]) == {"pk"}
    assert follower.names == ["c", "b"]


def test_nothing_is_sent_once_the_permission_is_gone(processes):
    ann = processes.write(lambda: User.objects.create_user("ann"))
    processes.write(lambda: rooms("a", "b"))
    follower = Follower(processes.start(), ann, 2)
    processes.write(lambda: (Ban.objects.create(user=ann), rooms("c")))
    (revoked,) = follower.look()
    assert (revoked["action"], revoked["data"]) == ("revoke", None)
    assert follower.held.is_over


def test_the_answer_is_renewed_before_a_row_enters_that_nobody_wrote(processes):
    """The lease is over when a deletion makes room: DRF decides before the next row is shown."""
    ann = processes.write(lambda: User.objects.create_user("ann"))
    processes.write(lambda: rooms("a", "b", "c"))
    follower = Follower(processes.start(), ann, 2)
    # A ban that no capture sees.
    processes.write(lambda: Ban._base_manager.bulk_create([Ban(user=ann)]))
    processes.clock.now += 60
    processes.write(lambda: Room.objects.get(name="c").delete())
    (revoked,) = follower.look()
    assert revoked["action"] == "revoke"


def test_a_fence_comes_after_the_events_of_a_window(processes):
    ann = processes.write(lambda: User.objects.create_user("ann", is_staff=True))
    processes.write(lambda: rooms("a", "b"))
    follower = Follower(processes.start(), ann, 2)
    before, reply = follower.socket.ask("create", data={"name": "z"}, fence=True, request_id=9)
    for frame in before:
        follower.held.take(frame)
    assert (reply["response_status"], reply["fenced"]) == (201, True)
    assert follower.names == ["z", "b"]
