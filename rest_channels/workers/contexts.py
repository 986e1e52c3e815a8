"""
Context managers of a project's own around frames and passes, named in settings.

    REST_CHANNELS = {
        "FRAME_CONTEXTS": ["shop.contexts.history"],  # history(request)
        "PASS_CONTEXTS": ["shop.contexts.without_cache"],  # without_cache()
    }

And context variables that the project's code sets: an ASGI middleware may store a socket's tenant
in one. `Retained` compares a namespace with its former values, and restores them.
"""

from __future__ import annotations

import decimal
from collections import deque
from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import Context, ContextVar, copy_context
from datetime import UTC
from functools import lru_cache
from typing import Any, Final

from asgiref.sync import AsyncToSync, SyncToAsync
from django.apps import apps
from django.core.signals import setting_changed
from django.db import connections
from django.urls import set_script_prefix, set_urlconf
from django.utils import timezone, translation

from rest_channels.settings import socket_settings

_ABSENT: Final = object()
_COPIED: Final = (list, dict, set, deque)
_NO_CONTEXT: Final = nullcontext()

# Variables that were Django's before a test changed settings.
_usual_before: frozenset[ContextVar[Any]] = frozenset()


class Retained:
    """
    The values of a `__dict__`, except for the names in `usual` that are not in `watched`.

    Lists, sets and dictionaries are compared by their items, and so are plain objects, one level
    deep.
    """

    __slots__ = ("_copies", "_namespace", "_usual", "_values", "_watched")

    def __init__(
        self,
        namespace: dict[Any, Any],
        usual: frozenset[str] = frozenset(),
        watched: frozenset[str] = frozenset(),
    ) -> None:
        self._namespace = namespace
        self._usual = usual
        self._watched = watched
        self._values = self._now()
        self._copies = {
            name: copied
            for name, value in self._values.items()
            if (copied := _copy_of(value)) is not None
        }

    def changed(self) -> dict[Any, Any]:
        """Return the names whose values differ, with the current ones; None for a deleted name."""
        now = self._now()
        return {
            name: now.get(name)
            for name in now.keys() | self._values.keys()
            if now.get(name, _ABSENT) is not self._values.get(name, _ABSENT)
            or (name in self._copies and _copy_of(now[name]) != self._copies[name])
        }

    def put_back(self) -> None:
        """Restore the former value of every name, and the former items of every container."""
        for name in self._now().keys() - self._values.keys():
            del self._namespace[name]
        self._namespace.update(self._values)
        for name, copied in self._copies.items():
            _fill(self._values[name], copied)

    def _now(self) -> dict[Any, Any]:
        namespace, usual, watched = self._namespace, self._usual, self._watched
        names: Set[Any] = watched & namespace.keys()
        # Not `namespace.keys() - usual`, which looks at each usual name: a connection has 200.
        if not usual.issuperset(namespace):
            names = names | set(namespace).difference(usual)
        return {name: namespace[name] for name in names}


def _copy_of(value: Any) -> Any:
    if type(value) in _COPIED:
        return value.copy()
    # Neither models nor classes: their attributes are not state.
    if type(value).__module__ == "builtins" or isinstance(value, type) or hasattr(value, "_meta"):
        return None
    namespace = getattr(value, "__dict__", None)
    return dict(namespace) if type(namespace) is dict else None


def twin_of(value: Any) -> Any:
    """Return a copy, one level deep, if changes would be found in it; else `value` itself."""
    copied = _copy_of(value)
    if copied is None or type(value) in _COPIED:
        return value if copied is None else copied
    kind = type(value)
    if any(getattr(base, "__slots__", ()) for base in kind.__mro__):
        return value
    try:
        twin = object.__new__(kind)
    except TypeError:
        # Defined outside Python code.
        return value
    vars(twin).update(copied)
    return twin


def _fill(value: Any, copied: Any) -> None:
    if type(value) not in _COPIED:
        value = vars(value)
    if value == copied:
        return
    value.clear()
    if type(value) in (list, deque):
        value.extend(copied)
    else:
        value.update(copied)


