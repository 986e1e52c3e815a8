"""
A track: one of the followers of a database in a process, with a thread and passes of its own.

On the event loop; only the passes run in the thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from django.db import InterfaceError, OperationalError

from rest_channels.bus.follower import Follower
from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery.pass_state import Cohort, Outcome, State
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.log.positions import Position
from rest_channels.metrics import figures
from rest_channels.observing.observers import begin_pass, end_pass, end_telling
from rest_channels.observing.reports import PassReport
from rest_channels.protocol import CloseCode, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets.ratelimit import retry_headers
from rest_channels.workers.contexts import bare_context
from rest_channels.workers.monitoring import Wait, current_stalls
from rest_channels.workers.threads import Workers

logger = logging.getLogger("rest_channels")


class FollowerThreads:
    """
    The threads of passes: one for each track of a database, which runs one pass at a time.

    A database that hangs, or whose locks are held, does not delay others.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], Workers] = {}

    def of(self, alias: str, track: str = "") -> Workers:
        """Return the thread of a track of the database `alias`."""
        return self._of.setdefault((alias, track), Workers(threads=1))

    def all(self) -> list[Workers]:
        """Return the threads of all databases."""
        return list(self._of.values())


followers = FollowerThreads()


class Track(Follower):
    """
    One track of a database, followed for as long as it has work; see `ChangePath` for the steps.

    `settle` is called on the loop after the events of each pass were sent, with its outcome; then
    audiences may move to another track.
    """

    def __init__(
        self,
        path: ChangePath,
        name: str,
        settle: Callable[[Track, Outcome], None],
        on_end: Callable[[Track], None],
    ) -> None:
        super().__init__()
        self.alias = path.alias
        self.name = name
        self.path = path
        self._settle = settle
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._asking: list[Subscription] = []
        # Subscriptions that join in the running pass, until all its events are sent.
        self._entering: list[Subscription] = []
        #: Audiences that the next pass takes in.
        self.coming: list[Cohort] = []
        self._thread: int | None = None
        # Whether it was rung since the last pass, and had nobody to look for.
        self._has_skipped = False
        # Whether a pass runs, or its events are being sent.
        self._is_passing = False
        # Identifies the running pass in the log of stalls.
        self._running: object | None = None
        current_stalls().watch(self)
        self._task = bare_context().run(asyncio.ensure_future, self._follow_until_the_end())

    @property
    def state(self) -> State:
        return self.path.state

    @property
    def audiences(self) -> list[SubscribedAudience]:
        """The audiences of this track, also those that come."""
        coming = (audience for cohort in self.coming for audience in cohort.audiences)
        return [*list(self.state.audiences.values()), *coming]

    def ask(self, subscription: Subscription) -> None:
        """Make the next pass evaluate `subscription` again, and then call its `go_on`."""
        self._asking.append(subscription)
        self.ring()

    # Moves between tracks

    def take(self, cohort: Cohort, asking: Iterable[Subscription] = ()) -> None:
        """Take in audiences at once, if they are where this track is, or in the next pass."""
        for audience in cohort.audiences:
            for subscription in list(audience.subscriptions):
                subscription.track = self
        self._asking += asking
        if self._is_waiting and self.path.take_in(cohort):
            if self.state.due_at is not None or self._asking:
                self.ring()
        else:
            self.coming.append(cohort)
            self.ring()

    def make_up(self) -> None:
        """Look if a ring was skipped, because an audience is there now."""
        if self._has_skipped:
            self.ring()

    def give(self, audiences: list[SubscribedAudience]) -> tuple[Cohort, list[Subscription]]:
        """Return audiences for another track, and their subscribers that ask; after a pass."""
        place = self.state.place
        assert place is not None, "Audiences come from a pass."
        self.state.give_up(audiences)
        given = set(audiences)
        asking = [s for s in self._asking if s.audience in given]
        self._asking = [s for s in self._asking if s.audience not in given]
        return Cohort(place, audiences), asking

    # The loop of a follower

    def has_work(self) -> bool:
        return bool(self.coming or self.state.audiences)

    async def look(self) -> float:
        if not self._has_reason():
            self._has_skipped = True
            return float(socket_settings.POLL_SECONDS)
        outcome = await self._look()
        if outcome.has_more or self._has_joining() or self._is_done():
            return 0.0
        seconds = float(socket_settings.POLL_SECONDS)
        if outcome.refresh_at is not None:
            seconds = min(seconds, outcome.refresh_at - time.monotonic())
        return seconds

    async def _look(self) -> Outcome:
        """Run a pass and send its events."""
        self._has_skipped = False
        self._is_passing = True
        self._on_begin()
        report = begin_pass(self.alias, self.name or "main")
        try:
            outcome = await self._pass(self._next_joining())
            if report is not None:
                _describe(report, outcome)
                end_pass(report)
            self._on_read(outcome)
            await self.path.send(outcome)
        finally:
            if report is not None:
                end_telling(report)
        self._entering = []
        self._is_passing = False
        self._settle(self, outcome)
        self._on_passed(outcome)
        return outcome

    def _on_begin(self) -> None:
        """Note that a pass begins."""

    def _on_read(self, outcome: Outcome) -> None:
        """Note what a pass has read, before its events are sent."""

    def _on_passed(self, outcome: Outcome) -> None:
        """Note that the events of a pass have been sent."""

    def _is_done(self) -> bool:
        """Return whether it ends at once, instead of at its next look."""
        return not self.has_work()

    def _has_reason(self) -> bool:
        """Return whether a pass may find anything."""
        return self.has_work()

    def _next_joining(self) -> list[Subscription]:
        """Return the subscriptions that join in the next pass."""
        return []

    def _has_joining(self) -> bool:
        """Return whether subscriptions wait to join."""
        return False

    def _postpone(self, joining: Sequence[Subscription]) -> None:
        """Let subscriptions join in a later pass."""

    async def _follow_until_the_end(self) -> None:
        try:
            await self.follow()
        except Exception:
            # Otherwise subscribers would receive nothing more, without a sign.
            logger.critical("Subscriptions have failed: sockets are closed.", exc_info=True)
            self.close_sockets()
        finally:
            current_stalls().forget(self)
            self._on_end(self)

    def close_sockets(self) -> None:
        """Close the sockets of all subscribers, because there will be no more passes."""
        for subscription in (*self._entering, *self.subscriptions()):
            subscription.wire.outbox.close(CloseCode.SERVER_ERROR)
            subscription.end()

    def subscriptions(self) -> list[Subscription]:
        """Return all subscriptions that passes have let in."""
        return [s for audience in self.audiences for s in list(audience.subscriptions)]

    def told_to(self, subscription: Subscription) -> Position | None:
        """
        Return the position up to which `subscription` has received everything.

        Returns None while a pass runs or its events are being sent, because the state is then ahead
        of the client, and while its audience comes from another track.
        """
        audience = subscription.audience
        if self._is_passing or audience is None or audience.refresh_at is not None:
            return None
        if any(audience in cohort.audiences for cohort in self.coming):
            return None
        return self.state.place

    def waits(self) -> Iterable[Wait]:
        """Yield the running pass."""
        if self._running is not None:
            what = f"A pass over database {self.alias!r}"
            yield Wait(self._running, what, "it runs in its thread", thread=self._thread)

    # A pass

    async def _pass(self, joining: list[Subscription]) -> Outcome:
        self._entering = joining
        asking, self._asking = self._asking, []
        coming, self.coming = self.coming, []
        figures.passes.add()
        learned = self.state.learned
        was_absent = learned.is_absent
        try:
            self._running = object()
            thread = followers.of(self.alias, self.name)
            try:
                outcome = await thread.run(self._run, joining, asking, coming)
            finally:
                self._running = None
            if was_absent:
                # Another track may have found it absent meanwhile.
                learned.is_absent = False
            self.coming[:0] = outcome.waiting
            self._asking[:0] = outcome.unasked
            # They join in the next pass, or once a pass reaches the end of the log.
            waiting = joining if outcome.has_more else outcome.postponed
            self._postpone([s for s in waiting if not s.is_over])
        except (OperationalError, InterfaceError):
            outcome = self._on_absent(joining)
            self._asking += asking
            self.coming[:0] = coming
        except Exception as exc:
            self.coming[:0] = coming
            self.path.fail([*joining, *self.subscriptions()], exc)
            self.coming = []
            self.path.forget()
            outcome = Outcome()
        return outcome

    def _run(
        self, joining: list[Subscription], asking: list[Subscription], coming: list[Cohort]
    ) -> Outcome:
        """Run a pass in the track's thread. Raises the errors of the database."""
        self._thread = threading.get_ident()
        return self.path.take(joining, asking, coming)

    def _on_absent(self, joining: list[Subscription]) -> Outcome:
        """Refuse joining subscriptions, because the database is gone; the others catch up later."""
        learned = self.state.learned
        if not learned.is_absent:
            learned.is_absent = True
            logger.warning(
                "Changes of database %r cannot be read: subscriptions wait for it.",
                self.alias,
                exc_info=True,
            )
        detail = "Service unavailable, try again later."
        for subscription in joining:
            headers = retry_headers()
            subscription.refuse(Reply.error(503, detail, "unavailable", headers=headers))
        return Outcome()


def _describe(report: PassReport, outcome: Outcome) -> None:
    """Note what a pass has found."""
    report.has_failed = outcome.seen is None
    if outcome.seen is not None:
        report.changes = sum(len(c.of_key) + c.whole for c in outcome.seen.changes.values())
    report.audiences = len(outcome.seconds)
    report.subscriptions = sum(len(audience.subscriptions) for audience in outcome.seconds)
    report.joined = len(outcome.spent)
