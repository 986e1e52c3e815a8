"""The session and the users that a socket's credentials name, as known at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser


class Reading(NamedTuple):
    """The user of a session, as read from the store and the database at `as_of` (monotonic s)."""

    session_key: str | None
    as_of: float
    user: AbstractBaseUser | AnonymousUser

    @property
    def is_doubted(self) -> bool:
        return self.as_of == float("-inf")


class Unstored(NamedTuple):
    """
    The `user_pk` of a user without a row in the user model.

    For example a service, or a user whom a token describes completely. Only the credentials that
    name such a user can tell that it is gone.
    """

    kind: type
    pk: Any


def key_of(user: Any) -> Any:
    """Return the primary key of `user` if it is an instance of the project's user model."""
    if apps.is_installed("django.contrib.auth"):
        from django.contrib.auth import get_user_model

        if isinstance(user, get_user_model()):
            return user.pk
    return None if user.pk is None else Unstored(user.__class__, user.pk)


class Claim(NamedTuple):
    """
    A snapshot of what a socket's credentials say.

    A review judges the claim it was given, never what a frame or a handshake has set since.
    """

    session_key: str | None
    user_pk: Any
    reading: Reading | None

    @property
    def session_user(self) -> AbstractBaseUser | None:
        """The session's user as last read; None before that, and for an anonymous session."""
        reading = self.reading
        return reading.user if reading is not None and reading.user.is_authenticated else None

    @property
    def user_pks(self) -> set[Any]:
        """The keys of all stored users it names: the session's and a token's."""
        user = self.session_user
        stored = None if isinstance(self.user_pk, Unstored) else self.user_pk
        return {stored, user.pk if user is not None else None} - {None}
