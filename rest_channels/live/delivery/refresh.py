"""
A pass: from the changes in the log to the events of each subscriber.

A pass reads everything in one snapshot of the database: the end of the log, DRF's answers, the
rows. So an event never shows more than its subscriber may see at that moment, and new subscribers
start exactly where the others are.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

from rest_channels.live.delivery.judging import Judging
from rest_channels.live.delivery.pass_state import Cohort, Draft, Outcome, Seen, State, blaming
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.telling import Telling
from rest_channels.live.delivery.uniting import unite_twins
from rest_channels.live.delivery.update_plan import LogWindow, UpdatePlan
from rest_channels.live.keys import user_key
from rest_channels.live.log import store
from rest_channels.live.log.positions import Position
from rest_channels.live.log.replay import History
from rest_channels.live.visibility.audiences import ModelChanges
from rest_channels.live.visibility.evaluations import users_in
from rest_channels.live.visibility.filter_index import narrowed
from rest_channels.live.visibility.window_edges import in_front

# How long after a change of a related table rows are read again, together with changes in the
# meantime (seconds).
_REFRESH_DELAY: Final = 0.1


class Pass:
    """One pass over one snapshot of the database; `run` is called once, in a worker thread."""

    def __init__(self, state: State, *, reads_apart: bool = False) -> None:
        self.state = state
        self.alias = state.alias
        self._reads_apart = reads_apart
        self._has_doubts = False

    def run(
        self,
        joining: Sequence[Subscription],
        asking: Sequence[Subscription] = (),
        coming: Sequence[Cohort] = (),
    ) -> Outcome:
        """
        Follow the log to its end, or by one page; return the outcome.

        Once the end is reached, `joining` subscriptions join. `coming` cohorts receive what they
        have missed, and belong to this track from then on. Subscriptions `asking` are
        evaluated again, because events wait for them. If it raises, nothing has changed, and the
        caller runs another pass: after `ProjectError` without the subscribers it names; after
        `ReadingError` one that `reads_apart` to find the cause; after `TooFarReaching` one that
        asks DRF for more answers; after `AskAgain` in another transaction. Also raises the errors
        of the database.
        """
        self._version = self.state.learned.version
        end = store.head(self.alias)
        target, entries, is_lost = self._read(end)
        self.draft = Draft(self.state, self._window(target, entries), Outcome())
        # Before the first pass, no process follows writes to users or permissions.
        is_followed = self.state.place is not None and not is_lost
        self.draft.outcome.seen = Seen(target, self.draft.window.changes, is_followed)
        if is_followed or self.state.audiences or joining:
            self._doubt(self._readable(entries) if is_followed and target == end else None)
        self._find_concerned(self.state.audiences.values(), self.draft.window, is_lost)
        for cohort in coming:
            self._catch_up(cohort, end)
        asking = self._without_waiting(asking)
        judging = Judging(self.draft, has_doubts=self._has_doubts)
        if target == end:
            judging.let_all_in(joining)
        judging.judge_all(asking)
        Telling(self.draft, reads_apart=self._reads_apart).tell_all()
        outcome = self.draft.outcome
        outcome.sendings.append([subscription.go_on for subscription in asking])
        outcome.has_more = target != end
        return outcome

    def _window(self, target: Position, entries: list[Any]) -> LogWindow:
        pending = store.notes(self.alias, limit=store.PAGE_SIZE)
        return LogWindow(
            target,
            History(self.alias, target),
            ModelChanges.by_label(entries),
            ModelChanges.by_label(pending),
            {entry.position: entry.mark for entry in entries},
            has_more_pending=len(pending) >= store.PAGE_SIZE,
        )

    def _readable(self, entries: list[Any]) -> Mapping[str, ModelChanges] | None:
        """Return the changes that this snapshot shows after some position; None if unknown."""
        window = self.draft.window
        if window.has_more_pending:
            return None
        found = ModelChanges.by_label(entries)
        for label, changes in window.pending.items():
            found[label] = found[label].joined(changes) if label in found else changes
        return found

    def _catch_up(self, cohort: Cohort, end: Position) -> None:
        """Tell the audiences of a cohort what they have missed, and take them in."""
        window, place = self.draft.window, cohort.place
        if window.target.number < place.number <= end.number:
            # This pass does not lead as far as they are.
            self.draft.outcome.waiting.append(cohort)
            return
        entries = window.history.since(place)
        is_lost = entries is None
        entries = entries or []
        changes = ModelChanges.by_label(entries)
        marks = {entry.position: entry.mark for entry in entries}
        missed = replace(window, changes=changes, marks=marks)
        for audience in cohort.audiences:
            self.draft.windows[audience] = missed
            for subscription in list(audience.subscriptions):
                self.state.evaluations.adopt(subscription.topic, subscription.evaluation)
        is_all_read = not is_lost and window.target == end
        self._doubt(self._readable(entries) if is_all_read else None, cohort.audiences)
        self._find_concerned(cohort.audiences, missed, is_lost)

    def _without_waiting(self, asking: Sequence[Subscription]) -> list[Subscription]:
        """Return those of `asking` whose audiences take part in this pass."""
        outcome = self.draft.outcome
        waiting = {audience for cohort in outcome.waiting for audience in cohort.audiences}
        outcome.unasked = [s for s in asking if s.audience in waiting]
        return [s for s in asking if s.audience not in waiting]

    def commit(self) -> None:
        """
        Change the state, after the snapshot has ended without an error.

        If the database is lost at the end, no event is sent, and the next pass sends them all.
        """
        state = self.state
        state.audiences.update(self.draft.new)
        for commit in self.draft.commits:
            commit()
        state.take_in(self.draft.windows)
        unite_twins(state)
        self._forget_empty()
        state.place = self.draft.window.target
        state.evaluations.agree(self._version)
        now = time.monotonic()
        for audience, work in self.draft.work.items():
            if work.wanted is None:
                audience.renew(now)
        self.draft.outcome.refresh_at = state.due_at

    def _forget_empty(self) -> None:
        audiences = self.state.audiences
        # A subscriber must not join an audience that has missed changes. Deleted one by one,
        # because a new dictionary would hash the SQL of each key.
        for key in [key for key, a in audiences.items() if not a.subscriptions]:
            del audiences[key]

    # Changes

    def _read(self, end: Position) -> tuple[Position, list[Any], bool]:
        """
        Return the position this pass leads to, the changes before it, and whether any are lost.
        """
        place = self.state.place
        if place is None or place == end:
            return end, [], False
        entries = store.since(self.alias, place)
        if not entries:
            # Pruned meanwhile, or another history: a backup was restored.
            return end, [], True
        return Position(entries[-1].position, entries[-1].mark), entries, False

    def _doubt(
        self,
        changes: Mapping[str, ModelChanges] | None,
        audiences: Collection[SubscribedAudience] | None = None,
    ) -> None:
        """
        Ask DRF again for answers made from rows that `changes` wrote to; None for all answers.

        `audiences` are those whose users may have to be read again, all by default.

        The rows in this snapshot may be newer than the log, so pending changes count as well.
        """
        if changes is not None and not changes:
            return
        self._has_doubts = self.state.evaluations.doubt(changes) or self._has_doubts
        whose = users_in(changes) if changes is not None else None
        concerned = self.state.audiences.values() if audiences is None else audiences
        for audience in concerned if whose is None or whose else ():
            for subscription in list(audience.subscriptions):
                credentials = subscription.topic.credentials
                if whose is None or user_key(credentials.user_pk) in whose:
                    credentials.doubt()

    def _find_concerned(
        self, audiences: Collection[SubscribedAudience], window: LogWindow, is_lost: bool
    ) -> None:
        now = time.monotonic()
        wanted: dict[SubscribedAudience, Set[str]] = {}
        # Computed once for each set of tables, because there may be ten thousand audiences.
        of_tables: dict[Hashable, Set[str] | None] = {}
        for audience in audiences:
            tables = audience.tables
            if tables not in of_tables:
                of_tables[tables] = audience.own_keys(window.changes)
            own_keys = of_tables[tables]
            if audience.expires_at is not None and audience.expires_at <= now:
                self._expire(audience)
            elif is_lost or (audience.refresh_at is not None and audience.refresh_at <= now):
                self.draft.work[audience] = UpdatePlan(keys=None)
            elif own_keys is not None:
                if own_keys:
                    wanted[audience] = own_keys
            elif audience.is_concerned(window.changes):
                with blaming(audience.subscriptions):
                    keys = audience.concerned_keys(window.changes)
                own = audience.own_changes(window.changes)
                if keys is None and not own.whole:
                    # The rows that look different are unknown: read all, once no more changes come.
                    if audience.refresh_at is None:
                        audience.refresh_at = now + _REFRESH_DELAY
                    keys = set() if audience.is_whole else set(own.of_key)
                if keys is None:
                    self.draft.work[audience] = UpdatePlan(keys)
                elif audience.window is not None and audience.refresh_at is None:
                    # Rows outside the window may enter it.
                    self.draft.work[audience] = UpdatePlan(keys, reads_order=True)
                else:
                    wanted[audience] = keys
        for audience, keys in in_front(narrowed(wanted, self.alias), self.alias).items():
            self.draft.work[audience] = UpdatePlan(keys)

    def _expire(self, audience: SubscribedAudience) -> None:
        """Ask DRF again, because its queryset may be another one now, and read all rows."""
        for subscription in list(audience.subscriptions):
            subscription.evaluation.doubt()
        self._has_doubts = True
        self.draft.work[audience] = UpdatePlan(keys=None)
