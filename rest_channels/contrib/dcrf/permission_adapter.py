"""
Adapters that make djangochannelsrestframework's permission classes DRF's.

A viewset may list both kinds in `permission_classes`, alone or combined by `&`, `|` and `~`.
`ConsumerViewSetMixin` adapts them here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from rest_framework import permissions as drf
from rest_framework.request import Request
from rest_framework.views import APIView

from rest_channels.contrib.dcrf import loaded

if TYPE_CHECKING:
    from djangochannelsrestframework.permissions import BasePermission

# DCRF's names for two of DRF's actions; its permissions decide by them.
_WORDS = {"partial_update": "patch", "destroy": "delete"}


class ConsumerPermission(drf.BasePermission):
    """
    One of DCRF's permissions, asked as DCRF asks it.

    It receives a scope that has the user, the view as the consumer, and DCRF's name for the action.
    Its keyword arguments are the URL's lookups and `data`.
    """

    def __init__(self, permission: BasePermission, is_inverted: bool = False) -> None:
        self.permission = permission
        self.is_inverted = is_inverted

    def has_permission(self, request: Request, view: APIView) -> bool:
        keywords = {**view.kwargs, "data": request.data}
        for name in ("self", "scope", "consumer", "action"):
            keywords.pop(name, None)
        scope, action = _scope(request), _action(request, view)
        return _call(self.permission.has_permission, scope, view, action, **keywords)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        # It does not check objects, but DRF's `~` would turn a plain True into a refusal of every
        # row.
        return not self.is_inverted or self.has_permission(request, view)

    def can_connect(self, request: Request, view: APIView) -> bool:
        """Return what it decides about the handshake."""
        message = {"type": "websocket.connect"}
        return _call(self.permission.can_connect, _scope(request), view, message=message)


def with_drf_operators(permission_class: Any) -> Any:
    """
    Return an item of `permission_classes` without DCRF's operators, which cannot be nested.

    An item without them is returned unchanged.
    """
    dcrf = loaded("permissions")
    if dcrf is None:
        return permission_class
    match permission_class:
        case dcrf.SingleOperandHolder() | drf.SingleOperandHolder():
            operator, names = drf.NOT, ["op1_class"]
        case dcrf.OperandHolder() | drf.OperandHolder():
            operator, names = (
                _operators(dcrf)[permission_class.operator_class],
                ["op1_class", "op2_class"],
            )
        case _:
            return permission_class
    before = [getattr(permission_class, name) for name in names]
    after = [with_drf_operators(operand) for operand in before]
    if isinstance(permission_class, drf.OperationHolderMixin) and after == before:
        return permission_class
    holder = drf.OperandHolder if len(names) == 2 else drf.SingleOperandHolder
    return holder(operator, *after)


def as_drf_permission(permission: Any, is_inverted: bool = False) -> Any:
    """Return `permission`, an instance of either library's, as DRF's; `is_inverted` within `~`."""
    dcrf = loaded("permissions")
    if dcrf is None:
        return permission
    if isinstance(permission, dcrf.WrappedDRFPermission):
        return permission.permission
    if (operator := _operators(dcrf).get(type(permission))) is not None:
        operands = (permission.op1, permission.op2)
        return operator(*(as_drf_permission(operand, is_inverted) for operand in operands))
    if isinstance(permission, (dcrf.NOT, drf.NOT)):
        return drf.NOT(as_drf_permission(permission.op1, is_inverted=True))
    if isinstance(permission, dcrf.BasePermission):
        return ConsumerPermission(permission, is_inverted)
    return permission


@lru_cache(1)
def _operators(dcrf: Any) -> dict[type, type]:
    """Return DRF's operator for each that combines two permissions."""
    return {dcrf.AND: drf.AND, dcrf.OR: drf.OR, drf.AND: drf.AND, drf.OR: drf.OR}


def can_connect(permission: Any, request: Request, view: APIView) -> bool:
    """
    Return whether `permission` admits a socket, as `can_connect` of DCRF's decides.

    DRF's permissions do not take part. Neither do inverted ones: inverting a permission that
    everybody may connect with would refuse everybody.
    """
    match permission:
        case ConsumerPermission():
            return permission.can_connect(request, view)
        case drf.AND():
            return all(can_connect(p, request, view) for p in (permission.op1, permission.op2))
        case drf.OR():
            return any(can_connect(p, request, view) for p in (permission.op1, permission.op2))
    return True


def _action(request: Request, view: APIView) -> str | None:
    """Return DCRF's name of the action; the client's if the action does not exist."""
    action: str | None = getattr(view, "action", None)
    if action is None:
        frame = getattr(request._request, "frame", None)
        action = frame.action if frame is not None else None
        return action
    return _WORDS.get(action, action)


def _scope(request: Request) -> dict[str, Any]:
    http_request = request._request
    scope = getattr(http_request, "scope", None)
    if scope is None:
        # Over HTTP by WSGI.
        scope = {"type": "http", "path": request.path, "method": request.method, "headers": []}
    session = getattr(http_request, "session", None)
    return {**scope, "user": request.user, "session": session}


def _call(method: Any, *args: Any, **kwargs: Any) -> bool:
    answer = async_to_sync(method) if iscoroutinefunction(method) else method
    return bool(answer(*args, **kwargs))
