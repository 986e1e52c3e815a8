"""
What a message must hold for a handler to take it: one filter for each key.

    consumer(command="send", user=r"(?P<name>\\w+)")
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured


class Filter:
    """
    What one key of a message's content must be.

    `wanted` is a regular expression (a string, or compiled), which the value has to match in full,
    or any other value, which it has to equal. Channels 1 anchored its filters in the same way.
    """

    def __init__(self, name: str, wanted: Any) -> None:
        """Raises ImproperlyConfigured for a string that is no regular expression."""
        self.name = name
        self.wanted = _compiled(name, wanted) if isinstance(wanted, (str, bytes)) else wanted
        if isinstance(self.wanted, re.Pattern) and isinstance(self.wanted.pattern, bytes):
            raise ImproperlyConfigured(f"The filter {name}={wanted!r} is of bytes: JSON is text.")

    def match(self, content: Mapping[str, Any]) -> dict[str, str] | None:
        """The named groups captured, none of them for a plain value; None where it differs."""
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
            f"The filter {name}={wanted!r} is no regular expression: {exc}. For a text as it is "
            "there is re.escape()."
        ) from None


def _is_same(value: Any, wanted: Any) -> bool:
    """Whether JSON's `value` equals `wanted`. 1 is not true, nor [1] [true]."""
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
    What a filter stands for on `cls`: a callable is called, with the class and the keywords of
    `as_routes`. A classmethod or staticmethod named in the class body is looked up again, so that
    a subclass may override it.
    """
    if isinstance(wanted, (classmethod, staticmethod)):
        name = wanted.__func__.__name__
        is_of_class = any(vars(base).get(name) is wanted for base in cls.__mro__)
        method = getattr(cls, name) if is_of_class else wanted.__get__(None, cls)
        return method(**initkwargs) if hasattr(method, "__self__") else method(cls, **initkwargs)
    return wanted(cls, **initkwargs) if callable(wanted) else wanted
