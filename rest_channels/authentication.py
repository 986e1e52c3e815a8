"""
The connection's user and credentials, as DRF's authentication classes find them.

The classes decide, frame by frame, as over HTTP: `SessionAuthentication` finds `request.user`, the
others find the Authorization header. `Credentials` supplies both as long as they hold;
`rest_channels.sockets.revalidation` reads the user again.
"""

from __future__ import annotations

import base64
import binascii
import copy
import logging
import threading
import time
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.conf import settings
from django.utils.functional import SimpleLazyObject
from rest_framework.exceptions import AuthenticationFailed

from rest_channels.settings import socket_settings
from rest_channels.sockets.addresses import address_of
from rest_channels.sockets.claims import Claim, Reading, key_of
from rest_channels.sockets.credentials import Borne
from rest_channels.sockets.handshake import is_trusted_origin
from rest_channels.sockets.request import HandshakeRequest, MessageRequest, Scope
from rest_channels.sockets.sessions import has_user, save, session_store, session_user

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.contrib.sessions.backends.base import SessionBase

logger = logging.getLogger("rest_channels")

#: The subprotocol that carries an Authorization header, because browsers cannot set one.
AUTHORIZATION_SUBPROTOCOL: Final = "authorization."


# Held while credentials are compared and exchanged. That takes no query: one lock for all sockets.
_exchanging = threading.Lock()


