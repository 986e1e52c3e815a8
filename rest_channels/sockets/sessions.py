"""
Sessions in the project's store, and their users.

In a worker thread, because a store may use the database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from django.contrib.sessions.backends.base import SessionBase


def session_user(request: Any) -> AbstractBaseUser | AnonymousUser:
    """Return the user of `request.session`, as Django's AuthenticationMiddleware finds it."""
    from django.contrib.auth import get_user  # needs the app registry

    return get_user(request)


def save(session: SessionBase) -> None:
    """Save `session`. Raises `SessionInterrupted` if it was deleted meanwhile."""
    try:
        session.save()
    except UpdateError:
        raise SessionInterrupted(
            "The session was deleted before the message was answered."
        ) from None


def has_user(session: SessionBase) -> bool:
    """Return whether a user is signed in to `session`."""
    from django.contrib.auth import SESSION_KEY  # needs the app registry

    return SESSION_KEY in session


def session_store(session_key: str | None) -> SessionBase:
    """Return the session with that key in the project's store, unread."""
    return import_module(settings.SESSION_ENGINE).SessionStore(session_key)
