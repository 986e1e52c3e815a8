"""
What subscribers are told: the difference between what they hold and what they may see now.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from rest_channels.live.log import Entry, Kind
from rest_channels.live.positions import Place, encode


class Event(NamedTuple):
    """
    What became of one row, the `key`. `position` is that of the change in the log, 0 where it
    came of something else. `place` is the one that the client has reached with it; None where it
    has not: more is to come of the same place. `encoded` is what all tokens of it begin with.
    `fields` are the names of the columns that were
    saved; None where it may be any.
    """

    kind: Kind
    key: str
    position: int = 0
    place: Place | None = None
    encoded: str = ""
    fields: frozenset[str] | None = None


def of_changes(
    keys: Collection[str],
    held: Mapping[str, object],
    seen: Collection[str],
    entries: Mapping[str, Sequence[Entry]],
) -> list[Event]:
    """
    What to tell those who hold `held` and see `seen` now, of the rows `keys`, some of them for
    `entries` of the log. In the log's order.

    A row that appeared and was written again is told as both: who keeps up sees it come.
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


def _saved(entries: Sequence[Entry]) -> frozenset[str] | None:
    """What all of `entries` together saved; None where any of them may have saved anything."""
    named = [entry.fields for entry in entries]
    if not named or None in named:
        return None
    return frozenset(name for names in named if names for name in names.split(","))


def of_state(
    held: Mapping[str, int | None], texts: Mapping[str, str], written: Collection[str] = ()
) -> list[Event]:
    """
    What to tell those who hold `held`, by hashes of the texts they got, and see `texts` now:
    of rows that are new, gone, `written`, or look different.
    """
    gone = [Event(Kind.DELETE, key) for key in held if key not in texts]
    return gone + [
        Event(Kind.UPDATE if key in held else Kind.CREATE, key)
        for key, text in texts.items()
        if key not in held or key in written or held[key] != hash(text)
    ]


def placed(events: Sequence[Event], target: Place | None, marks: Mapping[int, int]) -> list[Event]:
    """
    `events` with the places that a client has reached with each: the last one's is `target`.
    Where that is None, none has been reached, for more is to be told.
    """
    if target is None or not events:
        return list(events)
    result = []
    for event, following in zip(events, [*events, None][1:], strict=True):
        place = None
        if following is None:
            place = target
        elif event.position and following.position > event.position:
            place = Place(event.position, marks[event.position])
        encoded = "" if place is None else encode(place)
        result.append(event._replace(place=place, encoded=encoded))
    return result
