"""Several server processes on Redis and PostgreSQL, written to from everywhere; one is killed."""

from __future__ import annotations

import os
import random
import uuid

import pytest
from django.contrib.auth.models import User
from websockets.exceptions import ConnectionClosed

from tests.models import Room
from tests.support.killable_processes import Victim, VictimServer, rewrite
from tests.support.room_client import Client, listed
from tests.support.server_processes import ask, reply

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("postgresql"),
    pytest.mark.usefixtures("require_redis"),
]

ROUNDS, KILLED_IN = 20, range(5, 15)


@pytest.fixture
def layers():
    host = {"address": "redis://127.0.0.1:6379", "socket_timeout": 10}
    config = {"hosts": [host], "prefix": f"tests-{uuid.uuid4().hex}"}
    return {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}


class Writers:
    """One socket to each server; what is asked of one that dies is not asked again."""

    def __init__(self, servers, user):
        headers = {"authorization": str(user.pk)}
        self._sockets = {s: s.connect("/", additional_headers=headers).__enter__() for s in servers}
        self._asked = dict.fromkeys(servers, 0)

    def ask(self, server, action, **keys):
        if server in self._sockets:
            try:
                ask(self._sockets[server], action, **keys)
                self._asked[server] += 1
            except ConnectionClosed:
                del self._sockets[server]

    def hear(self):
        """Wait for the replies to all that was asked."""
        for server, socket in list(self._sockets.items()):
            try:
                for _ in range(self._asked[server]):
                    # A row may be gone by now, or its name be taken.
                    assert reply(socket)["response_status"] in (200, 201, 204, 400, 404)
            except ConnectionClosed:
                del self._sockets[server]

    def close(self):
        for socket in self._sockets.values():
            socket.close()


def write_everywhere(servers, writers, clients, chance):
    """Returns the server that was killed on the way."""
    pks = list(Room.objects.values_list("pk", flat=True))
    killed, killed_in = chance.choice(servers), chance.choice(KILLED_IN)
    for round_ in range(ROUNDS):
        for number, server in enumerate(servers):
            name, pk = f"{round_}-{number}", chance.choice(pks)
            data = {"name": name, "is_staff_only": chance.random() < 0.5}
            action = chance.choice(["create", "partial_update", "partial_update", "delete"])
            writers.ask(server, action, pk=pk, data=data)
            if (round_, server) == (killed_in, killed):
                server.kill()
        if round_ % 5 == 4:
            pks = list(Room.objects.values_list("pk", flat=True))
    return killed


def test_one_of_four_servers_is_killed_while_all_write(layers):
    seed = int(os.environ.get("TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"TEST_SEED={seed}")
    chance = random.Random(seed)
    staff = User.objects.create(username="ann", is_staff=True)
    for number in range(10):
        Room.objects.create(name=f"room-{number}", is_staff_only=number % 2 == 0)
    bounds = {"FRAME_RATE": 10_000, "FRAME_BURST": 10_000, "MAX_IN_FLIGHT": 1_000}
    servers = [
        VictimServer(channel_layers=layers, POLL_SECONDS=1, **bounds).__enter__() for _ in range(4)
    ]
    try:
        clients = {}
        for number in range(12):
            user = staff if number < 4 else None
            client = Client(user).subscribe(servers[number % 4])
            clients[client] = (servers[number % 4], user)
        # One of the three clients of each server is of the staff.
        writers = Writers(servers, staff)
        names = [f"command-{number}" for number in range(15)]
        with Victim(rewrite, names) as command:
            killed = write_everywhere(servers, writers, clients, chance)
            writers.hear()
            assert not command.has_stopped()
        writers.close()
        others = [server for server in servers if server is not killed]
        for client, (server, user) in clients.items():
            if server is killed:
                client.take_rest()
                client.subscribe(chance.choice(others))
            client.take_until(listed(others[0], user))
            client.leave()
            if user is None:
                assert not any(room["is_staff_only"] for room in client.shown)
    finally:
        for server in servers:
            server.__exit__()
