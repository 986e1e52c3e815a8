"""
The connection's user and credentials, offered to DRF's authentication classes.

They decide, frame by frame, as over HTTP: `SessionAuthentication` finds `request.user`, the others
find the Authorization header. `Credentials` is what they find it in, for as long as it holds:
`rest_channels.leases` reads it anew.
"""

from __future__ import annotations

import base64
import binascii
import copy
import logging
import time
from collections.abc import Callable, Hashable
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.apps import apps
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.utils.functional import SimpleLazyObject
from rest_framework.exceptions import AuthenticationFailed

from rest_channels import origin
from rest_channels.request import HandshakeRequest, MessageRequest, Scope
from rest_channels.settings import socket_settings

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.contrib.sessions.backends.base import SessionBase

logger = logging.getLogger("rest_channels")

#: A subprotocol that carries an Authorization header, for browsers, which cannot set one.
AUTHORIZATION_SUBPROTOCOL: Final = "authorization."


class Reading(NamedTuple):
    """The user of a session, as read from the store and the database at `as_of` (monotonic s)."""

    session_key: str | None
    as_of: float
    user: AbstractBaseUser | AnonymousUser

    @property
    def is_doubted(self) -> bool:
        return self.as_of == float("-inf")


class Credentials:
    """
    Who a socket belongs to.

    The session is named by the handshake's cookie, or by `scope["session"]` where Channels'
    middleware put one. Its user is read when a frame first asks and again once that is
    `LEASE_SECONDS` old. A `scope["user"]` without a `scope["session"]` (a middleware of the
    project's own) is taken as it is, whatever the cookie says, until an action signs somebody in.
    Cookies from a page of an untrusted origin do not count.

    Once somebody was signed in, these credentials can end: signed out, expired, deactivated,
    deleted. From then on every frame is refused, and `on_end` is called once, from any thread.

    Shared by the worker threads that serve one socket's frames; what they read is replaced whole.
    """

    def __init__(self, scope: Scope, on_end: Callable[[], None] | None = None) -> None:
        #: Headers laid over the handshake's.
        self.headers: dict[bytes, bytes] = {}
        self.session_key: str | None = None
        #: The primary key of the user whom DRF's authentication classes found; None before.
        self.user_pk: Any = None
        self.has_ended = False
        self._on_end = on_end
        self._scope_user: Any = None
        self._authorization = dict(scope.get("headers", [])).get(b"authorization")
        self._reading: Reading | None = None
        # Viewsets whose authentication classes have taken these credentials.
        self._taken_by: set[type] = set()
        handshake = HandshakeRequest(scope)
        self._client = handshake.META.get("REMOTE_ADDR", "")
        self.is_trusted = origin.is_trusted(handshake)
        authorization = _offered_authorization(scope.get("subprotocols", []))
        if authorization is not None:
            self.headers[b"authorization"] = authorization
        session = scope.get("session")
        key = getattr(session, "session_key", None)
        if session is None:
            key = handshake.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if session is None or key is None:
            # Where Channels' middleware put a session, its user is the session's.
            self._scope_user = scope.get("user")
        if self.is_trusted:
            self.session_key = key

    @property
    def owner(self) -> tuple[str, Any]:
        """Whose share of the worker threads a frame takes: the user's, or the address's."""
        return ("user", self.user_pk) if self.user_pk is not None else ("client", self._client)

    @property
    def identity(self) -> Hashable:
        """
        What sockets have in common whose frames DRF takes for the same user's, by credentials
        that end together or are watched here; in any thread.
        """
        if self._scope_user is not None or self.has_ended:
            return self
        return self.user_pk, self._authorization, self.headers.get(b"authorization")

    @property
    def session_user(self) -> AbstractBaseUser | None:
        """The session's user as last read; None before, and where nobody is signed in."""
        reading = self._current_reading
        return reading.user if reading is not None and reading.user.is_authenticated else None

    @property
    def is_of_session(self) -> bool:
        """
        Whether somebody is signed in by the session alone, as read within the lease: for as long as
        that is renewed, they are.
        """
        reading = self._current_reading
        return (
            reading is not None
            and reading.user.is_authenticated
            and not self.has_ended
            and time.monotonic() - reading.as_of < socket_settings.LEASE_SECONDS
            and self._authorization is None
            and b"authorization" not in self.headers
        )

    @property
    def _current_reading(self) -> Reading | None:
        # One that another thread began before the credentials were replaced does not count.
        reading = self._reading
        return reading if reading is not None and reading.session_key == self.session_key else None

    @property
    def user_pks(self) -> set[Any]:
        """All whom this socket serves: the session's user, and whom a token names."""
        pks = {self.user_pk, self.session_user.pk if self.session_user is not None else None}
        return pks - {None}

    def attach(self, request: MessageRequest) -> None:
        """
        Give the request its session's key and its `user`, as Django's middleware does: unread. One
        that only shows credentials has neither, lest the socket's own be taken for them.
        """
        is_shown = request.call.is_authentication
        request.session_key = None if is_shown else self.session_key
        if self._scope_user is not None and not is_shown:
            request.user = copy.copy(self._scope_user)
        elif apps.is_installed("django.contrib.auth"):
            request.user = SimpleLazyObject(lambda: self._user(request))

    def session_of(self, request: MessageRequest) -> SessionBase:
        """The session that `request` came with, unread."""
        return session_store(request.session_key)

    def trusted_scope(self, scope: Scope) -> Scope:
        """`scope` as a hosted consumer may see it: without cookies and user of another's page."""
        if self.is_trusted:
            return scope
        scope = {**scope, "headers": [(n, v) for n, v in scope["headers"] if n != b"cookie"]}
        scope.pop("cookies", None)
        if scope.pop("session", None) is not None:
            scope.pop("user", None)
        return scope

    def read(self) -> None:
        """
        Read the session's user before any frame does: for hosted consumers, who know only the
        user of the handshake. In a worker thread.
        """
        if self._scope_user is not None:
            self.user_pk = self._scope_user.pk
        elif self.session_key is not None and apps.is_installed("django.contrib.auth"):
            key, now = self.session_key, time.monotonic()
            try:
                user = session_user(SimpleNamespace(session=session_store(key)))
                self._reading = Reading(key, now, user)
            except Exception:
                logger.warning("The user of a handshake could not be read.", exc_info=True)

    def settle(self, request: MessageRequest, status: int) -> None:
        """
        Take note of what became of a frame.

        What the action changed of the session is saved, under the conditions of
        SessionMiddleware. Where it signed somebody in, the socket is theirs from now on; where it
        signed them out, `request.signs_out` says so, for the reply comes first.
        """
        self.note_user(request)
        if not (request.has_session or settings.SESSION_SAVE_EVERY_REQUEST):
            return
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
        key = session.session_key
        if key == request.session_key:
            return
        if key is None and request.session_key != self.session_key:
            return  # What it signed out of has been replaced meanwhile.
        if key is None and self.session_user is not None:
            request.signs_out = True
            return
        if _names_user(session):
            self._forget()
        self.session_key = key

    def replace(self, authorization: bytes, request: MessageRequest) -> None:
        """Let `authorization`, which `request` showed and DRF took, be this socket's only one."""
        self._forget()
        # No cookie of the handshake's may vouch for anybody any more.
        self.headers = {b"authorization": authorization, b"cookie": b""}
        self.user_pk = request.user.pk
        self._taken_by = {type(request.view)}

    @property
    def read_at(self) -> float:
        """When the session's user was read, as far as that is relied on; else no time at all."""
        reading = self._current_reading
        return reading.as_of if reading is not None and not reading.is_doubted else float("inf")

    def doubt(self, before: float = float("inf")) -> None:
        """
        The session's user was written to: read it anew before it is relied on again, unless that
        has happened since `before` (monotonic seconds).
        """
        reading = self._reading
        if reading is not None and reading.as_of <= before:
            self._reading = reading._replace(as_of=float("-inf"))

    def renew(self, reading: Reading) -> None:
        """Note that the session's user was read anew, and that all is well."""
        self._reading = reading

    def end(self) -> None:
        """Refuse every frame from now on."""
        if not self.has_ended:
            self.has_ended = True
            if self._on_end is not None:
                self._on_end()

    def note_user(self, request: MessageRequest) -> None:
        """
        Note whom DRF's authentication classes found. Where they refuse credentials that they
        took before, these have ended.
        """
        if request.has_own_credentials:
            return
        viewset = type(request.view)
        if request.authentication_failed and viewset in self._taken_by:
            self.end()
        user = getattr(getattr(request.view, "request", None), "_user", None)
        if user is not None and user.is_authenticated:
            self.user_pk = user.pk
            self._taken_by.add(viewset)

    def _forget(self) -> None:
        self.session_key = self._scope_user = self._reading = self.user_pk = None
        self._taken_by = set()

    def _user(self, request: MessageRequest) -> AbstractBaseUser | AnonymousUser:
        if self.has_ended:
            raise AuthenticationFailed("These credentials have ended.")
        reading = self._reading
        if reading is not None and reading.session_key != request.session_key:
            reading = None  # Another's: the credentials were replaced since this request was made.
        now = time.monotonic()
        if reading is None or now - reading.as_of >= socket_settings.LEASE_SECONDS:
            reading = self._read_anew(request, reading, now)
        # A copy: what an action does to its user is no other frame's business.
        return copy.copy(reading.user)

    def _read_anew(self, request: MessageRequest, before: Reading | None, now: float) -> Reading:
        key = request.session_key
        reading = Reading(key, now, session_user(request))
        is_other = before and before.user.is_authenticated and before.user.pk != reading.user.pk
        if key == self.session_key:
            if is_other:
                self.end()
            else:
                self._reading = reading
        if is_other:
            raise AuthenticationFailed("These credentials have ended.")
        return reading


def session_user(request: Any) -> AbstractBaseUser | AnonymousUser:
    """The user of `request.session`, as Django's AuthenticationMiddleware finds it."""
    from django.contrib.auth import get_user  # needs the app registry

    return get_user(request)


def _names_user(session: SessionBase) -> bool:
    from django.contrib.auth import SESSION_KEY  # needs the app registry

    return SESSION_KEY in session


def session_store(session_key: str | None) -> SessionBase:
    """The session of that key in the project's store, unread."""
    return import_module(settings.SESSION_ENGINE).SessionStore(session_key)


class UnreadableCredentials(ValueError):
    """An `authorization.` subprotocol that is no base64url of a header's value."""


def _offered_authorization(subprotocols: list[str]) -> bytes | None:
    for offered in subprotocols:
        if offered.startswith(AUTHORIZATION_SUBPROTOCOL):
            encoded = offered.removeprefix(AUTHORIZATION_SUBPROTOCOL)
            try:
                # A subprotocol is a token (RFC 7230): the padding "=" cannot be in it.
                value = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
            except (binascii.Error, ValueError):
                raise UnreadableCredentials from None
            if any(byte < 32 or byte == 127 for byte in value):
                raise UnreadableCredentials
            return value
    return None
