"""The queries, serializations and encodings of a change, for one subscriber and for hundreds."""

from __future__ import annotations

import collections

import pytest
from django.contrib.auth.models import User
from django.db.backends.utils import CursorWrapper
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.utils import json

from rest_channels.live.delivery.refresh import Pass
from rest_channels.live.visibility import audiences
from rest_channels.metrics import figures
from tests.models import Ban, Club, Note, Room
from tests.support.room_viewsets import OpenRooms, RoomSerializer
from tests.support.stepped_processes import running
from tests.support.subscription_stories import ByHeader, as_user, routes

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.one_track,
]

MANY = 1_000
SUBSCRIPTIONS_OF_A_SOCKET = 125


class Rooms(OpenRooms):
    authentication_classes = [ByHeader]
    filterset_fields = ["name", "is_staff_only"]


class MembersRooms(Rooms):
    permission_classes = [IsAuthenticated]


@pytest.fixture
def processes():
    with running() as shared:
        yield shared


@pytest.fixture
def counted(monkeypatch):
    """The numbers of operations of all threads, by kind."""
    counts = collections.Counter()

    def count(owner, name, what):
        original = getattr(owner, name)

        def counting(self, *args, **kwargs):
            counts[what] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(CursorWrapper, "execute", "queries")
    count(CursorWrapper, "executemany", "queries")
    count(Pass, "run", "passes")
    # Code that renders is left as it is: one that was replaced would not be REST framework's own.
    made = audiences._texts

    def counting_texts(*args):
        texts = made(*args)
        counts["serializations"] += len(texts)
        return texts

    monkeypatch.setattr(audiences, "_texts", counting_texts)
    dumps = json.dumps

    def counting_dumps(*args, **kwargs):
        counts["encodings"] += 1
        return dumps(*args, **kwargs)

    monkeypatch.setattr(json, "dumps", counting_dumps)
    return counts


def subscribed(process, application, number, topic=lambda index: {}):
    """`number` subscriptions to what `topic` says, of a few sockets."""
    sockets = []
    for index in range(number):
        if index % SUBSCRIPTIONS_OF_A_SOCKET == 0:
            sockets.append(process.connect(application, "/", {}))
        _, reply = sockets[-1].ask("subscribe", request_id=index, **topic(index))
        assert reply["response_status"] == 201, reply
    return sockets


def cost(processes, process, counted, write):
    """Return the operations of the pass that delivers `write`."""
    process.look()
    processes.write(write)
    counted.clear()
    process.look()
    return dict(counted)


def drained(sockets):
    return [frame for socket in sockets for frame in socket.drain()]


def change(room):
    def write():
        room.is_staff_only = not room.is_staff_only
        room.save()

    return write


@pytest.mark.once
def test_a_thousand_of_one_audience_cost_what_one_does(processes, counted):
    room = processes.write(lambda: Room.objects.create(name="lobby"))
    process = processes.start()
    application = routes(Rooms)
    one = subscribed(process, application, 1)
    cost_of_one = cost(processes, process, counted, change(room))
    many = subscribed(process, application, MANY)
    drained([*one, *many])
    cost_of_many = cost(processes, process, counted, change(room))
    assert cost_of_many == cost_of_one
    assert (cost_of_many["serializations"], cost_of_many["encodings"]) == (1, 1)
    assert cost_of_many["queries"] <= 20
    frames = drained([*one, *many])
    assert len(frames) == MANY + 1
    assert {frame["action"] for frame in frames} == {"update"}


class FilteredRooms(Rooms):
    filterset_fields = {"name": ["exact", "in"]}


