"""
Amounts of this process that rise and fall: added up when they are read.

This module imports neither Django nor asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol
from weakref import WeakSet

#: Gauges of what sources hold, with their explanations.
HELD: Final = {
    "connections": "Open sockets.",
    "queue_bytes": "Text that waits for clients to read.",
    "backlog_bytes": "Events that wait beside it, merged by row.",
    "subscriptions": "Subscribers.",
    "audiences": "Groups of subscribers that share their texts.",
    "watches": "Watches.",
    "watch_groups": "Groups of watches that share their runs.",
}

#: Gauges of the sequencer, with their explanations.
LAGS: Final = {
    "sequencer_lag_seconds": "How long the oldest change waited for its position in the log.",
    "sequencer_lag_entries": "How many changes waited for their positions.",
}


class Source(Protocol):
    """An object with something to count."""

    def gauges(self) -> Mapping[str, int]:
        """Return the current amounts by name; in any thread."""


_sources: WeakSet[Any] = WeakSet()
_lags: dict[str, tuple[float, int]] = {}


def watch(source: Source) -> None:
    """Count what `source` holds, as long as it exists."""
    _sources.add(source)


def note_lag(alias: str, seconds: float, entries: int) -> None:
    """Note how many changes wait for the sequencer of a database, and how old the oldest is."""
    _lags[alias] = (seconds, entries)


def held() -> dict[str, int]:
    """Return what all sources hold, by name; in any thread."""
    result = dict.fromkeys(HELD, 0)
    for source in list(_sources):
        for name, value in source.gauges().items():
            result[name] += value
    return result


def lags() -> dict[str, float]:
    """Return the lag of the sequencer that is furthest behind, and what waits for all."""
    found = list(_lags.values())
    return {
        "sequencer_lag_seconds": max((seconds for seconds, _ in found), default=0.0),
        "sequencer_lag_entries": sum(entries for _, entries in found),
    }
