"""
What consumers may know of who is asking, and whom they let in.

    class Members(UserMixin, PermissionMixin, GroupConsumers):
        permissions = [IsAuthenticated, lambda request, view: request.user.is_staff]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.sessions.backends.base import CreateError
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from rest_framework.permissions import BasePermission

from rest_channels.authentication import session_store
from rest_channels.exceptions import ConsumerError
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from rest_channels.consumers.base import Message
    from rest_channels.consumers.websockets import WebsocketConsumers as _Base
else:
    _Base = object


class UserMixin(_Base):
    """`self.user`: whom DRF's authentication classes found, in this process or at a worker."""

    @cached_property
    def user(self) -> Any:
        """
        The user, read anew within `LEASE_SECONDS`; at a worker as the database has them now. In
        `on_disconnect` the last that was known.
        """
        if self.request is not None:
            return self.request.user
        return _stored_user(self._outlet.user_pk)

    def serialize_origin(self) -> dict[str, Any]:
        return {**super().serialize_origin(), "user": getattr(self.user, "pk", None)}


class SessionMixin(_Base):
    """
    `self.session`, which is the socket's own and ends with it, and `self.http_session`, which is
    the one of the handshake's cookie. What a message changes in them is saved when it is served.

    The socket's own is in the project's session store, which has to be on the server's side.
    """

    @cached_property
    def session(self) -> SessionBase:
        """The socket's own session, unread: async handlers use `await self.session.aget(...)`."""
        return session_store(self._outlet.session_key)

    @property
    def http_session(self) -> SessionBase:
        """The session that the pages of the client have. Where the socket is."""
        if self.request is None:
            raise ImproperlyConfigured("The HTTP session is where the socket is: not at a worker.")
        return self.request._request.session

    def serialize_origin(self) -> dict[str, Any]:
        return {**super().serialize_origin(), "session": self._outlet.session_key}

    def after(self) -> None:
        super().after()
        session = self.__dict__.get("session")
        if self._outlet.is_last:
            session_store(self._outlet.session_key).delete()
        elif session is not None and session.modified:
            _save(session, self._outlet.session_key)


class PermissionMixin(_Base):
    """
    Whom the socket lets in: those whom all `permissions` allow, and all of the named set `perms`.

    Each is a permission class of DRF's, or is called with DRF's request and the view, which has
    the class in `view.consumers` and what the URL bound in `view.kwargs`. They are asked when the
    socket opens and with each message.
    """

    permissions: Sequence[Any] = ()
    #: The name of a set in `REST_CHANNELS["PERMISSIONS"]`.
    perms: str | None = None

    @classmethod
    def get_permission_classes(cls) -> Sequence[Any]:
        named = [] if cls.perms is None else _named_set(cls.perms)
        return [*super().get_permission_classes(), *map(_as_class, [*named, *cls.permissions])]


class NoReceiveMixin(_Base):
    """Sockets that only listen: what they send is refused."""

    def on_receive(self, message: Message, **kwargs: Any) -> Any:
        raise ConsumerError("This socket takes no messages.", status=405, code="method_not_allowed")


def _named_set(name: str) -> list[Any]:
    sets = socket_settings.PERMISSIONS
    if name not in sets:
        known = ", ".join(sorted(sets)) or "none"
        raise ImproperlyConfigured(
            f"perms={name!r} names no set of REST_CHANNELS['PERMISSIONS']: there are {known}."
        )
    return [import_string(item) if isinstance(item, str) else item for item in sets[name]]


def _as_class(permission: Any) -> Any:
    """`permission` as DRF takes it: a class, or what `&`, `|` and `~` make of classes."""
    if isinstance(permission, type) or hasattr(permission, "operator_class"):
        return permission
    if not callable(permission):
        raise ImproperlyConfigured(f"{permission!r} is neither a permission class nor callable.")
    if any(map(inspect.iscoroutinefunction, (permission, type(permission).__call__))):
        # A coroutine is true.
        raise ImproperlyConfigured(f"{permission!r} is async, and nobody would wait for it.")
    return type(
        "CallablePermission", (_CallablePermission,), {"function": staticmethod(permission)}
    )


class _CallablePermission(BasePermission):
    function: Callable[[Any, Any], Any]

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(self.function(request, view))


def _save(session: Any, key: str | None) -> None:
    """Save a session under the `key` that all who serve the socket know."""
    if session.session_key is None:
        # Reading it has shown that there is none yet.
        session._session_key = key
        with suppress(CreateError):
            session.save(must_create=True)
            return
        # Another message of the socket's was first.
    session.save()


def _stored_user(pk: Any) -> Any:
    from django.contrib.auth import get_user_model  # needs the app registry
    from django.contrib.auth.models import AnonymousUser

    if pk is None or not apps.is_installed("django.contrib.auth"):
        return AnonymousUser()
    user = get_user_model()._default_manager.filter(pk=pk).first()
    return user if user is not None and user.is_active else AnonymousUser()
