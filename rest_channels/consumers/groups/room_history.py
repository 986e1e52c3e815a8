"""
The last messages of rooms, stored in a table and numbered without gaps in commit order.

Runs in worker threads.
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

from rest_channels.consumers.groups.layers import to_json
from rest_channels.live.log.positions import Position

# Messages kept beyond a room's history, for processes that are behind.
_KEPT_BESIDES: Final = 1_000

#: Messages read at a time.
PAGE_SIZE: Final = 500

# The limit of the table's column.
_MAX_MARK: Final = 2**63 - 1

_ID = re.compile(r"(\d{1,18})-([0-9a-f]{1,16})", re.ASCII)

# The models are looked up on use: this module is imported before they exist.


def _messages() -> Any:
    return apps.get_model("rest_channels", "RoomMessage")


def _heads() -> Any:
    return apps.get_model("rest_channels", "RoomHead")


def message_id(position: Position) -> str:
    """Return the `id` of the message at `position`, by which clients call it."""
    return f"{position.number}-{position.mark:x}"


def read_message_id(text: Any) -> Position | None:
    """Return the position of the message that a client names; None if `text` names none."""
    match = _ID.fullmatch(text) if isinstance(text, str) else None
    if match is None or (mark := int(match[2], 16)) > _MAX_MARK:
        return None
    return Position(int(match[1]), mark)


class StoredMessage(NamedTuple):
    """A stored message, as the `data` of its event."""

    number: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Recent:
    """
    The messages that a socket receives when it joins.

    If `is_resumed`, they are all since it left, else the last ones. `position` is that of the
    room's last message, included or not.
    """

    messages: list[StoredMessage]
    position: Position
    is_resumed: bool


def keep(group: str, data: Mapping[str, Any], history: int, tell: Callable[[str], None]) -> None:
    """
    Store a message of `group`, and prune beyond the last `history`.

    `tell` is called with the message's id once it is committed.
    """
    room, mark = _key(group), secrets.randbits(63)
    alias = router.db_for_write(_messages())
    with transaction.atomic(using=alias):
        # This locks the room for other senders until the commit.
        position = Position(_next_number(alias, room, mark), mark)
        message = _messages()(
            room=room,
            number=position.number,
            mark=mark,
            data=to_json(data),
            created_at=timezone.now(),
        )
        # Not `save()`, which would call the project's receivers of signals.
        rows = _messages()._default_manager.using(alias)
        rows.bulk_create([message])
        last_unkept = position.number - history - _KEPT_BESIDES
        rows.filter(room=room, number__lte=last_unkept)._raw_delete(alias)
    _after_commit(alias, lambda: tell(message_id(position)))


def _next_number(alias: str, room: str, mark: int) -> int:
    heads = _heads()._default_manager.using(alias)
    head = heads.filter(pk=room)
    following = {"number": models.F("number") + 1, "mark": mark}
    # Write first: on SQLite a transaction that begins with a read may be refused a later write.
    if not head.update(**following):
        heads.bulk_create([_heads()(room=room, number=0, mark=0)], ignore_conflicts=True)
        head.update(**following)
    number: int = head.values_list("number", flat=True).get()
    return number


def _after_commit(alias: str, function: Callable[[], None]) -> None:
    blocks = connections[alias].atomic_blocks
    if any(getattr(block, "_from_testcase", False) for block in blocks):
        # A test's transaction never commits; its sockets read inside it.
        function()
    else:
        transaction.on_commit(function, using=alias)


def recent(group: str, limit: int, since: Any = None) -> Recent:
    """
    Return the last `limit` messages, or those after the message with the id `since`.

    If there are more than `limit` after it, or it is unknown, returns the last ones.
    """
    room = _key(group)
    alias = router.db_for_write(_messages())
    head = _heads()._default_manager.using(alias).filter(pk=room).first()
    position = Position(head.number, head.mark) if head is not None else Position(0, 0)
    rows = _messages()._default_manager.using(alias).filter(room=room, number__lte=position.number)
    known = read_message_id(since)
    if known is None or position.number - known.number > limit or not _is_there(rows, known):
        known = None
    else:
        rows = rows.filter(number__gt=known.number)
    found = [_said(row) for row in reversed(rows.order_by("-number")[:limit])]
    return Recent(found, position, is_resumed=known is not None)


def _is_there(rows: Any, position: Position) -> bool:
    if position.number == 0:
        # Before the first message, which exists or will.
        return position.mark == 0
    return bool(rows.filter(number=position.number, mark=position.mark).exists())


def news(since: Mapping[str, int], rung: Collection[str]) -> dict[str, list[StoredMessage]]:
    """
    Return the messages of each group of `since` after the number there, oldest first, a page each.

    Groups in `rung` have new messages; the others are checked. A group whose history has become
    shorter has an empty list.
    """
    alias = router.db_for_write(_messages())
    heads = _heads()._default_manager.using(alias)
    groups = {_key(group): group for group in since}
    found: dict[str, list[StoredMessage]] = {}
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


def _said(row: Any) -> StoredMessage:
    about = {"id": message_id(Position(row.number, row.mark)), "sent_at": row.created_at}
    return StoredMessage(row.number, {**about, **json.loads(row.data)})


def _key(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
