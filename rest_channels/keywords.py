"""
Classes configured by keywords, as DRF's `as_view(**initkwargs)` does: `as_routes(**initkwargs)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any


def configured(cls: Any, initkwargs: dict[str, Any], reserved: Collection[str] = ()) -> Any:
    """
    A subclass of `cls` with `initkwargs` as its attributes; `cls` itself where there are none.

    Raises TypeError for a name that is no configuration of the class: unknown, a method, or
    `reserved`. The message lists those that are.
    """
    known = _configurable(cls) - set(reserved)
    unknown = sorted(initkwargs.keys() - known)
    if unknown:
        raise TypeError(
            f"{cls.__name__}.as_routes() got unknown keywords: {', '.join(unknown)}. "
            f"Known are: {', '.join(sorted(known))}."
        )
    return subclass(cls, (cls,), initkwargs) if initkwargs else cls


def subclass(cls: type, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
    """A class of these `bases` under the name of `cls`, which metadata and messages show."""
    own = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(cls.__name__, bases, {**own, **attributes})


def _configurable(cls: Any) -> set[str]:
    """Attributes that are configuration: public, no methods, no properties."""
    return {
        name
        for name, value in inspect.getmembers_static(cls)
        if not name.startswith("_")
        and not inspect.isroutine(value)
        and not isinstance(value, (classmethod, staticmethod, property))
    }
