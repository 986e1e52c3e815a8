"""
The cost of a window over a table of many rows, beside a plain subscription to all of them.

Windows have the newest 50 of 100,000 rows; a plain subscription has all 100,000, with
`MAX_SUBSCRIPTION_ROWS` raised for it. In this process, without sockets: the processor time and the
clock time of a pass, and its queries; the median of several rounds, in turns. Answers of DRF are
valid for an hour, so that no pass asks for them again.

    python -m benchmarks.windows --rows 100000 --subscribers 1 100 1000
    BENCH_DATABASE=postgresql python -m benchmarks.windows
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("BENCH_SETTINGS", '{"LEASE_SECONDS": 3600, "MAX_SUBSCRIPTION_ROWS": 1000000}')

# First, because it sets Django up.
from benchmarks.running import fill
from benchmarks.sharing import looked, subscription
from benchmarks.site import MessageViewSet, messages

# isort: split
from django.db import connection
from rest_framework import routers

from benchmarks.messages.models import Message
from rest_channels.live.delivery.pass_state import State
from rest_channels.live.log.sequencer import sequence
from rest_channels.metrics import figures
from rest_channels.sockets.streams import Stream

SIZE = 50


class Newest(MessageViewSet):
    queryset = messages().order_by("-id")


class Cost(NamedTuple):
    """The cost of one pass: milliseconds of the processor and by the clock, and counts."""

    cpu_ms: float
    ms: float
    queries: float
    rows: float


def add_rows(count: int) -> None:
    """Fill the table to `count` rows, unseen by any process."""
    have = Message.objects.count()
    author = messages()[0].author
    rows = (Message(author=author, text=f"message {n} " + "word " * 20) for n in range(have, count))
    Message.objects.bulk_create(rows, batch_size=2_000)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM rest_channels_pendingchange")


class Site:
    """The subscribers of one process, each with the same `keys`, and the costs of its passes."""

    def __init__(self, **keys: Any) -> None:
        self.stream = Stream(Newest, "messages", "message", routers.SimpleRouter())
        self.state = State("default")
        self.keys = keys
        self._queries = 0

    def join(self, count: int, **keys: Any) -> list[Any]:
        """Let subscribers in, by one pass."""
        keys = {**self.keys, **keys}
        joining = [subscription(self.stream, number, **keys) for number in range(1, count + 1)]
        looked(self.state, joining)
        return joining

    def look(self) -> None:
        """Run one pass."""
        looked(self.state, [])

    def cost(self, work: Callable[[], Any]) -> Cost:
        """Return the cost of `work`."""
        self._queries, rows = 0, figures.encodes.value
        with connection.execute_wrapper(self._count):
            began, cpu = time.perf_counter(), time.process_time()
            work()
            cpu_ms = 1000 * (time.process_time() - cpu)
            ms = 1000 * (time.perf_counter() - began)
        return Cost(cpu_ms, ms, self._queries, figures.encodes.value - rows)

    def _count(self, execute: Any, *args: Any) -> Any:
        self._queries += 1
        return execute(*args)


def in_turns(sites: dict[str, Site], write: Callable[[], Any], times: int) -> dict[str, Cost]:
    """Return the median cost, for each site, of the pass after `write`."""
    costs: dict[str, list[Cost]] = {name: [] for name in sites}
    for number in range(times):
        write()
        # Only one process numbers a change.
        sequence("default")
        turns = list(sites) if number % 2 else list(reversed(sites))
        for name in turns:
            costs[name].append(sites[name].cost(sites[name].look))
    return {name: median(found) for name, found in costs.items()}


def median(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(*map(statistics.median, zip(*costs, strict=True)))


def edit(row: Message) -> None:
    """Change a row."""
    row.score += 1
    row.save()


def measured(subscribers: int, times: int) -> dict[str, dict[str, Cost]]:
    """Return the costs with that many subscribers of one window, and of one plain subscription."""
    sites = {"window": Site(window=SIZE), "plain": Site()}
    begun = {
        name: site.cost(lambda s=site: s.join(1, snapshot=True)) for name, site in sites.items()
    }
    for site in sites.values():
        site.join(subscribers - 1)
    newest, oldest = (Message.objects.order_by(order)[0] for order in ("-id", "id"))

    def post() -> None:
        Message.objects.create(author=newest.author, text="new")

    found = {
        "the first snapshot": begun,
        "an edit in the window": in_turns(sites, lambda: edit(newest), times),
        "an edit behind it": in_turns(sites, lambda: edit(oldest), times),
        "a new message": in_turns(sites, post, times),
    }
    return {**found, f"{SIZE} more rows": {"window": median([grown() for _ in range(times)])}}


def grown() -> Cost:
    """Return the cost of a window that grows, in a process that has none of the larger size."""
    site = Site(window=SIZE)
    (first,) = site.join(1, snapshot=True)
    held = list(Message.objects.order_by("-id").values_list("pk", flat=True)[:SIZE])
    keys = {"window": 2 * SIZE, "snapshot": True, "since": first.last, "held": held}
    return site.cost(lambda: site.join(1, **keys))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.windows", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--times", type=int, default=9)
    options = parser.parse_args()
    fill(os.environ.get("BENCH_DATABASE", "sqlite"))
    add_rows(options.rows)
    print(f"{connection.vendor}, {Message.objects.count()} rows")
    for count in options.subscribers:
        for title, costs in measured(count, options.times).items():
            for name, cost in costs.items():
                print(
                    f"{count:6} subscribers, {title:22} {name:6} {cost.cpu_ms:9.1f} ms cpu "
                    f"{cost.ms:9.1f} ms {cost.queries:5.0f} queries {cost.rows:7.0f} rows rendered",
                    flush=True,
                )


if __name__ == "__main__":
    main()
