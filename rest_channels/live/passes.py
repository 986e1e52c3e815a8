"""
A pass: from what the log says has changed to what each subscriber is told.

All of it is read in one snapshot of the database: the end of the log, who may see what, the
rows. So an event never shows more than its subscriber may see at that moment, and subscribers
who join are exactly where the others are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from django.db import InterfaceError, OperationalError

from rest_channels.live import log
from rest_channels.live.audiences import Audience, Changes, judges_rows
from rest_channels.live.evaluations import (
    EVERYBODY,
    ONE_SOCKET,
    Evaluation,
    Evaluations,
    owner_of,
    users_in,
)
from rest_channels.live.history import History
from rest_channels.live.positions import Place
from rest_channels.live.reading import read_rows
from rest_channels.live.subscriptions import Subscription
from rest_channels.live.telling import Arrival, Moment, Sending, Telling, Work
from rest_channels.protocol import Reply

# Rows that a related table may have changed are read again so long after it has, together with
# what changes meanwhile (seconds).
_REFRESH_DELAY: Final = 0.1


class ProjectError(Exception):
    """The project's code raised, its cause, for these subscribers; nobody was told anything."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        super().__init__()
        self.subscriptions = subscriptions


@dataclass
class Outcome:
    """
    What came of a pass: calls that send, for the loop, in order. `has_more` says that the log
    goes on, `refresh_at` when rows are due to be read again (monotonic seconds).
    """

    sendings: list[Sending] = field(default_factory=list)
    has_more: bool = False
    refresh_at: float | None = None


@dataclass
class State:
    """
    What this process tells of one database: how far it has read the log, to whom it tells what.

    A pass changes it at its end, whole or not at all. Meanwhile the loop may only end
    subscriptions.
    """

    alias: str
    place: Place | None = None
    audiences: dict[Any, Audience] = field(default_factory=dict)
    evaluations: Evaluations = field(init=False)

    def __post_init__(self) -> None:
        self.evaluations = Evaluations(self.alias)


