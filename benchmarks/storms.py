"""
Load that comes all at once, and load that grows: resuming clients, audiences, rows.

One server process of this package alone; its peers have neither positions nor filters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.running import Server, fill, pinned, serving


def call(server: Server, kind: str, count: int) -> dict[str, Any]:
    """Run a process of `benchmarks.callers`."""
    run = subprocess.run(
        [*pinned(1), sys.executable, "-m", "benchmarks.callers", str(server.port), kind]
        + [f"--count={count}", f"--pids={server.process.pid}"],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"{kind}, {count}: {run.stderr[-2000:]}")
    return json.loads(run.stdout)


def run(options: argparse.Namespace) -> None:
    database = options.databases[-1]
    fill(database)
    print(f"\na save that concerns one of many audiences, each with an equality filter, {database}")
    for count in options.audiences:
        tell(database, "audiences", count)
    print(f"\na save that concerns one audience of many rows, {database}")
    for count in options.rows:
        tell(database, "rows", count)
    storm(database, options.storm)


def tell(database: str, kind: str, count: int) -> None:
    with serving("rest_channels", database, {}, site="benchmarks.live_site") as server:
        found = call(server, kind, count)
    print(
        f"  {count:8,} {found['queries']:6.1f} queries {found['cpu_us'] / 1e3:8.1f} ms CPU "
        f"{1e3 * found['p50']:8.1f} ms p50 {1e3 * found['p99']:8.1f} ms p99",
        flush=True,
    )


def storm(database: str, clients: int) -> None:
    with serving("rest_channels", database, {}, site="benchmarks.live_site") as server:
        before = server.resident_kib()
        found = call(server, "resume", clients)
        grown = server.resident_kib(peak=True) - before
    print(f"\n{clients:,} clients resume at one process, each after 10 changes, {database}")
    print(
        f"  all in {found['seconds']:.1f} s, half of them in {found['p50']:.1f} s; "
        f"{found['queries']:,} queries, {found['evaluations']:,} evaluations, {found['passes']} "
        f"passes; {found['cpu_us'] / 1e3:.2f} ms CPU and {grown / clients:.1f} KiB a client, "
        f"{grown / 1024:.0f} MiB at the peak",
        flush=True,
    )
