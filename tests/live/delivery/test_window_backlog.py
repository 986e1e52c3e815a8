"""Events of a window that wait: what a client that does not keep up receives of them."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest_channels.live.delivery.events import Event
from rest_channels.live.delivery.window_events import WindowBacklog, WindowEvents, after_of
from rest_channels.live.delivery.window_script import applied, script
from rest_channels.live.log.positions import Position
from rest_channels.sockets.outbox import Outbox
from tests.models import Room
from tests.support.ordered_lists import OrderedList
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import routes, run, told, written

KEYS = st.sampled_from("abcdefgh")
LISTS = st.lists(KEYS, unique=True, max_size=5)

#: A list, rows that look different, how many events are sent before it and after.
UPDATES = st.lists(
    st.tuples(LISTS, st.sets(KEYS), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5
)


async def unread(message):
    await asyncio.Event().wait()


def name_of(key, version=0):
    return json.dumps({"pk": f"{key}{version or ''}"})


class Server:
    """The list as the server knows it, and the version of each row."""

    def __init__(self, rows):
        self.rows = list(rows)
        self.versions = dict.fromkeys("abcdefgh", 0)
        self.number = 0

    def update(self, now, changed):
        """The events that lead to the list `now`."""
        self.number += 1
        for key in changed:
            self.versions[key] += 1
        before, self.rows = self.rows, list(now)
        steps = script(before, now, changed)
        names = {key: name_of(key) for key in now}
        place = Position(self.number, 0)
        events = [
            Event(
                step.kind,
                step.key,
                place=place if number == len(steps) else None,
                data=name_of(step.key),
                name=name_of(step.key),
                after=after_of(step, names),
            )
            for number, step in enumerate(steps, 1)
        ]
        texts = {key: self.text(key) for key in now}
        return WindowEvents(before, list(now), steps, events, texts, names)

    def text(self, key):
        return json.dumps({"id": key, "version": self.versions[key]})

    @property
    def shown(self):
        return [json.loads(self.text(key)) for key in self.rows]


class Receiver:
    """A client that is sent what the backlog gives."""

    def __init__(self, server, outbox):
        self.server = server
        self.backlog = WindowBacklog(outbox)
        self.held = OrderedList()
        self.held.rows = server.shown
        self.place = None

    def pop(self):
        shared, place = self.backlog.pop()
        payload = json.loads(shared + "0}")
        self.held.take({**payload, "position": "", "previous": self.held.position})
        self.place = place or self.place


@given(LISTS, UPDATES)
def test_what_waits_leads_one_by_one_to_the_list(first, updates):
    server = Server(first)
    outbox = Outbox(unread, 1_000)
    client = Receiver(server, outbox)
    for now, changed, popped, _ in updates:
        update = server.update(now, changed)
        if update.events:
            client.backlog.take(update)
        for _ in range(popped):
            if client.backlog:
                client.pop()
    while client.backlog:
        client.pop()
    assert client.held.rows == server.shown
    assert outbox.backlog_bytes == 0


@given(LISTS, LISTS, st.sets(KEYS), st.integers(0, 6))
def test_who_falls_behind_within_an_update_receives_the_rest(first, now, changed, sent):
    server = Server(first)
    outbox = Outbox(unread, 1_000)
    client = Receiver(server, outbox)
    update = server.update(now, changed)
    sent = min(sent, len(update.events))
    if sent == len(update.events):
        return
    held = applied(first, update.steps[:sent])
    texts = {s.key for s in update.steps[:sent]}
    client.held.rows = [
        json.loads(server.text(key))
        if key in texts
        else {"id": key, "version": server.versions[key] - (key in changed)}
        for key in held
    ]
    client.backlog.take(update, sent)
    while client.backlog:
        client.pop()
    assert client.held.rows == server.shown
    assert client.place == Position(1, 0)


def test_a_row_that_entered_and_left_meanwhile_has_no_event():
    server = Server("ab")
    client = Receiver(server, Outbox(unread, 1_000))
    client.backlog.take(server.update("cab", set()))
    client.backlog.take(server.update("ab", set()))
    shared, place = client.backlog.pop()
    assert json.loads(shared + "0}")["action"] == "sync"
    assert place == Position(2, 0)
    assert not client.backlog


def test_a_reset_comes_before_what_follows_it():
    server = Server("ab")
    client = Receiver(server, Outbox(unread, 1_000))
    client.backlog.reset(
        '{"errors": [], "data": [], "action": "reset", "request_id": ', Position(1, 0)
    )
    client.backlog.take(server.update("cab", set()))
    actions = []
    while client.backlog:
        shared, _ = client.backlog.pop()
        actions.append(json.loads(shared + "0}")["action"])
    assert actions == ["reset", "create"]


class Rooms(OpenRooms):
    queryset = Room.objects.order_by("-name")


@pytest.mark.django_db(transaction=True)
def test_after_names_a_row_that_the_client_holds_when_it_is_sent():
    """With credit for one event, five rows come and go before the client acknowledges it."""

    async def story():
        await written(Room.objects.create, name="m")
        async with told(routes(Rooms)) as socket:
            reply = await socket.ask("subscribe", request_id="s", snapshot=True, window=3, credit=1)
            held = OrderedList(3)
            held.take(reply)
            await written(Room.objects.create, name="n")
            held.take(await socket.receive())
            for name in ("o", "p", "q"):
                await written(Room.objects.create, name=name)
            await written(lambda: Room.objects.get(name="p").delete())
            await written(Room.objects.create, name="z")
            while [row["name"] for row in held.rows] != ["z", "q", "o"]:
                await socket.send("ack", request_id="s", data={"position": held.position})
                held.take(await socket.receive())

    run(story)