class Pass:
    """One look at one snapshot of the database; `run` is called once, in a worker thread."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.alias = state.alias
        self.outcome = Outcome()
        self.work: dict[Audience, Work] = {}
        self._commits: list[Callable[[], None]] = []
        self._new: dict[Any, Audience] = {}
        self._left: set[Subscription] = set()
        self._judged: dict[Subscription, Evaluation] = {}
        self._has_doubts = False

    def run(self, joining: Sequence[Subscription], asking: Sequence[Subscription] = ()) -> Outcome:
        """
        Follow the log to its end, or by a page; let `joining` in once that is reached; judge
        `asking` anew, for whom something waits. Raises
        `ProjectError`, or what the database raises: then nothing has changed.
        """
        end = log.head(self.alias)
        target, entries, is_lost = self._read(end)
        self.changes = Changes.by_label(entries)
        self.moment = Moment(
            target,
            History(self.alias, target),
            self.changes,
            {entry.position: entry.mark for entry in entries},
        )
        self._doubt()
        self._find_concerned(is_lost)
        self._judge_all(asking)
        if target == end:
            for subscription in joining:
                self._let_in(subscription)
        self._tell_all()
        self.outcome.sendings += [subscription.go_on for subscription in asking]
        self._commit()
        self.outcome.has_more = target != end
        return self.outcome

    def _commit(self) -> None:
        state = self.state
        state.audiences.update(self._new)
        for commit in self._commits:
            commit()
        state.audiences = {key: a for key, a in state.audiences.items() if a.subscriptions}
        state.place = self.moment.target
        due = [a.refresh_at for a in state.audiences.values() if a.refresh_at is not None]
        self.outcome.refresh_at = min(due, default=None)

    # What has changed

    def _read(self, end: Place) -> tuple[Place, list[Any], bool]:
        """Where this pass leads, the entries on the way, and whether the way is lost."""
        place = self.state.place
        if place is None or place == end or not self.state.audiences:
            return end, [], False
        if not log.holds(self.alias, place, end):
            # Pruned under our feet, or another history: a backup was restored.
            return end, [], True
        entries = log.since(self.alias, place)
        return Place(entries[-1].position, entries[-1].mark), entries, False

    def _doubt(self) -> None:
        """Ask again who may see what, where it was made of rows that were written to."""
        if not self.changes:
            return
        self._has_doubts = self.state.evaluations.doubt(self.changes)
        whose = users_in(self.changes)
        for audience in self.state.audiences.values() if whose is None or whose else ():
            for subscription in list(audience.subscriptions):
                credentials = subscription.topic.credentials
                if whose is None or str(credentials.user_pk) in whose:
                    credentials.doubt()

    def _find_concerned(self, is_lost: bool) -> None:
        now = time.monotonic()
        for audience in self.state.audiences.values():
            if is_lost or (audience.refresh_at is not None and audience.refresh_at <= now):
                self.work[audience] = Work(keys=None)
            elif audience.is_concerned(self.changes):
                keys = audience.concerned_keys(self.changes)
                own = self.changes.get(audience.label, Changes())
                if keys is None and not own.whole:
                    # Of a related table one does not know which rows: all, once it is quiet.
                    if audience.refresh_at is None:
                        audience.refresh_at = now + _REFRESH_DELAY
                    keys = set(own.of_key)
                self.work[audience] = Work(keys)

    # Who may see it

    def _judge_all(self, asking: Sequence[Subscription]) -> None:
        """
        Ask DRF anew about subscribers who are to be told something and whose lease is over, and
        about those whose answer is in doubt.
        """
        for subscription in asking:
            audience = subscription.audience
            if audience is not None and not (subscription.is_over or subscription.is_judged):
                self._judge(subscription, audience)
        for audience in self.state.audiences.values():
            is_told = audience in self.work
            if not (is_told or self._has_doubts):
                continue
            for subscription in list(audience.subscriptions):
                if subscription in self._left or subscription in self._judged:
                    continue
                if subscription.is_in_doubt or (is_told and not subscription.is_judged):
                    self._judge(subscription, audience)

    def _judge(self, subscription: Subscription, audience: Audience) -> None:
        evaluation = self._evaluation(subscription)
        identity = subscription.topic.identity
        if not evaluation.is_allowed:
            self._leave(subscription, audience)
            self.outcome.sendings.append(subscription.revoke)
            return
        judged = self._audience(subscription, evaluation)
        if judged is not audience:
            self._leave(subscription, audience)
            held = dict(audience.members)
            self._arrive(judged, Arrival(subscription, evaluation, identity, held))
            return
        if not audience.evaluation.is_fresh:
            # The same rows; but a view that was judged just now.
            audience.evaluation = evaluation
        self._judged[subscription] = evaluation
        self._commits.append(partial(subscription.judge, evaluation, identity))

    def _let_in(self, subscription: Subscription) -> None:
        if subscription.is_over:
            return
        evaluation = self._evaluation(subscription)
        if evaluation.is_allowed:
            arrival = Arrival(subscription, evaluation, subscription.topic.identity)
            self._arrive(self._audience(subscription, evaluation), arrival)
        else:
            detail = "You do not have permission to perform this action."
            refusal = Reply.error(403, detail, "permission_denied")
            self.outcome.sendings.append(partial(subscription.refuse, refusal))

    def _evaluation(self, subscription: Subscription) -> Evaluation:
        try:
            return self.state.evaluations.of(subscription.topic)
        except (OperationalError, InterfaceError):
            raise
        except Exception as exc:
            raise ProjectError([subscription]) from exc

    def _audience(self, subscription: Subscription, evaluation: Evaluation) -> Audience:
        topic = subscription.topic
        # What an object permission hides from one it may show to another.
        is_own = topic.is_row and judges_rows(evaluation.view)
        owner = owner_of(topic, ONE_SOCKET if is_own else EVERYBODY)
        key = (topic.place, evaluation.key, topic.row, owner)
        audience = self.state.audiences.get(key) or self._new.get(key)
        if audience is None:
            audience = self._new[key] = Audience(key, evaluation, is_row=topic.is_row)
        elif not audience.evaluation.is_fresh:
            audience.evaluation = evaluation
        return audience

    def _leave(self, subscription: Subscription, audience: Audience) -> None:
        self._left.add(subscription)
        self._commits.append(partial(audience.subscriptions.discard, subscription))

    def _arrive(self, audience: Audience, arrival: Arrival) -> None:
        work = self.work.setdefault(audience, Work())
        work.arrivals.append(arrival)
        if not audience.is_populated or arrival.needs_all or arrival.resumes:
            work.keys = None

    # What they are told

    def _tell_all(self) -> None:
        wanted = {
            audience: work.keys
            for audience, work in self.work.items()
            if work.arrivals or self._known(audience)
        }
        for audience, rows in read_rows(wanted).items():
            known = self._known(audience)
            work = self.work[audience]
            telling = Telling(audience, work, known, rows, self.moment)
            try:
                telling.run()
            except (OperationalError, InterfaceError):
                raise
            except Exception as exc:
                raise ProjectError([*known, *(a.subscription for a in work.arrivals)]) from exc
            self.outcome.sendings += telling.sendings
            self._commits += telling.commits

    def _known(self, audience: Audience) -> dict[Subscription, Evaluation]:
        return {
            subscription: self._judged.get(subscription, subscription.evaluation)
            for subscription in list(audience.subscriptions)
            if subscription not in self._left and not subscription.is_over
        }
