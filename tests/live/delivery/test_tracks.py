"""Slow audiences are followed in tracks of their own, and nobody notices how they move."""

from __future__ import annotations

import threading
from datetime import timedelta
from datetime import timezone as fixed
from types import SimpleNamespace

import pytest
from django.utils import timezone
from rest_framework import serializers

from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery import judging, paces, pass_state, telling, uniting
from rest_channels.live.delivery.hub import current_hub
from rest_channels.live.delivery.paces import Paces
from rest_channels.live.delivery.pass_state import Cohort
from rest_channels.live.delivery.tracks import Tracks
from rest_channels.live.log.positions import Position
from tests.models import Message, Room
from tests.support.room_viewsets import OpenRooms
from tests.support.subscription_stories import event, routes, run, subscribed, told, written

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow_audiences]


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "text"]


@pytest.fixture
def all_slow(monkeypatch, settings):
    """All audiences of the main track are slow."""
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "SLOW_TRACKS": 2}
    everything = lambda self, outcome, track: list(track.state.audiences.values())  # noqa: E731
    monkeypatch.setattr(Tracks, "choose_slow", everything)
    monkeypatch.setattr(Tracks, "choose_quick", lambda self, outcome, track: [])
    monkeypatch.setattr(Tracks, "_track_for", lambda self, audience, outcome: self.main)


def tracks_of_audiences():
    follower = current_hub()._followers["default"]
    return [track.name for track in follower.all_tracks for _ in track.audiences]


def test_an_audience_keeps_its_time_zone_in_another_thread(all_slow):
    class When(serializers.ModelSerializer):
        class Meta:
            model = Message
            fields = ["text", "created"]

    class Local(OpenRooms):
        queryset = Message.objects.order_by("id")
        serializer_class = When
        threads = set()

        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            timezone.activate(fixed(timedelta(hours=1), "local"))

        def get_serializer(self, *args, **kwargs):
            self.threads.add(threading.get_ident())
            return super().get_serializer(*args, **kwargs)

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(Local)) as socket:
            await subscribed(socket)
            for text in ("one", "two", "three"):
                await written(Message.objects.create, room=room, text=text)
                kind, data = await event(socket)
                assert (kind, data["text"]) == ("create", text)
                assert data["created"].endswith("+01:00")
            assert tracks_of_audiences()[0].startswith("slow")

    run(story)
    assert len(Local.threads) > 1


def test_what_allowed_a_subscription_ends_while_its_audience_moves(monkeypatch, settings):
    """The main track has read that it ended, and the audience comes from a place before."""
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "SLOW_TRACKS": 2}
    monkeypatch.setattr(Tracks, "_track_for", lambda self, audience, outcome: self.main)
    send, meanwhile = ChangePath.send, []

    async def sending(path, outcome):
        tracks = current_hub()._followers["default"].tracks
        if meanwhile and path in [track.path for track in tracks._arriving.values()]:
            await meanwhile.pop()()
        await send(path, outcome)

    monkeypatch.setattr(ChangePath, "send", sending)

    class Messages(OpenRooms):
        queryset = Message.objects.order_by("id")
        serializer_class = MessageSerializer

        def check_permissions(self, request):
            if Room.objects.filter(name="closed").exists():
                self.permission_denied(request)

    async def story():
        room = await written(Room.objects.create, name="lobby")
        async with told(routes(OpenRooms)) as here, told(routes(Messages)) as arriving:
            await subscribed(here)

            async def close():
                await written(Room.objects.create, name="closed")
                assert (await event(here))[0] == "create"

            meanwhile.append(close)
            await subscribed(arriving)
            assert not meanwhile
            await written(Message.objects.create, room=room, text="secret")
            assert (await event(arriving))[0] == "revoke"

    run(story)


def test_a_cold_start_makes_nobody_slow(monkeypatch, settings):
    """The first review of a viewset in a process also imports modules and opens connections."""
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "SLOW_TRACKS": 2}
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(judging, "time", clock)
    monkeypatch.setattr(telling, "time", clock)
    monkeypatch.setattr(pass_state, "time", clock)

    class Rooms(OpenRooms):
        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            clock.now += 0.5

    async def story():
        await written(Room.objects.create, name="lobby")
        async with told(routes(Rooms)) as socket:
            for number, tracks in ((1, [""]), (2, ["", "slow"])):
                await subscribed(socket, request_id=number, query={"number": str(number)})
                # Now it belongs to its track.
                await socket.ask("list", fence=True)
                assert sorted(name[:4] for name in tracks_of_audiences()) == tracks

    run(story)


class SlowAudience:
    """All that `Paces` knows of an audience, here with one owner."""

    def __init__(self, owner):
        self.pace, self.passes, self.sole_owner = None, 0, owner

    def learn_pace(self, seconds):
        self.passes += 1
        self.pace = seconds if self.pace is None else (self.pace + seconds) / 2


