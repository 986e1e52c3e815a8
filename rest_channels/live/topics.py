"""Read from a frame's keys how a subscription begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any, Final

from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError

from rest_channels.live.interface import Options, Window
from rest_channels.protocol import MISSING, Missing
from rest_channels.settings import socket_settings

#: The error code for rows that a subscription cannot follow.
CANNOT_SUBSCRIBE: Final = "cannot_subscribe"


class CannotSubscribe(APIException):
    """A subscription to rows that cannot be followed; its detail says what to do instead."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = CANNOT_SUBSCRIBE


#: The keys of a frame that name the rows a client holds. Their values may be long.
HELD_KEYS: Final = ("held", "held_ranges")

#: The keys of a frame that hold a subscription's options; see `Options`.
OPTION_KEYS: Final = frozenset({"snapshot", "since", "credit", "ordered", "window", *HELD_KEYS})

# No database has longer integer keys; longer ones would take much memory.
_KEY_BITS: Final = 64


def options_of(keys: Mapping[str, Any], *, awaits: bool = False) -> Options:
    """Return the options among a frame's keys. Raises DRF's `ValidationError` if one is invalid."""
    snapshot = keys.get("snapshot", False)
    if not isinstance(snapshot, bool):
        raise ValidationError({"snapshot": ["Must be true or false."]})
    return Options(
        snapshot=snapshot,
        # A token that does not name a position leads to a reset.
        since=MISSING if keys.get("since") is None else keys["since"],
        held=_all_held(keys),
        credit=_credit(keys.get("credit")),
        awaits=awaits,
        window=window_of(keys),
    )


def window_of(keys: Mapping[str, Any]) -> Window | None:
    """
    Return the window that a frame's keys ask for; None if they ask for no order.

    Raises DRF's `ValidationError` if a value is invalid.
    """
    is_ordered, size = keys.get("ordered"), keys.get("window")
    if not (is_ordered is None or isinstance(is_ordered, bool)):
        raise ValidationError({"ordered": ["Must be true or false."]})
    if size is None:
        return Window() if is_ordered else None
    limit = socket_settings.MAX_SUBSCRIPTION_ROWS
    if type(size) is not int or not 1 <= size <= limit:
        raise ValidationError({"window": [f"Must be an integer from 1 to {limit}."]})
    return Window(size)


def _all_held(keys: Mapping[str, Any]) -> tuple[str | int | float, ...] | None:
    named, counted = _held(keys.get("held")), _ranges(keys.get("held_ranges"))
    if named is None or counted is None:
        return counted if named is None else named
    return tuple(dict.fromkeys([*named, *counted]))


def _held(value: Any) -> tuple[str | int | float, ...] | None:
    if value is None or isinstance(value, Missing):
        return None
    if not isinstance(value, list) or not all(
        isinstance(key, str) or (_is_number(key) and math.isfinite(key)) for key in value
    ):
        raise ValidationError({"held": ["Must be a list of primary keys."]})
    # A list may repeat keys: each is answered once.
    return tuple(dict.fromkeys(value))


def _ranges(value: Any) -> tuple[int, ...] | None:
    """Return the keys of closed ranges of integers, each once."""
    if value is None or isinstance(value, Missing):
        return None
    if not isinstance(value, list) or not all(map(_is_range, value)):
        detail = "Must be a list of ranges [first, last] of integers, first not above last."
        raise ValidationError({"held_ranges": [detail]})
    limit = socket_settings.MAX_SUBSCRIPTION_ROWS
    if sum(last - first + 1 for first, last in value) > limit:
        detail = f"Must not have more than {limit} keys: a subscription has no more rows."
        raise ValidationError({"held_ranges": [detail]})
    keys = chain.from_iterable(range(first, last + 1) for first, last in value)
    return tuple(dict.fromkeys(keys))


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(end) is int and end.bit_length() <= _KEY_BITS for end in value)
        and value[0] <= value[1]
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _credit(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValidationError({"credit": ["Must be a positive integer."]})
    return value
