"""
One audience in one pass: what its subscribers are told, and how others join them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rest_channels.live import positions
from rest_channels.live.audiences import Audience, Changes, Texts, show
from rest_channels.live.capture import key_of
from rest_channels.live.evaluations import (
    EVERYBODY,
    ONE_SOCKET,
    Evaluation,
    is_judged_by,
    owner_of,
)
from rest_channels.live.events import Event, of_changes, of_state, placed
from rest_channels.live.history import History
from rest_channels.live.log import Kind
from rest_channels.live.positions import Place
from rest_channels.live.subscriptions import Subscription
from rest_channels.protocol import MISSING, Reply
from rest_channels.settings import socket_settings

Sending = Callable[[], None]


@dataclass(eq=False)
class Arrival:
    """
    A subscriber new to an audience. `held` is what one who comes from another audience holds;
    None for who has just subscribed.
    """

    subscription: Subscription
    evaluation: Evaluation
    identity: Any
    held: Mapping[str, int | None] | None = None

    @property
    def is_new(self) -> bool:
        return self.held is None

    @property
    def resumes(self) -> bool:
        return self.is_new and self.subscription.options.since is not MISSING

    @property
    def needs_all(self) -> bool:
        return not self.is_new or self.subscription.options.snapshot


@dataclass
class Work:
    """
    What a pass does for one audience: tell what became of the rows of these keys, None for all;
    let in. Who arrives needs more rows than those who are there are told of.
    """

    keys: set[str] | None = field(default_factory=set)
    arrivals: list[Arrival] = field(default_factory=list)
    reads_all: bool = False

    @property
    def tells(self) -> bool:
        """Whether those who are there may be told something."""
        return self.keys is None or bool(self.keys)

    @property
    def wanted(self) -> set[str] | None:
        """The keys of the rows to read, None for all."""
        return None if self.reads_all else self.keys


@dataclass(frozen=True)
class Moment:
    """
    Where in the log a pass has come to, and by which entries. Of `pending` changes the rows may
    show already what the log does not know.
    """

    target: Place
    history: History
    changes: Mapping[str, Changes]
    pending: Mapping[str, Changes]
    marks: Mapping[int, int]


class TooFarReaching(Exception):
    """Answers of `family` serve subscribers for whom different texts would be made."""

    def __init__(self, family: Any, reach: int) -> None:
        super().__init__()
        self.family = family
        self.reach = reach


class Telling:
    """
    `sendings` are for the loop, `commits` for the end of the pass: until then nothing of the
    audience has changed.
    """

    def __init__(
        self,
        audience: Audience,
        work: Work,
        known: Mapping[Subscription, Evaluation],
        rows: Sequence[Any],
        moment: Moment,
    ) -> None:
        self.audience = audience
        self.work = work
        self.known = known
        self.moment = moment
        self.rows = {key_of(audience.model, row.pk) or "": row for row in rows}
        self.sendings: list[Iterable[Sending]] = []
        self.commits: list[Callable[[], None]] = []
        self._arrivals = {arrival.subscription: arrival for arrival in work.arrivals}
        self._own = moment.changes.get(audience.label, Changes()).of_key
        self._missed: dict[tuple[Place, Evaluation], Changed | None] = {}
        self._snapshots: dict[int, str] = {}

    def run(self) -> None:
        """Do all of it. Raises what the project's code raises; then nothing has happened."""
        if len(self.rows) > socket_settings.MAX_SUBSCRIPTION_ROWS:
            self._end_all()
            return
        groups = self._groups()
        for subscriptions, texts in groups:
            self._tell([s for s in subscriptions if s in self.known], texts)
        self._note(groups[0][1] if groups else {})
        if self.work.arrivals:
            texts_for = {s: texts for subscriptions, texts in groups for s in subscriptions}
            for arrival in self.work.arrivals:
                self._welcome(arrival, texts_for[arrival.subscription])
        # What there is to send outlives them.
        self.rows = {}

    # Who sees what

    def _groups(self) -> list[tuple[list[Subscription], Texts]]:
        """
        Subscribers with the same texts. Where making them turns out to read who asks, subscribers
        fall into smaller groups, and what was made is forgotten. Raises `TooFarReaching`.
        """
        audience = self.audience
        evaluations = {**self.known, **{a.subscription: a.evaluation for a in self.work.arrivals}}
        if any(evaluation.has_own_state for evaluation in evaluations.values()):
            audience.reach = ONE_SOCKET
        while True:
            reach = audience.reach
            if any(evaluation.reach < reach for evaluation in evaluations.values()):
                # One view would speak for others than those it was made for.
                raise TooFarReaching(audience.evaluation.family, reach)
            found = []
            for subscriptions in _by_owner(evaluations, reach):
                evaluation = evaluations[subscriptions[0]]
                needed = self._needed_keys(subscriptions)
                rows = [row for key, row in self.rows.items() if needed is None or key in needed]
                texts, needs = show(evaluation, rows, is_row=audience.is_row) if rows else ({}, 0)
                audience.has_shown = audience.has_shown or bool(texts)
                audience.reach = max(audience.reach, needs)
                if audience.reach > reach:
                    break
                found.append((subscriptions, texts))
            if audience.reach == reach:
                return found

    def _needed_keys(self, subscriptions: Sequence[Subscription]) -> set[str] | None:
        """Keys of the rows that somebody of `subscriptions` is shown; None for all."""
        arrivals = [self._arrivals[s] for s in subscriptions if s in self._arrivals]
        if any(arrival.needs_all for arrival in arrivals) or self.audience.is_row:
            return None
        needed: set[str] = set()
        if len(arrivals) < len(subscriptions):
            if self._scope is None:
                return None
            needed |= self._scope
        for arrival in arrivals:
            if arrival.resumes:
                changed = self._changed_since(arrival)
                held = arrival.subscription.options.held
                if changed is None:
                    continue
                needed |= self.rows.keys() if changed.keys is None else changed.keys
                if held is not None:
                    needed |= self.rows.keys() - held.keys()
        return needed

    @property
    def _scope(self) -> set[str] | None:
        """The keys whose rows are compared with what subscribers hold; None for all."""
        return self.work.keys if self.audience.is_populated else None

    def _seen(self, texts: Texts) -> Collection[str]:
        # Of a row an object permission may have hidden it.
        return texts if self.audience.is_row else self.rows

    # Those who are there

    def _tell(self, subscriptions: list[Subscription], texts: Texts) -> None:
        if not subscriptions:
            return
        members, scope = self.audience.members, self._scope
        if scope is None:
            scope = members.keys() | texts.keys() | self._own.keys()
        others = scope - self._own.keys()
        of_others = {key: members[key] for key in others if key in members}
        shown = {key: text for key, text in texts.items() if key in others}
        if self.audience.reach != EVERYBODY:
            # The texts are not those that the hashes were made of.
            of_others = dict.fromkeys(of_others)
        keys = scope & self._own.keys()
        events = of_state(of_others, shown)
        events += of_changes(keys, members, self._seen(texts), self._own)
        # Until all is read again that a related table has changed, nobody has come further.
        awaits_refresh = self.audience.refresh_at is not None and self._scope is not None
        target = None if awaits_refresh else self.moment.target
        self._send(subscriptions, placed(events, target, self.moment.marks), texts)

    def _send(self, subscriptions: list[Subscription], events: list[Event], texts: Texts) -> None:
        if events:
            # All of one audience, and so of one stream, speak in one way.
            shared = subscriptions[0].texts_of(self.audience, events, texts)
            # Made one by one, when it is their turn: thousands at once would keep the garbage
            # collector busy for longer than all else here.
            self.sendings.append(partial(s.tell, events, shared) for s in subscriptions)

    def _note(self, texts: Texts) -> None:
        """Remember what subscribers hold from now on."""
        audience, scope = self.audience, self._scope
        # Where an object permission has a say, there is one group alone.
        seen = self._seen(texts)
        if audience.reach != EVERYBODY:
            # Each group got texts of its own.
            texts = {}
        if scope is None:
            members = {key: _digest(texts, key) for key in seen}

            def commit() -> None:
                audience.members = members
                audience.is_populated = True
                audience.refresh_at = None
        else:
            held = {key: _digest(texts, key) for key in scope if key in seen}

            def commit() -> None:
                for key in scope - held.keys():
                    audience.members.pop(key, None)
                audience.members.update(held)

        self.commits.append(commit)

    # Those who come

    def _welcome(self, arrival: Arrival, texts: Texts) -> None:
        subscription = arrival.subscription
        target = self.moment.target
        if not arrival.is_new:
            events = of_state(arrival.held or {}, texts)
            self._send([subscription], placed(events, target, {}), texts)
        elif arrival.resumes:
            self._resume(arrival, texts)
        else:
            data = self._snapshot(subscription, texts)
            acknowledge = partial(subscription.acknowledge, target, is_resumed=False, data=data)
            self.sendings.append([acknowledge])
        self.commits.append(partial(self._enter, arrival))

    def _enter(self, arrival: Arrival) -> None:
        subscription = arrival.subscription
        if not subscription.is_over:
            subscription.judge(arrival.evaluation, arrival.identity)
            subscription.audience = self.audience
            self.audience.subscriptions.add(subscription)
        if subscription.is_over:
            # Ended meanwhile, on the loop, which may have looked for it elsewhere.
            self.audience.subscriptions.discard(subscription)

    def _snapshot(self, subscription: Subscription, texts: Texts) -> str:
        if not subscription.options.snapshot:
            return "null"
        if self.audience.is_row:
            return next(iter(texts.values()), "null")
        # One text, however many are welcomed with it.
        if id(texts) not in self._snapshots:
            self._snapshots[id(texts)] = f"[{', '.join(texts[key] for key in self.rows)}]"
        return self._snapshots[id(texts)]

    def _resume(self, arrival: Arrival, texts: Texts) -> None:
        subscription = arrival.subscription
        target = self.moment.target
        changed = self._changed_since(arrival)
        if changed is None:
            acknowledge = partial(subscription.acknowledge, None, is_resumed=False, data="null")
            reset = partial(subscription.reset, target, self._snapshot(subscription, texts))
            self.sendings.append([acknowledge, reset])
            return
        events = self._events_since(changed, subscription.options.held, texts)
        marks = {entry.position: entry.mark for e in changed.own.values() for entry in e}
        acknowledge = partial(subscription.acknowledge, changed.place, is_resumed=True, data="null")
        self.sendings.append([acknowledge])
        if events:
            self._send([subscription], placed(events, target, marks), texts)
        elif changed.place != target:
            self.sendings.append([partial(subscription.sync, target)])

    def _changed_since(self, arrival: Arrival) -> Changed | None:
        """What changed since the place a subscriber shows; None where that is of no use."""
        subscription = arrival.subscription
        place = positions.decode(subscription.options.since, subscription.seal)
        if place is None:
            return None
        missed = place, arrival.evaluation
        if missed not in self._missed:
            self._missed[missed] = self._read_since(*missed)
        changed = self._missed[missed]
        if changed is not None and subscription.options.held is None:
            is_unknown = changed.keys is None and not self.audience.is_row
            if is_unknown or self.audience.is_concerned(self.moment.pending):
                # Rows may be gone that nobody knows this client to hold.
                return None
        return changed

    def _read_since(self, place: Place, evaluation: Evaluation) -> Changed | None:
        entries = self.moment.history.since(place)
        if entries is None:
            return None
        changes = Changes.by_label(entries)
        is_judged_anew = is_judged_by(evaluation, changes)
        return Changed(
            place,
            # What decides who sees a row may decide how it looks.
            None if is_judged_anew else self.audience.concerned_keys(changes),
            changes.get(self.audience.label, Changes()).of_key,
        )

    def _events_since(
        self, changed: Changed, held: Mapping[str, Any] | None, texts: Texts
    ) -> list[Event]:
        seen = self._seen(texts)
        keys = set(self.rows) if changed.keys is None else changed.keys
        if held is None:
            # What was not created since, the client is taken to hold; of what is gone it is not.
            held = {
                key: None
                for key in keys & set(seen)
                if all(entry.kind != Kind.CREATE for entry in changed.own.get(key, ()))
            }
        canonical = {key_of(self.audience.model, key) or key: None for key in held}
        own = keys & changed.own.keys()
        others = {key: None for key in canonical if key not in own}
        unwritten = {key: texts[key] for key in seen if key not in own and key in texts}
        told = {k: t for k, t in unwritten.items() if k not in others or k in keys}
        gone = {key: None for key in others if key not in seen or key in keys}
        return of_state(gone, told) + of_changes(own, canonical, seen, changed.own)

    # Those who are too many

    def _end_all(self) -> None:
        limit = socket_settings.MAX_SUBSCRIPTION_ROWS
        detail = f"More than {limit} rows: filter what you subscribe to."
        refusal = Reply.error(400, detail, "too_many_rows")
        arriving = [arrival.subscription for arrival in self.work.arrivals]
        self.sendings.append([partial(s.give_up, refusal) for s in (*arriving, *self.known)])
        for subscription in self.known:
            self.commits.append(partial(self.audience.subscriptions.discard, subscription))


@dataclass(frozen=True)
class Changed:
    """
    What became of a topic's rows since `place`: those of `keys`, None for all, were concerned by
    the entries of `own`, or by others.
    """

    place: Place
    keys: set[str] | None
    own: Mapping[str, Sequence[Any]]


def _by_owner(subscriptions: Iterable[Subscription], reach: int) -> Iterable[list[Subscription]]:
    groups: dict[Any, list[Subscription]] = {}
    for subscription in subscriptions:
        groups.setdefault(owner_of(subscription.topic, reach), []).append(subscription)
    return groups.values()


def _digest(texts: Texts, key: str) -> int | None:
    return hash(texts[key]) if key in texts else None
