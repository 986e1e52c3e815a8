"""Many sockets of many users on one server process: no answer is ever another user's."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from tests.support.server_processes import KINDS, Server, account

USERS = ["ann", "ben", "cal", "dee", "eve"]
WAYS_IN = ["token", "session"]
SOCKETS_OF_EACH = 8
FRAMES_OF_EACH = 60
WINDOW = 12


class Talker:
    """One user's socket, which knows what each of its frames has to be answered."""

    def __init__(self, name, authorizations, rng, *, is_root):
        self.name, self.authorizations, self.rng, self.is_root = name, authorizations, rng, is_root
        self.expected = {}

    def frame(self, number):
        stream = self.rng.choice(["probes", "side-by-side"])
        keys, answer = self.rng.choice([self.me, self.me, self.echo, self.other, self.again])()
        payload = {"action": "me", "request_id": f"{self.name} {number}", **keys}
        self.expected[payload["request_id"]] = answer
        return json.dumps({"stream": stream, "payload": payload} if self.is_root else payload)

    def me(self):
        return {}, {"username": self.name}

    def echo(self):
        data = [self.name, self.rng.random()]
        return {"action": "echo", "data": data}, data

    def other(self):
        """A frame with credentials of its own, some other user's."""
        name = self.rng.choice(USERS)
        return {"headers": self.authorizations[name]}, {"username": name}

    def again(self):
        return {"action": "authenticate", "data": self.authorizations[self.name]}, None

    def check(self, text):
        reply = json.loads(text)
        payload = reply["payload"] if self.is_root else reply
        assert payload["response_status"] == 200
        assert payload["data"] == self.expected.pop(payload["request_id"])

    async def talk(self, server, options):
        path = "/" if self.is_root else self.rng.choice(["/probes/", "/side-by-side/"])
        async with server.connect_async(path, **options) as socket:
            for start in range(0, FRAMES_OF_EACH, WINDOW):
                for number in range(start, start + WINDOW):
                    await socket.send(self.frame(number))
                for _ in range(WINDOW):
                    self.check(await asyncio.wait_for(socket.recv(), 30))
        assert not self.expected


@pytest.mark.parametrize("kind", KINDS)
def test_replies_of_two_users_never_cross(kind):
    rng = random.Random(random.randrange(2**32))
    with Server(kind, FRAME_RATE=10**6, FRAME_BURST=10**6) as server:
        options = [{name: account(server, name, by=by) for name in USERS} for by in WAYS_IN]
        authorizations = {
            name: {"authorization": token["additional_headers"]["Authorization"]}
            for name, token in options[0].items()
        }

        async def everybody():
            async with asyncio.TaskGroup() as group:
                for number in range(SOCKETS_OF_EACH):
                    for name in USERS:
                        talker = Talker(name, authorizations, rng, is_root=number < 4)
                        group.create_task(talker.talk(server, options[number % 2][name]))

        asyncio.run(everybody())
        assert "Traceback" not in server.output