@pytest.mark.parametrize(("lookup", "values"), [("name", "{}"), ("name__in", "{},other")])
def test_what_exists_costs_nothing_beside_what_matches(processes, counted, lookup, values):
    names = [f"room-{number}" for number in range(300)]
    rooms = processes.write(lambda: [Room.objects.create(name=name) for name in names])
    process = processes.start()
    application = routes(FilteredRooms)

    def filtered(names):
        """One audience for each name, of which there is a room."""
        return subscribed(
            process,
            application,
            len(names),
            lambda n: {"query": {lookup: values.format(names[n])}},
        )

    sockets = filtered(names[:5])
    cost_of_few = cost(processes, process, counted, change(rooms[3]))
    assert cost_of_few["queries"] <= 20
    drained(sockets)
    sockets += filtered(names[5:])
    cost_of_many = cost(processes, process, counted, change(rooms[7]))
    assert cost_of_many == cost_of_few
    assert (cost_of_many["serializations"], cost_of_many["encodings"]) == (1, 1)
    (event,) = drained(sockets)
    assert (event["request_id"], event["data"]["name"]) == (2, "room-7")
    unnamed = cost(processes, process, counted, lambda: Room.objects.create(name="nobody's"))
    assert "serializations" not in unnamed
    assert drained(sockets) == []


def test_audiences_that_the_database_has_to_tell_apart_cost_batched_queries(processes, counted):
    class SearchedRooms(Rooms):
        filterset_fields = {"name": ["startswith"]}

    names = [f"room-{number}-" for number in range(300)]
    rooms = processes.write(lambda: [Room.objects.create(name=name) for name in names])
    process = processes.start()
    sockets = subscribed(
        process, routes(SearchedRooms), 300, lambda n: {"query": {"name__startswith": names[n]}}
    )
    told = cost(processes, process, counted, change(rooms[7]))
    assert told["queries"] <= 25
    assert (told["serializations"], told["encodings"]) == (1, 1)
    (event,) = drained(sockets)
    assert (event["request_id"], event["data"]["name"]) == (7, "room-7-")


def test_related_rows_are_looked_for_once_for_all_audiences(processes, counted):
    class NoteSerializer(serializers.ModelSerializer):
        club_name = serializers.CharField(source="club.name")

        class Meta:
            model = Note
            fields = ["id", "club_name"]

    class Notes(Rooms):
        queryset = Note.objects.select_related("club").order_by("id")
        serializer_class = NoteSerializer
        filterset_fields = ["text"]

    def write():
        clubs = [Club.objects.create(name=str(number)) for number in range(40)]
        for club in clubs:
            Note.objects.create(club=club, text=club.name)
        return clubs

    clubs = processes.write(write)
    process = processes.start()
    sockets = subscribed(process, routes(Notes), 40, lambda n: {"query": {"text": str(n)}})
    clubs[7].name = "seven"
    told = cost(processes, process, counted, clubs[7].save)
    assert told["queries"] <= 25
    assert [frame["data"]["club_name"] for frame in drained(sockets)] == ["seven"]


def test_audiences_that_see_nothing_are_read_with_the_others(processes, counted):
    class SomeRooms(Rooms):
        def get_queryset(self):
            numbers = self.request.query_params.getlist("number")
            return super().get_queryset().filter(pk__in=numbers)

    room = processes.write(lambda: Room.objects.create(name="lobby"))
    process = processes.start()
    topics = [{"query": {"number": [room.pk] * count}} for count in range(6)]
    sockets = subscribed(process, routes(SomeRooms), 6, topics.__getitem__)
    told = cost(processes, process, counted, change(room))
    assert told["passes"] == 1
    frames = drained(sockets)
    assert sorted(frame["request_id"] for frame in frames) == [1, 2, 3, 4, 5]


@pytest.mark.once
def test_a_thousand_users_share_what_is_the_same_for_all(processes, counted):
    users = processes.write(
        lambda: User.objects.bulk_create(User(username=f"user {n}") for n in range(MANY))
    )
    room = processes.write(lambda: Room.objects.create(name="lobby"))
    process = processes.start()
    application = routes(MembersRooms)
    sockets = [process.connect(application, "/", as_user(user)) for user in users]
    for socket in sockets:
        assert socket.ask("subscribe", request_id="s")[1]["response_status"] == 201
    told = cost(processes, process, counted, change(room))
    assert (told["serializations"], told["encodings"]) == (1, 1)
    assert told["queries"] <= 20
    assert len(drained(sockets)) == MANY


