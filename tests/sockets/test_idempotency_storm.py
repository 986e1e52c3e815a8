"""Many clients send the same frames to several processes, which die: each write happens once."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from contextlib import ExitStack

import pytest
from django.contrib.auth.models import User
from websockets.exceptions import WebSocketException

from tests.models import Room
from tests.support.keyed_processes import KeyedServer
from tests.support.recorded_changes import InThread
from tests.support.server_processes import answer
from tests.support.subscription_stories import as_user

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = 6
CLIENTS = 4
FRAMES_OF_A_CLIENT = 6
ATTEMPTS = 100


class Servers:
    """Two servers, of which one at a time is killed and started again."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.running = [self._start(), self._start()]

    def replace(self, place: int) -> None:
        self.running[place].kill()
        self.running[place] = self._start()

    def _start(self) -> KeyedServer:
        return self._stack.enter_context(KeyedServer())


def send_until_answered(servers, user, draw, number):
    """The reply to a write that is sent to one server after the other until there is one."""
    create = {"data": {"name": f"room-{number}"}, "idempotency_key": f"key {number}"}
    for _ in range(ATTEMPTS):
        server = draw.choice(servers.running)
        try:
            with server.connect("/", additional_headers=as_user(user)) as socket:
                reply = answer(socket, "create", **create)
        except (OSError, WebSocketException):
            continue
        if reply["response_status"] != 503:
            return reply
    raise AssertionError(f"no server answers {create}")


def test_each_write_happens_once_and_everybody_gets_its_reply():
    ann = User.objects.create_user("ann")
    replies, lock = defaultdict(list), threading.Lock()

    def client(seed):
        draw = random.Random(seed)
        for _ in range(FRAMES_OF_A_CLIENT):
            number = draw.randrange(KEYS)
            reply = send_until_answered(servers, ann, draw, number)
            with lock:
                replies[number].append(reply)

    with ExitStack() as stack:
        servers = Servers(stack)
        clients = [InThread(client, seed) for seed in range(CLIENTS)]
        draw = random.Random(0)
        while any(c.is_alive() for c in clients):
            clients[0].join(draw.uniform(0.1, 0.5))
            servers.replace(draw.randrange(2))
        for c in clients:
            c.result()
    assert sum(map(len, replies.values())) == CLIENTS * FRAMES_OF_A_CLIENT
    for number, of_one in replies.items():
        assert [r["response_status"] for r in of_one] == [201] * len(of_one), number
        assert {r["data"]["id"] for r in of_one} == {Room.objects.get(name=f"room-{number}").pk}
        # All but the first are stored ones; the first may have been lost.
        assert sum("replayed" not in r for r in of_one) <= 1
    assert Room.objects.count() == len(replies)
