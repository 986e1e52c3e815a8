"""Redis is killed, hung, emptied and started again: writers never wait, subscribers go on."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from rest_channels.bus.publisher import DOORBELL_GROUP
from tests.support.killable_processes import VictimServer
from tests.support.room_client import Client
from tests.support.server_processes import answer
from tests.support.waiting import wait_until

# The doorbell does not know of databases.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.only_on("sqlite")]

KINDS = {
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}


def layers(kind, own_redis, **config):
    host = {"address": f"redis://127.0.0.1:{own_redis.port}", "socket_timeout": None}
    return {"default": {"BACKEND": KINDS[kind], "CONFIG": {"hosts": [host], **config}}}


def wait_for_members(kind, own_redis, count):
    """Wait until `count` processes listen, according to Redis."""
    wait_until(lambda: len(members(kind, own_redis)) == count)


def members(kind, own_redis):
    with own_redis.client() as client:
        if kind == "core":
            return client.zrange(f"asgi:group:{DOORBELL_GROUP}", 0, -1)
        ((_, count),) = client.pubsub_numsub(f"asgi__group__{DOORBELL_GROUP}")
        return [None] * count


class Cast:
    """
    A process that is written through; one that hears of it by the doorbell or never, for it looks
    by itself once an hour; and one that looks all the time.
    """

    def __init__(self, writing, ringing, polling):
        self.by_bell = Client().subscribe(ringing)
        self.by_poll = Client().subscribe(polling)
        self.here = Client().subscribe(writing)
        self.writer = writing.connect("/").__enter__()
        self.ringing = ringing
        self._names = 0

    def write(self):
        """The reply has come when it returns; and where nobody needs Redis, the event."""
        self._names += 1
        made = answer(self.writer, "create", data={"name": f"room-{self._names}"})
        assert made["response_status"] == 201, made
        for client in (self.here, self.by_poll):
            assert client.take() == "create"
            assert client.held[-1] == made["data"]

    def hears(self):
        """The doorbell tells of all that was written; for one that is lost, the next makes up."""
        for _ in range(10):
            self.write()
            with suppress(TimeoutError):
                self.by_bell.take(seconds=2)
                self.by_bell.take_until(self.here.held)
                return
        raise AssertionError("no doorbell is heard")

    def leave(self):
        for client in (self.by_bell, self.by_poll, self.here):
            client.leave()
        self.writer.close()


@pytest.fixture
def cast_on(own_redis):
    """A cast on a layer of that kind."""
    entered = []

    def cast_on(kind, publish_seconds=2, **config):
        for poll_seconds in (3600, 3600, 0.05):
            server = VictimServer(
                channel_layers=layers(kind, own_redis, **config),
                POLL_SECONDS=poll_seconds,
                PUBLISH_SECONDS=publish_seconds,
            )
            entered.append(server.__enter__())
        cast = Cast(*entered)
        entered.append(cast)
        wait_for_members(kind, own_redis, 3)
        return cast

    yield cast_on
    for one in reversed(entered):
        one.leave() if isinstance(one, Cast) else one.__exit__()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("publish_seconds,hangs_seconds", [(0.5, 1), (3600, 0.1)])
def test_redis_hangs_and_goes_on(kind, publish_seconds, hangs_seconds, own_redis, cast_on):
    """Nobody who writes waits for it, not even where a doorbell is never given up."""
    cast = cast_on(kind, publish_seconds)
    cast.hears()
    own_redis.hang()
    # Until the first of them is given up, where it is.
    until = time.monotonic() + hangs_seconds
    while time.monotonic() < until:
        cast.write()
    # A new subscriber is answered meanwhile.
    Client().subscribe(cast.ringing).leave()
    own_redis.go_on()
    wait_for_members(kind, own_redis, 3)
    cast.hears()


@pytest.mark.parametrize("kind", KINDS)
def test_redis_is_killed_and_comes_back_empty(kind, own_redis, cast_on):
    cast = cast_on(kind)
    own_redis.kill()
    for _ in range(3):
        cast.write()
    Client().subscribe(cast.ringing).leave()
    own_redis.start()
    wait_for_members(kind, own_redis, 3)
    cast.hears()


def test_redis_is_flushed(own_redis, cast_on):
    """A listener joins again, twice before the layer would forget it."""
    cast = cast_on("core", group_expiry=2)
    with own_redis.client() as client:
        client.flushall()
    cast.write()
    wait_for_members("core", own_redis, 3)
    cast.hears()


def test_subscriptions_outlive_what_a_layer_remembers(own_redis, cast_on):
    cast = cast_on("core", group_expiry=1, expiry=1)
    key = f"asgi:group:{DOORBELL_GROUP}"
    with own_redis.client() as client:

        def joined_at():
            return [score for _, score in client.zrange(key, 0, -1, withscores=True)]

        began = min(joined_at())
        wait_until(lambda: len(joined_at()) == 3 and min(joined_at()) > began + 1.5)
    cast.hears()
