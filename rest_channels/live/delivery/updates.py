"""The update of one audience in a pass: events for its subscribers, and new subscribers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from rest_channels.live.delivery.events import Event, of_changes, of_gone, of_state, placed, renamed
from rest_channels.live.delivery.renderings import Group, check_reach, own_rows, render
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.update_plan import Join, LogWindow, MissedChanges, UpdatePlan
from rest_channels.live.keys import key_of
from rest_channels.live.log import positions
from rest_channels.live.log.positions import Position
from rest_channels.live.log.store import Kind
from rest_channels.live.topics import CANNOT_SUBSCRIBE
from rest_channels.live.visibility.audiences import ModelChanges, Texts
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.live.visibility.evaluations import is_judged_by
from rest_channels.live.visibility.row_names import Held, Names
from rest_channels.protocol import Reply
from rest_channels.settings import socket_settings

Sending = Callable[[], None]

#: The most hashes of an audience's unshared texts, some 100 bytes each. Beyond that, a subscriber
#: may receive rows again that have not changed.
MAX_OWN_DIGESTS: Final = 200_000


class AudienceUpdate:
    """
    The update of one audience.

    `sendings` are calls for the loop; `commits` are calls for the end of the pass, which change the
    audience.
    """

    def __init__(
        self,
        audience: SubscribedAudience,
        work: UpdatePlan,
        known: Mapping[Subscription, Evaluation],
        rows: Sequence[Any],
        moment: LogWindow,
    ) -> None:
        self.audience = audience
        self.work = work
        self.known = known
        self.moment = moment
        self._count = len(rows)
        self.rows, self._has_rivals = _by_key(audience, rows)
        self.sendings: list[Iterable[Sending]] = []
        self.commits: list[Callable[[], None]] = []
        self._arrivals = {arrival.subscription: arrival for arrival in work.arrivals}
        self._own = audience.own_changes(moment.changes).of_key
        self._missed: dict[tuple[Position, Evaluation], MissedChanges | None] = {}
        self._snapshots: dict[int, str] = {}
        self._holdings: dict[Subscription, Held] = {}

    def run(self) -> None:
        """Compute the whole update. If the project's code raises, nothing has changed."""
        if self._count > socket_settings.MAX_SUBSCRIPTION_ROWS:
            limit = socket_settings.MAX_SUBSCRIPTION_ROWS
            detail = (
                f"A subscription must not have more than {limit} rows: filter them, or ask for the "
                "first ones with 'window'."
            )
            self._end_all(Reply.error(400, detail, "too_many_rows"))
            return
        if self._has_rivals:
            self._end_all(Reply.error(400, _RIVALS, CANNOT_SUBSCRIBE))
            return
        asking = {**self.known, **{a.subscription: a.evaluation for a in self.work.arrivals}}
        groups, reads_more = render(self.audience, asking, self.rows, self._needed_keys)
        if reads_more and any(arrival.resumes for arrival in self.work.arrivals):
            # More rows may have changed than were rendered for resuming subscribers.
            self._missed.clear()
            groups, _ = render(self.audience, asking, self.rows, self._needed_keys)
        for group in groups:
            self._tell(group, [s for s in group.subscriptions if s in self.known])
        if self.work.arrivals:
            group_of = {s: group for group in groups for s in group.subscriptions}
            for arrival in self.work.arrivals:
                self._welcome(arrival, group_of[arrival.subscription])
        self._note(groups)
        check_reach(self.audience, groups)
        # The sendings outlive them.
        self.rows = {}

    # Visible rows

    def _needed_keys(self, subscriptions: Sequence[Subscription]) -> set[str] | None:
        """Return the keys of the rows that any of `subscriptions` needs; None for all."""
        arrivals = [self._arrivals[s] for s in subscriptions if s in self._arrivals]
        # The tables that a serializer reads are unknown until it has rendered all rows once.
        are_new = len(arrivals) == len(subscriptions)
        if are_new or self.audience.is_row or self.audience.is_whole:
            return None
        if any(arrival.needs_all for arrival in arrivals):
            return None
        needed: set[str] = set()
        if self._scope is None:
            return None
        needed |= self._scope
        for arrival in arrivals:
            if arrival.resumes:
                changed = self._changed_since(arrival)
                if changed is None:
                    continue
                needed |= self.rows.keys() if changed.keys is None else changed.keys
                if (held := self._held(arrival)) is not None:
                    needed |= self.rows.keys() - held.called.keys()
        return needed

    @property
    def _scope(self) -> set[str] | None:
        """The keys of the rows that are compared with held rows; None for all."""
        return self.work.keys if self.audience.is_populated else None

    def _seen(self, texts: Texts) -> Collection[str]:
        # An object permission may hide a single row.
        return texts if self.audience.is_row else self.rows

    # Existing subscribers

    def _tell(self, group: Group, subscriptions: list[Subscription]) -> None:
        if not subscriptions:
            return
        texts = group.texts
        members, scope = self.audience.members, self._scope
        if scope is None:
            scope = members.keys() | texts.keys() | self._own.keys()
        others = scope - self._own.keys()
        of_others = {key: members[key] for key in others if key in members}
        shown = {key: text for key, text in texts.items() if key in others}
        if not self.audience.keeps_texts:
            own = self.audience.own.get(group.owner, {})
            of_others = {key: own.get(key) for key in of_others}
        keys = scope & self._own.keys()
        names, now = self.audience.names.get(group.owner, {}), self._names_now(group)
        if self.audience.is_bound:
            keys = {key for key in keys if self._is_other(key, group)}
        moved = {key for key in of_others if now.get(key) != names.get(key)}
        events = of_state(of_others, shown, moved)
        events += of_changes(keys, members, self._seen(texts), self._own)
        events = self._named(events, names, group)
        # No subscriber reaches a new position while rows wait to be read again.
        awaits_refresh = self.audience.refresh_at is not None and self._scope is not None
        target = None if awaits_refresh else self.moment.target
        self._send(subscriptions, placed(events, target, self.moment.marks), group)

    def _is_other(self, key: str, group: Group) -> bool:
        """
        Return whether a row changed for a subscriber with a state of its own.

        The change of this key may concern a row of another schema, or one behind a policy.
        """
        audience, texts = self.audience, group.texts
        names = audience.names.get(group.owner, {})
        return (
            key not in texts
            or audience.members.get(key) != hash(texts[key])
            or self._names_now(group).get(key) != names.get(key)
        )

    def _send(self, subscriptions: list[Subscription], events: list[Event], group: Group) -> None:
        if events:
            # All subscribers of an audience belong to one stream, and so have one format.
            shared = subscriptions[0].texts_of(self.audience, events, group.texts, group.evaluation)
            # A generator, because thousands of calls at once would keep the garbage collector busy
            # for longer than all other work here.
            tellings = (s.tellings(events, shared) for s in subscriptions)
            self.sendings.append(chain.from_iterable(tellings))

    # Names of rows

    def _names_now(self, group: Group) -> dict[str, str]:
        """Return the names of the rows that were read, if they have to be remembered."""
        if not self.audience.keeps_names:
            return {}
        if group.names is None:
            rows = own_rows(self.audience, group.evaluation, self.rows)
            group.names = group.naming.of_rows(rows)
        return group.names

    def _named(self, events: list[Event], before: Mapping[str, str], group: Group) -> list[Event]:
        if self.audience.keeps_names:
            return renamed(events, before, self._names_now(group))
        return [
            event._replace(data=before.get(event.key) or group.naming.of_key(event.key))
            if event.kind == Kind.DELETE
            else event
            for event in events
        ]

    def _held(self, arrival: Join) -> Held | None:
        """Return the rows that the client says it holds; None if it does not say."""
        values = arrival.subscription.options.held
        if values is None:
            return None
        if arrival.subscription not in self._holdings:
            read = partial(own_rows, self.audience, arrival.evaluation, self.rows)
            held = Names(arrival.evaluation).held(values, self._existing, read)
            self._holdings[arrival.subscription] = held
        return self._holdings[arrival.subscription]

    @property
    def _existing(self) -> Collection[str]:
        """The keys of all rows that subscribers may hold from now on."""
        return self.rows.keys()

    def _note(self, groups: list[Group]) -> None:
        """Remember which rows subscribers hold from now on."""
        audience, scope = self.audience, self._scope
        texts = groups[0].texts if groups else {}
        # With an object permission there is only one group.
        seen = self._seen(texts)
        own: dict[Hashable, dict[str, int]] = {}
        if not audience.keeps_texts:
            # Each group has its own texts.
            texts = {}
            own = {g.owner: _kept(audience.own, g, _digests(g), scope) for g in groups}
            if len(own) * max(len(audience.members), len(self.rows)) > MAX_OWN_DIGESTS:
                own = {}
        names = {
            group.owner: _kept(
                audience.names,
                group,
                {key: name for key, name in self._names_now(group).items() if key in seen},
                scope,
            )
            for group in groups
            if audience.keeps_names
        }
        held = {key: _digest(texts, key) for key in seen if scope is None or key in scope}

        def commit() -> None:
            audience.own, audience.names = own, names
            if scope is None:
                audience.members = held
                audience.is_populated = True
                audience.refresh_at = None
            else:
                for key in scope - held.keys():
                    audience.members.pop(key, None)
                audience.members.update(held)

        self.commits.append(commit)

    # New subscribers

    def _welcome(self, arrival: Join, group: Group) -> None:
        subscription = arrival.subscription
        target, texts = self.moment.target, group.texts
        if arrival.is_new and self.audience.is_row and not (texts or subscription.options.awaits):
            # The row was deleted or hidden since DRF found it.
            refusal = Reply.error(404, "Not found.", "not_found")
            self.sendings.append([partial(subscription.refuse, refusal)])
            return
        if not arrival.is_new:
            self._carry_over(arrival, group)
        elif arrival.resumes:
            self._resume(arrival, group)
        else:
            data = self._snapshot(subscription, texts)
            acknowledge = partial(subscription.acknowledge, target, is_resumed=False, data=data)
            self.sendings.append([acknowledge])
        self.commits.append(partial(self._enter, arrival))

    def _carry_over(self, arrival: Join, group: Group) -> None:
        """Lead a subscriber from the rows of another audience to those of this one."""
        held = arrival.held or {}
        now = self._names_now(group)
        moved = {key for key in held if now.get(key) != arrival.names.get(key)}
        events = self._named(of_state(held, group.texts, moved), arrival.names, group)
        self._send([arrival.subscription], placed(events, self.moment.target, {}), group)

    def _enter(self, arrival: Join) -> None:
        subscription = arrival.subscription
        if not subscription.is_over:
            subscription.judge(arrival.evaluation, arrival.identity)
            subscription.audience = self.audience
            self.audience.subscriptions.add(subscription)
        if subscription.is_over:
            # The loop has ended it meanwhile, and may have looked for it elsewhere.
            self.audience.subscriptions.discard(subscription)

    def _snapshot(self, subscription: Subscription, texts: Texts) -> str:
        if not subscription.options.snapshot:
            return "null"
        if self.audience.is_row:
            return next(iter(texts.values()), "null")
        # One text serves all new subscribers.
        if id(texts) not in self._snapshots:
            self._snapshots[id(texts)] = f"[{', '.join(texts[key] for key in self.rows)}]"
        return self._snapshots[id(texts)]

    def _resume(self, arrival: Join, group: Group) -> None:
        subscription = arrival.subscription
        target, texts = self.moment.target, group.texts
        changed = self._changed_since(arrival)
        if changed is None:
            acknowledge = partial(subscription.acknowledge, None, is_resumed=False, data="null")
            reset = partial(subscription.reset, target, self._snapshot(subscription, texts))
            self.sendings.append([acknowledge, reset])
            return
        acknowledge = partial(subscription.acknowledge, changed.place, is_resumed=True, data="null")
        self.sendings.append([acknowledge])
        if not self._tell_missed(arrival, changed, group) and changed.place != target:
            self.sendings.append([partial(subscription.sync, target)])

    def _tell_missed(self, arrival: Join, changed: MissedChanges, group: Group) -> bool:
        """Send what a resuming subscriber has missed; return whether there is anything."""
        events = self._events_since(changed, self._held(arrival), group)
        marks = {entry.position: entry.mark for e in changed.own.values() for entry in e}
        self._send([arrival.subscription], placed(events, self.moment.target, marks), group)
        return bool(events)

    def _changed_since(self, arrival: Join) -> MissedChanges | None:
        """Return the changes since the position that a client sent; None if it needs a reset."""
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
                # The client may hold deleted rows that the server does not know of.
                return None
        return changed

    def _read_since(self, place: Position, evaluation: Evaluation) -> MissedChanges | None:
        entries = self.moment.history.since(place)
        if entries is None:
            return None
        changes = ModelChanges.by_label(entries)
        own = self.audience.own_changes(changes).of_key
        return MissedChanges(place, self._keys_of(evaluation, changes), own)

    def _keys_of(
        self, evaluation: Evaluation, changes: Mapping[str, ModelChanges]
    ) -> set[str] | None:
        """
        Return the keys of rows that look different after `changes` or pending ones; None for all.

        Pending changes count, because from now on subscribers count as holding the rows of this
        snapshot.
        """
        if evaluation.seconds is not None or self.moment.has_more_pending:
            # Time may have changed them, too.
            return None
        keys: set[str] = set()
        for part in (changes, self.moment.pending):
            # A change of permissions may also change how a row looks.
            is_unknown = is_judged_by(evaluation, part)
            found = None if is_unknown else self._concerned_keys(part)
            if found is None:
                return None
            keys |= found
        return keys

    def _concerned_keys(self, changes: Mapping[str, ModelChanges]) -> set[str] | None:
        """Return the keys of rows that look different after `changes`; None for all."""
        return self.audience.concerned_keys(changes)

    def _events_since(self, changed: MissedChanges, said: Held | None, group: Group) -> list[Event]:
        texts, seen = group.texts, self._seen(group.texts)
        keys = set(self.rows) if changed.keys is None else changed.keys
        tells_all_new = said is not None
        if said is None:
            # The client is assumed to hold rows that existed before, but not rows that are gone.
            said = Held(
                {
                    key: None
                    for key in keys & set(seen)
                    if all(entry.kind != Kind.CREATE for entry in changed.own.get(key, ()))
                }
            )
        held = {key: None for key in said.called if key in seen}
        gone = [*said.others, *(said.called[key] for key in said.called if key not in seen)]
        own = keys & changed.own.keys()
        others = {key: None for key in held if key not in own}
        unwritten = {key: texts[key] for key in seen if key not in own and key in texts}
        told = {
            k: t for k, t in unwritten.items() if k in keys or (tells_all_new and k not in others)
        }
        again = {key: None for key in others if key in keys}
        events = of_state(again, told) + of_changes(own, held, seen, changed.own)
        return [*of_gone(map(group.naming.of_value, gone)), *self._named(events, {}, group)]

    # Rows that a subscription cannot follow

    def _end_all(self, refusal: Reply) -> None:
        arriving = [arrival.subscription for arrival in self.work.arrivals]
        self.sendings.append([partial(s.give_up, refusal) for s in (*arriving, *self.known)])
        for subscription in self.known:
            self.commits.append(partial(self.audience.subscriptions.discard, subscription))


