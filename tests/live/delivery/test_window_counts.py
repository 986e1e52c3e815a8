"""The cost of a change of a window, for one subscriber and a thousand, of few rows and of many."""

from __future__ import annotations

from collections import Counter

import pytest
from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.live.delivery.test_counts import cost, counted, drained, processes, subscribed
from tests.models import Message, Room
from tests.support.ordered_lists import OrderedList
from tests.support.subscription_stories import routes

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.one_track,
]

__all__ = ["counted", "processes"]

MANY = 1_000
MESSAGES = 2_000


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text"]


class Messages(ModelConsumerViewSet):
    queryset = Message.objects.order_by("-id")
    serializer_class = MessageSerializer
    authentication_classes = []
    permission_classes = []
    filterset_fields = ["room"]


application = routes(Messages)


@pytest.fixture
def rooms(processes):
    def make():
        made = [Room.objects.create(name=name) for name in ("lobby", "attic")]
        for room in made:
            Message.objects.bulk_create(
                Message(room=room, text=f"{number}") for number in range(MESSAGES // 2)
            )
        return made

    return processes.write(make)


def newest(room, size, **keys):
    return {"query": {"room": room.pk}, "window": size, "snapshot": True, **keys}


def write(room):
    return lambda: Message.objects.create(room=room, text="new")


@pytest.mark.once
def test_a_thousand_of_one_window_cost_what_one_does(processes, counted, rooms):
    process = processes.start()
    one = subscribed(process, application, 1, lambda n: newest(rooms[0], 50))
    cost_of_one = cost(processes, process, counted, write(rooms[0]))
    many = subscribed(process, application, MANY, lambda n: newest(rooms[0], 50))
    drained([*one, *many])
    cost_of_many = cost(processes, process, counted, write(rooms[0]))
    assert cost_of_many == cost_of_one
    assert (cost_of_many["serializations"], cost_of_many["encodings"]) == (1, 2)
    frames = drained([*one, *many])
    assert len(frames) == 2 * (MANY + 1)
    assert {frame["action"] for frame in frames} == {"delete", "create"}


def test_a_change_of_a_window_costs_one_query_of_keys_and_one_of_rows(processes, counted, rooms):
    plain, windowed = processes.start(), processes.start()
    sockets = subscribed(plain, application, 1, lambda n: {"query": {"room": rooms[0].pk}})
    sockets += subscribed(windowed, application, 1, lambda n: newest(rooms[0], 50))
    plain_cost = cost(processes, plain, counted, write(rooms[0]))["queries"]
    windowed.look()
    assert cost(processes, windowed, counted, write(rooms[0]))["queries"] == plain_cost + 1


def test_a_window_costs_the_same_however_many_rows_are_behind_it(processes, counted, rooms):
    process = processes.start()
    few = processes.write(lambda: Room.objects.create(name="few"))
    for _ in range(60):
        processes.write(write(few))
    sockets = subscribed(process, application, 1, lambda n: newest(few, 50))
    sockets += subscribed(process, application, 1, lambda n: newest(rooms[0], 50))
    cost_of_few = cost(processes, process, counted, write(few))
    assert cost_of_few["queries"]
    assert cost(processes, process, counted, write(rooms[0])) == cost_of_few
    assert len(drained(sockets)) == 4


def test_only_the_rows_of_the_window_are_rendered(processes, counted, rooms):
    process = processes.start()
    counted.clear()
    (socket,) = subscribed(process, application, 1, lambda n: newest(rooms[0], 50))
    assert counted["serializations"] == 50
    _, reply = socket.ask("subscribe", request_id="more", **newest(rooms[0], 100))
    assert len(reply["data"]) == 100
    assert counted["serializations"] == 150


def test_changes_of_other_rooms_cost_no_query_of_keys(processes, counted, rooms):
    """Two audiences, so that their filters are compared with the row."""
    process = processes.start()
    sockets = [
        subscribed(process, application, 1, lambda n, room=room: newest(room, 50))[0]
        for room in rooms
    ]
    other = processes.write(lambda: Room.objects.create(name="other"))
    cost_of_one = cost(processes, process, counted, write(rooms[0]))
    cost_of_none = cost(processes, process, counted, write(other))
    assert cost_of_none["queries"] <= cost_of_one["queries"] - 2
    assert "serializations" not in cost_of_none
    assert {frame["data"].get("room", rooms[0].pk) for frame in drained(sockets)} == {rooms[0].pk}


def test_a_row_behind_a_full_window_costs_no_query_of_keys(processes, counted, rooms):
    process = processes.start()
    sockets = subscribed(process, application, 1, lambda n: newest(rooms[0], 50))
    oldest = processes.write(lambda: Message.objects.order_by("id").first())

    def edit(message):
        def write():
            message.text = "edited"
            message.save()

        return write

    newest_row = processes.write(lambda: rooms[0].messages.order_by("-id").first())
    within = cost(processes, process, counted, edit(newest_row))
    assert [frame["action"] for frame in drained(sockets)] == ["update"]
    behind = cost(processes, process, counted, edit(oldest))
    assert behind["queries"] == within["queries"] - 2
    assert cost(processes, process, counted, oldest.delete)["queries"] == behind["queries"]
    assert drained(sockets) == []


def test_rows_are_compared_with_windows_by_their_columns_in_one_query(processes, counted, rooms):
    class SortedMessages(Messages):
        queryset = Message.objects.order_by("room_id", "-id")

    process = processes.start()
    application = routes(SortedMessages)
    sockets = subscribed(process, application, 5, lambda n: {"window": 50 + n, "snapshot": True})
    enters = cost(processes, process, counted, write(rooms[0]))
    assert len(drained(sockets)) == 10
    # The order of 5 windows, and the row for them together or one by one.
    behind = cost(processes, process, counted, write(rooms[1]))
    assert behind["queries"] <= enters["queries"] - 6
    assert drained(sockets) == []


# Growing and shrinking


class Grower:
    """A client that asks for a larger or smaller window of a room, and what that costs."""

    def __init__(self, room, counted):
        self.room = room
        self.counted = counted
        self.held = OrderedList()
        self.socket = None

    def subscribe(self, process, size, **keys):
        """Ask for a window on `process`; return what it costs, and the actions that follow."""
        if self.socket is None:
            self.socket = process.connect(application, "/", {})
        self.held.size = size
        keys = newest(self.room, size, request_id="s", **keys)
        if self.held.position is not None:
            keys |= {"since": self.held.position, "held": self.held.held}
        self.counted.clear()
        before, reply = self.socket.ask("subscribe", **keys)
        process.settle()
        spent = dict(self.counted)
        assert (before, reply["response_status"]) == ([], 201)
        self.held.take(reply)
        return spent, self.take()

    def take(self):
        return Counter(self.held.take(frame) for frame in self.socket.drain())


@pytest.fixture
def grower(counted, rooms):
    return Grower(rooms[0], counted)


def first(room, size):
    return list(room.messages.order_by("-id").values_list("pk", flat=True)[:size])


def test_growing_renders_only_the_rows_that_the_client_lacks(processes, rooms, grower):
    process = processes.start()
    subscribed(process, application, 1, lambda n: newest(rooms[1], 50))
    snapshot, _ = grower.subscribe(process, 50)
    more, told = grower.subscribe(process, 100)
    assert (more["serializations"], told) == (50, {"create": 50})
    # The keys of 100 rows, and 50 rows, instead of 100 rows.
    assert more["queries"] <= snapshot["queries"] + 1
    assert grower.held.held == processes.write(lambda: first(rooms[0], 100))


def test_shrinking_renders_nothing(processes, rooms, grower):
    process = processes.start()
    grower.subscribe(process, 100)
    less, told = grower.subscribe(process, 30)
    assert ("serializations" in less, told) == (False, {"delete": 70})
    assert grower.held.held == processes.write(lambda: first(rooms[0], 30))


def test_growing_in_a_burst_renders_what_has_changed_as_well(processes, rooms, grower):
    process = processes.start()
    grower.subscribe(process, 50)

    def burst():
        for number in range(20):
            Message.objects.create(room=rooms[0], text=f"new {number}")
        edited = rooms[0].messages.order_by("-id")[40]
        edited.text = "edited"
        edited.save()

    processes.write(burst)
    # A further burst is committed while the pass runs.
    processes.at("before the rows", burst, is_sequenced=True)
    more, told = grower.subscribe(process, 100)
    assert not processes.hooks
    # 20 rows are new, one was edited, and 30 came from behind.
    assert (more["serializations"], told) == (51, {"create": 50, "update": 1})
    process.look()
    told += grower.take()
    assert told == {"create": 50 + 20, "delete": 20, "update": 2}
    assert grower.held.held == processes.write(lambda: first(rooms[0], 100))
    assert [row["text"] for row in grower.held.rows].count("edited") == 2


def test_growing_on_another_process_renders_the_same(processes, rooms, grower):
    grower.subscribe(processes.start(), 50)
    grower.socket.leave()
    grower.socket = None
    processes.write(write(rooms[0]))
    more, told = grower.subscribe(processes.start(), 100)
    assert (more["serializations"], told) == (50, {"create": 50})
    assert grower.held.held == processes.write(lambda: first(rooms[0], 100))


def test_growing_after_a_reset_renders_the_same(processes, rooms, grower):
    process = processes.start()
    grower.subscribe(process, 50)
    grower.held.position = "lost"
    grower.socket.leave()
    grower.socket = None
    again, told = grower.subscribe(process, 50)
    assert (again["serializations"], told) == (50, {"reset": 1})
    more, told = grower.subscribe(process, 100)
    assert (more["serializations"], told) == (50, {"create": 50})


def test_a_window_that_grew_costs_and_tells_what_others_do(processes, counted, rooms, grower):
    process = processes.start()
    sockets = subscribed(process, application, 3, lambda n: newest(rooms[0], 100))
    grower.subscribe(process, 50)
    grower.subscribe(process, 100)
    told = cost(processes, process, counted, write(rooms[0]))
    assert told["serializations"] == 1
    assert len(drained(sockets)) == 2 * 3
    assert grower.take() == {"delete": 1, "create": 1}


def test_rows_that_may_read_other_tables_are_all_rendered(processes, counted, rooms):
    """Until they are, the tables that a row depends on are unknown."""

    class Lazy(MessageSerializer):
        room_name = serializers.CharField(source="room.name")

        class Meta(MessageSerializer.Meta):
            fields = [*MessageSerializer.Meta.fields, "room_name"]

    class LazyMessages(Messages):
        serializer_class = Lazy

    process = processes.start()
    socket = process.connect(routes(LazyMessages), "/", {})
    held = OrderedList(5)
    _, reply = socket.ask("subscribe", request_id="s", **newest(rooms[0], 5))
    held.take(reply)
    counted.clear()
    options = {"since": held.position, "held": held.held, "request_id": "s"}
    held.size = 8
    _, reply = socket.ask("subscribe", **newest(rooms[0], 8, **options))
    held.take(reply)
    assert counted["serializations"] == 8
    rooms[0].name = "hall"
    processes.write(rooms[0].save)
    process.catch_up()
    for frame in socket.drain():
        held.take(frame)
    assert {row["room_name"] for row in held.rows} == {"hall"}
