"""Broadcasts: `GroupConsumers` beside a plain consumer of Channels' groups."""

from __future__ import annotations

import argparse
import contextlib

from benchmarks.running import compare, serving, show

# By members of the group: the target ratio to the deliveries of a plain consumer.
TARGETS = {100: 5, 1000: 12, 3000: 25}


def run(options: argparse.Namespace) -> None:
    """Run one process each, the layer in memory; send once all members have an earlier message."""
    for members in options.members:
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(serving(s, "sqlite", {})) for s in ("group", "plain_group")
            ]
            medians = compare(
                servers, "broadcast", {"connections": members}, options.rounds, options.seconds
            )
        target = f", target {TARGETS[members]} x" if members in TARGETS else ""
        title = f"broadcast to a group of {members:,}{target}"
        show(title, medians, against="plain_group", unit="deliv/s")
