"""The rule that says which users may open the console: `CONSOLE_ACCESS`, or `DEBUG`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework.permissions import BasePermission, OperandHolder, SingleOperandHolder

from rest_channels.settings import socket_settings


def is_permission(access: Any) -> bool:
    """Return whether `access` is a permission class of DRF's, also one combined by & | ~."""
    holders = (OperandHolder, SingleOperandHolder)
    return isinstance(access, holders) or (
        isinstance(access, type) and hasattr(access, "has_permission")
    )


def may_open(request: Any, view: Any = None) -> bool:
    """Return whether the user of `request` may open the console."""
    access = socket_settings.CONSOLE_ACCESS
    if access is None:
        return bool(settings.DEBUG)
    if is_permission(access):
        return bool(access().has_permission(request, view))
    return bool(access(request))


class ConsoleAccess(BasePermission):
    """The console's own permission."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return may_open(request, view)


class IsStaff(ConsoleAccess):
    """A member of staff who may open the console."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return super().has_permission(request, view) and bool(
            getattr(request.user, "is_staff", False)
        )
