"""
Decorators for actions of viewsets.

    @action(detail=False)
    @live_every(60)
    def weather(self, request):
        return Response(ask_the_weather_service())
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# Attributes of a decorated function.
_SECONDS = "live_every"


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