def _by_key(audience: SubscribedAudience, rows: Sequence[Any]) -> tuple[dict[str, Any], bool]:
    """Return rows by key, and whether two rows with one key differ: a client can hold only one."""
    found: dict[str, Any] = {}
    has_rivals = False
    for row in rows:
        known = found.setdefault(key_of(audience.model, row.pk) or "", row)
        has_rivals = has_rivals or (known is not row and _values(known) != _values(row))
    return found, has_rivals


def _values(row: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(row).items() if k not in ("_state", _PREFETCHED)}


_PREFETCHED: Final = "_prefetched_objects_cache"

_RIVALS: Final = (
    "A row must not come more than once with different values: use distinct() or an aggregate in "
    "place of a join of many rows, or 'watch' for a list that is read again."
)


def _digests(group: Group) -> dict[str, int]:
    return {key: hash(text) for key, text in group.texts.items()}


def _kept(
    before: Mapping[Hashable, Mapping[str, Any]],
    group: Group,
    now: Mapping[str, Any],
    scope: set[str] | None,
) -> dict[str, Any]:
    """
    Return what is known of the rows of a group's owner: `now` for those in `scope`, None for all.
    """
    if scope is None:
        return dict(now)
    outside = {k: v for k, v in before.get(group.owner, {}).items() if k not in scope}
    return {**outside, **now}


def _digest(texts: Texts, key: str) -> int | None:
    return hash(texts[key]) if key in texts else None
