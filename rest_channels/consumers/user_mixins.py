"""
The user of consumers, their sessions, and their permissions.

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

from rest_channels.exceptions import ConsumerError
from rest_channels.settings import socket_settings
from rest_channels.sockets.sessions import session_store

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from rest_channels.consumers.base import Message
    from rest_channels.consumers.websockets import WebsocketConsumers as _Base
else:
    _Base = object


class UserMixin(_Base):
    """
    `self.user`: the user that DRF's authentication classes found, in this process or at a worker.
    """

    @cached_property
    def user(self) -> Any:
        """
        The user, as read within `LEASE_SECONDS`; at a worker, as currently stored.

        In `on_disconnect`, the last known user.
        """
        if self.request is not None:
            return self.request.user
        return _stored_user(self._outlet.user_pk)

    def serialize_origin(self) -> dict[str, Any]:
        return {**super().serialize_origin(), "user": getattr(self.user, "pk", None)}


class SessionMixin(_Base):
    """
    `self.session`, the socket's own, and `self.http_session`, the session of its cookie.

    The socket's own session ends with it. Changes of a message are saved before its next reply is
    sent, and when it has been served.

    The socket's own session is in the project's session store, which must be on the server's side.
    """

    @cached_property
    def session(self) -> SessionBase:
        """The socket's own session, unread: async handlers use `await self.session.aget(...)`."""
        return session_store(self._outlet.session_key)

    @property
    def http_session(self) -> SessionBase:
        """The session that the client's pages have. Only in the process of the socket."""
        if self.request is None:
            raise ImproperlyConfigured(
                "The HTTP session is available in the process of the socket, not at a worker."
            )
        return self.request._request.session

    def serialize_origin(self) -> dict[str, Any]:
        return {**super().serialize_origin(), "session": self._outlet.session_key}

    def after(self) -> None:
        super().after()
        if self._outlet.is_last:
            session_store(self._outlet.session_key).delete()
        elif self.has_unsaved_session:
            self.save_session()

    @property
    def has_unsaved_session(self) -> bool:
        session = self.__dict__.get("session")
        return session is not None and session.modified and not self._outlet.is_last

    def save_session(self) -> None:
        # Before saving: later changes are saved with the next reply, or at the end.
        self.session.modified = False
        try:
            _save(self.session, self._outlet.session_key)
        except BaseException:
            self.session.modified = True
            raise


class PermissionMixin(_Base):
    """
    Permissions to connect and send: all of `permissions`, and all of the named set `perms`.

    Each is a permission class of DRF's, or a callable that receives DRF's request and the view,
    which has the class in `view.consumers` and the URL's values in `view.kwargs`. They are asked
    when the socket opens and for each message.
    """

    permissions: Sequence[Any] = ()
    #: The name of a set in `REST_CHANNELS["PERMISSIONS"]`.
    perms: str | None = None

    @classmethod
    def get_permission_classes(cls) -> Sequence[Any]:
        named = [] if cls.perms is None else _named_set(cls.perms)
        return [*super().get_permission_classes(), *map(_as_class, [*named, *cls.permissions])]


class NoReceiveMixin(_Base):
    """A socket that only listens: messages from the client are refused."""

    def on_receive(self, message: Message, **kwargs: Any) -> Any:
        raise ConsumerError("This socket takes no messages.", status=405, code="method_not_allowed")


def _named_set(name: str) -> list[Any]:
    sets = socket_settings.PERMISSIONS
    if name not in sets:
        known = ", ".join(sorted(sets)) or "none"
        raise ImproperlyConfigured(
            f"perms={name!r} must name a set of REST_CHANNELS['PERMISSIONS'], which has {known}."
        )
    return [import_string(item) if isinstance(item, str) else item for item in sets[name]]


def _as_class(permission: Any) -> Any:
    """
    Return `permission` as DRF takes it: a class, or the result of `&`, `|` and `~` on classes.
    """
    if isinstance(permission, type) or hasattr(permission, "operator_class"):
        return permission
    if not callable(permission):
        raise ImproperlyConfigured(f"{permission!r} must be a permission class or callable.")
    if any(map(inspect.iscoroutinefunction, (permission, type(permission).__call__))):
        # A coroutine is true.
        raise ImproperlyConfigured(
            f"{permission!r} must not be async, because it would not be awaited."
        )
    return type(
        "CallablePermission", (_CallablePermission,), {"function": staticmethod(permission)}
    )


class _CallablePermission(BasePermission):
    function: Callable[[Any, Any], Any]

    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(self.function(request, view))


def _save(session: Any, key: str | None) -> None:
    """Save a session under the `key` that all processes serving the socket know."""
    if session.session_key is None:
        # Reading it has shown that no session is stored yet.
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
