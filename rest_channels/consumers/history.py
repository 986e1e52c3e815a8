"""
What was said last in rooms: kept in a table, numbered without holes, in the order of commits.

In worker threads.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.apps import apps
from django.db import connections, models, router, transaction
from django.utils import timezone

from rest_channels.consumers.layers import to_json

# Kept beyond what is shown to who joins: for processes that are behind with telling.
_KEPT_BESIDES: Final = 1_000

#: Messages read at a time.
PAGE_SIZE: Final = 500

# As the table has it.
_MAX_MARK: Final = 2**63 - 1

_ID = re.compile(r"(\d{1,18})-([0-9a-f]{1,16})", re.ASCII)

# The models, found when asked for: this module is imported before there are any.


def _messages() -> Any:
    return apps.get_model("rest_channels", "RoomMessage")


def _heads() -> Any:
    return apps.get_model("rest_channels", "RoomHead")


class Place(NamedTuple):
    """Up to which message somebody knows a room. Clients call a message by it: its `id`."""

    number: int
    mark: int

    def __str__(self) -> str:
        return f"{self.number}-{self.mark:x}"

    @classmethod
    def read(cls, text: Any) -> Place | None:
        """The place that a client names; None where it is none."""
        match = _ID.fullmatch(text) if isinstance(text, str) else None
        place = None if match is None else cls(int(match[1]), int(match[2], 16))
        return None if place is None or place.mark > _MAX_MARK else place


class Said(NamedTuple):
    """One message: the `data` of its event."""

    number: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Recent:
    """
    What who joins is told: the last messages, or, where `is_resumed`, all since they left. `place`
    is that of the last one, whether it is among them or not.
    """

    messages: list[Said]
    place: Place
    is_resumed: bool


def keep(group: str, data: Mapping[str, Any], history: int, tell: Callable[[str], None]) -> None:
    """
    Keep a message of `group`, of which `history` are shown to who joins. `tell` is called with its
    id once it is committed.
    """
    room, mark = _key(group), secrets.randbits(63)
    alias = router.db_for_write(_messages())
    with transaction.atomic(using=alias):
        # From here to the commit nobody else sends to this room.
        place = Place(_next_number(alias, room, mark), mark)
        message = _messages()(
            room=room,
            number=place.number,
            mark=mark,
            data=to_json(data),
            created_at=timezone.now(),
        )
        # No `save()`: it would call the project's receivers of signals.
        rows = _messages()._default_manager.using(alias)
        rows.bulk_create([message])
        last_unkept = place.number - history - _KEPT_BESIDES
        rows.filter(room=room, number__lte=last_unkept)._raw_delete(alias)
    _after_commit(alias, lambda: tell(str(place)))


def _next_number(alias: str, room: str, mark: int) -> int:
    heads = _heads()._default_manager.using(alias)
    head = heads.filter(pk=room)
    following = {"number": models.F("number") + 1, "mark": mark}
    # Writing first: on SQLite a transaction that begins by reading may not write later.
    if not head.update(**following):
        heads.bulk_create([_heads()(room=room, number=0, mark=0)], ignore_conflicts=True)
        head.update(**following)
    number: int = head.values_list("number", flat=True).get()
    return number


def _after_commit(alias: str, function: Callable[[], None]) -> None:
    blocks = connections[alias].atomic_blocks
    if any(getattr(block, "_from_testcase", False) for block in blocks):
        # A test's transaction never commits; its sockets see into it.
        function()
    else:
        transaction.on_commit(function, using=alias)


def recent(group: str, limit: int, since: Any = None) -> Recent:
    """
    The last `limit` messages. With the id of one, `since`, those after it, where they are no more
    than `limit`; else the last again.
    """
    room = _key(group)
    alias = router.db_for_write(_messages())
    head = _heads()._default_manager.using(alias).filter(pk=room).first()
    place = Place(head.number, head.mark) if head is not None else Place(0, 0)
    rows = _messages()._default_manager.using(alias).filter(room=room, number__lte=place.number)
    known = Place.read(since)
    if known is None or place.number - known.number > limit or not _is_there(rows, known):
        known = None
    else:
        rows = rows.filter(number__gt=known.number)
    found = [_said(row) for row in reversed(rows.order_by("-number")[:limit])]
    return Recent(found, place, is_resumed=known is not None)


def _is_there(rows: Any, place: Place) -> bool:
    if place.number == 0:
        # Before the first message, which is there or will be.
        return place.mark == 0
    return bool(rows.filter(number=place.number, mark=place.mark).exists())


def news(since: Mapping[str, int], rung: Collection[str]) -> dict[str, list[Said]]:
    """
    What was said in the groups of `since` after the numbers there, oldest first, by the page: in
    those of `rung` something was, in the others it is looked for. Nothing, of a group whose
    messages have come to be fewer: there the list is empty.
    """
    alias = router.db_for_write(_messages())
    heads = _heads()._default_manager.using(alias)
    groups = {_key(group): group for group in since}
    found: dict[str, list[Said]] = {}
    wanted = {group for group in rung if group in since}
    looked_for = [room for room, group in groups.items() if group not in wanted]
    for start in range(0, len(looked_for), PAGE_SIZE):
        rooms = heads.filter(pk__in=looked_for[start : start + PAGE_SIZE])
        for room, number in rooms.values_list("pk", "number"):
            if number > since[groups[room]]:
                wanted.add(groups[room])
            elif number < since[groups[room]]:
                found[groups[room]] = []
    for group in wanted:
        rows = _messages()._default_manager.using(alias).filter(room=_key(group))
        after = rows.filter(number__gt=since[group]).order_by("number")[:PAGE_SIZE]
        if said := [_said(row) for row in after]:
            found[group] = said
    return found


def _said(row: Any) -> Said:
    about = {"id": str(Place(row.number, row.mark)), "sent_at": row.created_at}
    return Said(row.number, {**about, **json.loads(row.data)})


def _key(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
