"""
Many sockets that receive saved rows, and one that saves them.

Run as a process of its own, `python -m benchmarks.watchers --ports ...` subscribes and reports it.
Then it takes one command per line, and prints its figures as a JSON object:

    paced SECONDS AHEAD  that many writers, each saving once all have its last save
    burst SAVES ROWS     saves back to back, of ROWS rows in turn
    together SAVES ROWS  the same in one transaction
    stats                the server's `rest_channels.stats()`

Latencies are seconds from the commit to the last socket.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.client import Client, figures
from benchmarks.commands import answer_commands
from benchmarks.running import cpu_seconds

# The silence after which missing messages count as lost (seconds).
PATIENCE = 3.0
LIMIT = 20.0

# The rows of the database.
ROWS = 1000

NUMBER = re.compile(rb'"#(\d+)#')


class Writer:
    """A socket that saves rows, and receives the times of their commits."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    async def open(self) -> None:
        self.socket = await connected("/write/", self.port, self._on_answer)

    def _on_answer(self, client: Client, latency: float, payload: bytes) -> None:
        self._answers.put_nowait(json.loads(payload))

    async def ask(self, **asked: Any) -> Any:
        self.socket.write(0x81, json.dumps(asked).encode())
        return await self._answers.get()


async def connected(path: str, port: int, on_reply: Callable[..., None]) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(
        lambda: Client(path, port, str, on_reply), "127.0.0.1", port
    )
    await client.is_open
    return client


