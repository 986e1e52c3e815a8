"""
The objects that learn what happens at sockets.

    class Slow(Observer):
        def on_frame(self, report):
            if report.seconds > 1:
                print(report)

    observers.add(Slow())

Without an observer a frame costs nothing more. This module imports neither Django nor asyncio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

from rest_channels.observing.reports import (
    FrameReport,
    PassReport,
    RefusalReport,
    SocketReport,
    SubscriptionReport,
)

logger = logging.getLogger("rest_channels")


class Observer:
    """
    A base class with hooks that do nothing; a subclass overrides those it needs.

    All run on an event loop that serves sockets, between two steps of other tasks: a hook must
    return at once and must not wait for a database, a lock or a network. `rest_channels.signals`
    is for code that waits. An exception is logged and breaks nothing.
    """

    def on_connected(self, report: SocketReport) -> None:
        """Note that a socket was accepted."""

    def on_closed(self, report: SocketReport) -> None:
        """Note that a socket has closed, and all of its frames have ended."""

    def on_refused(self, report: RefusalReport) -> None:
        """Note that a handshake was refused."""

    def on_frame_begun(self, report: FrameReport) -> None:
        """
        Note that a frame's turn has come.

        Called in the frame's own task: context variables set here hold for everything that answers
        it, in worker threads too. Frames that the connection answers at once have no task; for
        them only `on_frame` is called.
        """

    def on_frame(self, report: FrameReport) -> None:
        """Note that a frame was answered, or given up."""

    def on_subscribed(self, report: SubscriptionReport) -> None:
        """Note that a subscription or a watch has begun: its client has the reply."""

    def on_unsubscribed(self, report: SubscriptionReport) -> None:
        """Note that a subscription or a watch has ended."""

    def on_pass_begun(self, report: PassReport) -> None:
        """
        Note that a pass begins, in the task of its track.

        Context variables set here hold for the pass in its thread, and must be restored in
        `on_told`.
        """

    def on_pass(self, report: PassReport) -> None:
        """Note that a pass has ended; its events are not sent yet."""

    def on_told(self, report: PassReport) -> None:
        """Note that the outboxes have the events of a pass."""


Hooks = tuple[Callable[[Any], None], ...]


class Observers:
    """
    All observers of this process, arranged by hook; in any thread.

    Each attribute is replaced as a whole, because loops and threads read it without a lock.
    """

    connected: Hooks
    closed: Hooks
    refused: Hooks
    frame_begun: Hooks
    frame: Hooks
    subscribed: Hooks
    unsubscribed: Hooks
    pass_begun: Hooks
    passed: Hooks
    told: Hooks

    def __init__(self) -> None:
        self._known: tuple[Observer, ...] = ()
        self._arrange()

    def add(self, observer: Observer) -> None:
        """Call the hooks of `observer` from now on."""
        if observer not in self._known:
            self._known = (*self._known, observer)
            self._arrange()

    def remove(self, observer: Observer) -> None:
        """Call them no more."""
        self._known = tuple(known for known in self._known if known is not observer)
        self._arrange()

    @property
    def watches_passes(self) -> bool:
        """Whether any hook asks for passes."""
        return bool(self.pass_begun or self.passed or self.told)

    def _arrange(self) -> None:
        self.connected = self._having("on_connected")
        self.closed = self._having("on_closed")
        self.refused = self._having("on_refused")
        self.frame_begun = self._having("on_frame_begun")
        self.frame = self._having("on_frame")
        self.subscribed = self._having("on_subscribed")
        self.unsubscribed = self._having("on_unsubscribed")
        self.pass_begun = self._having("on_pass_begun")
        self.passed = self._having("on_pass")
        self.told = self._having("on_told")
        #: Whether frames need reports; those of subscriptions are made of them.
        self.watches_frames = bool(
            self.frame or self.frame_begun or self.subscribed or self.unsubscribed
        )

    def _having(self, hook: str) -> Hooks:
        unused = getattr(Observer, hook)
        return tuple(getattr(o, hook) for o in self._known if getattr(type(o), hook) is not unused)


observers = Observers()


def tell(hooks: Hooks, report: Any) -> None:
    """Call `hooks` with `report`; log what they raise."""
    for hook in hooks:
        try:
            hook(report)
        except Exception:
            logger.exception("An observer failed in %r; the socket continues.", hook)


def begin_frame(bytes_in: int) -> FrameReport | None:
    """Return the report of a message that was received just now; None without an observer."""
    return FrameReport(perf_counter(), bytes_in) if observers.watches_frames else None


def end_frame(report: FrameReport, status: int) -> None:
    """Give observers the report of a frame that has ended with `status`; once for each frame."""
    if not report.is_over:
        report.status = status
        report.seconds = perf_counter() - report.received_at
        tell(observers.frame, report)


def begin_subscription(
    frame: FrameReport | None, *, is_watch: bool = False, is_resumed: bool
) -> SubscriptionReport | None:
    """
    Tell observers that what `frame` asked for has begun; return its report, None without observers.
    """
    if frame is None or not (observers.subscribed or observers.unsubscribed):
        return None
    report = SubscriptionReport(
        perf_counter(),
        frame.stream,
        frame.operation,
        is_watch=is_watch,
        is_resumed=is_resumed,
        request_id=frame.request_id,
        user_pk=frame.user_pk,
    )
    tell(observers.subscribed, report)
    return report


def end_subscription(report: SubscriptionReport, status: int | None = None) -> None:
    """Tell observers that a subscription has ended; `status` is that of a `revoke`."""
    report.status = status
    report.seconds = perf_counter() - report.began_at
    tell(observers.unsubscribed, report)


def begin_pass(database: str, track: str) -> PassReport | None:
    """Tell observers that a pass begins; return its report, None without observers."""
    if not observers.watches_passes:
        return None
    report = PassReport(database, track, perf_counter())
    tell(observers.pass_begun, report)
    return report


def end_pass(report: PassReport) -> None:
    """Tell observers that a pass has ended, and what it has found."""
    report.seconds = perf_counter() - report.began_at
    tell(observers.passed, report)


def end_telling(report: PassReport) -> None:
    """Tell observers that all events of a pass are in the outboxes, or that it was given up."""
    report.telling_seconds = perf_counter() - report.began_at - report.seconds
    tell(observers.told, report)
