r"""
Filters of messages: one for each key that a handler requires.

    consumer(command="send", user=r"(?P<name>\w+)")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured


class Filter:
    """
    The requirement for one key of a message's content.

    `wanted` is a regular expression (a string, or compiled) that must match the whole value, or any
    other value, which must be equal. Channels 1 anchored its filters in the same way.
    """

    def __init__(self, name: str, wanted: Any) -> None:
        """Compile the filter. Raises ImproperlyConfigured for an invalid regular expression."""
        self.name = name
        self.wanted = _compiled(name, wanted) if isinstance(wanted, (str, bytes)) else wanted
        if isinstance(self.wanted, re.Pattern) and isinstance(self.wanted.pattern, bytes):
            raise ImproperlyConfigured(
                f"The filter {name}={wanted!r} must not be bytes: JSON is text."
            )

    def match(self, content: Mapping[str, Any]) -> dict[str, str] | None:
        """Return the captured groups, {} for a plain value; None if the value does not match."""
        if self.name not in content:
            return None
        value = content[self.name]
        if not isinstance(self.wanted, re.Pattern):
            return {} if _is_same(value, self.wanted) else None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return None
        found = self.wanted.fullmatch(str(value))
        return None if found is None else _captured(found)

    def __str__(self) -> str:
        wanted = self.wanted.pattern if isinstance(self.wanted, re.Pattern) else self.wanted
        return f"{self.name}={wanted!r}"


def _compiled(name: str, wanted: Any) -> re.Pattern[Any]:
    try:
        return re.compile(wanted)
    except re.error as exc:
        raise ImproperlyConfigured(
            f"The filter {name}={wanted!r} must be a regular expression: {exc}. Use re.escape() "
            "for a literal text."
        ) from None


def _is_same(value: Any, wanted: Any) -> bool:
    """Return whether JSON's `value` equals `wanted`. 1 is not true, nor [1] [true]."""
    if isinstance(wanted, Mapping) and isinstance(value, dict):
        return value.keys() == wanted.keys() and all(_is_same(value[k], wanted[k]) for k in wanted)
    if isinstance(wanted, (list, tuple)) and isinstance(value, list):
        return len(value) == len(wanted) and all(map(_is_same, value, wanted))
    return type(value) is type(wanted) and bool(value == wanted)


def _captured(found: re.Match[str]) -> dict[str, str]:
    # A group that took no part leaves the handler's own default.
    return {name: value for name, value in found.groupdict().items() if value is not None}


def resolved(wanted: Any, cls: type, initkwargs: Mapping[str, Any]) -> Any:
    """
    Return the value of a filter on `cls`; call a callable with the class and the keywords.

    The keywords are those of `as_routes`. A classmethod or staticmethod named in the class body is
    looked up again, so that a subclass may override it.
    """
    if isinstance(wanted, (classmethod, staticmethod)):
        name = wanted.__func__.__name__
        is_of_class = any(vars(base).get(name) is wanted for base in cls.__mro__)
        method = getattr(cls, name) if is_of_class else wanted.__get__(None, cls)
        return method(**initkwargs) if hasattr(method, "__self__") else method(cls, **initkwargs)
    return wanted(cls, **initkwargs) if callable(wanted) else wanted
