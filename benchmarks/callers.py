"""
Sockets with many subscriptions, and sockets that resume all at once.

Run as a process of its own, it prints one JSON object.

    python -m benchmarks.callers PORT audiences --count 10000 --pids PID
    python -m benchmarks.callers PORT rows --count 1000 --pids PID
    python -m benchmarks.callers PORT resume --count 10000 --pids PID
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import time
from typing import Any

from benchmarks.client import Client
from benchmarks.running import cpu_seconds
from benchmarks.watchers import ROWS, Writer, connected

# Below `MAX_SUBSCRIPTIONS`.
SUBSCRIPTIONS_OF_A_SOCKET = 100

# The number of sockets that connect at the same time; the system's queue has room for them.
CONNECTING_AT_A_TIME = 500

SAVES = 50


class Caller:
    """A socket; `received` are its messages."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def open(self) -> Caller:
        self.socket = await connected("/messages/", self.port, self._on_message)
        return self

    def _on_message(self, client: Client, latency: float, payload: bytes) -> None:
        self.received.put_nowait(json.loads(payload))

    def send(self, **frame: Any) -> None:
        self.socket.write(0x81, json.dumps(frame).encode())

    async def ask(self, **frame: Any) -> dict[str, Any]:
        self.send(**frame)
        reply = await self.received.get()
        if reply["response_status"] >= 400:
            raise RuntimeError(reply)
        return reply


async def subscribe(port: int, queries: list[dict[str, Any]]) -> list[Caller]:
    callers = []
    for start in range(0, len(queries), SUBSCRIPTIONS_OF_A_SOCKET):
        caller = await Caller(port).open()
        callers.append(caller)
        for number, query in enumerate(queries[start : start + SUBSCRIPTIONS_OF_A_SOCKET]):
            await caller.ask(action="subscribe", request_id=number, query=query)
    return callers


async def save(port: int, caller: Caller, pids: list[int]) -> dict[str, Any]:
    """Measure a save that concerns one subscription, of the first socket."""
    writer = Writer(port)
    await writer.open()
    latencies = []
    before, cpu = await writer.ask(stats=True), sum(map(cpu_seconds, pids))
    for number in range(SAVES):
        # These rows exist for any number of audiences.
        answer = await writer.ask(pks=[1], number=number, together=False)
        event = await asyncio.wait_for(caller.received.get(), 30)
        assert event["data"]["text"].startswith(f"#{number}#"), event
        latencies.append(time.perf_counter() - answer["saved"][0])
    cpu = sum(map(cpu_seconds, pids)) - cpu
    after = await writer.ask(stats=True)
    latencies.sort()
    return {
        "p50": latencies[SAVES // 2],
        "p99": latencies[math.ceil(SAVES * 0.99) - 1],
        "cpu_us": 1e6 * cpu / SAVES,
        "queries": (after["queries"] - before["queries"]) / SAVES,
        "audiences": after["audiences"],
    }


async def audiences(port: int, count: int, pids: list[int]) -> dict[str, Any]:
    """Measure audiences that each have an equality filter of their own."""
    callers = await subscribe(port, [{"id": number} for number in range(1, count + 1)])
    return await save(port, callers[0], pids)


async def rows(port: int, count: int, pids: list[int]) -> dict[str, Any]:
    """Measure one audience of `count` rows."""
    (caller,) = await subscribe(port, [{"id__lte": count}])
    return await save(port, caller, pids)


async def resume(port: int, count: int, pids: list[int]) -> dict[str, Any]:
    """Measure clients that resume all at once after changes of ten rows."""
    first = await Caller(port).open()
    position = (await first.ask(action="subscribe", request_id=0))["position"]
    writer = Writer(port)
    await writer.open()
    missed = 10
    await writer.ask(pks=list(range(1, missed + 1)), number=1, together=False)
    before = await writer.ask(stats=True)
    cpu, began = sum(map(cpu_seconds, pids)), time.perf_counter()
    connecting = asyncio.Semaphore(CONNECTING_AT_A_TIME)

    async def come_back() -> float:
        async with connecting:
            caller = await Caller(port).open()
        while True:
            caller.send(
                action="subscribe",
                request_id="again",
                since=position,
                held=list(range(1, ROWS + 1)),
            )
            reply = await caller.received.get()
            if reply["response_status"] != 503:
                break
            await asyncio.sleep(1)
        assert reply["resumed"], reply
        for _ in range(missed):
            await caller.received.get()
        kept.append(caller)
        return time.perf_counter() - began

    kept: list[Caller] = []
    at = sorted(await asyncio.gather(*(come_back() for _ in range(count))))
    cpu = sum(map(cpu_seconds, pids)) - cpu
    after = await writer.ask(stats=True)
    return {
        "p50": at[count // 2],
        "seconds": at[-1],
        "cpu_us": 1e6 * cpu / count,
        "queries": after["queries"] - before["queries"],
        "evaluations": after["evaluations"] - before["evaluations"],
        "passes": after["passes"] - before["passes"],
    }


def main() -> None:
    kinds = {"audiences": audiences, "rows": rows, "resume": resume}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--pids", type=int, nargs="+", required=True, help="of the servers")
    options = parser.parse_args()
    found = asyncio.run(kinds[options.kind](options.port, options.count, options.pids))
    print(json.dumps(found), flush=True)
    # Do not close thousands of sockets one by one.
    os._exit(0)


if __name__ == "__main__":
    main()
