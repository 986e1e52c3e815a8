"""The update of an audience that follows a window: events that say where a row goes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from rest_channels.live.delivery.events import Event, placed
from rest_channels.live.delivery.renderings import Group
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.update_plan import Join, LogWindow, MissedChanges, UpdatePlan
from rest_channels.live.delivery.updates import MAX_OWN_DIGESTS, AudienceUpdate
from rest_channels.live.delivery.window_events import WindowEvents, after_of
from rest_channels.live.delivery.window_plan import told
from rest_channels.live.delivery.window_script import Step, script
from rest_channels.live.delivery.window_subscription import WindowSubscription
from rest_channels.live.log.store import Kind
from rest_channels.live.visibility.audiences import ModelChanges, Texts
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.live.visibility.row_names import Held, Names
from rest_channels.live.visibility.windows import (
    can_be_stored,
    edge_of,
    row_count,
    rows_outside,
    still_seen,
)
from rest_channels.settings import socket_settings

# No key begins with it: the name of a row that a client says it holds, and that is not in the list.
_UNKNOWN: Final = "\0"

# The end of the data of a `delete` whose row the user may still see.
_PUSHED_OUT: Final = ', "reason": "window"}'


def update_of(
    audience: SubscribedAudience,
    work: UpdatePlan,
    known: Mapping[Subscription, Evaluation],
    rows: Sequence[Any],
    moment: LogWindow,
) -> AudienceUpdate:
    """Return the update of an audience, of the class that its subscribers need."""
    kind = AudienceUpdate if audience.window is None else WindowUpdate
    return kind(audience, work, known, rows, moment)


class WindowUpdate(AudienceUpdate):
    """The update of an audience with a window. `order` has the rows of its window now."""

    def __init__(
        self,
        audience: SubscribedAudience,
        work: UpdatePlan,
        known: Mapping[Subscription, Evaluation],
        rows: Sequence[Any],
        moment: LogWindow,
    ) -> None:
        super().__init__(audience, work, known, rows, moment)
        order = self.rows if work.wanted is None else audience.members
        self.order = list(order) if work.order is None else work.order.keys
        self._count = len(self.order)
        self._edge = self._edge_now()
        # The rows outside the window that the list still has; the others are not known yet.
        self._beyond = set() if work.order is None else set(work.order.beyond)
        self._gone: set[str] = set()
        self._lists: dict[Subscription, tuple[list[str], dict[str, str]]] = {}

    def _edge_now(self) -> tuple[Any, ...] | None:
        """Return the values of the window's last row in the columns of its order."""
        if self.work.order is not None:
            return self.work.order.edge
        if self.work.wanted is not None:
            return self.audience.edge
        return edge_of(self.audience, self.rows[self.order[-1]]) if self.order else None

    def _needed_keys(self, subscriptions: Sequence[Subscription]) -> set[str] | None:
        arrivals = [self._arrivals[s] for s in subscriptions if s in self._arrivals]
        are_new = len(arrivals) == len(subscriptions)
        if self.work.lacking is None and (are_new or self.audience.is_whole):
            return None
        return self._lacking(arrivals)

    def lacking(self) -> set[str] | None:
        """Return the keys of the rows that subscribers need in this `order`; None for all."""
        return self._lacking(list(self._arrivals.values()))

    def _lacking(self, arrivals: Sequence[Join]) -> set[str] | None:
        needed: set[str] = set()
        if self.audience.is_populated:
            if self._scope is None:
                return None
            needed |= told(list(self.audience.members), self.order, self._scope)
        for arrival in arrivals:
            changed = self._changed_since(arrival) if arrival.resumes else None
            if changed is not None:
                before, _ = self._held_list(arrival)
                needed |= told(before, self.order, self._changed_rows(changed))
            elif arrival.needs_all:
                return None
        return needed

    def _seen(self, texts: Texts) -> list[str]:
        return self.order

    @property
    def _existing(self) -> Collection[str]:
        # Not all of them need be read.
        return dict.fromkeys(self.order).keys()

    # Existing subscribers

    def _tell(self, group: Group, subscriptions: list[Subscription]) -> None:
        if not subscriptions:
            return
        audience, members = self.audience, self.audience.members
        hashes: Mapping[str, int | None] = members
        if not audience.keeps_texts:
            own = audience.own.get(group.owner, {})
            hashes = {key: own.get(key) for key in members}
        changed = self._changed_now(group, hashes)
        names = audience.names.get(group.owner, {})
        awaits_refresh = audience.refresh_at is not None and self._scope is not None
        self._lead(subscriptions, list(members), changed, names, group, is_last=not awaits_refresh)

    def _changed_now(self, group: Group, hashes: Mapping[str, int | None]) -> set[str]:
        """Return rows that look different from texts of `hashes`, or that were written."""
        scope, texts = self._scope, group.texts
        changed = set()
        for key in texts.keys() & hashes.keys() if scope is None else texts.keys() & scope:
            is_written = key in self._own
            if is_written and self.audience.is_bound:
                is_written = key in hashes and self._is_other(key, group)
            if is_written or hashes.get(key) != hash(texts[key]):
                changed.add(key)
        return changed

    def _lead(
        self,
        subscriptions: Sequence[Subscription],
        before: list[str],
        changed: set[str],
        names: Mapping[str, str],
        group: Group,
        *,
        is_last: bool = True,
    ) -> bool:
        """
        Lead subscribers who hold the list `before`, under `names`, to the new order.

        They reach the position of this pass if the events are the last ones for it. Returns whether
        there are any.
        """
        names_now = self._names_by_key(group)
        renamed = {
            k for k in before if k in names_now and names.get(k, names_now[k]) != names_now[k]
        }
        steps = script(before, self.order, changed, renamed)
        if not steps:
            return False
        self._look_for([step.key for step in steps if step.kind == Kind.DELETE], renamed)
        events = [self._event(step, names, names_now, group) for step in steps]
        events = placed(events, self.moment.target if is_last else None, {})
        texts = {s.key: group.texts[s.key] for s in steps if s.kind != Kind.DELETE}
        update = WindowEvents(before, self.order, steps, events, texts, names_now)
        self._send_update(subscriptions, update, group)
        return True

    def _event(
        self, step: Step, names: Mapping[str, str], names_now: Mapping[str, str], group: Group
    ) -> Event:
        if step.kind != Kind.DELETE:
            name = names_now[step.key]
            return Event(step.kind, step.key, name=name, after=after_of(step, names_now))
        if step.key.startswith(_UNKNOWN):
            data = name = step.key.removeprefix(_UNKNOWN)
        else:
            data = name = names.get(step.key) or group.naming.of_key(step.key)
        if step.key in self._beyond:
            data = data.removesuffix("}") + _PUSHED_OUT
        return Event(step.kind, step.key, data=data, name=name)

    def _send_update(
        self, subscriptions: Sequence[Subscription], update: WindowEvents, group: Group
    ) -> None:
        shared = subscriptions[0].texts_of(
            self.audience, update.events, update.texts, group.evaluation
        )
        self.sendings.append(
            partial(subscription.tell_window, update, shared)
            for subscription in subscriptions
            if isinstance(subscription, WindowSubscription)
        )

    def _look_for(self, left: Sequence[str], renamed: set[str]) -> None:
        """Find out which of the rows that `left` the window are still in the list."""
        unknown = {
            key
            for key in left
            if not (key in self._beyond or key in self._gone or key in renamed)
            and not key.startswith(_UNKNOWN)
            and not self._is_deleted(key)
        }
        if unknown:
            found = still_seen(self.audience, unknown)
            self._beyond |= found
            self._gone |= unknown - found

    def _is_deleted(self, key: str) -> bool:
        entries = self._own.get(key)
        return entries is not None and entries[-1].kind == Kind.DELETE

    # Names and memory

    def _names_by_key(self, group: Group) -> dict[str, str]:
        """Return the names of all rows of the window."""
        names = {**self.audience.names.get(group.owner, {}), **self._names_now(group)}
        return {key: names.get(key) or group.naming.of_key(key) for key in self.order}

    def _note(self, groups: list[Group]) -> None:
        """Remember which rows subscribers hold from now on, in their order."""
        audience, scope, edge = self.audience, self._scope, self._edge
        texts: Texts = groups[0].texts if groups and audience.keeps_texts else {}
        members = {**dict.fromkeys(self.order), **self._digests(texts, audience.members)}
        own: dict[Hashable, dict[str, int]] = {}
        if not audience.keeps_texts and len(groups) * len(self.order) <= MAX_OWN_DIGESTS:
            own = {g.owner: self._digests(g.texts, audience.own.get(g.owner, {})) for g in groups}
        names = {group.owner: self._names_by_key(group) for group in groups}

        def commit() -> None:
            audience.own, audience.names, audience.members = own, names, members
            audience.edge = edge
            if scope is None:
                audience.is_populated = True
                audience.refresh_at = None

        self.commits.append(commit)

    def _digests(self, texts: Texts, before: Mapping[str, int | None]) -> dict[str, int]:
        """Return the hashes of the texts that subscribers hold now, as far as they are known."""
        if self._scope is None:
            known: Mapping[str, int | None] = {}
            sent = set(texts)
        else:
            known, sent = before, told(list(self.audience.members), self.order, self._scope)
        found: dict[str, int] = {}
        for key in self.order:
            if key in sent and key in texts:
                found[key] = hash(texts[key])
            elif (number := known.get(key)) is not None and key not in sent:
                found[key] = number
        return found

    # New subscribers

    def _snapshot(self, subscription: Subscription, texts: Texts) -> str:
        if not subscription.options.snapshot:
            return "null"
        if id(texts) not in self._snapshots:
            self._snapshots[id(texts)] = f"[{', '.join(texts[key] for key in self.order)}]"
        return self._snapshots[id(texts)]

    def _carry_over(self, arrival: Join, group: Group) -> None:
        held = arrival.held or {}
        changed = {k for k, text in group.texts.items() if held.get(k) != hash(text)}
        self._lead([arrival.subscription], list(held), changed, arrival.names, group)

    def _changed_since(self, arrival: Join) -> MissedChanges | None:
        # Without its list, nothing is known of what the client holds.
        if arrival.subscription.options.held is None:
            return None
        return super()._changed_since(arrival)

    def _concerned_keys(self, changes: Mapping[str, ModelChanges]) -> set[str] | None:
        # A new audience holds no rows yet.
        return self.audience.concerned_keys(changes, among=self.order)

    def _tell_missed(self, arrival: Join, changed: MissedChanges, group: Group) -> bool:
        before, names = self._held_list(arrival)
        changed_rows = self._changed_rows(changed)
        return self._lead([arrival.subscription], before, changed_rows, names, group)

    def _changed_rows(self, changed: MissedChanges) -> set[str]:
        return set(self.order) if changed.keys is None else changed.keys

    def _held_list(self, arrival: Join) -> tuple[list[str], dict[str, str]]:
        """
        Return the list that a client says it holds, and its names of rows outside the window.

        A name that cannot be a key stands for itself.
        """
        subscription = arrival.subscription
        if subscription not in self._lists:
            self._lists[subscription] = self._read_list(arrival)
        return self._lists[subscription]

    def _read_list(self, arrival: Join) -> tuple[list[str], dict[str, str]]:
        held = self._held(arrival) or Held({})
        naming = Names(arrival.evaluation)
        key_by_value = {value: key for key, value in held.called.items()}
        outside = self._outside(arrival, naming, held.others)
        names: dict[str, str] = {}
        before: dict[str, None] = {}
        for value in arrival.subscription.options.held or ():
            key = key_by_value.get(value)
            if value in outside:
                key, name = outside[value]
                names.setdefault(key, name)
            if key is not None:
                before[key] = None
        return list(before), names

    def _outside(
        self, arrival: Join, naming: Names, values: Sequence[Any]
    ) -> dict[Any, tuple[str, str]]:
        """Return the key and the name of each row that a client holds outside the window."""
        found = {}
        for value in values:
            key, name = naming.key_in(value), naming.of_value(value)
            if key is None or not can_be_stored(self.audience.model, key):
                key = f"{_UNKNOWN}{name}"
            found[value] = key, name
        if any(key.startswith(_UNKNOWN) for key, _ in found.values()):
            found |= self._named_outside(arrival, values)
        return found

    def _named_outside(self, arrival: Join, values: Sequence[Any]) -> dict[Any, tuple[str, str]]:
        """
        Return the same for rows whose names do not give their keys, as far as they are in the list.

        A row that has not changed and left the window stands behind its end, among as many rows as
        have left or changed.
        """
        if row_count(self.audience) > socket_settings.MAX_SUBSCRIPTION_ROWS:
            # The whole list is the window.
            return {}
        changed = self._changed_since(arrival)
        keys = set() if changed is None or changed.keys is None else changed.keys
        rows = rows_outside(self.audience, len(values) + len(keys), keys)
        rows = {key: row for key, row in rows.items() if key not in self._existing}
        naming = Names(arrival.evaluation)
        called = naming.held(values, rows.keys(), lambda: rows).called
        names = naming.of_rows({key: rows[key] for key in called})
        self._beyond |= called.keys()
        return {value: (key, names[key]) for key, value in called.items()}
