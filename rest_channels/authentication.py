"""
The connection's user, offered to DRF's authentication classes.

They decide, frame by frame, as over HTTP: `SessionAuthentication` finds `request.user`, the others
find the Authorization header. `Credentials` is what they find it in.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.utils.functional import SimpleLazyObject

from rest_channels import origin
from rest_channels.request import HandshakeRequest, MessageRequest, Scope
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.contrib.sessions.backends.base import SessionBase


class Credentials:
    """
    Who a socket belongs to.

    The session is named by the handshake's cookie, or by `scope["session"]` where Channels'
    middleware put one. Its user is read when a frame first asks and again once that is
    `LEASE_SECONDS` old. A `scope["user"]` without a session (a middleware of the project's own)
    is taken as it is. Cookies from a page of an untrusted origin do not count.

    Shared by the worker threads that serve one socket's frames: it is only ever replaced whole.
    """

    def __init__(self, scope: Scope) -> None:
        #: Headers laid over the handshake's.
        self.headers: dict[bytes, bytes] = {}
        self._scope_user: Any = None
        self._session_key: str | None = None
        self._read: tuple[float, Any] | None = None
        handshake = HandshakeRequest(scope)
        self.is_trusted = origin.is_trusted(handshake)
        session = scope.get("session")
        key = getattr(session, "session_key", None)
        if session is None:
            key = handshake.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if key is None:
            self._scope_user = scope.get("user")
        elif self.is_trusted:
            self._session_key = key

    def attach(self, request: MessageRequest) -> None:
        """Give the request its `session` and `user`, as Django's middleware does: unread."""
        request.session = _session_store(self._session_key)
        if self._scope_user is not None:
            request.user = self._scope_user
        elif apps.is_installed("django.contrib.auth"):
            request.user = SimpleLazyObject(lambda: self._user(request))

    def settle(self, request: MessageRequest, status: int) -> None:
        """
        Save what the action changed of the session, under the conditions of SessionMiddleware,
        and follow it where the action signed somebody in or out.
        """
        session = request.session
        if not (session.modified or settings.SESSION_SAVE_EVERY_REQUEST):
            return
        if status != 500 and not session.is_empty():
            try:
                session.save()
            except UpdateError:
                raise SessionInterrupted(
                    "The session was deleted before the message was answered."
                ) from None
        if session.session_key != self._session_key:
            self._session_key, self._scope_user, self._read = session.session_key, None, None

    def _user(self, request: MessageRequest) -> AbstractBaseUser | AnonymousUser:
        from django.contrib.auth import get_user  # needs the app registry

        as_of = time.monotonic()
        if self._read is not None and as_of - self._read[0] < socket_settings.LEASE_SECONDS:
            return self._read[1]
        user = get_user(request)
        self._read = (as_of, user)
        return user


def _session_store(session_key: str | None) -> SessionBase:
    return import_module(settings.SESSION_ENGINE).SessionStore(session_key)
