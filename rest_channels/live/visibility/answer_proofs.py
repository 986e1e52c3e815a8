"""
Decide whether the whole answer of an action is the same for all users who may call it.

It is proven if only code of Django, REST framework and this package makes it: the view's own
`list` or `retrieve`, its filter backends and paginator, the rows and their text. The decorator
`live_shared` declares it. Permissions and authentication may be any code: they are checked for
each user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.db import connections, router
from django.db.models import QuerySet
from rest_framework.mixins import ListModelMixin, RetrieveModelMixin
from rest_framework.pagination import BasePagination

from rest_channels.decorators import is_shared
from rest_channels.live.visibility.proofs import Unproven
from rest_channels.live.visibility.queries import statement_of, unproven_rows
from rest_channels.live.visibility.sharing import is_declared, judging, unproven_rendering
from rest_channels.live.visibility.side_effects import keeps_more
from rest_channels.live.visibility.trust import is_trusted, name_of, replaced, static

_ACTIONS: Final = (ListModelMixin.list, RetrieveModelMixin.retrieve)

# Code of a viewset that makes no part of the answer: what it leaves behind is found otherwise.
_OF_CHECKS: Final = frozenset(
    {
        *["initial", "get_authenticators", "perform_authentication", "get_authenticate_header"],
        *["get_permissions", "check_permissions", "permission_denied"],
        *["get_throttles", "check_throttles", "throttled"],
    }
)

_OF_WRITES: Final = frozenset(
    {
        *["create", "update", "partial_update", "destroy", "get_success_headers"],
        *["perform_create", "perform_update", "perform_destroy"],
    }
)

# Classes that are examined by themselves, or that take no part in an answer.
_CLASSES: Final = frozenset(
    {
        *["serializer_class", "pagination_class", "content_negotiation_class"],
        *["metadata_class", "versioning_class", "schema"],
    }
)

_HARMLESS: Final = _OF_CHECKS | _OF_WRITES | _CLASSES


def unproven_answer(view: Any, handler: Any) -> str | None:
    """
    Return the name of the first unproven code that takes part in the answer of `handler`, or None.

    `handler` is the method that DRF is about to call on `view`, after all checks.
    """
    action = getattr(type(view), view.action or "", None)
    if is_shared(action) and _is_method(handler, view, action):
        return None
    try:
        if action not in _ACTIONS or not _is_method(handler, view, action):
            raise Unproven(name_of(view, view.action or "action"))
        _check_view(view)
        _check_databases()
        return _unproven_rows(view)
    except Unproven as unproven:
        return unproven.piece


def _is_method(handler: Any, view: Any, function: Any) -> bool:
    return getattr(handler, "__func__", None) is function and handler.__self__ is view


def _check_view(view: Any) -> None:
    view_class: Any = type(view)
    _check(replaced(view_class, _HARMLESS))
    for name in _replaced_on(view):
        raise Unproven(name_of(view, name))
    for backend in view.filter_backends:
        if not is_trusted(backend):
            _check_filters_of_fields(view, backend)
    paginator = view.pagination_class
    if paginator is not None:
        if not (isinstance(paginator, type) and issubclass(paginator, BasePagination)):
            raise Unproven(name_of(view, "pagination_class"))
        _check(replaced(paginator))
    if view.action == "retrieve":
        _check(judging(view))


def _check_filters_of_fields(view: Any, backend: Any) -> None:
    """Check that `backend` is django-filter's own, and makes its filters of plain names."""
    if backend.__module__ != "django_filters.rest_framework.backends":
        raise Unproven(name_of(backend))
    if getattr(view, "filterset_class", None) is not None:
        raise Unproven(name_of(view, "filterset_class"))


def _replaced_on(view: Any) -> Iterator[str]:
    """Yield the names of methods and of the paginator that were replaced on `view` itself."""
    for name in vars(view):
        is_method = callable(static(type(view), name)) and name not in _HARMLESS
        if name == "_paginator" or is_method:
            yield name


def _check_databases() -> None:
    """Check the code that chooses a database and that may change statements on their way there."""
    for found in router.routers:
        if not is_trusted(type(found)):
            raise Unproven(name_of(found))
    for connection in connections.all():
        for piece in (type(connection), *connection.execute_wrappers):
            if not is_trusted(piece):
                raise Unproven(getattr(piece, "__qualname__", name_of(piece)))


def _unproven_rows(view: Any) -> str | None:
    queryset = view.queryset
    if not isinstance(queryset, QuerySet) or keeps_more(queryset):
        return name_of(view, "queryset")
    statement, _ = statement_of(queryset, queryset.db)
    rows = unproven_rows(queryset, statement)
    if rows is not None or is_declared(view):
        return rows
    return unproven_rendering(view, view.serializer_class, queryset)


def _check(piece: str | None) -> None:
    if piece is not None:
        raise Unproven(piece)
