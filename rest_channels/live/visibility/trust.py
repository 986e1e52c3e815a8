"""
Decide which code is trusted to give all users the same result.

That is the code of Django, REST framework and this package; any other code may read the user.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from types import CellType
from typing import Any, Final

from django.utils.functional import cached_property

_TRUSTED: Final = frozenset({"django", "rest_framework", "rest_channels"})

# Attributes that every class has, or that are read from the class alone.
_OF_EVERY_CLASS: Final = frozenset(
    {
        *["__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__"],
        *["__firstlineno__", "__static_attributes__", "__slots__", "__orig_bases__"],
        *["__parameters__", "__abstractmethods__", "_abc_impl", "__type_params__"],
        *["__annotate__", "__annotate_func__", "__annotations_cache__", "__match_args__"],
        # `copy` and `pickle` cache it.
        "__slotnames__",
        # No text depends on them: `str()` of a row is checked separately.
        *["__eq__", "__hash__", "__repr__", "__str__"],
    }
)


def is_trusted(piece: Any) -> bool:
    """
    Return whether `piece`, a class, function or other object, is trusted code.

    Everything that a function's closure holds to call must be trusted, too.
    """
    if not inspect.isfunction(piece):
        return _top_of(piece) in _TRUSTED
    return _top_of(piece) in _TRUSTED and all(map(_is_harmless, _held_by(piece, set())))


def _top_of(piece: Any) -> str:
    """Return the top-level package of a class, function or other object."""
    if inspect.isfunction(piece):
        # Not `__module__`, because a decorator copies it from the function it wraps.
        module = piece.__globals__.get("__name__")
    else:
        module = getattr(piece, "__module__", None)
    return (module or "").partition(".")[0]


def _held_by(value: Any, known: set[int]) -> Iterator[Any]:
    """Yield what a decorator's function holds to call: the function it wraps, and decorators."""
    if id(value) in known:
        return
    known.add(id(value))
    if inspect.isfunction(value):
        held = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        held += [vars(value)["__wrapped__"]] if "__wrapped__" in vars(value) else []
    elif isinstance(value, functools.partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif inspect.ismethod(value):
        held = [value.__func__]
    elif isinstance(value, (list, tuple)):
        held = [*value]
    else:
        return
    for item in held:
        yield item
        yield from _held_by(item, known)


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _is_harmless(held: Any) -> bool:
    """Return whether a value in a closure is not code, or is trusted or standard library code."""
    if isinstance(held, type) or not callable(held) or inspect.ismethod(held):
        return True
    owner = held if inspect.isfunction(held) else type(held)
    return _top_of(owner) in _TRUSTED | sys.stdlib_module_names


def name_of(piece: Any, name: str = "") -> str:
    """Return the name of a class, or of its attribute `name`, for log lines."""
    owner = piece if isinstance(piece, type) else type(piece)
    return f"{owner.__qualname__}.{name}" if name else owner.__qualname__


def static(cls: type, name: str) -> Any:
    """Return an attribute of a class without calling descriptors; None if there is none."""
    return inspect.getattr_static(cls, name, None)


def overridden(cls: Any, base: Any, harmless: frozenset[str] = frozenset()) -> str | None:
    """
    Return the name of untrusted code on `cls` that trusted code would call; None if there is none.

    Such code has a name that `base` has too and that is not `harmless`, or that Python itself
    calls.
    """
    return _overridden(cls, base, harmless)


@lru_cache(maxsize=4096)
def _overridden(cls: Any, base: Any, harmless: frozenset[str]) -> str | None:
    known = set(dir(base))
    for owner in cls.__mro__:
        if owner is object or (_is_genuine(owner) and not _is_patched(owner, known)):
            continue
        for name, value in vars(owner).items():
            is_special = _is_special(name) and _is_code(value)
            is_asked = name in known or is_special
            if is_asked and name not in _OF_EVERY_CLASS | harmless and not _is_of_trusted(value):
                return name_of(owner, name)
    return None


@lru_cache(maxsize=1024)
def replaced(cls: Any, harmless: frozenset[str] = frozenset()) -> str | None:
    """
    Return the name of untrusted code on `cls` that trusted code of its bases would call, or None.

    For classes that projects configure by attributes: plain values do not count, but attributes
    that code computes count under any name that is not `harmless`.
    """
    bases = [base for base in cls.__mro__ if base is not object]
    genuine = [base for base in bases if _is_genuine(base)]
    known = {name for base in genuine for name in vars(base)}
    for owner in bases:
        if owner in genuine and not _is_patched(owner, known):
            continue
        for name, value in vars(owner).items():
            if name in _OF_EVERY_CLASS | harmless or _is_configuration(value):
                continue
            if name in known or _is_special(name) or _is_computed(value):
                return name_of(owner, name)
    return None


def _is_configuration(value: Any) -> bool:
    """Return whether a class attribute is a plain value, or trusted code."""
    if isinstance(value, type):
        return is_trusted(value)
    return not _is_code(value) or _is_of_trusted(value)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_computed(value: Any) -> bool:
    """Return whether reading the attribute runs code, as that of a property does."""
    is_method = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
    return hasattr(type(value), "__get__") and not is_method


def is_own(cls: type, name: str) -> bool:
    """Return whether the method `name` of `cls` is trusted code."""
    return _is_of_trusted(static(cls, name))


def _is_of_trusted(value: Any) -> bool:
    """Return whether a class attribute can run only trusted code."""
    if isinstance(value, (classmethod, staticmethod)):
        return _is_of_trusted(value.__func__)
    if isinstance(value, property):
        return all(_is_of_trusted(f) for f in (value.fget, value.fset, value.fdel) if f)
    if isinstance(value, (cached_property, functools.cached_property)):
        return _is_of_trusted(value.func)
    # A function, or one of Django's descriptors; no code here calls other classes.
    return is_trusted(value if inspect.isfunction(value) else type(value))


def _is_code(value: Any) -> bool:
    return callable(value) or hasattr(type(value), "__get__")


def _is_genuine(cls: type) -> bool:
    """Return whether a trusted module has this class: a metaclass may forge its `__module__`."""
    found: Any = sys.modules.get(cls.__module__) if is_trusted(cls) else None
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _is_patched(owner: type, known: Collection[str]) -> bool:
    """Return whether a method of a trusted class was replaced by untrusted code."""
    return any(
        inspect.isfunction(value) and not is_trusted(value)
        for name, value in vars(owner).items()
        if name in known
    )