def test_one_pass_that_is_a_little_slow_moves_nobody():
    known, audience = Paces(), SlowAudience("ann")
    assert known.slow({audience: 0.15}) == [audience]  # Ann's audiences together
    shared = SlowAudience(None)
    assert known.slow({shared: 0.15}) == []
    assert known.slow({shared: 0.15}) == [shared]
    assert known.slow({SlowAudience(None): 0.3})


def test_many_quick_audiences_of_one_owner_are_slow_together(monkeypatch):
    clock = type("Clock", (), {"now": 0.0, "monotonic": lambda self: self.now})()
    monkeypatch.setattr(paces, "time", clock)
    known, others = Paces(), SlowAudience("bob")
    of_ann = [SlowAudience("ann") for _ in range(20)]
    assert known.slow({**dict.fromkeys(of_ann, 0.01), others: 0.01}) == of_ann
    # They stay apart for a while, although each is quick.
    assert known.quick({of_ann[0]: 0.001, others: 0.001}) == [others]
    clock.now += 61
    assert known.quick({of_ann[0]: 0.001}) == [of_ann[0]]


def test_only_audiences_at_the_position_of_a_track_join_it_at_once():
    """Others would miss what the track has read, or receive it twice."""
    path = ChangePath("default")
    assert path.take_in(Cohort(Position(3, 1), []))  # It had no position.
    assert not path.take_in(Cohort(Position(2, 1), []))
    assert not path.take_in(Cohort(Position(4, 1), []))
    assert not path.take_in(Cohort(Position(3, 2), []))  # Its log was lost.
    assert path.take_in(Cohort(Position(3, 1), []))


def held(**other):
    """The rows that its subscribers hold, as an audience knows them."""
    known = {
        **{"is_populated": True, "refresh_at": None, "is_bound": False, "window": None},
        **{"reach": 0, "keeps_names": False, "members": {"1": 11, "2": 22}},
        **{"own": {"ann": {"1": 11}}, "names": {"ann": {"1": "one"}}},
    }
    return SimpleNamespace(**{**known, **other})


@pytest.mark.parametrize(
    ("other", "may_unite"),
    [
        ({}, True),
        ({"own": {"bob": {"1": 12}}, "names": {"bob": {"1": "1"}}}, True),
        ({"members": {"2": 22, "1": 11}}, True),
        ({"members": {"1": 11}}, False),
        ({"members": {"1": 11, "2": 23}}, False),
        ({"members": {"1": 11, "2": None}}, False),
        ({"own": {"ann": {"1": 12}}}, False),
        ({"names": {"ann": {"1": "other"}}}, False),
        ({"refresh_at": 1.0}, False),
        ({"is_populated": False}, False),
        ({"is_bound": True}, False),
        ({"reach": 1}, False),
        ({"keeps_names": True}, False),
    ],
)
def test_audiences_of_one_key_unite_if_their_subscribers_hold_the_same(other, may_unite):
    assert uniting._hold_the_same(held(), held(**other)) is may_unite
    assert uniting._hold_the_same(held(**other), held()) is may_unite


def test_windows_unite_if_their_rows_have_the_same_order():
    window, turned = held(window=object()), {"2": 22, "1": 11}
    assert uniting._hold_the_same(window, held(window=window.window))
    assert not uniting._hold_the_same(window, held(window=window.window, members=turned))


def test_windows_unite_if_the_server_has_not_made_some_texts_for_those_who_grew():
    window = held(window=object())
    assert uniting._hold_the_same(window, held(window=window.window, members={"1": None, "2": 22}))
    assert not uniting._hold_the_same(
        window, held(window=window.window, members={"1": None, "2": 23})
    )


def test_a_client_that_grows_joins_those_who_have_the_larger_window(settings):
    settings.REST_CHANNELS = {**settings.REST_CHANNELS, "SLOW_TRACKS": 2}

    class Messages(OpenRooms):
        queryset = Message.objects.order_by("-id")
        serializer_class = MessageSerializer

    def of_three():
        tracks = current_hub()._followers["default"].all_tracks
        windows = [a for track in tracks for a in track.audiences if a.window.size == 3]
        return [audience for audience in windows if audience.subscriptions]

    async def story():
        room = await written(Room.objects.create, name="lobby")
        for text in "abc":
            await written(Message.objects.create, room=room, text=text)
        application = routes(Messages)
        async with told(application) as large, told(application) as small:
            await large.ask("subscribe", request_id="s", window=3, snapshot=True)
            begun = await small.ask("subscribe", request_id="s", window=2, snapshot=True)
            since, shown = begun["position"], [row["id"] for row in begun["data"]]
            grown = await small.ask("subscribe", request_id="s", window=3, since=since, held=shown)
            assert grown["resumed"] is True
            assert (await event(small))[1]["text"] == "a"
            for text in "de":
                await written(Message.objects.create, room=room, text=text)
                for socket in (large, small):
                    kinds = [(await event(socket))[0] for _ in range(2)]
                    assert kinds == ["delete", "create"]
            (audience,) = of_three()
            assert len(audience.subscriptions) == 2
            assert None not in audience.members.values()

    run(story)
