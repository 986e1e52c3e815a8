"""
What the project's code has left behind while DRF answered: on the view, the request, the
queryset, in context variables.

It may hold what was read of a user, so what is made with it is right for one socket alone. Found by
comparing with what DRF, Django and this project leave: anything else counts.
"""

from __future__ import annotations

from contextvars import Context, ContextVar
from datetime import UTC
from functools import lru_cache
from typing import Any, Final

from django.db.models import Prefetch, QuerySet
from django.http import QueryDict
from django.urls import set_script_prefix, set_urlconf
from django.utils import timezone, translation

# What DRF's dispatch and this project leave on a view.
_USUAL_ATTRIBUTES: Final = frozenset(
    {
        *["args", "kwargs", "request", "action", "action_map", "format_kwarg", "headers"],
        *["response", "reviewed", "shown_by", "_paginator", "_negotiator", "permission_classes"],
        *["get", "head", "post", "put", "patch", "delete", "options", "trace"],
    }
)

_USUAL_HEADERS: Final = frozenset({"Allow", "Vary"})

_ABSENT: Final = object()


def has_traces(view: Any, queryset: Any) -> bool:
    """Whether anything was left on `view`, its request or the `queryset` that it gave."""
    return _is_view_changed(view) or _is_request_changed(view.request) or keeps_more(queryset)


def keeps_more(queryset: Any) -> bool:
    """Whether `queryset` holds more than SQL says: its rows may differ where that does not."""
    if vars(queryset).keys() - _names_of_querysets():
        return True
    lookups = [p for p in queryset._prefetch_related_lookups if isinstance(p, Prefetch)]
    return any(keeps_more(p.queryset) for p in lookups if p.queryset is not None)


def changes_context(before: Context, after: Context) -> bool:
    """Whether variables were set between, but those of Django's language, time zone and URLs."""
    return any(
        before.get(variable, _ABSENT) is not value
        for variable, value in after.items()
        if variable not in _variables_of_django()
    )


def _is_view_changed(view: Any) -> bool:
    call = view.request._request.call
    # What `as_view()` was given is the same for all requests.
    given = getattr(call.view, "initkwargs", {})
    own = {
        name
        for name, value in vars(view).items()
        if name not in _USUAL_ATTRIBUTES and given.get(name, _ABSENT) is not value
    }
    return bool(
        own or view.args or view.kwargs != dict(call.kwargs) or view.headers.keys() - _USUAL_HEADERS
    )


def _is_request_changed(request: Any) -> bool:
    message = request._request
    sent = QueryDict(message.scope["query_string"], encoding=message.encoding)
    return sent != message.GET or bool(vars(request.accepted_renderer))


@lru_cache(1)
def _names_of_querysets() -> frozenset[str]:
    return frozenset(vars(QuerySet()))


@lru_cache(1)
def _variables_of_django() -> frozenset[ContextVar[Any]]:
    def set_all() -> None:
        translation.activate("en")
        timezone.activate(UTC)
        set_script_prefix("/")
        set_urlconf("urls")

    context = Context()
    context.run(set_all)
    return frozenset(context)
