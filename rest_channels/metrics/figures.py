"""
The figures that this process counts: `rest_channels.stats()`, and everything else in `registry`.

`docs/monitoring.md` describes each. This module imports neither Django nor asyncio.
"""

from __future__ import annotations

from typing import Final

from rest_channels.metrics.gauges import HELD, LAGS, held, lags
from rest_channels.metrics.instruments import Registry

Stats = dict[str, int | float]

registry: Final = Registry()

_counter = registry.counter

frames = _counter("frames", "Messages received.")
passes = _counter("passes", "Reads of the log.")
evaluations = _counter("evaluations", "Times that DRF decided what a subscriber may see.")
watch_runs = _counter("watch_runs", "Runs of watched actions, without the first of each watch.")
watch_checks = _counter("watch_checks", "Checks of permissions of clients that share a run.")
encodes = _counter("encodes", "Rows serialized for subscribers.")
deliveries = _counter("deliveries", "Events handed to sockets.")
merged = _counter("merged", "Events that newer ones replaced before a slow client received them.")
resets = _counter("resets", "Subscribers that had to start again.")
too_slow = _counter("too_slow", "Sockets closed with 4408.")
sequenced = _counter("sequenced", "Changes to which this process has given a position in the log.")
excess_frames = _counter("excess_frames", "Frames above FRAME_RATE, answered 429.")
floods = _counter("floods", "Sockets closed with 4429, because they sent frames all the same.")
excess_subscriptions = _counter(
    "excess_subscriptions", "Subscriptions and watches above SUBSCRIBE_RATE, answered 429."
)
excess_handshakes = _counter(
    "excess_handshakes", "Handshakes of an address above HANDSHAKE_RATE, closed with 4429."
)
excess_address_connections = _counter(
    "excess_address_connections",
    "Sockets above MAX_CONNECTIONS_PER_ADDRESS, closed with 4429.",
)
excess_user_connections = _counter(
    "excess_user_connections", "Sockets above MAX_CONNECTIONS_PER_USER, closed with 4429."
)

registry.gauges(HELD, held)
registry.gauges(LAGS, lags)


def stats() -> Stats:
    """
    Return counters since the process began, and gauges; in any thread.

    `docs/monitoring.md` describes each.
    """
    return registry.plain()
