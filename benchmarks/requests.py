"""
Requests to four subjects, side by side.

They are this package, djangochannelsrestframework, a consumer written by hand on Channels, and a
bare ASGI echo.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time

from benchmarks.running import ask, compare, fill, serving, show

# Target ratios to the throughput of djangochannelsrestframework, and to its p99, at 64 connections
# on PostgreSQL.
TARGETS = {"retrieve": (2.5, 2), "list": (2.5, 2), "update": (1.5, 2)}
SLOW_TARGET = 16
BESIDE_TARGET = 15


def run(options: argparse.Namespace) -> None:
    requests(options)
    if options.levers:
        levers(options)
    if options.growth:
        growth(options)
    if options.memory:
        print("\nmemory an idle connection, KiB (1,000 of them)")
        for subject in [*options.subjects, "echo"]:
            print(f"  {subject:14} {idle_memory(subject, 'sqlite'):8.1f}", flush=True)


def levers(options: argparse.Namespace) -> None:
    for database in options.databases:
        fill(database)
        subprocess.run(
            [sys.executable, "-m", "benchmarks.levers", f"--rounds={20 * options.rounds}"],
            env={**os.environ, "BENCH_DATABASE": database},
            check=True,
        )


def requests(options: argparse.Namespace) -> None:
    for database in options.databases:
        fill(database)
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(serving(s, database, {})) for s in options.subjects]
            floor = stack.enter_context(serving("echo", database, {}))
            for kind in options.kinds:
                for connections in options.connections:
                    load = {"connections": connections}
                    asked = [*servers, floor] if kind == "retrieve" else servers
                    medians = compare(asked, kind, load, options.rounds, options.seconds)
                    title = f"{kind}, {connections} connections, {database}"
                    if (connections, database) == (64, "postgresql") and kind in TARGETS:
                        throughput, p99 = TARGETS[kind]
                        title += f" (target: {throughput} x, p99 {p99} x lower)"
                    show(title, medians)
            slow = {"connections": 64}
            if options.slow:
                medians = compare(servers, "slow:0.005", slow, options.rounds, options.seconds)
                show(f"a query of 5 ms, 64 connections, {database}", medians)
                beside = {"connections": 16, "beside": "slow:0.1", "many": 16}
                medians = compare(servers, "retrieve", beside, options.rounds, options.seconds)
                show(
                    f"retrieve, 16 connections, beside 16 of 100 ms queries, {database} "
                    f"(target: p99 {BESIDE_TARGET} x lower)",
                    medians,
                )
        if options.slow:
            with contextlib.ExitStack() as stack:
                wide = {"WORKER_THREADS": 32, "MAX_THREADS_PER_USER": 32}
                servers = [
                    stack.enter_context(serving("rest_channels", database, wide)),
                    stack.enter_context(serving("dcrf", database, {})),
                ]
                medians = compare(servers, "slow:0.005", slow, options.rounds, options.seconds)
                show(
                    f"a query of 5 ms, WORKER_THREADS = 32, 64 connections, {database} "
                    f"(target: {SLOW_TARGET} x)",
                    medians,
                )


def growth(options: argparse.Namespace) -> None:
    """Measure cost by connections, page size and fields, beside djangochannelsrestframework."""
    database = options.databases[-1]
    fill(database)

    def measure(title: str, kind: str, connections: int, fields: int = 0) -> None:
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(serving(subject, database, {}, fields))
                for subject in ("rest_channels", "dcrf")
            ]
            load = {"connections": connections}
            show(title, compare(servers, kind, load, options.rounds, options.seconds))

    for connections in (1, 16, 64, 256):
        measure(f"growth: retrieve, {connections} connections", "retrieve", connections)
    for size in (1, 25, 100):
        measure(f"growth: list of {size}, 16 connections", f"list:{size}", 16)
    for fields in (0, 10, 30):
        measure(f"growth: retrieve of {7 + fields} fields, 16 connections", "retrieve", 16, fields)


def idle_memory(subject: str, database: str, connections: int = 1000) -> float:
    """Return KiB of resident memory per idle connection, of a new server."""
    with serving(subject, database, {}) as server:
        ask(server, "retrieve" if subject != "echo" else "list", {"connections": 8}, 0.5)
        before = server.resident_kib()
        client = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.client", str(server.port), "hold"]
            + [f"--connections={connections}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None and client.stdin is not None
        client.stdout.readline()
        time.sleep(1)
        grown = server.resident_kib() - before
        client.stdin.close()
        client.wait()
    return grown / connections
