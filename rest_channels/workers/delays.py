"""
The time for which a thread could have computed, but no processor was free.

On a busy machine it looks like time spent waiting for a database. Linux counts it.
"""

from __future__ import annotations

_COUNTED_BY_LINUX = "/proc/thread-self/schedstat"


def seconds_delayed() -> float:
    """
    Return the seconds that this thread has waited for a processor so far, 0 if unknown.

    A call takes some ten microseconds, and gives up the interpreter lock.
    """
    try:
        with open(_COUNTED_BY_LINUX, "rb", buffering=0) as counts:
            _, delayed, _ = counts.read(100).split()
            return int(delayed) / 1e9
    except (OSError, ValueError):
        return 0.0
