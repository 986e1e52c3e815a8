"""
A pass: from what the log says has changed to what each subscriber is told.

All of it is read in one snapshot of the database: the end of the log, who may see what, the
rows. So an event never shows more than its subscriber may see at that moment, and subscribers
who join are exactly where the others are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from rest_channels.live import log
from rest_channels.live.audiences import Audience, Changes, judges_rows
from rest_channels.live.equalities import narrowed
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
from rest_channels.live.telling import Arrival, Moment, Sending, Telling, TooFarReaching, Work
from rest_channels.protocol import Reply

# Rows that a related table may have changed are read again so long after it has, together with
# what changes meanwhile (seconds).
_REFRESH_DELAY: Final = 0.1

# Audiences of which a pass reads all rows, for who joins: their texts are in memory together.
_READS_AT_A_TIME: Final = 50


#: Those who are there, and DRF's answer for each.
Known = dict[Subscription, Evaluation]


class ProjectError(Exception):
    """The project's code raised, its cause, for these subscribers; nobody was told anything."""

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        super().__init__()
        self.subscriptions = subscriptions


class ReadingError(Exception):
    """Of the rows of many audiences, read together, some cannot be read."""


@dataclass
class Outcome:
    """
    What came of a pass: calls that send, for the loop, in order, a few or many at a time.
    `postponed` are left for the next pass to let in. `has_more` says that the log goes on,
    `refresh_at` when rows are due to be read again (monotonic seconds).
    """

    sendings: list[Iterable[Sending]] = field(default_factory=list)
    postponed: list[Subscription] = field(default_factory=list)
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

    def __init__(self, state: State, *, reads_apart: bool = False) -> None:
        self.state = state
        self._reads_apart = reads_apart
        self.alias = state.alias
        self.outcome = Outcome()
        self.work: dict[Audience, Work] = {}
        self._commits: list[Callable[[], None]] = []
        self._new: dict[Any, Audience] = {}
        self._left: set[Subscription] = set()
        self._judged: dict[Subscription, Evaluation] = {}
        self._has_doubts = False
        self._knows_pending = True
        # Audiences of which all rows are read, for who arrives.
        self._reads = 0

    def run(self, joining: Sequence[Subscription], asking: Sequence[Subscription] = ()) -> Outcome:
        """
        Follow the log to its end, or by a page; let `joining` in once that is reached; judge
        `asking` anew, for whom something waits. Raises
        `ProjectError`, `ReadingError`, after which another pass `reads_apart` to find out whose
        fault it is, `TooFarReaching`, after which another one asks DRF for more answers, or what
        the database raises: then nothing has changed.
        """
        end = log.head(self.alias)
        target, entries, is_lost = self._read(end)
        pending = log.notes(self.alias, limit=log.PAGE_SIZE)
        self.changes = Changes.by_label(entries)
        self.moment = Moment(
            target,
            History(self.alias, target),
            self.changes,
            Changes.by_label(pending),
            {entry.position: entry.mark for entry in entries},
        )
        self._knows_pending = len(pending) < log.PAGE_SIZE
        # Before the first pass nobody followed what was written to users, or to what decides.
        is_followed = self.state.place is not None and not is_lost
        is_all_read = is_followed and target == end and self._knows_pending
        self._doubt(Changes.by_label([*entries, *pending]) if is_all_read else None)
        self._find_concerned(is_lost)
        if target == end:
            self._let_all_in(joining)
        self._judge_all(asking)
        self._tell_all()
        self.outcome.sendings.append([subscription.go_on for subscription in asking])
        self.outcome.has_more = target != end
        return self.outcome

    def commit(self) -> None:
        """
        Change the state, once the snapshot has ended well: a database that is gone at its end has
        nobody told, and all of it is to be told by the next pass.
        """
        state = self.state
        state.audiences.update(self._new)
        for commit in self._commits:
            commit()
        self._forget_empty()
        state.place = self.moment.target
        state.evaluations.are_narrowed = False
        due = [a.refresh_at for a in state.audiences.values() if a.refresh_at is not None]
        self.outcome.refresh_at = min(due, default=None)

    def _forget_empty(self) -> None:
        audiences = self.state.audiences
        # Nobody may join what was not told of all changes. Not a new dictionary: it would hash the
        # SQL of each anew.
        for key in [key for key, a in audiences.items() if not a.subscriptions]:
            del audiences[key]

    # What has changed

    def _read(self, end: Place) -> tuple[Place, list[Any], bool]:
        """Where this pass leads, the entries on the way, and whether the way is lost."""
        place = self.state.place
        if place is None or place == end:
            return end, [], False
        entries = log.since(self.alias, place)
        if not entries:
            # Pruned under our feet, or another history: a backup was restored.
            return end, [], True
        return Place(entries[-1].position, entries[-1].mark), entries, False

    def _doubt(self, changes: Mapping[str, Changes] | None) -> None:
        """
        Ask again who may see what, where it was made of rows that `changes` wrote to; None for
        all. What this snapshot shows of rows may be newer than what the log says of them, so what
        is pending counts as well.
        """
        if changes is not None and not changes:
            return
        self._has_doubts = self.state.evaluations.doubt(changes)
        whose = users_in(changes) if changes is not None else None
        for audience in self.state.audiences.values() if whose is None or whose else ():
            for subscription in list(audience.subscriptions):
                credentials = subscription.topic.credentials
                if whose is None or str(credentials.user_pk) in whose:
                    credentials.doubt()

    def _find_concerned(self, is_lost: bool) -> None:
        now = time.monotonic()
        wanted: dict[Audience, Set[str]] = {}
        # For most all there is to know: ten thousand may be asked.
        of_tables: dict[Hashable, Set[str] | None] = {}
        for audience in self.state.audiences.values():
            tables = audience.tables
            if tables not in of_tables:
                of_tables[tables] = audience.own_keys(self.changes)
            own_keys = of_tables[tables]
            if is_lost or (audience.refresh_at is not None and audience.refresh_at <= now):
                self.work[audience] = Work(keys=None)
            elif own_keys is not None:
                if own_keys:
                    wanted[audience] = own_keys
            elif audience.is_concerned(self.changes):
                with _blaming(audience.subscriptions):
                    keys = audience.concerned_keys(self.changes)
                own = self.changes.get(audience.label, Changes())
                if keys is None and not own.whole:
                    # Of a related table one does not know which rows: all, once it is quiet.
                    if audience.refresh_at is None:
                        audience.refresh_at = now + _REFRESH_DELAY
                    keys = set(own.of_key)
                if keys is None:
                    self.work[audience] = Work(keys)
                else:
                    wanted[audience] = keys
        for audience, keys in narrowed(wanted, self.alias).items():
            self.work[audience] = Work(keys)

    # Who may see it

    def _judge_all(self, asking: Sequence[Subscription]) -> None:
        """
        Ask DRF anew about subscribers who are to be told something and whose lease is over, and
        about those whose answer is in doubt, or serves others for whom it would be another.
        """
        evaluations = self.state.evaluations
        for subscription in asking:
            audience = subscription.audience
            if audience is not None and not (subscription.is_over or subscription.is_judged):
                self._judge(subscription, audience)
        if self._has_doubts or evaluations.are_narrowed:
            for audience in self.state.audiences.values():
                for subscription in self._unreliable(audience, is_told=False):
                    self._judge(subscription, audience)
        # Who comes to an audience may have those who are there told something, too.
        told: set[Audience] = set()
        while to_be_told := [a for a, work in self.work.items() if work.tells and a not in told]:
            told.update(to_be_told)
            for audience in to_be_told:
                for subscription in self._unreliable(audience, is_told=True):
                    self._judge(subscription, audience)

    def _unreliable(self, audience: Audience, *, is_told: bool) -> list[Subscription]:
        """Those of `audience` whose answer may not be relied on any more."""
        # One answer may serve thousands.
        holds: dict[Evaluation, bool] = {}
        found = []
        for subscription in list(audience.subscriptions):
            evaluation = subscription.evaluation
            if evaluation not in holds:
                holds[evaluation] = not (
                    evaluation.is_doubted
                    or (is_told and not evaluation.is_fresh)
                    or self.state.evaluations.serves_too_many(evaluation)
                )
            is_reliable = holds[evaluation] and not (is_told and subscription.is_of_another)
            if not (is_reliable or subscription in self._left or subscription in self._judged):
                found.append(subscription)
        return found

    def _judge(self, subscription: Subscription, audience: Audience) -> None:
        evaluation = self._evaluation(subscription)
        identity = subscription.topic.identity
        if not evaluation.is_allowed:
            self._leave(subscription, audience)
            self.outcome.sendings.append([subscription.revoke])
            return
        judged = self._audience(subscription, evaluation)
        # What was written may decide how rows look, not only which.
        looks_different = subscription.is_in_doubt and not audience.is_shared
        if judged is not audience or looks_different:
            self._leave(subscription, audience)
            held = dict(audience.members)
            self._arrive(judged, Arrival(subscription, evaluation, identity, held))
            return
        if not audience.evaluation.is_fresh:
            # The same rows; but a view that was judged just now.
            audience.evaluation = evaluation
        self._judged[subscription] = evaluation
        self._commits.append(partial(subscription.judge, evaluation, identity))

    def _let_all_in(self, joining: Sequence[Subscription]) -> None:
        for number, subscription in enumerate(joining):
            if self._reads >= _READS_AT_A_TIME:
                self.outcome.postponed = list(joining[number:])
                return
            self._let_in(subscription)

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
            self.outcome.sendings.append([partial(subscription.refuse, refusal)])

    def _evaluation(self, subscription: Subscription) -> Evaluation:
        with _blaming([subscription]):
            return self.state.evaluations.of(subscription.topic)

    def _audience(self, subscription: Subscription, evaluation: Evaluation) -> Audience:
        topic = subscription.topic
        with _blaming([subscription]):
            # What an object permission hides from one it may show to another.
            is_own = evaluation.has_own_rows or (topic.is_row and judges_rows(evaluation.view))
        owner = owner_of(topic, ONE_SOCKET if is_own else EVERYBODY)
        key = (topic.place, evaluation.key, topic.row, owner)
        audience = self.state.audiences.get(key) or self._new.get(key)
        if audience is None:
            with _blaming([subscription]):
                audience = Audience(key, evaluation, is_row=topic.is_row)
            self._new[key] = audience
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
            with _blaming([arrival.subscription, *audience.subscriptions]):
                self._read_all(audience, work)

    def _read_all(self, audience: Audience, work: Work) -> None:
        """
        Who is shown all rows of this snapshot may be shown what those who are there were not told
        of yet: rows of a related table that wait to be read again, or that are pending. These are
        told of it now as well, for all must hold the same when it changes again.
        """
        if work.reads_all:
            return
        self._reads += 1
        work.reads_all = True
        if audience.refresh_at is not None or not self._knows_pending:
            work.keys = None
        elif work.keys is not None and audience.is_concerned(self.moment.pending):
            keys = audience.concerned_keys(self.moment.pending)
            work.keys = None if keys is None else work.keys | keys

    # What they are told

    def _tell_all(self) -> None:
        known = {audience: self._known(audience) for audience in self.work}
        wanted = {
            audience: work.wanted
            for audience, work in self.work.items()
            if work.arrivals or known[audience]
        }
        for audience, rows in self._read_rows(wanted, known):
            work = self.work[audience]
            telling = Telling(audience, work, known[audience], rows, self.moment)
            with _blaming(_concerned(work, known[audience])):
                telling.run()
            self.outcome.sendings += telling.sendings
            self._commits += telling.commits

    def _read_rows(
        self, wanted: Mapping[Audience, set[str] | None], known: Mapping[Audience, Known]
    ) -> Iterable[tuple[Audience, list[Any]]]:
        if self._reads_apart:
            for audience, keys in wanted.items():
                with _blaming(_concerned(self.work[audience], known[audience])):
                    ((_, rows),) = read_rows({audience: keys})
                yield audience, rows
            return
        found = iter(read_rows(wanted))
        while True:
            try:
                one = next(found, None)
            except Exception as exc:
                # The transaction may be of no use any more.
                raise ReadingError from exc
            if one is None:
                return
            yield one

    def _known(self, audience: Audience) -> Known:
        return {
            subscription: self._judged.get(subscription, subscription.evaluation)
            for subscription in list(audience.subscriptions)
            if subscription not in self._left and not subscription.is_over
        }


def _concerned(work: Work, known: Known) -> list[Subscription]:
    """Those who are to be told something, or let in."""
    return [*known, *(arrival.subscription for arrival in work.arrivals)]


@contextmanager
def _blaming(subscriptions: Iterable[Subscription]) -> Iterator[None]:
    """What the project's code raises is an error of these subscriptions alone."""
    try:
        yield
    except TooFarReaching:
        raise
    except Exception as exc:
        raise ProjectError(list(subscriptions)) from exc