class Watchers:
    """The subscribers, and for each row the number of its last save that they have."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sockets: list[Client] = []
        self.writers: list[Writer] = []
        self.held: list[dict[int, int]] = []
        self.next_number = 1
        self.next_row = 0
        self.deliveries = 0
        self.heard_at = 0.0
        # By number of a save: its row, the number of sockets without it, the time when the last had
        # it.
        self.row_of: dict[int, int] = {}
        self.missing: dict[int, int] = {}
        self.had_at: dict[int, float] = {}

    async def open(self) -> None:
        for start in range(0, self.options.connections, 50):
            numbers = range(start, min(start + 50, self.options.connections))
            await asyncio.gather(*(self._watch(number) for number in numbers))

    async def writer(self, index: int) -> Writer:
        while len(self.writers) <= index:
            self.writers.append(Writer(self.options.ports[0]))
            await self.writers[-1].open()
        return self.writers[index]

    async def _watch(self, number: int) -> None:
        held: dict[int, int] = {}
        subscribed = asyncio.get_running_loop().create_future()
        hear = partial(self._on_message, held, subscribed)
        ports = self.options.ports
        socket = await connected("/messages/", ports[number % len(ports)], hear)
        self.held.append(held)
        self.sockets.append(socket)
        frame = {"action": "subscribe", "request_id": f"watcher {number}"}
        if self.options.topic == "row":
            frame.update(action="subscribe_instance", pk=1)
        socket.write(0x81, json.dumps(frame).encode())
        await subscribed

    def _on_message(
        self,
        held: dict[int, int],
        subscribed: asyncio.Future[None],
        client: Client,
        latency: float,
        payload: bytes,
    ) -> None:
        found = NUMBER.search(payload)
        if found is None:
            if not subscribed.done() and b"201" in payload:
                subscribed.set_result(None)
            return
        number = int(found[1])
        row = self.row_of.get(number)
        if row is None or held.get(row, 0) >= number:
            # From an earlier round, or a duplicate.
            return
        held[row] = number
        self.deliveries += 1
        self.missing[number] -= 1
        self.heard_at = time.perf_counter()
        if not self.missing[number]:
            del self.missing[number]
            self.had_at[number] = self.heard_at

    def expect(self, rows: list[int]) -> int:
        """Expect saves of `rows`; return the number of the first save."""
        first, self.next_number = self.next_number, self.next_number + len(rows)
        for number, row in enumerate(rows, first):
            self.row_of[number] = row
            self.missing[number] = len(self.sockets)
        return first

    async def wait(self, is_missing: Callable[[], Any], limit: float) -> None:
        """Wait until nothing is missing, nothing has arrived for long, or time is up."""
        self.heard_at = began = time.perf_counter()
        while is_missing() and (now := time.perf_counter()) - began < limit:
            if now - self.heard_at > PATIENCE:
                return
            await asyncio.sleep(0.001)

    def forget(self) -> None:
        self.missing.clear()
        self.row_of.clear()
        self.had_at.clear()

    async def paced(self, seconds: float, ahead: int) -> dict[str, Any]:
        writers = [await self.writer(index) for index in range(ahead)]
        meter = Meter(self)
        latencies: list[float] = []
        await asyncio.gather(*(self._pace(w, meter.began + seconds, latencies) for w in writers))
        found = meter.read(latencies)
        saves = self.next_number - meter.first
        found["saves"] = saves
        found["lost"] = sum(self.missing.values()) / (len(self.sockets) * saves)
        self.forget()
        return found

    async def _pace(self, writer: Writer, until: float, latencies: list[float]) -> None:
        saves = 0
        while time.perf_counter() < until or not saves:
            self.next_row = 1 if self.options.topic == "row" else self.next_row % ROWS + 1
            rows = [self.next_row]
            number = self.expect(rows)
            answer = await writer.ask(pks=rows, number=number, together=False)
            await self.wait(lambda number=number: number in self.missing, LIMIT)
            saves += 1
            if number in self.had_at:
                latencies.append(self.had_at[number] - answer["saved"][0])

    async def burst(self, saves: int, rows: int, *, together: bool = False) -> dict[str, Any]:
        writer = await self.writer(0)
        saved = [number % rows + 1 for number in range(saves)]
        meter = Meter(self)
        first = self.expect(saved)
        answer = await writer.ask(pks=saved, number=first, together=together)
        last = {row: number for number, row in self.row_of.items()}
        await self.wait(lambda: self.missing.keys() & last.values(), LIMIT)
        meter.ended = max(self.heard_at, meter.began + 0.001)
        found = meter.read(
            [
                self.had_at[number] - committed
                for number, committed in enumerate(answer["saved"], first)
                if number in self.had_at
            ]
        )
        found["lost"] = 1 - found["count"] / (saves * len(self.sockets))
        found["wrong"] = self.wrong(last)
        self.forget()
        return found

    def wrong(self, last: dict[int, int]) -> int:
        """Return how many sockets lack the last state of a row."""
        return sum(
            any(held.get(row) != number for row, number in last.items()) for held in self.held
        )

    async def stats(self) -> Any:
        writer = await self.writer(0)
        return await writer.ask(stats=True)


class Meter:
    """A meter of costs from now on."""

    def __init__(self, watchers: Watchers) -> None:
        self.watchers = watchers
        self.first = watchers.next_number
        self.deliveries = watchers.deliveries
        self.server = self._server()
        self.own = time.process_time()
        self.began = time.perf_counter()
        self.ended: float | None = None

    def _server(self) -> float:
        return sum(map(cpu_seconds, self.watchers.options.pids))

    def read(self, latencies: list[float]) -> dict[str, Any]:
        elapsed = (self.ended or time.perf_counter()) - self.began
        count = self.watchers.deliveries - self.deliveries
        busy = (time.process_time() - self.own) / elapsed
        return figures(latencies, count, elapsed, busy, self._server() - self.server)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, nargs="+", required=True, help="of the servers")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--topic", choices=["collection", "row"], default="collection")
    parser.add_argument("--pids", type=int, nargs="+", required=True, help="of the servers")
    watchers = Watchers(parser.parse_args())
    await watchers.open()
    print("{}", flush=True)
    await answer_commands(
        {
            "paced": lambda seconds, ahead: watchers.paced(float(seconds), int(ahead)),
            "burst": lambda saves, rows: watchers.burst(int(saves), int(rows)),
            "together": lambda saves, rows: watchers.burst(int(saves), int(rows), together=True),
            "stats": watchers.stats,
        }
    )
    for socket in [*watchers.sockets, *(writer.socket for writer in watchers.writers)]:
        socket.is_stopped = True


if __name__ == "__main__":
    asyncio.run(main())
