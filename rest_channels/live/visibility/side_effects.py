"""
Detect state that the project's code left on the view, request or queryset while DRF answered.

Such state may depend on the user, so a result made with it belongs to one socket alone. The objects
are compared with what DRF, Django and this package leave: anything else counts.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, Final

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import get_script_prefix, get_urlconf
from django.utils import timezone, translation

from rest_channels.live.visibility.trust import is_trusted

# Attributes that DRF's dispatch and this package set on a view.
_USUAL_ATTRIBUTES: Final = frozenset(
    {
        *["args", "kwargs", "request", "action", "action_map", "format_kwarg", "headers"],
        *["response", "get_serializer_class", "_paginator", "_negotiator", "permission_classes"],
        *["get", "head", "post", "put", "patch", "delete", "options", "trace"],
    }
)

_USUAL_HEADERS: Final = frozenset({"Allow", "Vary"})

_ABSENT: Final = object()

_OF_WATCHING: Final = "_reads"


def has_traces(view: Any, queryset: Any) -> bool:
    """Return whether code left state on `view`, its request or its `queryset`."""
    return is_view_used(view) or keeps_more(queryset)


def is_view_used(view: Any) -> bool:
    """Return whether code left state on `view` or its request."""
    return _is_view_changed(view) or _is_request_changed(view.request)


def state_of(view: Any) -> list[dict[str, Any]]:
    """Return the attributes of `view`, its requests and its renderer, for `is_changed`."""
    request = view.request
    kept = (view, request, request._request, request.accepted_renderer)
    # Not `vars`, which would count as a read of the request.
    states = [object.__getattribute__(each, "__dict__") for each in kept]
    return [{k: v for k, v in state.items() if k != _OF_WATCHING} for state in states]


def is_changed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> bool:
    """Return whether any attribute was set, replaced or deleted in between."""
    return any(
        old.keys() != new.keys() or any(new[name] is not value for name, value in old.items())
        for old, new in zip(before, after, strict=True)
    )


def keeps_more(queryset: Any) -> bool:
    """
    Return whether `queryset` holds state beside its SQL, so that equal SQL may give other rows.
    """
    if vars(queryset).keys() - _names_of_querysets():
        return True
    return any(_fetches_more(p) for p in queryset._prefetch_related_lookups if type(p) is not str)


def _fetches_more(lookup: Any) -> bool:
    """
    Return whether a `Prefetch` may fetch other rows than its SQL says.

    That is the case if its class is the project's own.
    """
    if not is_trusted(type(lookup)):
        return True
    found = [lookup.queryset, *(getattr(lookup, "querysets", None) or ())]
    return any(keeps_more(queryset) for queryset in found if queryset is not None)


def ways_of_django() -> Hashable:
    """Return all state that Django keeps in context variables and that texts may depend on."""
    zone = timezone.get_current_timezone()
    return (
        # Two zones with one name may differ, and equal ones may have other names.
        *(translation.get_language(), timezone.get_current_timezone_name(), type(zone), zone),
        *(get_urlconf(), get_script_prefix()),
    )


def _is_view_changed(view: Any) -> bool:
    call = view.request._request.call
    # The arguments of `as_view()` are the same for all requests.
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
