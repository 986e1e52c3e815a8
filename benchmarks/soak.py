"""
Hours in minutes: servers, writers and clients, while everything that can fail does.

    python -m benchmarks soak --minutes 30

Three server processes run on a PostgreSQL and a Redis of their own, behind a balancer. Clients hold
filtered lists, windows and watches; one process writes to the database, another over sockets. Every
few seconds something is killed, frozen, restarted or cut off. Then there is rest, and a verdict:

- each client holds what a fresh request returns, in that order;
- each write that was acknowledged has happened, and none has happened twice;
- no client saw a row go back to an earlier state;
- the memory of the servers did not grow from the second quarter to the last one.

The first server is frozen and cut off, but never killed, so that its memory can be followed.
`build/soak.json` has the samples, `build/soak.svg` a plot, `build/soak.log` what all have logged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.balancer import Balancer
from benchmarks.commands import Child, child
from benchmarks.plots import Curve, Plot, write_svg
from benchmarks.running import Server, cpu_seconds, fill, serving
from tests.support.killable_services import OwnPostgreSQL, OwnRedis, free_port

SERVERS = 3

#: Seconds between two samples, and between two disturbances.
SAMPLE_SECONDS = 5.0
DISTURBANCE_SECONDS = (4.0, 12.0)

#: A frozen server or Redis goes on after this many seconds: longer than a client waits for `alive`.
FROZEN_SECONDS = (2.0, 40.0)

#: How much more memory than in its second quarter a server may hold in the last one.
MOST_GROWTH = 1.10

FOLDER = Path("build")

#: After the end of all disturbances and writes (seconds).
REST_SECONDS = 90.0


@dataclass(frozen=True)
class Sample:
    """The state at one moment; `seconds` since the beginning."""

    seconds: float
    resident_kib: list[int]
    cpu_seconds: list[float]
    writes: int
    events: int
    #: From a write to its event, of those heard since the last sample (seconds).
    median: float | None
    longest: float | None


@dataclass
class Report:
    samples: list[Sample] = field(default_factory=list)
    #: The disturbances by name.
    disturbances: dict[str, int] = field(default_factory=dict)
    #: Faults, in words; empty if all was right.
    faults: list[str] = field(default_factory=list)


class Fleet:
    """Server processes with ports that stay the same; blocking, for a thread of its own."""

    def __init__(self, environment: dict[str, str], log: IO[str]) -> None:
        self.ports = [free_port() for _ in range(SERVERS)]
        self._environment = environment
        self._log = log
        self._running: dict[int, tuple[Server, contextlib.ExitStack]] = {}

    def __enter__(self) -> Fleet:
        for index in range(SERVERS):
            self.start(index)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for _, stack in self._running.values():
            stack.close()

    def start(self, index: int) -> None:
        stack = contextlib.ExitStack()
        server = stack.enter_context(
            serving(
                *("rest_channels", "postgresql", {}),
                site="benchmarks.soak_site",
                cpu=index % 2,
                port=self.ports[index],
                log=self._log,
                **self._environment,
            )
        )
        self._running[index] = (server, stack)

    def stop(self, index: int, by: signal.Signals) -> None:
        """End a process by SIGKILL or SIGTERM, and wait for its end."""
        server, stack = self._running.pop(index)
        server.process.send_signal(by)
        stack.close()

    def signal(self, index: int, which: signal.Signals) -> None:
        if index in self._running:
            self._running[index][0].process.send_signal(which)

    @property
    def servers(self) -> list[Server | None]:
        return [self._running[i][0] if i in self._running else None for i in range(SERVERS)]


class Chaos:
    """Disturbances, one after the other."""

    def __init__(
        self, fleet: Fleet, balancer: Balancer, redis: OwnRedis, database: OwnPostgreSQL
    ) -> None:
        self.fleet, self.balancer, self.redis, self.database = fleet, balancer, redis, database
        self.disturbances: dict[str, Callable[[], Awaitable[None]]] = {
            "server killed": lambda: self._restart(signal.SIGKILL),
            "server deployed": lambda: self._restart(signal.SIGTERM),
            "server frozen": self._freeze_server,
            "connections cut": self._cut,
            "Redis frozen": self._freeze_redis,
            "Redis restarted": self._restart_redis,
            "PostgreSQL restarted": self._restart_database,
        }

    async def run(self, until: float, counts: dict[str, int]) -> None:
        """Disturb until the monotonic time `until`; everything runs again afterwards."""
        while True:
            # Each disturbance comes once before one comes again.
            for name in random.sample([*self.disturbances], len(self.disturbances)):
                await asyncio.sleep(random.uniform(*DISTURBANCE_SECONDS))
                if time.monotonic() > until:
                    return
                await self.disturbances[name]()
                counts[name] = counts.get(name, 0) + 1

    async def _restart(self, by: signal.Signals) -> None:
        index = random.randrange(1, SERVERS)
        await asyncio.to_thread(self.fleet.stop, index, by)
        await asyncio.to_thread(self.fleet.start, index)

    async def _freeze_server(self) -> None:
        index = random.randrange(SERVERS)
        self.fleet.signal(index, signal.SIGSTOP)
        await asyncio.sleep(random.uniform(*FROZEN_SECONDS))
        self.fleet.signal(index, signal.SIGCONT)

    async def _cut(self) -> None:
        self.balancer.cut_some(random.choice([0.1, 0.5, 1.0]))

    async def _freeze_redis(self) -> None:
        self.redis.hang()
        await asyncio.sleep(random.uniform(*FROZEN_SECONDS))
        self.redis.go_on()

    async def _restart_redis(self) -> None:
        self.redis.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(self.redis.start)

    async def _restart_database(self) -> None:
        await asyncio.to_thread(self.database.stop)
        await asyncio.sleep(1)
        await asyncio.to_thread(self.database.start)


def run(options: argparse.Namespace) -> None:
    FOLDER.mkdir(exist_ok=True)
    report = asyncio.run(soaked(60 * options.minutes, options.soak_clients, options.writes))
    (FOLDER / "soak.json").write_text(json.dumps(asdict(report)))
    (FOLDER / "soak.svg").write_text(write_svg(plot_of(report.samples), "minutes"))
    print_verdict(report)
    if report.faults:
        raise SystemExit(1)


async def soaked(seconds: float, clients: int, writes_per_second: float) -> Report:
    """Run everything for this long, then come to rest; return what was seen."""
    report = Report()
    async with contextlib.AsyncExitStack() as stack:
        redis = stack.enter_context(OwnRedis())
        database = stack.enter_context(OwnPostgreSQL())
        log = stack.enter_context((FOLDER / "soak.log").open("w"))
        environment = {
            "PGPORT": str(database.port),
            "BENCH_REDIS": "rest_channels_soak",
            "BENCH_REDIS_PORT": str(redis.port),
            "BENCH_DATABASE": "postgresql",
        }
        fill("postgresql", **environment)
        make_users(environment)
        fleet = stack.enter_context(Fleet(environment, log))
        balancer = Balancer(fleet.ports)
        port = await stack.enter_async_context(balancer.serving())
        listening = child("benchmarks.soak_clients", port, clients, log=log)
        writing = child(
            "benchmarks.soak_writer", port, writes_per_second, log=log, environment=environment
        )
        workload = Workload(
            await stack.enter_async_context(listening), await stack.enter_async_context(writing)
        )
        await workload.begin()
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sample(report.samples, fleet, workload, over))
            chaos = Chaos(fleet, balancer, redis, database)
            await chaos.run(time.monotonic() + seconds, report.disturbances)
            over.set()
        report.faults += await workload.end()
    report.faults += growth_faults(report.samples)
    return report


@dataclass(frozen=True)
class Workload:
    """The processes with the clients and with the writers."""

    listening: Child
    writing: Child

    async def begin(self) -> None:
        await self.listening.ask("begin")
        await self.writing.ask("begin")

    async def stats(self) -> tuple[Any, Any]:
        return await self.listening.ask("stats"), await self.writing.ask("stats")

    async def end(self) -> list[str]:
        """Write no more, wait for rest, and return what is wrong then."""
        written = await self.writing.ask("end")
        settled = await self.listening.ask("settle", REST_SECONDS)
        return [*written["faults"], *settled["faults"]]


def make_users(environment: dict[str, str]) -> None:
    """Make those that the clients name."""
    make = "from benchmarks.soak_site import make_users; make_users()"
    subprocess.run([sys.executable, "-c", make], env={**os.environ, **environment}, check=True)


async def sample(
    samples: list[Sample], fleet: Fleet, workload: Workload, over: asyncio.Event
) -> None:
    """Add a sample every few seconds, until `over` is set."""
    began = time.monotonic()
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), SAMPLE_SECONDS)
        heard, written = await workload.stats()
        servers = fleet.servers
        samples.append(
            Sample(
                time.monotonic() - began,
                [0 if server is None else server.resident_kib() for server in servers],
                [0.0 if server is None else cpu_seconds(server.process.pid) for server in servers],
                written["writes"],
                heard["events"],
                heard["median"],
                heard["longest"],
            )
        )


def growth_faults(samples: list[Sample]) -> list[str]:
    """Compare the memory of the server that was never killed in two quarters of the time."""
    resident = [sample.resident_kib[0] for sample in samples]
    quarter = len(resident) // 4
    if quarter < 12:
        # Less than four minutes: a process still loads what it needs.
        return []
    early, late = (
        statistics.median(resident[first : first + quarter])
        for first in (quarter, len(resident) - quarter)
    )
    if late <= MOST_GROWTH * early:
        return []
    return [f"The first server grew from {early / 1024:.0f} to {late / 1024:.0f} MiB."]


def plot_of(samples: list[Sample]) -> Plot:
    names = ["first server, never killed", *(f"server {n + 1}" for n in range(1, SERVERS))]
    curves = [
        Curve(
            name,
            [(s.seconds / 60, s.resident_kib[i] / 1024) for s in samples if s.resident_kib[i]],
        )
        for i, name in enumerate(names)
    ]
    return Plot("Memory of the servers (MiB)", curves)


def print_verdict(report: Report) -> None:
    done = ", ".join(f"{name} {count} times" for name, count in report.disturbances.items())
    print(f"\nsoak: {done or 'nothing disturbed'}")
    if report.samples:
        last = report.samples[-1]
        medians = [sample.median for sample in report.samples if sample.median is not None]
        median = f"{1e3 * statistics.median(medians):.0f} ms" if medians else "not measured"
        print(
            f"  {last.writes:,} writes, {last.events:,} events; from a write to its event "
            f"{median} in the median"
        )
        memory = [sample.resident_kib[0] / 1024 for sample in report.samples]
        print(f"  first server: {memory[0]:.0f} MiB at first, {memory[-1]:.0f} MiB at the end")
    for fault in report.faults:
        print(f"  wrong: {fault}")
    print("  verdict: " + ("something is wrong" if report.faults else "all is right"))
