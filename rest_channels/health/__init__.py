"""
Views that say whether this process is alive, and whether it should get traffic.

    from rest_channels import health

    urlpatterns = [
        path("live/", health.Live.as_view()),
        path("ready/", health.Ready.as_view()),
    ]

A view answers for the process that received the request, so ask each process at its own port. An
answer holds fixed texts and the names of databases, and nothing else about the project.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.http import HttpRequest, JsonResponse
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import classonlymethod
from django.views import View

from rest_channels.health.readiness import CHECKS, PASSING, assess

__all__ = ["Live", "Ready"]


class _Probe(View):
    """A view that needs neither a user nor a transaction."""

    http_method_names = ["get", "head", "options"]

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        view: Callable[..., Any] = login_not_required(super().as_view(**initkwargs))
        # An asynchronous view cannot run in the transaction of ATOMIC_REQUESTS.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view


def _answer(status: int, content: dict[str, Any]) -> JsonResponse:
    response = JsonResponse(content, status=status)
    add_never_cache_headers(response)
    return response


class Live(_Probe):
    """
    Answers 200 as long as the process answers at all: its event loop turns.

    It asks neither databases nor the channel layer: to restart this process would not mend those.
    """

    async def get(self, request: HttpRequest) -> JsonResponse:
        return _answer(200, {"status": "ok"})


class Ready(_Probe):
    """
    Answers 200 if all `checks` pass, else 503, within about two seconds.

    `checks` are all unless `as_view(checks=["draining", "database"])` names some:

    - `draining`: no signal to stop has arrived, or there are no sockets to close;
    - `database`: each database with a log of changes answers a query;
    - `log`: changes get their positions in the log of each database that this process follows;
    - `bus`: a message that this process sends to itself over the channel layer arrives.

    Each value in the answer is a text: `ok`, or the reason why the check fails. A check that passes
    may also say `polling`: changes of other processes arrive within `POLL_SECONDS`.
    """

    checks: Collection[str] = CHECKS

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        if unknown := [name for name in initkwargs.get("checks", ()) if name not in CHECKS]:
            raise ImproperlyConfigured(
                f"Ready.as_view() has no check {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(CHECKS)}."
            )
        view: Callable[..., Any] = super().as_view(**initkwargs)
        return view

    async def get(self, request: HttpRequest) -> JsonResponse:
        found = await assess(self.checks)
        is_ready = PASSING.issuperset(found.values())
        status = "ok" if is_ready else "unavailable"
        return _answer(200 if is_ready else 503, {"status": status, "checks": found})
