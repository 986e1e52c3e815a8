"""From the snapshot to the events: another client writes at each step, and nothing is lost."""

from __future__ import annotations

import threading

import pytest

from rest_channels.live.delivery import hub
from rest_channels.live.delivery.tracks import ArrivalTrack, Tracks
from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Room
from tests.support.room_viewsets import RoomSerializer
from tests.support.stepped_processes import MOMENTS, running
from tests.support.subscription_stories import routes

pytestmark = pytest.mark.django_db(transaction=True)


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.filter(is_staff_only=False).order_by("id")
    serializer_class = RoomSerializer
    authentication_classes = []
    permission_classes = []


# One for all sockets: those of another would be another audience.
application = routes(Rooms)


@pytest.fixture
def processes():
    with running() as shared:
        yield shared


@pytest.fixture
def process(processes):
    return processes.start()


class Copy:
    """The rows that a client holds, by a snapshot and the events after it."""

    def __init__(self, reply):
        self.rows = {room["id"]: room["name"] for room in reply["data"] or ()}
        self.position = reply["position"]

    def follow(self, frames):
        for frame in frames:
            assert frame["previous"] == self.position, frame
            self.position = frame["position"]
            if frame["action"] == "delete":
                self.rows.pop(frame["data"]["pk"], None)
            elif frame["action"] != "sync":
                assert frame["action"] in ("create", "update"), frame
                self.rows[frame["data"]["id"]] = frame["data"]["name"]
        return self


def there(processes):
    """Return the visible rows."""
    rooms = Room.objects.filter(is_staff_only=False)
    return processes.write(lambda: dict(rooms.values_list("id", "name")))


def change(name):
    """Each way to change a room, of those called `kept`, `gone` and `hidden`."""

    def create():
        Room.objects.create(name="new")

    def update():
        room = Room.objects.get(name="kept")
        room.name = "changed"
        room.save()

    def delete():
        Room.objects.get(name="gone").delete()

    def hide():
        room = Room.objects.get(name="hidden")
        room.is_staff_only = True
        room.save()

    def everything():
        for write in (create, update, delete, hide):
            write()

    return locals()[name]


@pytest.fixture
def rooms():
    return [Room.objects.create(name=name) for name in ("kept", "gone", "hidden")]


