"""Compute a subscriber's events: the difference between held rows and visible rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from rest_channels.live.log.positions import Position, encode
from rest_channels.live.log.store import Change, Kind


class Event(NamedTuple):
    """
    A change of one row as a subscriber sees it.

    `key` is the row's. `position` is that of the change in the log, 0 if the event has another
    cause. `place` is the position that the client reaches with this event; None if it does not
    reach one, because more events of the same position follow. `encoded` is the beginning of all
    tokens for it. `fields` are the names of the saved columns; None if any may have changed.

    `data` is the JSON text of a `delete`. `name` is the client's name of the row if that may
    change, else empty. `after` is the client's name of the row in front, as JSON text, in a list
    with an order; empty if the row has not moved.
    """

    kind: Kind
    key: str
    position: int = 0
    place: Position | None = None
    encoded: str = ""
    fields: frozenset[str] | None = None
    data: str = ""
    name: str = ""
    after: str = ""

    @property
    def slot(self) -> str:
        """The key by which a newer event replaces this one, because clients know rows by it."""
        return self.name or self.key


def of_changes(
    keys: Collection[str],
    held: Mapping[str, object],
    seen: Collection[str],
    entries: Mapping[str, Sequence[Change]],
) -> list[Event]:
    """
    Return the events for subscribers who hold `held` and see `seen` now, in the log's order.

    `keys` are the rows to compare; `entries` are the changes of some of them. A row that appeared
    and was written again has both events, so that a client that keeps up sees it appear.
    """
    events = []
    for key in keys:
        own = entries.get(key, ())
        first, last = (own[0].position, own[-1].position) if own else (0, 0)
        if key in seen and key in held:
            events.append(Event(Kind.UPDATE, key, last, fields=_saved(own)))
        elif key in seen:
            events.append(Event(Kind.CREATE, key, first))
            if last > first:
                events.append(Event(Kind.UPDATE, key, last, fields=_saved(own[1:])))
        elif key in held:
            events.append(Event(Kind.DELETE, key, last))
    return sorted(events, key=lambda event: event.position)


def _saved(entries: Sequence[Change]) -> frozenset[str] | None:
    """Return the columns that `entries` saved; None if any of them may have saved any column."""
    named = [entry.fields for entry in entries]
    if not named or None in named:
        return None
    return frozenset(name for names in named if names for name in names.split(","))


def of_state(
    held: Mapping[str, int | None], texts: Mapping[str, str], written: Collection[str] = ()
) -> list[Event]:
    """
    Return the events for subscribers who hold `held`, by hashes of texts, and see `texts` now.

    There is an event for each row that is new, gone or `written`, or looks different.
    """
    gone = [Event(Kind.DELETE, key) for key in held if key not in texts]
    return gone + [
        Event(Kind.UPDATE if key in held else Kind.CREATE, key)
        for key, text in texts.items()
        if key not in held or key in written or held[key] != hash(text)
    ]


def of_gone(names: Iterable[str]) -> list[Event]:
    """
    Return the first events for a client that holds rows it cannot see, all at once.

    Such rows may be deleted, hidden or renamed, or may never have existed.
    """
    return [Event(Kind.DELETE, "", data=name, name=name) for name in names]


def renamed(
    events: Iterable[Event], before: Mapping[str, str], now: Mapping[str, str]
) -> list[Event]:
    """
    Return `events` for clients whose names for rows changed from `before` to `now`.

    A renamed row is a `delete` and a `create`. Deletions come first, because another row may have
    the name by now.
    """
    gone, others = [], []
    for event in events:
        old, new = before.get(event.key, ""), now.get(event.key, "")
        is_moved = event.kind == Kind.UPDATE and old and old != new
        if is_moved or event.kind == Kind.DELETE:
            gone.append(Event(Kind.DELETE, event.key, data=old, name=old))
        if event.kind != Kind.DELETE:
            kind = Kind.CREATE if is_moved else event.kind
            fields = None if is_moved else event.fields
            others.append(event._replace(kind=kind, name=new, fields=fields))
    return gone + others


def placed(
    events: Sequence[Event], target: Position | None, marks: Mapping[int, int]
) -> list[Event]:
    """
    Return `events` with the positions that a client reaches with each; the last one's is `target`.

    If `target` is None, no position is reached, because more events follow.
    """
    if target is None or not events:
        return list(events)
    result = []
    for event, following in zip(events, [*events, None][1:], strict=True):
        place = None
        if following is None:
            place = target
        elif event.position and following.position > event.position:
            place = Position(event.position, marks[event.position])
        encoded = "" if place is None else encode(place)
        result.append(event._replace(place=place, encoded=encoded))
    return result
