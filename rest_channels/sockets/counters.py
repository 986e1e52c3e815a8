"""
Counters and gauges of this process: `rest_channels.stats()`.

Plain integers, changed where things happen; concurrent threads may lose a few counts. This module
imports neither Django nor asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakSet

Stats = dict[str, int | float]


class Source(Protocol):
    """An object with something to count."""

    def gauges(self) -> Mapping[str, int]:
        """Return the current amounts by name; in any thread."""


class Counters:
    """Events since the process began."""

    def __init__(self) -> None:
        self.frames = 0
        self.passes = 0
        self.evaluations = 0
        self.watch_runs = 0
        self.watch_checks = 0
        self.encodes = 0
        self.deliveries = 0
        self.merged = 0
        self.resets = 0
        self.too_slow = 0
        self.sequenced = 0


counters = Counters()

_GAUGES = (
    *["connections", "queue_bytes", "backlog_bytes"],
    *["subscriptions", "audiences", "watches", "watch_groups"],
)
_sources: WeakSet[Any] = WeakSet()
_lags: dict[str, tuple[float, int]] = {}


def watch(source: Source) -> None:
    """Count what `source` holds, as long as it exists."""
    _sources.add(source)


def note_lag(alias: str, seconds: float, entries: int) -> None:
    """Note how many changes wait for the sequencer of a database, and how old the oldest is."""
    _lags[alias] = (seconds, entries)


def stats() -> Stats:
    """
    Return counters since the process began, and gauges; in any thread.

    `docs/monitoring.md` describes each.
    """
    result: Stats = dict(vars(counters))
    result.update(dict.fromkeys(_GAUGES, 0))
    for source in list(_sources):
        for name, value in source.gauges().items():
            result[name] += value
    lags = list(_lags.values())
    result["sequencer_lag_seconds"] = max((seconds for seconds, _ in lags), default=0.0)
    result["sequencer_lag_entries"] = sum(entries for _, entries in lags)
    return result