def around_frame(request: Any) -> AbstractContextManager[Any]:
    """
    Enter `FRAME_CONTEXTS` around the answer to a frame, Django's `request`.

    Each step of an answer enters them: the action, an async action's body, each thread's share of a
    generator.
    """
    managers = socket_settings.FRAME_CONTEXTS
    return _entered(managers, request) if managers else _NO_CONTEXT


@contextmanager
def around_pass() -> Iterator[None]:
    """
    Enter `PASS_CONTEXTS` around a pass.

    A pass reads an older state of the database than others do at that moment: it must neither fill
    nor read caches that follow the ORM.
    """
    with ExitStack() as stack:
        for app, without in _CACHES.items():
            if apps.is_installed(app):
                stack.enter_context(without())
        stack.enter_context(_entered(socket_settings.PASS_CONTEXTS))
        yield


@contextmanager
def _entered(managers: Any, *args: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager(*args))
        yield


@contextmanager
def _without_cachalot() -> Iterator[None]:
    from cachalot.api import cachalot_disabled  # needs the app registry

    failure = None
    with cachalot_disabled():
        # It would stay disabled after an exception.
        try:
            yield
        except BaseException as exc:
            failure = exc
    if failure is not None:
        raise failure


@contextmanager
def _without_cacheops() -> Iterator[None]:
    from cacheops.transaction import transaction_states  # needs the app registry

    # As cacheops does in a transaction that has written, neither read nor fill its cache.
    states = [transaction_states[alias] for alias in connections]
    for state in states:
        state.begin()
        state.mark_dirty()
    try:
        yield
    finally:
        # Run the postponed invalidations now.
        for state in states:
            state.commit()


_CACHES = {"cachalot": _without_cachalot, "cacheops": _without_cacheops}


def variables_here() -> dict[ContextVar[Any], Any]:
    """Return the project's variables of the current context, with their values."""
    return {variable: v for variable, v in copy_context().items() if not _is_usual(variable)}


def variables_of_socket() -> dict[ContextVar[Any], Any]:
    """Return the same for reviews, isolated from what frames do to the objects."""
    return {variable: twin_of(value) for variable, value in variables_here().items()}


def enter(variables: Mapping[ContextVar[Any], Any]) -> None:
    """Set `variables` in the current context, to objects of its own."""
    for variable, value in variables.items():
        variable.set(twin_of(value))


def bare_context() -> Context:
    """Return a copy of the current context without them, for code that serves several sockets."""
    bare = Context()
    for variable, value in copy_context().items():
        if _is_usual(variable):
            bare.run(variable.set, value)
    return bare


def _is_usual(variable: ContextVar[Any]) -> bool:
    return variable in _usual() or variable.name.startswith("rest_channels_")


@lru_cache(1)
def _usual() -> frozenset[ContextVar[Any]]:
    """Return the variables of Django, asgiref and Python, which hold no project's state."""

    def set_all() -> None:
        translation.activate("en")
        timezone.activate(UTC)
        set_script_prefix("/")
        set_urlconf("urls")
        decimal.getcontext()

    context = Context()
    context.run(set_all)
    of_asgiref = [v for owner in (AsyncToSync, SyncToAsync) for v in vars(owner).values()]
    found = [*context, *(v for v in of_asgiref if isinstance(v, ContextVar))]
    return _usual_before.union(found)


def _forget_language(*, setting: str, **kwargs: Any) -> None:
    """Find the variables again: Django replaces that of the language if a test changes these."""
    global _usual_before
    if setting in ("LANGUAGES", "LANGUAGE_CODE", "LOCALE_PATHS"):
        # Contexts still have the former one.
        _usual_before |= _usual()
        _usual.cache_clear()


setting_changed.connect(_forget_language)


class Variables:
    """The variables of a context at one moment, with the contents of their values."""

    def __init__(self, context: Context) -> None:
        self._held = context.run(variables_here)
        self._retained = Retained(self._held)

    def changed(self) -> bool:
        """Return whether one was set in the current context, or its content has changed."""
        self._held.clear()
        self._held.update(variables_here())
        return bool(self._retained.changed())
