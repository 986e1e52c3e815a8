"""
Saves, and the sockets that receive them, for four subjects.

They are this package's subscriptions, the observers of djangochannelsrestframework, a plain group
of Channels, and a bare ASGI application that encodes once and calls each send.

One server process each; the layer is in memory. A paced writer saves once all sockets have its last
save; back-to-back saves are as fast as the process makes them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.running import Server, fill, medians, pinned, serving, show

SUBJECTS = ["rest_channels", "dcrf", "plain", "bare"]

# By subscribers: the target ratio to the deliveries of djangochannelsrestframework.
TARGETS = {100: 5, 1000: 12, 3000: 25}
ROW_TARGET = 50

# The deliveries of a burst: some seconds for the slower subjects.
DELIVERIES_OF_A_BURST = 30_000


class Watchers:
    """A process of `benchmarks.watchers`, subscribed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.read()

    def ask(self, *command: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(*command, file=self._process.stdin, flush=True)
        return self.read()

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the watchers have gone")
        return json.loads(line)


@contextlib.contextmanager
def watching(servers: list[Server], connections: int, **options: Any) -> Iterator[Watchers]:
    """Subscribe to `servers` in turn; the first one saves the rows."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [*pinned(1), sys.executable, "-m", "benchmarks.watchers", *arguments]
        + [f"--connections={connections}"]
        + ["--ports", *(str(server.port) for server in servers)]
        + ["--pids", *(str(server.process.pid) for server in servers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    # Its standard input ends with the block, which ends the process.
    with process:
        yield Watchers(process)


@contextlib.contextmanager
def watched(database: str, topic: str, connections: int) -> Iterator[dict[str, Watchers]]:
    """Start a server and its watchers for each subject."""
    with contextlib.ExitStack() as stack:
        found = {}
        for subject in SUBJECTS:
            if topic == "row" and subject == "plain":
                # A group for each row is also a group.
                continue
            server = stack.enter_context(
                serving(subject, database, {}, site="benchmarks.live_site", BENCH_TOPIC=topic)
            )
            found[subject] = stack.enter_context(watching([server], connections, topic=topic))
        yield found


def run(options: argparse.Namespace) -> None:
    for database in options.databases:
        fill(database)
        for subscribers in options.subscribers:
            collection(options, database, subscribers)
            row(options, database, subscribers)


def collection(options: argparse.Namespace, database: str, subscribers: int) -> None:
    about = f"{subscribers:,} subscribers, {database}"
    target = f", target {TARGETS[subscribers]} x" if subscribers in TARGETS else ""
    saves = min(options.burst, max(10, DELIVERIES_OF_A_BURST // subscribers))
    with watched(database, "collection", subscribers) as watchers:
        for ahead in (1, 8):
            found = medians(
                watchers, options.rounds, asking(watchers, "paced", options.seconds, ahead)
            )
            tell(f"saves, paced, {ahead} at a time, {about}{target}", found)
        found = medians(watchers, options.rounds, asking(watchers, "burst", saves, saves))
        tell(f"{saves} saves back to back, {about}{target}", found)
        few = max(1, saves // 10)
        found = medians(watchers, options.rounds, asking(watchers, "burst", saves, few))
        tell(f"{saves} saves back to back of {few} rows, {about}", found)
        found = medians(watchers, options.rounds, asking(watchers, "together", saves, saves))
        tell(f"{saves} saves in one transaction, {about}", found)


def row(options: argparse.Namespace, database: str, subscribers: int) -> None:
    with watched(database, "row", subscribers) as watchers:
        found = medians(watchers, options.rounds, asking(watchers, "paced", options.seconds, 1))
        about = f"{subscribers:,} subscribers of a row, {database}"
        tell(f"saves, paced, {about}, target {ROW_TARGET} x", found)


def asking(watchers: dict[str, Watchers], *command: object) -> Callable[[str], dict[str, Any]]:
    return lambda subject: watchers[subject].ask(*command)


def tell(title: str, found: dict[str, dict[str, float]]) -> None:
    show(title, found, unit="deliv/s")
    floor = found["bare"]["cpu_us"]
    for subject, figures in found.items():
        said = []
        if subject != "bare" and floor:
            said.append(f"{figures['cpu_us'] / floor:.2f} x the CPU of bare")
        if figures["lost"] > 0.0005:
            said.append(f"{figures['lost']:.1%} of the saves not delivered")
        if "wrong" in figures:
            said.append(f"{figures['wrong']:.0f} sockets end wrong")
        if said:
            print(f"  {subject:14} {', '.join(said)}", flush=True)
