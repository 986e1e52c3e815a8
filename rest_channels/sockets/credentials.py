"""
A socket's credentials, as its frames use them.

`rest_channels.authentication` implements them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from rest_channels.live.interface import Credentials
from rest_channels.sockets.addresses import Address

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase


class Borne(NamedTuple):
    """
    The part of its socket's credentials that a request carries.

    A set that identifies the credentials, the key of the session, and the user, unread as Django's
    middleware leaves it; None without Django's users.
    """

    taken_by: set[type]
    session_key: str | None
    user: Any


class SocketCredentials(Credentials, Protocol):
    """The user and the session of one socket's frames. In any thread."""

    headers: dict[bytes, bytes]
    address: Address

    @property
    def owner(self) -> tuple[str, Any]:
        """The user or the address whose share of the worker threads a frame takes."""

    @property
    def bounded_owner(self) -> tuple[str, Any] | None:
        """The owner; None if that is an address which many clients may have."""

    @property
    def is_of_session(self) -> bool:
        """Whether the session alone signs a user in, as read within the lease."""

    def borne_by(self, request: Any) -> Borne:
        """Return the part that `request` carries: its session's key and its user, unread."""

    def session_of(self, request: Any) -> SessionBase:
        """Return the session that `request` came with, unread."""

    def trusted_scope(self, scope: Any) -> Any:
        """Return `scope` without cookies and user if another site's page opened the socket."""

    def settle(self, request: Any, status: int) -> bool:
        """Note the outcome of a frame; return whether it signed the socket's user out."""

    def save_session(self, request: Any) -> None:
        """Save what `request` has changed in its session so far."""

    def replace(self, authorization: bytes, request: Any) -> None:
        """
        Make `authorization`, which DRF accepted for `request`, the only credentials from now on.
        """

    def note_user(self, request: Any) -> None:
        """Note the user that DRF's authentication classes found."""

    def end(self) -> None:
        """Refuse every frame from now on."""
