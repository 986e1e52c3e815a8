"""
Several server processes on PostgreSQL and Redis, with subscribers spread over them.

One process writes. On a machine of two processors, more processes than that share them.
"""

from __future__ import annotations

import argparse
import contextlib
import uuid
from typing import Any

from benchmarks.fanout import Watchers, watching
from benchmarks.running import fill, medians, serving


def run(options: argparse.Namespace) -> None:
    fill("postgresql")
    subscribers = f"{options.spread_over:,} subscribers of several processes"
    print(f"\npaced saves, {subscribers}, PostgreSQL and Redis")
    print(f"  {'processes':>10} {'deliv/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'cpu us':>8}")
    with contextlib.ExitStack() as stack:
        watchers = {
            str(count): stack.enter_context(spread(count, options.spread_over))
            for count in options.processes
        }
        found = medians(watchers, options.rounds, lambda count: ask(watchers[count], options))
    for count, m in found.items():
        print(
            f"  {count:>10} {m['throughput']:8.0f} {1e3 * m['p50']:8.2f} {1e3 * m['p99']:8.2f} "
            f"{m['cpu_us']:8.0f}   {m['layer_messages']:.2f} messages of the layer a save, "
            f"{m['lost']:.1%} not delivered",
            flush=True,
        )


@contextlib.contextmanager
def spread(count: int, subscribers: int) -> Any:
    with contextlib.ExitStack() as stack:
        prefix = f"rest_channels_bench_{uuid.uuid4().hex}"
        servers = [
            stack.enter_context(
                serving(
                    "rest_channels",
                    "postgresql",
                    {},
                    site="benchmarks.live_site",
                    cpu=number % 2,
                    BENCH_REDIS=prefix,
                )
            )
            for number in range(count)
        ]
        yield stack.enter_context(watching(servers, subscribers))


def ask(watchers: Watchers, options: argparse.Namespace) -> dict[str, Any]:
    before = watchers.ask("stats")["layer_messages"]
    found = watchers.ask("paced", options.seconds, 1)
    messages = watchers.ask("stats")["layer_messages"] - before
    return {**found, "layer_messages": messages / found["saves"]}