class Credentials:
    """
    The credentials that a socket belongs to.

    The handshake's cookie names the session, or `scope["session"]` if Channels' middleware set it.
    The session's user is read when a frame first needs it, and again once the reading is
    `LEASE_SECONDS` old. A `scope["user"]` without a `scope["session"]` (set by a project's own
    middleware) is taken as it is, whatever the cookie says, until an action signs a user in.
    Cookies from a page of an untrusted origin do not count.

    Once a user was signed in, these credentials can end: by sign-out, expiry, deactivation or
    deletion. From then on every frame is refused, and `on_end` is called once, from any thread.
    `on_user` is called likewise, each time that another user is found.

    The worker threads that serve one socket's frames share them; readings are replaced as a whole.
    """

    def __init__(
        self,
        scope: Scope,
        on_end: Callable[[], None] = lambda: None,
        on_user: Callable[[], None] = lambda: None,
    ) -> None:
        #: Headers that override the handshake's.
        self.headers: dict[bytes, bytes] = {}
        self.session_key: str | None = None
        #: The primary key of the user that DRF's authentication classes found; None before that.
        self.user_pk: Any = None
        self.has_ended = False
        self._on_end = on_end
        self._on_user = on_user
        self._scope_user: Any = None
        self._authorization = dict(scope.get("headers", [])).get(b"authorization")
        self._reading: Reading | None = None
        # Viewsets whose authentication classes accepted these credentials. Replacing the
        # credentials starts a new set, which tells a frame whether it arrived with the current
        # ones.
        self._taken_by: set[type] = set()
        handshake = HandshakeRequest(scope)
        self.address = address_of(handshake)
        self.is_trusted = is_trusted_origin(handshake)
        authorization = _offered_authorization(scope.get("subprotocols", []))
        if authorization is not None:
            self.headers[b"authorization"] = authorization
        session = scope.get("session")
        key = getattr(session, "session_key", None)
        if session is None:
            key = handshake.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if session is None or key is None:
            # If Channels' middleware set a session, its user is the session's.
            self._scope_user = scope.get("user")
        if self.is_trusted:
            self.session_key = key

    @property
    def owner(self) -> tuple[str, Any]:
        """The user, or the address, whose share of the worker threads a frame takes."""
        return ("user", self.user_pk) if self.user_pk is not None else ("client", self.address.name)

    @property
    def bounded_owner(self) -> tuple[str, Any] | None:
        """The owner; None if that is an address which many clients may have."""
        is_one = self.user_pk is not None or self.address.is_one_client
        return self.owner if is_one else None

    @property
    def identity(self) -> Hashable:
        """
        A key shared by sockets of the same user. In any thread.

        DRF attributes their frames to the same user, by credentials that end together or are
        watched here.
        """
        if self._scope_user is not None or self.has_ended:
            return self
        return self.user_pk, self._authorization, self.headers.get(b"authorization")

    @property
    def session_user(self) -> AbstractBaseUser | None:
        """The session's user as last read; None before that, and for an anonymous session."""
        return self.claim.session_user

    @property
    def claim(self) -> Claim:
        """The current claim; in any thread."""
        with _exchanging:
            return Claim(self.session_key, self.user_pk, self._current_reading)

    @property
    def is_of_session(self) -> bool:
        """
        Whether the session alone signs a user in, as read within the lease.

        Renewing the lease keeps that user signed in.
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
        # Ignore a reading that another thread began before the credentials were replaced.
        reading = self._reading
        return reading if reading is not None and reading.session_key == self.session_key else None

    @property
    def user_pks(self) -> set[Any]:
        """
        The keys of all users this socket serves: the session's user, and the user a token names.
        """
        return self.claim.user_pks

    def borne_by(self, request: MessageRequest) -> Borne:
        """
        Give the request its session's key and its `user`, unread, as Django's middleware does.

        A request that only presents new credentials gets neither, so that the socket's own are not
        mistaken for them.
        """
        is_shown = request.call.is_authentication
        session_key = None if is_shown else self.session_key
        return Borne(self._taken_by, session_key, self._user_of(request, is_shown=is_shown))

    def _user_of(self, request: MessageRequest, *, is_shown: bool) -> Any:
        if self._scope_user is not None and not is_shown:
            return copy.copy(self._scope_user)
        if apps.is_installed("django.contrib.auth"):
            return SimpleLazyObject(lambda: self._user(request))
        return None

    def session_of(self, request: MessageRequest) -> SessionBase:
        """Return the session that `request` came with, unread."""
        return session_store(request.session_key)

    def trusted_scope(self, scope: Scope) -> Scope:
        """
        Return `scope` for a hosted consumer: without cookies and user if another site's page asks.
        """
        if self.is_trusted:
            return scope
        scope = {**scope, "headers": [(n, v) for n, v in scope["headers"] if n != b"cookie"]}
        scope.pop("cookies", None)
        if scope.pop("session", None) is not None:
            scope.pop("user", None)
        return scope

    def read(self) -> None:
        """
        Read the session's user before the first frame; in a worker thread.

        Hosted consumers need it, because they see only the user of the handshake.
        """
        if self._scope_user is not None:
            self.user_pk = key_of(self._scope_user)
        elif self.session_key is not None and apps.is_installed("django.contrib.auth"):
            key, now = self.session_key, time.monotonic()
            try:
                user = session_user(SimpleNamespace(session=session_store(key)))
                self._reading = Reading(key, now, user)
            except Exception:
                logger.warning("Could not read the user of a handshake.", exc_info=True)

    def settle(self, request: MessageRequest, status: int) -> bool:
        """
        Record the outcome of a frame; return whether it signed the socket's user out.

        Saves what the action changed in the session, under the conditions of SessionMiddleware. If
        the action signed a user in, the socket belongs to that user from now on. If it signed the
        user out, the caller ends the credentials, because the reply must be sent first.
        """
        self.note_user(request)
        if not (request.has_session or settings.SESSION_SAVE_EVERY_REQUEST):
            return False
        session = request.session
        is_changed = session.modified or request.has_saved_session
        if not (is_changed or settings.SESSION_SAVE_EVERY_REQUEST):
            return False
        if status != 500 and not session.is_empty():
            save(session)
        key = session.session_key
        if key == request.session_key:
            return False
        if key is None and request.session_key != self.session_key:
            return False  # The credentials it signed out of were replaced meanwhile.
        if key is None and self.session_user is not None:
            return True
        names_user = has_user(session)
        with _exchanging:
            if names_user:
                self._forget()
            self.session_key = key
        return False

    def save_session(self, request: MessageRequest) -> None:
        """
        Save what `request` has changed in its session, because a message is about to mention it.
        """
        session = request.session
        if session.is_empty():
            return
        request.note_saved_session()
        # Before saving: later changes are saved later.
        session.modified = False
        try:
            save(session)
        except BaseException:
            session.modified = True
            raise

    def replace(self, authorization: bytes, request: MessageRequest) -> None:
        """
        Make `authorization`, which DRF accepted for `request`, this socket's only credentials.
        """
        user_pk = key_of(request.user)
        with _exchanging:
            self._forget()
            # A cookie of the handshake must not authenticate any later frame.
            self.headers = {b"authorization": authorization, b"cookie": b""}
            self.user_pk = user_pk
            self._taken_by = {type(request.view)}
        self._on_user()

    @property
    def read_at(self) -> float:
        """When the session's user was read; infinity if the reading is not to be relied on."""
        reading = self._current_reading
        return reading.as_of if reading is not None and not reading.is_doubted else float("inf")

    def doubt(self, before: float = float("inf")) -> None:
        """
        Require another reading of the session's user, because the user was written to.

        A reading made since `before` (monotonic seconds) stays valid.
        """
        with _exchanging:
            reading = self._reading
            if reading is not None and reading.as_of <= before:
                self._reading = reading._replace(as_of=float("-inf"))

    def renew(self, claim: Claim, reading: Reading) -> None:
        """
        Rely on `reading`, unless the reading in `claim` was replaced, renewed or doubted since.
        """
        with _exchanging:
            is_same = self.session_key == claim.session_key
            if is_same and self._current_reading is claim.reading:
                self._reading = reading

    def end(self, claim: Claim | None = None) -> None:
        """
        Refuse every frame from now on.

        With a `claim`, only if the credentials still name the session and user that it names.
        """
        with _exchanging:
            is_other = claim is not None and (
                claim.session_key != self.session_key
                or not (claim.user_pk is None or claim.user_pk == self.user_pk)
            )
            if self.has_ended or is_other:
                return
            self.has_ended = True
        self._on_end()

    def note_user(self, request: MessageRequest) -> None:
        """
        Note the user that DRF's authentication classes found.

        If they refuse credentials that they accepted before, the credentials have ended.
        """
        if request.has_own_credentials:
            return
        viewset = type(request.view)
        user = getattr(getattr(request.view, "request", None), "_user", None)
        with _exchanging:
            if request.taken_by is not self._taken_by:
                return  # The request's credentials were replaced while it was answered.
            ends = (
                request.authentication_failed and viewset in self._taken_by and not self.has_ended
            )
            self.has_ended = self.has_ended or ends
            before = self.user_pk
            if user is not None and user.is_authenticated:
                self.user_pk = key_of(user)
                self._taken_by.add(viewset)
            is_new = self.user_pk != before
        if is_new:
            self._on_user()
        if ends:
            self._on_end()

    def _forget(self) -> None:
        self.session_key = self._scope_user = self._reading = self.user_pk = None
        self._taken_by = set()

    def _user(self, request: MessageRequest) -> AbstractBaseUser | AnonymousUser:
        if self.has_ended:
            raise AuthenticationFailed("These credentials have ended.")
        reading = self._reading
        if reading is not None and reading.session_key != request.session_key:
            reading = None  # The credentials were replaced since this request was made.
        now = time.monotonic()
        if reading is None or now - reading.as_of >= socket_settings.LEASE_SECONDS:
            reading = self._read_anew(request, reading, now)
        # A copy, so that an action that changes its user does not affect other frames.
        return copy.copy(reading.user)

    def _read_anew(self, request: MessageRequest, before: Reading | None, now: float) -> Reading:
        key = request.session_key
        claim = self.claim
        reading = Reading(key, now, session_user(request))
        is_other = before and before.user.is_authenticated and before.user.pk != reading.user.pk
        if key == claim.session_key:
            if is_other:
                self.end(claim)
            else:
                self.renew(claim, reading)
        if is_other:
            raise AuthenticationFailed("These credentials have ended.")
        return reading


class UnreadableCredentials(ValueError):
    """An `authorization.` subprotocol that is not the base64url of a header's value."""


def _offered_authorization(subprotocols: list[str]) -> bytes | None:
    for offered in subprotocols:
        if offered.startswith(AUTHORIZATION_SUBPROTOCOL):
            encoded = offered.removeprefix(AUTHORIZATION_SUBPROTOCOL)
            try:
                # A subprotocol is a token (RFC 7230), which cannot contain the padding "=".
                value = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
            except (binascii.Error, ValueError):
                raise UnreadableCredentials from None
            if any(byte < 32 or byte == 127 for byte in value):
                raise UnreadableCredentials
            return value
    return None
