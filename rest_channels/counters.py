"""
What this process has done and what it holds, in numbers: `rest_channels.stats()`.

Plain integers, added to where things happen; not exact to the last one where threads meet. No
Django, no loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakSet

Stats = dict[str, int | float]


class Source(Protocol):
    """Something that holds what can be counted."""

    def gauges(self) -> Mapping[str, int]:
        """How much there is now; in any thread."""


class Counters:
    """What has happened since the process began."""

    def __init__(self) -> None:
        self.frames = 0
        self.passes = 0
        self.evaluations = 0
        self.encodes = 0
        self.deliveries = 0
        self.merged = 0
        self.resets = 0
        self.too_slow = 0
        self.sequenced = 0


counters = Counters()

_GAUGES = ("connections", "queue_bytes", "backlog_bytes", "subscriptions", "audiences")
_sources: WeakSet[Any] = WeakSet()
_lags: dict[str, tuple[float, int]] = {}


def watch(source: Source) -> None:
    """Count what `source` holds, for as long as it is there."""
    _sources.add(source)


def note_lag(alias: str, seconds: float, entries: int) -> None:
    """What the sequencer of a database has found: so many changes, the oldest so old."""
    _lags[alias] = (seconds, entries)


def stats() -> Stats:
    """
    Counters since the process began, and gauges; `docs/counters.md` says what each is. In any
    thread.
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
