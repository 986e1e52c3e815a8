"""
The events that lead a client from one ordered list to another.

    script("abc", "cab", changed="c")    [Step(UPDATE, "c", after=None, moves=True)]
    script("abc", "zab")                 [Step(DELETE, "c"), Step(CREATE, "z", after=None, ...)]

Rows that leave come first, so a list never has more rows on the way than at its ends. Then the new
list is built from its first row on: each row that enters or moves goes behind a row that is already
in its place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rest_channels.live.log.store import Kind


class Step(NamedTuple):
    """
    One change of a list.

    If the row `moves` (a created row always does), it goes behind the row `after`; None stands for
    the first place.
    """

    kind: Kind
    key: str
    after: str | None = None
    moves: bool = False


def script(
    before: Sequence[str],
    now: Sequence[str],
    changed: Collection[str] = (),
    renamed: Collection[str] = (),
) -> list[Step]:
    """
    Return the steps from the list `before` to the list `now`, both without repeated keys.

    Rows of `changed` look different; rows of `renamed` leave and enter under another name. Few rows
    move, and changed ones rather than others.
    """
    place = {key: number for number, key in enumerate(now)}
    held = [key for key in before if key in place and key not in renamed]
    left = set(before) - set(held)
    steps = [Step(Kind.DELETE, key) for key in before if key in left]
    stays = _staying([(key, place[key]) for key in held], changed)
    moved = set(held) - stays
    previous: str | None = None
    for key in now:
        if key in moved:
            steps.append(Step(Kind.UPDATE, key, previous, moves=True))
        elif key not in stays:
            steps.append(Step(Kind.CREATE, key, previous, moves=True))
        elif key in changed:
            steps.append(Step(Kind.UPDATE, key))
        previous = key
    return steps


def applied(rows: Iterable[str], steps: Iterable[Step]) -> list[str]:
    """
    Return the list that a client holds after `steps`.

    Raises `ValueError` if a step names a row that the client does not hold.
    """
    held = list(rows)
    for step in steps:
        if step.kind == Kind.DELETE or (step.moves and step.kind == Kind.UPDATE):
            held.remove(step.key)
        if step.moves:
            held.insert(0 if step.after is None else held.index(step.after) + 1, step.key)
    return held


def _staying(held: Sequence[tuple[str, int]], changed: Collection[str]) -> set[str]:
    """
    Return the rows that need not move: their places in the new list are in order.

    `held` has the rows in the old order, each with its new place.
    """
    if all(one[1] < other[1] for one, other in pairwise(held)):
        return {key for key, _ in held}
    spine = _longest_in_order([item for item in held if item[0] not in changed])
    fitting = _longest_in_order(_between(held, {key for key, _ in spine}))
    return {key for key, _ in (*spine, *fitting)}


def _between(held: Sequence[tuple[str, int]], spine: Collection[str]) -> list[tuple[str, int]]:
    """Return the rows whose places are in order with all rows of `spine`."""
    nearest = float("inf")
    limits = [nearest] * len(held)
    for number in range(len(held) - 1, -1, -1):
        limits[number] = nearest
        if held[number][0] in spine:
            nearest = held[number][1]
    found, last = [], -1
    for (key, place), limit in zip(held, limits, strict=True):
        if key in spine:
            last = place
        elif last < place < limit:
            found.append((key, place))
    return found


def _longest_in_order(items: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return a longest part of `items` whose places increase (patience sorting)."""
    # By length: the smallest place at which a part of that length ends, and the number of its item.
    ends: list[int] = []
    numbers: list[int] = []
    before: list[int] = []
    for number, (_, place) in enumerate(items):
        length = bisect_left(ends, place)
        before.append(numbers[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        numbers[length : length + 1] = [number]
    found = []
    number = numbers[-1] if numbers else -1
    while number >= 0:
        found.append(items[number])
        number = before[number]
    return found[::-1]
