"""
The cost of a window over a table of many rows: the newest 50 of 100,000, then 50 more.

In this process, without sockets: the time of a pass, by the clock, and its queries; the median of
several. Answers of DRF are valid for an hour, so that no pass asks for them again.

    python -m benchmarks.windows --rows 100000 --subscribers 1 100 1000
    BENCH_DATABASE=postgresql python -m benchmarks.windows
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("BENCH_SETTINGS", '{"LEASE_SECONDS": 3600}')

# First, because it sets Django up.
from benchmarks.running import fill
from benchmarks.sharing import looked, subscription
from benchmarks.site import MessageViewSet, messages

# isort: split
from django.db import connection
from rest_framework import routers

from benchmarks.messages.models import Message
from rest_channels.live.delivery.pass_state import State
from rest_channels.sockets.streams import Stream

SIZE = 50


class Newest(MessageViewSet):
    queryset = messages().order_by("-id")


def add_rows(count: int) -> None:
    """Fill the table to `count` rows, unseen by any process."""
    have = Message.objects.count()
    author = messages()[0].author
    rows = (Message(author=author, text=f"message {n} " + "word " * 20) for n in range(have, count))
    Message.objects.bulk_create(rows, batch_size=2_000)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM rest_channels_pendingchange")


class Site:
    """The subscribers of one process, and a count of its queries."""

    def __init__(self) -> None:
        self.stream = Stream(Newest, "messages", "message", routers.SimpleRouter())
        self.state = State("default")
        self._queries = 0

    def join(self, count: int, size: int = SIZE, **keys: Any) -> list[Any]:
        """Let subscribers of windows in, by one pass."""
        joining = [
            subscription(self.stream, number, window=size, **keys) for number in range(1, count + 1)
        ]
        looked(self.state, joining)
        return joining

    def measure(self, work: Callable[[], Any], times: int) -> dict[str, float]:
        """Return the milliseconds and queries of a pass after `work`, or of `work` itself."""
        seconds, self._queries = [], 0
        for _ in range(times):
            follow = work()
            with connection.execute_wrapper(self._count):
                began = time.perf_counter()
                follow()
                seconds.append(time.perf_counter() - began)
        return {"ms": 1000 * statistics.median(seconds), "queries": self._queries / times}

    def _count(self, execute: Any, *args: Any) -> Any:
        self._queries += 1
        return execute(*args)


def measured(subscribers: int, times: int) -> dict[str, dict[str, float]]:
    """Return the costs with that many subscribers of one window."""
    site = Site()
    first = site.join(subscribers, snapshot=True)[0]
    newest, oldest = (Message.objects.order_by(order)[0] for order in ("-id", "id"))

    def after(write: Callable[[], Any]) -> Callable[[], Callable[[], Any]]:
        def work() -> Callable[[], Any]:
            write()
            return lambda: looked(site.state, [])

        return work

    def edit(row: Message) -> None:
        row.score += 1
        row.save()

    def post() -> None:
        Message.objects.create(author=newest.author, text="new")

    def grow() -> Callable[[], Any]:
        held = list(Message.objects.order_by("-id").values_list("pk", flat=True)[:SIZE])
        return lambda: site.join(1, 2 * SIZE, since=first.last, held=held)

    return {
        "an edit in the window": site.measure(after(lambda: edit(newest)), times),
        "an edit behind it": site.measure(after(lambda: edit(oldest)), times),
        "a new message": site.measure(after(post), times),
        f"{SIZE} more rows": site.measure(grow, times),
        "the next snapshot": site.measure(lambda: lambda: site.join(1, snapshot=True), times),
    }


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
        for name, figures in measured(count, options.times).items():
            print(
                f"{count:6} subscribers, {name:22} {figures['ms']:8.1f} ms, "
                f"{figures['queries']:5.1f} queries"
            )


if __name__ == "__main__":
    main()
