"""
The doorbell: a process that wrote to a database wakes every process with subscribers.

A ring has no content and may be lost, because layers lose messages silently; followers also look at
intervals (`POLL_SECONDS`). Hubs in this process are called directly. Other processes receive a
message over the project's channel layer, one for each process, sent by a thread that the writer
does not wait for. Without a shared layer, the database carries the ring (`news`).
"""

from __future__ import annotations

import os
import threading

from rest_channels.bus import channel_layer, news, publisher
from rest_channels.bus.channel_layer import complain


class Listener:
    """
    An object that is called, in any thread, when a database was written to.

    A forked child keeps it only if it `outlives_fork`, because other listeners belong to the
    parent's threads and loops.
    """

    outlives_fork = False

    def on_ring(self, alias: str) -> None:
        raise NotImplementedError


# Replaced as a whole, because writers read it in any thread.
_listeners: tuple[Listener, ...] = ()
_lock = threading.Lock()


def add_listener(listener: Listener) -> None:
    global _listeners
    with _lock:
        _listeners = (*_listeners, listener)


def remove_listener(listener: Listener) -> None:
    global _listeners
    with _lock:
        _listeners = tuple(known for known in _listeners if known is not listener)


def ring(alias: str) -> None:
    """Announce a write to `alias`; from any thread, returns immediately, raises nothing."""
    for listener in _listeners:
        try:
            listener.on_ring(alias)
        except Exception:
            complain("A doorbell within this process failed.")
    try:
        if channel_layer.shared_layer() is not None:
            publisher.ring(alias)
        elif not news.is_listening(alias):
            # Otherwise this process announces the change once it has a number.
            news.tell(alias)
    except Exception:
        # For example, the layer cannot be imported, or the process is about to end.
        complain("Cannot ring other processes: they look within POLL_SECONDS.")


def tell_numbered(alias: str) -> None:
    """Announce to other processes that this one has numbered changes of `alias`."""
    try:
        if channel_layer.shared_layer() is None:
            news.tell(alias)
    except Exception:
        complain("Cannot announce changes to other processes: they look within POLL_SECONDS.")


def _replace_after_fork() -> None:
    """Replace the parent's lock, and drop listeners of its threads and loops."""
    global _listeners, _lock
    _lock = threading.Lock()
    _listeners = tuple(listener for listener in _listeners if listener.outlives_fork)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_after_fork)