CHANGES = ["create", "delete", "everything"]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("is_sequenced", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_write_while_the_first_subscribes(processes, process, rooms, moment, is_sequenced, name):
    socket = process.connect(application, "/", {})
    processes.at(moment, change(name), is_sequenced=is_sequenced)
    _, reply = socket.ask("subscribe", request_id="s", snapshot=True)
    assert processes.hooks == {} or moment == "after the entries"
    processes.hooks.clear()
    copy = Copy(reply)
    process.look()
    assert copy.follow(socket.drain()).rows == there(processes)


@pytest.mark.parametrize("is_sequenced", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_write_while_another_subscribes(processes, process, rooms, moment, is_sequenced):
    """A subscriber that was there before receives another event in the same pass."""
    first = process.connect(application, "/", {})
    copy = Copy(first.ask("subscribe", request_id="s", snapshot=True)[1])
    processes.write(lambda: Room.objects.create(name="other"))
    second = process.connect(application, "/", {})
    processes.at(moment, change("everything"), is_sequenced=is_sequenced)
    _, reply = second.ask("subscribe", request_id="s", snapshot=True)
    processes.hooks.clear()
    process.look()
    assert Copy(reply).follow(second.drain()).rows == there(processes)
    assert copy.follow(first.drain()).rows == there(processes)


@pytest.mark.parametrize("is_sequenced", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_another_is_shown_and_is_undone_before_the_next_look(
    processes, process, rooms, moment, is_sequenced
):
    first = process.connect(application, "/", {})
    copy = Copy(first.ask("subscribe", request_id="s", snapshot=True)[1])
    second = process.connect(application, "/", {})
    processes.at(moment, change("everything"), is_sequenced=is_sequenced)
    _, reply = second.ask("subscribe", request_id="s", snapshot=True)
    processes.hooks.clear()
    # Come and gone, as far as the log's next entries can tell; the second one holds it.
    processes.write(lambda: [room.delete() for room in Room.objects.filter(name="new")])
    process.look()
    assert Copy(reply).follow(second.drain()).rows == there(processes)
    assert copy.follow(first.drain()).rows == there(processes)


@pytest.mark.parametrize("is_sequenced", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_write_while_somebody_comes_back(processes, process, rooms, moment, is_sequenced):
    other = processes.start()
    socket = process.connect(application, "/", {})
    copy = Copy(socket.ask("subscribe", request_id="s", snapshot=True)[1])
    socket.leave()
    processes.write(lambda: Room.objects.create(name="other"))
    socket = other.connect(application, "/", {})
    processes.at(moment, change("everything"), is_sequenced=is_sequenced)
    keys = {"since": copy.position, "held": list(copy.rows)}
    _, reply = socket.ask("subscribe", request_id="s", **keys)
    processes.hooks.clear()
    assert (reply["resumed"], reply["position"]) == (True, copy.position)
    other.look()
    assert copy.follow(socket.drain()).rows == there(processes)


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_ring_while_the_first_audience_arrives(processes, process, rooms, monkeypatch, is_slow):
    """The main track, which has no audience yet, skips it, and looks once it has one."""
    # Others arrive after it: otherwise the main track looks at the end of the arrivals.
    monkeypatch.setattr(ArrivalTrack, "has_work", lambda track: True)
    if is_slow:
        monkeypatch.setattr(Tracks, "_track_for", lambda tracks, *of: tracks._slow_for(*of[:1]))

    async def ring():
        [main] = hub.current_hub()._followers.values()
        skipped = process._quiet(main)
        main.ring()
        await skipped
        assert main.state.place is None

    def write():
        change("everything")()
        process.run(ring())

    socket = process.connect(application, "/", {})
    processes.at("before sending", write)
    copy = Copy(socket.ask("subscribe", request_id="s", snapshot=True)[1])
    process.settle()
    assert processes.hooks == {}
    assert copy.follow(socket.drain()).rows == there(processes)


@pytest.mark.parametrize("name", ["update", "delete"])
@pytest.mark.parametrize("is_sequenced", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_write_while_somebody_subscribes_to_the_row(
    processes, process, rooms, moment, is_sequenced, name
):
    room = rooms[["update", "delete"].index(name)]
    socket = process.connect(application, "/", {})
    processes.at(moment, change(name), is_sequenced=is_sequenced)
    _, reply = socket.ask("subscribe_instance", request_id="s", pk=room.pk, snapshot=True)
    processes.hooks.clear()
    if reply["response_status"] == 404:
        # It went before the client was shown it.
        assert room.pk not in there(processes)
        return
    assert reply["response_status"] == 201 and reply["data"] is not None
    copy = Copy({**reply, "data": [reply["data"]]})
    process.look()
    now = there(processes)
    assert copy.follow(socket.drain()).rows == {pk: now[pk] for pk in (room.pk,) if pk in now}


def test_somebody_writes_all_the_time(processes, process, rooms):
    """A writer that waits for nobody, while clients come and look."""
    is_over = threading.Event()
    begun = threading.Event()

    def write():
        number = 0
        while not is_over.is_set():
            number += 1
            room = Room.objects.create(name=f"room-{number}")
            if number % 2:
                room.name = f"new-name-{number}"
                room.save()
            if number % 3 == 0:
                Room.objects.order_by("id").first().delete()
            begun.set()

    writing = processes.writer.submit(write)
    try:
        assert begun.wait(10)
        copies = []
        for _ in range(25):
            socket = process.connect(application, "/", {})
            copies.append((socket, Copy(socket.ask("subscribe", request_id="s", snapshot=True)[1])))
            process.look()
    finally:
        is_over.set()
        writing.result(10)
    process.look()
    for socket, copy in copies:
        assert copy.follow(socket.drain()).rows == there(processes)
