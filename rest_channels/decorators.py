"""
Decorators for actions of viewsets.

    @action(detail=False)
    @live_every(60)
    @live_shared
    def weather(self, request):
        return Response(ask_the_weather_service())
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# Attributes of a decorated function.
_SECONDS = "live_every"
_SHARED = "live_shared"


def live_every(seconds: float) -> Callable[[F], F]:
    """
    Run the decorated action again at that interval for clients that watch it.

    For answers that change without a write to the database: with the time, another service, a
    cache. Raises `ValueError` if `seconds` is not a number above 0.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ValueError(f"live_every() takes a number of seconds above 0, not {seconds!r}.")

    def decorate(action: F) -> F:
        vars(action)[_SECONDS] = float(seconds)
        return action

    return decorate


def seconds_of(action: Any) -> float | None:
    """Return the interval that `live_every` has set for an action; None if there is none."""
    seconds: float | None = getattr(action, _SECONDS, None)
    return seconds


def live_shared(action: F) -> F:
    """
    Declare that the decorated action has the same answer for all users who may call it.

    Then one run of it serves all clients who watch it with the same query. Permissions may depend
    on the user: they are checked for each. An answer that reads the user, or another part of a
    request that clients do not have in common, is not shared in spite of it.

    Raises `ValueError` for a method of Django REST framework, which other viewsets have as well.
    """
    if action.__module__.partition(".")[0] in ("rest_framework", "rest_channels"):
        raise ValueError(
            f"live_shared() takes an action of your own: define {action.__name__}() on the "
            "viewset, and call super() in it."
        )
    vars(action)[_SHARED] = True
    return action


def is_shared(action: Any) -> bool:
    """Return whether an action is declared by `live_shared`."""
    return getattr(action, _SHARED, None) is True
