"""
The path of a change, from the write of a row to the event at a socket.

`ChangePath` is the page to read first about the live half, as `Exchange` is for frames.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from django.db import OperationalError, connections

from rest_channels.bus import doorbell
from rest_channels.live.delivery.pass_state import (
    Cohort,
    Outcome,
    ProjectError,
    ReadingError,
    State,
)
from rest_channels.live.delivery.refresh import Pass
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.delivery.uniting import unite_twins
from rest_channels.live.delivery.updates import Sending
from rest_channels.live.log.positions import Position
from rest_channels.live.log.sequencer import sequence
from rest_channels.live.log.transactions import snapshot
from rest_channels.live.log_database import reading_from
from rest_channels.live.topics import CANNOT_SUBSCRIBE, CannotSubscribe
from rest_channels.live.visibility.audiences import TooFarReaching
from rest_channels.live.visibility.evaluations import AskAgain
from rest_channels.live.visibility.learned import Learned
from rest_channels.protocol import Reply
from rest_channels.sockets.response import is_unavailable, reply_to_fault
from rest_channels.workers.connection_state import Handover
from rest_channels.workers.contexts import around_pass

logger = logging.getLogger("rest_channels")

# Sends at a time, and about how long they may take (seconds); then other tasks of the loop may run.
_SENDS_AT_A_TIME: Final = 200
_SENDING_SECONDS: Final = 0.002

# The time without an event after which a subscription gets a fresher position (seconds).
_SECONDS_BETWEEN_SYNCS: Final = 60


class ChangePath:
    """
    The way of changes from one database to the subscribers of one event loop.

    1. Capture, in the writer's transaction: a trigger, or `capture.writes.record` for writes that
       the ORM of this process makes, inserts a pending change: which row of which model.
    2. Log. After the commit `capture.writes.ring_after_commit` rings the doorbell of the bus, which
       wakes the follower of this database in each process that has subscribers. A follower also
       polls, because a ring may be lost. In its thread it takes the steps from here on: one
       process at a time moves pending changes to the log, each to the next position.
    3. Refresh, in one snapshot of the database: a pass reads the log from its last position on, and
       finds the audiences that the changes concern.
    4. Visibility, in the same snapshot: DRF decides what each subscriber may see now, unless its
       last answer is younger than the lease. Then the rows are read.
    5. Delivery. The rows are compared with what subscribers hold, and the differences rendered. On
       the loop, each subscription puts its events into the outbox of its socket: the text that its
       audience shares, and its own `request_id` and position.

    `state` is what the passes know about the subscribers. A path that `numbers` takes step 2; those
    of slow tracks read what others have numbered.
    """

    def __init__(self, alias: str, learned: Learned | None = None, *, numbers: bool = True) -> None:
        self.alias = alias
        self.state = State(alias) if learned is None else State(alias, learned=learned)
        self._numbers = numbers
        #: Whether the last pass has not come to the end of the log.
        self.has_more = False
        self._followed_since = self._synced_at = time.monotonic()
        # The last messages of subscriptions that have failed, to be sent even if the pass fails.
        self._endings: list[Sending] = []

    def take(
        self,
        joining: list[Subscription],
        asking: list[Subscription],
        coming: Sequence[Cohort] = (),
    ) -> Outcome:
        """
        Take the steps of the follower's thread; return what is to be sent.

        Let `joining` and `coming` in, and ask DRF about `asking` again. Raises what the database
        raises if it cannot be read.
        """
        delay = self._number() if self._numbers else None
        outcome = self._refresh(joining, asking, coming)
        if self._numbers:
            self._note_delay(delay)
        self.has_more = outcome.has_more
        outcome.covers_commits = delay is None and not outcome.has_more
        return outcome

    # Step 2: log

    def _number(self) -> OperationalError | None:
        """
        Move pending changes to the log; return why that is not possible now.

        If a stopped process holds the lock, what is in the log can be read and sent all the same.
        If the database is gone, the pass finds out.
        """
        try:
            if sequence(self.alias, followed_since=self._followed_since):
                doorbell.tell_numbered(self.alias)
        except OperationalError as exc:
            return exc
        return None

    # Steps 3 and 4, refresh and visibility, and the differences of step 5: a pass

    def _refresh(
        self,
        joining: list[Subscription],
        asking: list[Subscription],
        coming: Sequence[Cohort],
    ) -> Outcome:
        """Run passes until one ends well, each after the reason why the one before has not."""
        reached = _reached()
        reads_apart = False
        while True:
            try:
                with around_pass(), reading_from(self.alias), snapshot(self.alias):
                    looking = Pass(self.state, reads_apart=reads_apart)
                    outcome = looking.run(joining, asking, coming)
            except AskAgain:
                # Close sessions that the rollback has not restored.
                Handover(connections.all()).hand_on()
            except TooFarReaching as found:
                self.state.evaluations.narrow(found.family, found.reach)
            except ReadingError as failure:
                _raise_absence(failure.__cause__, reached)
                reads_apart = True
            except ProjectError as failure:
                _raise_absence(failure.__cause__, reached)
                failed = failure.subscriptions
                self.fail(failed, failure.__cause__ or failure)
                joining = [s for s in joining if s not in failed]
                asking = [s for s in asking if s not in failed]
            else:
                looking.commit()
                return outcome

    # Step 5: delivery

    async def send(self, outcome: Outcome) -> None:
        """Send what a pass found, after the last messages of subscriptions that have failed."""
        endings, self._endings = self._endings, []
        began = time.perf_counter()
        for number, sending in enumerate(chain(endings, *outcome.sendings), 1):
            sending()
            has_taken_long = time.perf_counter() - began >= _SENDING_SECONDS
            if number % _SENDS_AT_A_TIME == 0 or has_taken_long:
                await asyncio.sleep(0)
                began = time.perf_counter()
        if time.monotonic() - self._synced_at >= _SECONDS_BETWEEN_SYNCS:
            self._synced_at = time.monotonic()
            self._sync()

    def _sync(self) -> None:
        """Send the position to subscribers who have received nothing up to there."""
        position = self.state.place
        for audience in self.state.audiences.values():
            if audience.refresh_at is None and position is not None:
                for subscription in list(audience.subscriptions):
                    if subscription.place != position:
                        subscription.sync(position)

    # Failures

    def subscriptions(self) -> list[Subscription]:
        """Return all subscriptions that passes have let in."""
        return [s for a in self.state.audiences.values() for s in list(a.subscriptions)]

    def fail(self, subscriptions: Sequence[Subscription], cause: BaseException) -> None:
        """
        End subscriptions after an error, because a client must not take silence for no change.
        """
        if isinstance(cause, CannotSubscribe):
            fault = Reply.error(cause.status_code, str(cause.detail), CANNOT_SUBSCRIBE)
        else:
            fault = reply_to_fault(cause, "Server error while telling subscribers", to=None)
        for subscription in subscriptions:
            if subscription.audience is not None:
                subscription.audience.subscriptions.discard(subscription)
            self._endings.append(partial(subscription.give_up, fault))

    def forget(self) -> None:
        """Begin without subscribers: a pass has failed, and all of them with it."""
        self.state = State(self.alias, learned=self.state.learned)

    # Tracks

    def begin_at(self, place: Position | None) -> None:
        """Begin at `place`, without subscribers, unless a pass has not come to the log's end."""
        if not self.has_more:
            self.state = State(self.alias, place, learned=self.state.learned)

    def take_in(self, cohort: Cohort) -> bool:
        """
        Take in audiences that have reached the same position; return whether they have.

        Between two passes, on the loop.
        """
        state = self.state
        if state.place is None and not state.audiences:
            state.place = cohort.place
        if state.place != cohort.place:
            return False
        for audience in cohort.audiences:
            for subscription in list(audience.subscriptions):
                state.evaluations.adopt(subscription.topic, subscription.evaluation)
        state.take_in(cohort.audiences)
        unite_twins(state)
        return True

    def _note_delay(self, cause: OperationalError | None) -> None:
        """Log once that changes wait for their numbers, although the database answers."""
        learned = self.state.learned
        if cause is not None and not learned.is_behind:
            logger.warning(
                "Changes of database %r cannot be numbered yet: look for a process or a "
                "transaction that holds its locks.",
                self.alias,
                exc_info=cause,
            )
        learned.is_behind = cause is not None


def _raise_absence(cause: BaseException | None, reached: Mapping[str, Any]) -> None:
    """
    Raise `cause` if a database is gone, or was gone since it was `reached`.

    Django connects again when it leaves a transaction whose connection is lost. If the database is
    there, a query that it refused, or took too long for, is the project's own error.
    """
    if cause is not None and is_unavailable(cause):
        is_busy = "locked" in str(cause)
        if is_busy or _is_lost(reached):
            raise cause


def _reached() -> dict[str, Any]:
    """Return the drivers' connections that this thread has, by database."""
    connected = connections.all(initialized_only=True)
    return {c.alias: c.connection for c in connected if c.connection is not None}


def _is_lost(reached: Mapping[str, Any]) -> bool:
    """Return whether one of them is another now, or unusable."""
    return any(connections[a].connection is not before for a, before in reached.items()) or any(
        connection.errors_occurred and not connection.is_usable()
        for connection in connections.all(initialized_only=True)
    )
