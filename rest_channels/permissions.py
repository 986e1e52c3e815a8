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

# DCRF's words, on which its permissions decide, for two of DRF's actions.
_WORDS = {"partial_update": "patch", "destroy": "delete"}


class ConsumerPermission(drf.BasePermission):
    """
    One of DCRF's permissions, asked as DCRF asks it: with a scope that has the user, the view as
    the consumer, and DCRF's word for the action. Its keyword arguments are the URL's lookups and
    `data`.
    """

    def __init__(self, permission: dcrf.BasePermission, is_inverted: bool = False) -> None:
        self.permission = permission
        self.is_inverted = is_inverted

    def has_permission(self, request: Request, view: APIView) -> bool:
        keywords = {**view.kwargs, "data": request.data}
        for name in ("self", "scope", "consumer", "action"):
            keywords.pop(name, None)
        scope, action = _scope(request), _action(request, view)
        return _call(self.permission.has_permission, scope, view, action, **keywords)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        # It knows no objects. DRF's `~` would make a plain True a refusal of every row.
        return not self.is_inverted or self.has_permission(request, view)

    def can_connect(self, request: Request, view: APIView) -> bool:
        """What it says of the handshake."""
        message = {"type": "websocket.connect"}
        return _call(self.permission.can_connect, _scope(request), view, message=message)


def with_drf_operators(permission_class: Any) -> Any:
    """
    An item of `permission_classes` without DCRF's operators, which cannot be nested.

    The very same object where it has none.
    """
    match permission_class:
        case dcrf.SingleOperandHolder() | drf.SingleOperandHolder():
            operator, names = drf.NOT, ["op1_class"]
        case dcrf.OperandHolder() | drf.OperandHolder():
            operator, names = (
                _OPERATORS[permission_class.operator_class],
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
    """`permission`, an instance of either library's, as one of DRF's; within `~`: `is_inverted`."""
    if isinstance(permission, dcrf.WrappedDRFPermission):
        return permission.permission
    if (operator := _OPERATORS.get(type(permission))) is not None:
        operands = (permission.op1, permission.op2)
        return operator(*(as_drf_permission(operand, is_inverted) for operand in operands))
    if isinstance(permission, (dcrf.NOT, drf.NOT)):
        return drf.NOT(as_drf_permission(permission.op1, is_inverted=True))
    if isinstance(permission, dcrf.BasePermission):
        return ConsumerPermission(permission, is_inverted)
    return permission


def judges_sockets(permission: Any) -> bool:
    """Whether `can_connect` of `permission` has a say."""
    match permission:
        case drf.AND() | drf.OR():
            return judges_sockets(permission.op1) or judges_sockets(permission.op2)
    return isinstance(permission, ConsumerPermission)


def can_connect(permission: Any, request: Request, view: APIView) -> bool:
    """
    Whether `permission` admits a socket: what `can_connect` of DCRF's says. DRF's have no say,
    nor has what `~` inverts: a permission that everybody may connect with would refuse everybody.
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
    """DCRF's word; for an action that does not exist, the client's."""
    action = getattr(view, "action", None)
    if action is None:
        frame = getattr(request._request, "frame", None)
        return frame.action if frame is not None else None
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
