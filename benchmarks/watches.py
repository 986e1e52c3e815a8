"""
Watches of a page, beside polling the same page by HTTP once a second.

All in this process: sockets without a network, and requests without a server, so the figures have
neither's own cost. A writer saves a row at a given rate. Processor time and queries are of
the whole process, for a second of all clients. Each client is another user, whom an authentication
class finds in the database.

    python -m benchmarks.watches --clients 100 --seconds 5 --writes 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

# First, because it sets Django up.
from benchmarks.running import fill
from benchmarks.site import MessageViewSet, messages

# isort: split
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.db import connections
from django.db.backends.utils import CursorWrapper
from django.test import RequestFactory
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated

from rest_channels.metrics.figures import watch_checks, watch_runs
from rest_channels.routers import DefaultRouter


class ByName(BaseAuthentication):
    """The user whom the header `user` names."""

    def authenticate(self, request: Any) -> Any:
        return User.objects.get(username=request.headers["user"]), None


class Shared(MessageViewSet):
    """Proven to answer all users alike: they share runs."""

    authentication_classes = [ByName]
    permission_classes = [IsAuthenticated]


class Unshared(Shared):
    """Not proven: each user has runs of its own."""

    def get_queryset(self) -> Any:
        return super().get_queryset()


router = DefaultRouter()
router.register("shared", Shared, "shared")
router.register("unshared", Unshared, "unshared")
application = router.as_asgi()

page = Shared.as_view({"get": "list"})


def make_users(count: int) -> None:
    users = [User(username=f"user{number}") for number in range(count)]
    User.objects.bulk_create(users, ignore_conflicts=True)


class Queries:
    """Counts the queries of all threads."""

    def __init__(self) -> None:
        self.count = 0
        execute = CursorWrapper.execute

        def counting(wrapper: Any, sql: Any, params: Any = None) -> Any:
            self.count += 1
            return execute(wrapper, sql, params)

        CursorWrapper.execute = counting


queries = Queries()


def save(number: int) -> None:
    row = messages()[0]
    row.text = f"save {number}"
    row.save()


async def write(seconds: float, writes: float) -> None:
    """Save so often for so long."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        if writes:
            number += 1
            await sync_to_async(save)(number)
        await asyncio.sleep(1 / (writes or 10))


def ask(number: int) -> None:
    headers = {"user": f"user{number}"}
    response = page(RequestFactory(SERVER_NAME="127.0.0.1", headers=headers).get("/shared/"))
    assert response.render().status_code == 200
    # As the end of a request does, although the connection stays.
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()


async def poll(clients: int, seconds: float) -> int:
    """Ask for the page once a second for each client; return the number of answers."""
    begun, asked = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        due = int(passed * clients) - asked
        for number in range(asked, asked + due):
            await sync_to_async(ask)(number % clients)
        asked += due
        await asyncio.sleep(0.01)
    return asked


async def measured(load: Callable[[], Awaitable[Any]], seconds: float) -> dict[str, float]:
    cpu, asked = time.process_time(), queries.count
    received = await load()
    return {
        "cpu_ms": 1000 * (time.process_time() - cpu) / seconds,
        "queries": (queries.count - asked) / seconds,
        "answers": received / seconds,
    }


async def polled(clients: int, seconds: float, writes: float) -> dict[str, float]:
    async def load() -> int:
        received, _ = await asyncio.gather(poll(clients, seconds), write(seconds, writes))
        return received

    return await measured(load, seconds)


def socket(number: int, stream: str) -> WebsocketCommunicator:
    headers = [(b"host", b"127.0.0.1"), (b"user", f"user{number}".encode())]
    return WebsocketCommunicator(application, f"/{stream}/", headers=headers)


async def watched(clients: int, seconds: float, writes: float, stream: str) -> dict[str, float]:
    """Watch the page of `stream` with that number of sockets, each of another user."""
    sockets = [socket(number, stream) for number in range(clients)]
    for each in sockets:
        await each.connect()
        await each.send_to(json.dumps({"action": "watch", "of": "list", "request_id": 1}))
        assert json.loads(await each.receive_from())["response_status"] == 201
    # Followers begin, and compare once.
    await asyncio.sleep(2)
    runs, checks = watch_runs.value, watch_checks.value

    async def load() -> int:
        await write(seconds, writes)
        return sum(each.output_queue.qsize() for each in sockets)

    for each in sockets:
        while not each.output_queue.empty():
            each.output_queue.get_nowait()
    figures = await measured(load, seconds)
    figures["runs"] = (watch_runs.value - runs) / seconds
    figures["checks"] = (watch_checks.value - checks) / seconds
    for each in sockets:
        await each.disconnect()
    return figures


async def compare(clients: int, seconds: float, writes: float) -> None:
    subjects = {
        "the writer alone": partial(write_alone, seconds, writes),
        "polling once a second": partial(polled, clients, seconds, writes),
        "watching, shared": partial(watched, clients, seconds, writes, "shared"),
        "watching, not shared": partial(watched, clients, seconds, writes, "unshared"),
    }
    print(f"{clients} clients, {writes:g} writes a second; each second:")
    for subject, figures in subjects.items():
        shown = {name: round(value, 1) for name, value in (await figures()).items()}
        print(f"{subject:24} {shown}", flush=True)


async def write_alone(seconds: float, writes: float) -> dict[str, float]:
    async def load() -> int:
        await write(seconds, writes)
        return 0

    return await measured(load, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watches", description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--writes", type=float, nargs="*", default=[0.0, 1.0])
    options = parser.parse_args()
    fill("sqlite")
    make_users(options.clients)
    for writes in options.writes:
        asyncio.run(compare(options.clients, options.seconds, writes))


if __name__ == "__main__":
    main()
