"""
The time from a commit in one process to a socket of another, without a channel layer.

The news of the database, or the poll, carries it.

One server has a subscriber. Another process saves rows: a server without subscribers, which has no
sequencer, or one with a subscriber of its own, which has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from typing import Any

from benchmarks.client import Client
from benchmarks.running import fill, serving
from benchmarks.watchers import NUMBER, Writer, connected

#: Median milliseconds.
TARGETS = {"sqlite": 60, "postgresql": 20}


def run(options: argparse.Namespace) -> None:
    for database in options.databases:
        fill(database)
        target = TARGETS[database]
        print(f"\nfrom a commit to the socket of another process, {database}, no layer (ms)")
        for kind in ("without subscribers", "with a subscriber"):
            with (
                serving("rest_channels", database, {}, site="benchmarks.live_site") as one,
                serving("rest_channels", database, {}, site="benchmarks.live_site", cpu=1) as other,
            ):
                ports = [one.port, *([other.port] if kind.startswith("with a") else [])]
                found = asyncio.run(measured(ports, other.port, options.rounds * 50))
            p50, p95, p99 = (1e3 * quantile(found, q) for q in (0.5, 0.95, 0.99))
            print(
                f"  writer {kind:20} p50 {p50:8.1f}   p95 {p95:8.1f}   p99 {p99:8.1f}   "
                f"of {len(found)} saves, p50 at most {target}",
                flush=True,
            )


def quantile(found: list[float], q: float) -> float:
    return statistics.quantiles(found, n=100, method="inclusive")[round(q * 100) - 1]


async def measured(ports: list[int], writer_port: int, saves: int) -> list[float]:
    """Return the seconds from each commit to the socket at the first of `ports`."""
    heard: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
    for port in ports:
        await subscribe(port, heard if port == ports[0] else asyncio.Queue())
    writer = Writer(writer_port)
    await writer.open()
    found = []
    for number in range(1, saves + 1):
        # At random times within the interval of a poll or a look.
        await asyncio.sleep(random.uniform(0.05, 0.25))
        answer = await writer.ask(pks=[1], number=number, together=False)
        told, at = await heard.get()
        assert told == number
        found.append(at - answer["saved"][0])
    return found


async def subscribe(port: int, heard: asyncio.Queue[tuple[int, float]]) -> None:
    subscribed = asyncio.get_running_loop().create_future()

    def on_message(client: Client, latency: float, payload: bytes) -> None:
        number: Any = NUMBER.search(payload)
        if number is not None:
            heard.put_nowait((int(number[1]), time.perf_counter()))
        elif not subscribed.done() and b"201" in payload:
            subscribed.set_result(None)

    socket = await connected("/messages/", port, on_message)
    socket.write(0x81, json.dumps({"action": "subscribe", "request_id": "news"}).encode())
    await subscribed
