"""
Compare values exactly, by type and content.

`repr` does not serve, because it may leave out the end of a long value, nor does `==`, because 1,
1.0 and True are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, Final
from uuid import UUID

from django.utils.safestring import SafeString

# Packages with number, range and wrapper classes for parameters: the drivers', and Django's.
_OF_DRIVERS: Final = frozenset({"psycopg", "psycopg2", "django"})


class Inexact(TypeError):
    """
    A value that cannot be compared exactly.

    The caller takes it as different from every other value.
    """

    def __init__(self, value: Any) -> None:
        super().__init__(f"{type(value).__qualname__} cannot be compared exactly.")


def exact(value: Any) -> Hashable:
    """
    Return a key that is equal for two values only if their types and contents are equal.

    Members of containers are compared in the same way. Raises `Inexact` for an unknown type.
    """
    kind = type(value)
    key = _KEYS.get(kind)
    if key is None:
        if isinstance(value, Enum):
            return kind, exact(value._value_)
        key = _of_driver(kind)
    if key is None:
        raise Inexact(value)
    return kind, key(value)


class Itself:
    """A value that equals only itself, as long as this object keeps it alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def alike(value: Any) -> Hashable:
    """Return `exact(value)`, or a key that only this object equals if its type is unknown."""
    try:
        return exact(value)
    except Inexact:
        return Itself(value)


def _content(value: Hashable) -> Hashable:
    return value


def _members(value: Any) -> Hashable:
    return tuple(map(exact, value))


def _clock(value: datetime | time) -> Hashable:
    # Python takes times of the same moment in two time zones as equal.
    return value.replace(tzinfo=None), value.fold, value.utcoffset()


def _bounds(value: Any) -> Hashable:
    return value.isempty, value._bounds, exact(value.lower), exact(value.upper)


def _adapted(value: Any) -> Hashable:
    return exact(value.obj)


def _json(value: Any) -> Hashable:
    return exact(value.obj if hasattr(value, "obj") else value.adapted), _dumps(value)


def _dumps(value: Any) -> Hashable:
    return getattr(value, "dumps", None) or getattr(value, "_dumps", None)


_KEYS: Final[Mapping[type, Callable[[Any], Hashable]]] = {
    **dict.fromkeys((type(None), bool, int, str, bytes, date, timedelta, UUID), _content),
    **dict.fromkeys((IPv4Address, IPv4Interface, IPv4Network), _content),
    **dict.fromkeys((IPv6Address, IPv6Interface, IPv6Network), _content),
    float: float.hex,
    Decimal: Decimal.as_tuple,
    SafeString: str.__str__,
    **dict.fromkeys((datetime, time), _clock),
    **dict.fromkeys((bytearray, memoryview), bytes),
    **dict.fromkeys((list, tuple), _members),
    dict: lambda value: tuple((exact(name), exact(item)) for name, item in value.items()),
    **dict.fromkeys((set, frozenset), lambda value: frozenset(map(exact, value))),
}


def _of_driver(kind: type) -> Callable[[Any], Hashable] | None:
    """
    Return how to compare values of `kind`, if it is a class of parameters of a database driver.
    """
    if kind.__module__.partition(".")[0] not in _OF_DRIVERS:
        return None
    if issubclass(kind, int):
        return int
    if issubclass(kind, float):
        return float.hex
    if issubclass(kind, Decimal):
        return Decimal.as_tuple
    names = {base.__name__ for base in kind.__mro__}
    if "Range" in names:
        return _bounds
    if not names.isdisjoint({"Json", "Jsonb"}):
        return _json
    return _adapted if "Binary" in names else None
