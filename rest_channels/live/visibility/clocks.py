"""Detect querysets that compare with the time: their rows change without a write."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db.models.functions import Now
from django.utils import timezone

from rest_channels.live.visibility.query_shapes import parts, prefetched

_MICROSECONDS = 1_000_000

# Matches a request for the database's time, in a project's own SQL.
_IN_SQL: Final = re.compile(
    r"\b(?:current_(?:timestamp|date|time)|localtime(?:stamp)?|utc_(?:timestamp|date|time))\b"
    r"|\b(?:now|(?:clock|statement|transaction)_timestamp|timeofday|sysdate|curdate|curtime)\s*\("
    r"|\b(?:datetime|date|time|julianday|unixepoch)\s*\(\s*\)"
    r"|'now'",
    re.IGNORECASE,
)


class Clock(enum.Enum):
    """The clock that a queryset compares with, which says when its rows may change."""

    TIME = "time"
    #: The date.
    DAY = "day"


def clock_of(queryset: Any, began: datetime, sql: str = "") -> Clock | None:
    """
    Return the clock that `queryset`, made since `began`, or one of its prefetches compares with.

    That is the time if they ask the database for it, in their text `sql` or by `Now`, or if they
    hold the time at which they were made, give or take whole seconds. It is the day if they hold
    any date. None otherwise.
    """
    if _IN_SQL.search(sql):
        return Clock.TIME
    took = (timezone.now() - began).total_seconds() * _MICROSECONDS
    clocks = {_clock_of(each, began, took) for each in _all(queryset)}
    return next((clock for clock in (Clock.TIME, Clock.DAY) if clock in clocks), None)


def _all(queryset: Any) -> Iterator[Any]:
    yield queryset
    for other in prefetched(queryset):
        yield from _all(other)


def _clock_of(queryset: Any, began: datetime, took: float) -> Clock | None:
    found = None
    for part in parts(queryset.query, is_deep=True):
        if isinstance(part, Now):
            return Clock.TIME
        for value in _values(part):
            if not isinstance(value, datetime):
                found = Clock.DAY if isinstance(value, date) else found
            # A difference in whole seconds, such as now() - timedelta(days=7), keeps the
            # microseconds.
            elif value.microsecond and _since(began, value) <= took:
                return Clock.TIME
    return found


def _since(began: datetime, value: datetime) -> int:
    return (value.microsecond - began.microsecond) % _MICROSECONDS


def _values(part: Any) -> Iterator[Any]:
    yield part
    yield getattr(part, "value", None)
    params = getattr(part, "params", None)
    if isinstance(params, (list, tuple)):
        yield from params


def seconds_of_the_day(now: datetime | None = None) -> float:
    """
    Return the seconds until the date changes, from `now`, an aware time, or this moment.

    The first change counts: in UTC, in Django's time zone, or in the machine's, which
    `date.today()` uses.
    """
    now = now or datetime.now(UTC)
    zones = (UTC, timezone.get_current_timezone(), None)
    return min((_next_day(now.astimezone(zone)) - now).total_seconds() for zone in zones)


def _next_day(moment: datetime) -> datetime:
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    # A second late rather than early, because clocks differ.
    return midnight + timedelta(days=1, seconds=1)
