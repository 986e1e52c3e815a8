"""
A quick subscriber beside neighbours: the seconds from a commit to its event.

Two servers of one database share a processor. The neighbours are sockets of another user, at the
other server and then at the subscriber's own: so the machine is equally busy, and the ratio is what
neighbours cost the subscriber of one process.

    slow     an audience whose query takes 0.3 seconds, concerned by each save
    lists    8 sockets that list 5,000 rows in a loop
    filters  30 sockets that subscribe with new filters in a loop
    held     2 sockets that resume with 7,000 made-up keys in a loop

Processes of their own measure, and load:

    python -m benchmarks.neighbours measure PORT --seconds 5
    python -m benchmarks.neighbours filters PORT
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.client import Client
from benchmarks.running import Server, fill, pinned, serving
from benchmarks.watchers import Writer, connected

SITE = "benchmarks.neighbour_site"
KINDS = ["slow", "lists", "filters", "held"]

# Between two saves (seconds): less than a busy server needs for an event would measure a queue.
PAUSE = 0.05

# Until the neighbours have come up to speed (seconds).
WARMUP = 1.5

made_up = itertools.count(10_000_000)


class Socket:
    """A socket of one user, for frames of any length."""

    def __init__(self, port: int, user: int, path: str) -> None:
        self.port, self.user, self.path = port, user, path
        self.received: asyncio.Queue[Any] = asyncio.Queue()

    async def open(self) -> Socket:
        path = f"/as/{self.user}/{self.path}/"
        self.client = await connected(path, self.port, self._on_message)
        return self

    def _on_message(self, client: Client, latency: float, payload: bytes) -> None:
        # Long lists are not decoded: that would keep this process busy.
        message = json.loads(payload) if len(payload) < 10_000 else {"response_status": 200}
        if message["response_status"] >= 400 and message["response_status"] != 503:
            raise RuntimeError(payload[:1000])
        self.received.put_nowait((message, time.perf_counter()))

    async def ask(self, **frame: Any) -> dict[str, Any]:
        self.send(frame)
        message, _ = await asyncio.wait_for(self.received.get(), 60)
        return message

    def send(self, frame: dict[str, Any]) -> None:
        payload = json.dumps(frame).encode()
        if len(payload) < 65_536:
            self.client.write(0x81, payload)
        else:
            head = struct.pack("!BBQI", 0x81, 128 | 127, len(payload), 0)
            self.client.transport.write(head + payload)


# Neighbours


async def slow(port: int) -> None:
    socket = await Socket(port, 2, "slow").open()
    await socket.ask(action="subscribe", request_id="slow")
    while True:
        await socket.received.get()


async def lists(port: int) -> None:
    await asyncio.gather(*(listing(port) for _ in range(8)))


async def listing(port: int) -> None:
    socket = await Socket(port, 2, "messages").open()
    while True:
        await socket.ask(action="list", request_id="l")


async def filters(port: int) -> None:
    await asyncio.gather(*(filtering(port) for _ in range(30)))


async def filtering(port: int) -> None:
    socket = await Socket(port, 2, "messages").open()
    for number in itertools.cycle(range(100)):
        query = {"id__lte": 5_000 + next(made_up)}
        await socket.ask(action="subscribe", request_id=number, query=query)


async def held(port: int) -> None:
    await asyncio.gather(*(resuming(port) for _ in range(2)))


async def resuming(port: int) -> None:
    socket = await Socket(port, 2, "messages").open()
    query = {"id": 4}
    reply = await socket.ask(action="subscribe", request_id="h", query=query)
    position = reply["position"]
    while True:
        keys = [next(made_up) for _ in range(7_000)]
        socket.send(
            {
                **{"action": "subscribe", "request_id": "h", "query": query},
                **{"since": position, "held": keys},
            }
        )
        while (await socket.received.get())[0]["action"] != "subscribe":
            pass


# The subscriber


async def measure(port: int, seconds: float) -> list[float]:
    socket = await Socket(port, 1, "messages").open()
    await socket.ask(action="subscribe", request_id="q", query={"id": 1})
    writer = Writer(port)
    await writer.open()
    latencies = []
    until = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < until:
        number += 1
        answer = await writer.ask(pks=[1], number=number, together=False)
        marked = f"#{number}# "
        while True:
            message, at = await asyncio.wait_for(socket.received.get(), 30)
            if message["action"] == "update" and message["data"]["text"].startswith(marked):
                break
        latencies.append(at - answer["saved"][0])
        await asyncio.sleep(PAUSE)
    return latencies


# The comparison


def run(options: argparse.Namespace) -> None:
    for database in options.databases:
        fill(database)
        add_rows(database)
        print(f"\na save to its event beside neighbours, {database}: ms (p50, p99)")
        with (
            serving("rest_channels", database, {}, site=SITE) as own,
            serving("rest_channels", database, {}, site=SITE) as other,
        ):
            alone = [x for _ in range(options.rounds) for x in measured(own, options.seconds)]
            print(f"  alone    {shown(alone)}", flush=True)
            for kind in options.neighbours:
                compare(kind, own, other, options)


def compare(kind: str, own: Server, other: Server, options: argparse.Namespace) -> None:
    elsewhere, here = [], []
    for _ in range(options.rounds):
        with neighbours(kind, other):
            elsewhere += measured(own, options.seconds)
        with neighbours(kind, own):
            here += measured(own, options.seconds)
    ratio = percentile(here, 0.99) / percentile(elsewhere, 0.99)
    print(
        f"  {kind:8} {shown(elsewhere)} at the other server  {shown(here)} at its own  "
        f"{ratio:6.1f} times p99",
        flush=True,
    )


def add_rows(database: str) -> None:
    """Make the 1,000 rows 5,000."""
    code = (
        "from benchmarks.site import Message; Message.objects.bulk_create("
        "Message(pk=n, author_id=n % 20 + 1, text=f'message {n} ' + 'word ' * 20, score=n % 7)"
        " for n in range(1001, 5001))"
    )
    environment = {"BENCH_DATABASE": database}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=True)


@contextlib.contextmanager
def neighbours(kind: str, server: Server) -> Iterator[None]:
    process = subprocess.Popen(command(kind, server))
    time.sleep(WARMUP)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        # Frames that it has sent are still answered.
        time.sleep(WARMUP)


def measured(server: Server, seconds: float) -> list[float]:
    arguments = [*command("measure", server), f"--seconds={seconds}"]
    run = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    latencies: list[float] = json.loads(run.stdout)
    return latencies


def command(kind: str, server: Server) -> list[str]:
    return [*pinned(1), sys.executable, "-m", "benchmarks.neighbours", kind, str(server.port)]


def percentile(latencies: list[float], share: float) -> float:
    return sorted(latencies)[min(len(latencies) - 1, int(share * len(latencies)))]


def shown(latencies: list[float]) -> str:
    median, last = statistics.median(latencies), percentile(latencies, 0.99)
    return f"{1e3 * median:7.1f} {1e3 * last:7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["measure", *KINDS])
    parser.add_argument("port", type=int)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    if given.kind == "measure":
        print(json.dumps(asyncio.run(measure(given.port, given.seconds))))
    else:
        asyncio.run(
            {"slow": slow, "lists": lists, "filters": filters, "held": held}[given.kind](given.port)
        )


if __name__ == "__main__":
    main()