def test_sockets_of_one_user_share_an_answer_once_the_lease_is_over(processes, counted):
    ann = processes.write(lambda: User.objects.create(username="ann"))
    room = processes.write(lambda: Room.objects.create(name="lobby"))
    process = processes.start()
    application = routes(MembersRooms)
    sockets = [process.connect(application, "/", as_user(ann)) for _ in range(20)]
    for socket in sockets:
        assert socket.ask("subscribe", request_id="s")[1]["response_status"] == 201
    processes.clock.now += 60
    before = figures.evaluations.value
    cost(processes, process, counted, change(room))
    assert figures.evaluations.value == before + 1
    assert len(drained(sockets)) == 20


def test_who_arrives_costs_those_who_are_there_nothing(processes, counted):
    class Greeting(RoomSerializer):
        """Everybody gets a text of their own."""

        reader = serializers.CharField(source="name")

        class Meta(RoomSerializer.Meta):
            fields = [*RoomSerializer.Meta.fields, "reader"]

        def to_representation(self, room):
            return {**super().to_representation(room), "reader": str(self.context["request"].user)}

    users = processes.write(
        lambda: User.objects.bulk_create(User(username=f"user {n}") for n in range(20))
    )
    processes.write(lambda: [Room.objects.create(name=f"room-{n}") for n in range(10)])
    process = processes.start()
    application = routes(Rooms, serializer_class=Greeting)
    *sockets, last = [process.connect(application, "/", as_user(user)) for user in users]
    for socket in sockets:
        socket.ask("subscribe", request_id="s", snapshot=True)
    counted.clear()
    _, reply = last.ask("subscribe", request_id="s", snapshot=True)
    assert len(reply["data"]) == 10
    assert counted["serializations"] == 10
    assert drained(sockets) == []


def test_what_concerns_nobody_is_not_read(processes, counted):
    process = processes.start()
    application = routes(Rooms)
    sockets = subscribed(process, application, 1)
    quiet = cost(processes, process, counted, lambda: None)
    user = processes.write(lambda: User.objects.create(username="ann"))
    told = cost(processes, process, counted, lambda: Ban.objects.create(user=user))
    assert "serializations" not in told
    # To put it into the log, and to read it there.
    assert told["queries"] <= quiet["queries"] + 10
    assert drained(sockets) == []


def test_an_idle_process_asks_three_small_queries_a_poll(processes, counted, monkeypatch):
    process = processes.start()
    sockets = subscribed(process, routes(Rooms), 1)
    process.look()
    asked = []
    execute = CursorWrapper.execute

    def noting(self, sql, params=None):
        asked.append(sql)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", noting)
    process.look()
    # Those of the harness for a connection, and of a snapshot, aside.
    asked = [sql.replace('"', "") for sql in asked if not sql.startswith(("PRAGMA", "BEGIN"))]
    assert asked[:2] == [
        "SELECT 1 FROM rest_channels_pendingchange LIMIT 1",
        "SELECT position, mark FROM rest_channels_loghead WHERE id = 1",
    ]
    # In the snapshot: what was committed since the first.
    assert len(asked) == 3
    assert "FROM rest_channels_pendingchange" in asked[2]
    assert drained(sockets) == []


def test_without_subscribers_there_is_the_pending_change_and_no_more(processes, counted):
    room = processes.write(lambda: Room.objects.create(name="lobby"))
    process = processes.start()
    application = routes(Rooms)
    for socket in subscribed(process, application, 1):
        socket.leave()
    process.look()
    counted.clear()
    processes.write(change(room))
    with_log = counted["queries"]
    process.look()
    # The UPDATE, the change, and the transaction around them.
    assert with_log <= 4
    assert counted["queries"] == with_log
