"""
djangochannelsrestframework's permission classes among DRF's.

A viewset may list both in `permission_classes`, alone or combined by `&`, `|` and `~`; they are
made DRF's here. `ConsumerViewSetMixin` does so.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from djangochannelsrestframework import permissions as dcrf
from rest_framework import permissions as drf
from rest_framework.request import Request
from rest_framework.views import APIView

_OPERATORS = {dcrf.AND: drf.AND, dcrf.OR: drf.OR, drf.AND: drf.AND, drf.OR: drf.OR}


class ConsumerPermission(drf.BasePermission):
    """
    One of DCRF's permissions, asked as DCRF asks it: with a scope that has the user, the view as
    the consumer, and the action. Its keyword arguments are the URL's lookups and `data`.
    """

    def __init__(self, permission: dcrf.BasePermission) -> None:
        self.permission = permission

    def has_permission(self, request: Request, view: APIView) -> bool:
        keywords = {**view.kwargs, "data": request.data}
        for name in ("self", "scope", "consumer", "action"):
            keywords.pop(name, None)
        return _call(self.permission.has_permission, _scope(request), view, view.action, **keywords)


def as_drf_permission(permission: Any) -> Any:
    """`permission`, an instance of either library's, as one of DRF's."""
    if isinstance(permission, dcrf.WrappedDRFPermission):
        return permission.permission
    if (operator := _OPERATORS.get(type(permission))) is not None:
        return operator(as_drf_permission(permission.op1), as_drf_permission(permission.op2))
    if isinstance(permission, (dcrf.NOT, drf.NOT)):
        return drf.NOT(as_drf_permission(permission.op1))
    if isinstance(permission, dcrf.BasePermission):
        return ConsumerPermission(permission)
    return permission


def can_connect(permission: Any, request: Request, view: APIView) -> bool:
    """Whether `permission` admits the socket at the handshake: what DCRF's `can_connect` says."""
    if isinstance(permission, ConsumerPermission):
        message = {"type": "websocket.connect"}
        return _call(permission.permission.can_connect, _scope(request), view, message=message)
    match permission:
        case drf.AND():
            return all(can_connect(p, request, view) for p in (permission.op1, permission.op2))
        case drf.OR():
            return any(can_connect(p, request, view) for p in (permission.op1, permission.op2))
    return True


def _scope(request: Request) -> dict[str, Any]:
    return {**request._request.scope, "user": request.user, "session": request._request.session}


def _call(method: Any, *args: Any, **kwargs: Any) -> bool:
    answer = async_to_sync(method) if iscoroutinefunction(method) else method
    return bool(answer(*args, **kwargs))
