"""
Sockets whose user is gone: found within the lease, in batches.

While sockets are open, their sessions and users are read again, with a few queries for hundreds of
sockets at a time. Signals of this process only hasten it: the rows they hint at are read from the
database as well, after the transaction they came from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import SimpleNamespace
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from rest_channels.authentication import Credentials
from rest_channels.settings import socket_settings
from rest_channels.sockets.claims import Claim, Reading
from rest_channels.sockets.sessions import session_store, session_user
from rest_channels.workers.threads import workers

logger = logging.getLogger("rest_channels")

# Sockets read by one query each for sessions and users: below SQLite's former limit of 999
# parameters (before 3.32).
BATCH_SIZE: Final = 500


class Leases:
    """The credentials of the open sockets of this process, by the loop that serves them."""

    def __init__(self) -> None:
        self._watched: WeakKeyDictionary[asyncio.AbstractEventLoop, set[Credentials]] = (
            WeakKeyDictionary()
        )
        # The loop keeps only weak references to its tasks.
        self._reviews: set[asyncio.Task[None]] = set()

    def watch(self, credentials: Credentials) -> None:
        """Read `credentials` again and again until `forget`; on the loop that serves the socket."""
        loop = asyncio.get_running_loop()
        if loop not in self._watched:
            self._watched[loop] = set()
            self._schedule(loop)
        self._watched[loop].add(credentials)

    def forget(self, credentials: Credentials) -> None:
        """Stop reading the credentials of a closed socket; on its loop."""
        loop = asyncio.get_running_loop()
        watched = self._watched.get(loop, set())
        watched.discard(credentials)

    def hint(self, concerns: Callable[[Credentials], bool]) -> None:
        """Read the credentials that `concerns` selects again soon; from any thread."""
        for loop, watched in list(self._watched.items()):
            if not loop.is_closed() and any(map(concerns, list(watched))):
                loop.call_soon_threadsafe(self._review_soon, loop, concerns)

    def expire(self, concerns: Callable[[Credentials], bool]) -> None:
        """Rely on no reading of the credentials that `concerns` selects; from any thread."""
        for watched in list(self._watched.values()):
            for credentials in filter(concerns, list(watched)):
                credentials.doubt()
        self.hint(concerns)

    def end(self, concerns: Callable[[Credentials], bool]) -> None:
        """End the credentials that `concerns` selects at once; from any thread."""
        for watched in list(self._watched.values()):
            for credentials in list(watched):
                claim = credentials.claim
                if concerns(credentials):
                    credentials.end(claim)

    async def review(self, credentials: Iterable[Credentials]) -> None:
        """Read all of `credentials` again and end those that no longer hold."""
        for batch in _batches(credentials, BATCH_SIZE):
            try:
                await workers.run(_review, batch)
            except Exception:
                # After the lease, frames read for themselves: nothing stale is used.
                logger.warning("Sessions and users could not be read again.", exc_info=True)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Twice a lease, so that no reading gets older than one; a timer costs an idle socket
        # nothing.
        loop.call_later(socket_settings.LEASE_SECONDS / 2, self._on_time, loop)

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        watched = self._watched.get(loop)
        if not watched:
            self._watched.pop(loop, None)
            return
        task = loop.create_task(self.review(list(watched)))
        self._reviews.add(task)
        task.add_done_callback(self._reviews.discard)
        task.add_done_callback(lambda _: self._schedule(loop))

    def _review_soon(
        self, loop: asyncio.AbstractEventLoop, concerns: Callable[[Credentials], bool]
    ) -> None:
        concerned = [item for item in self._watched.get(loop, ()) if concerns(item)]
        task = loop.create_task(self.review(concerned))
        self._reviews.add(task)
        task.add_done_callback(self._reviews.discard)


leases = Leases()


def _review(batch: list[Credentials]) -> None:
    """End the credentials whose session or user is gone; renew the others. In a worker thread."""
    now = time.monotonic()
    # Handshakes, frames and `authenticate` continue in other threads while the queries run.
    claims = {c: c.claim for c in batch if not c.has_ended}
    users = _usable_users({pk for claim in claims.values() for pk in claim.user_pks})
    named = [claim for claim in claims.values() if claim.session_user is not None]
    sessions = _stored_sessions({claim.session_key for claim in named if claim.session_key})
    for credentials, claim in claims.items():
        if not _holds(credentials, claim, users, sessions, now):
            credentials.end(claim)


def _holds(
    credentials: Credentials,
    claim: Claim,
    users: Mapping[Any, Any],
    sessions: Mapping[str, Any],
    now: float,
) -> bool:
    """Return whether the claim still holds; renew the reading of the session's user."""
    key, before = claim.session_key, claim.session_user
    if not claim.user_pks <= users.keys():
        return False
    if key is None or before is None:
        return True
    user = _user_of_session(key, sessions.get(key), before, users[before.pk])
    if not user.is_authenticated or user.pk != before.pk:
        return False
    credentials.renew(claim, Reading(key, now, user))
    return True


def _user_of_session(key: str, session: Any, before: Any, user: Any) -> Any:
    if session is not None and _is_unchanged(session, before, user):
        return user
    # Django decides everything else, with its own queries.
    return session_user(SimpleNamespace(session=session_store(key)))


def _is_unchanged(session: dict[str, Any], before: Any, user: Any) -> bool:
    """Return whether the stored user and password are those that Django accepted before."""
    from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY

    return (
        session.get(SESSION_KEY) == user._meta.pk.value_to_string(user)
        and _is_plain_backend(session.get(BACKEND_SESSION_KEY))
        and hasattr(user, "get_session_auth_hash")
        and before.get_session_auth_hash() == user.get_session_auth_hash()
    )


def _is_plain_backend(path: str | None) -> bool:
    """Return whether the backend requires only that a session's user exists and is active."""
    from django.contrib.auth import load_backend
    from django.contrib.auth.backends import ModelBackend

    if path not in settings.AUTHENTICATION_BACKENDS:
        return False
    backend = type(load_backend(path))
    return (
        issubclass(backend, ModelBackend)
        and backend.get_user is ModelBackend.get_user
        and backend.user_can_authenticate is ModelBackend.user_can_authenticate
    )


def _usable_users(pks: set[Any]) -> dict[Any, Any]:
    if not pks:
        return {}
    from django.contrib.auth import get_user_model

    users = get_user_model()._default_manager.in_bulk(pks)
    return {pk: user for pk, user in users.items() if getattr(user, "is_active", True)}


def _stored_sessions(keys: set[str]) -> dict[str, Any]:
    """Return the data of unexpired sessions by key; {} if the store cannot read several at once."""
    store = session_store(None)
    if not hasattr(store, "get_model_class") or not keys:
        return {}
    stored = store.get_model_class()._default_manager.filter(
        session_key__in=keys, expire_date__gt=timezone.now()
    )
    return {row.session_key: store.decode(row.session_data) for row in stored}


def _batches(items: Iterable[Credentials], size: int) -> Iterator[list[Credentials]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def on_user_changed(sender: type, instance: Any, using: str, **kwargs: Any) -> None:
    """Read a user again that was saved or deleted in this process."""
    pk = instance.pk
    transaction.on_commit(lambda: leases.hint(lambda c: pk in c.user_pks), using=using)


def on_logged_out(sender: type, request: Any, **kwargs: Any) -> None:
    """
    End the credentials of a session that its user signed out of in this process.

    The session is deleted right after this signal.
    """
    key = getattr(getattr(request, "session", None), "session_key", None)
    # `Credentials.settle` handles signing out over the socket itself, because its reply comes
    # first.
    own = getattr(getattr(request, "_request", request), "credentials", None)
    if key is not None:
        leases.end(lambda c: c.session_key == key and c is not own)


def connect_signals() -> None:
    """Connect the signals, once the apps are ready."""
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth import get_user_model
    from django.contrib.auth.signals import user_logged_out
    from django.db.models.signals import post_delete, post_save

    user_logged_out.connect(on_logged_out, dispatch_uid="rest_channels.logged_out")
    for signal in (post_save, post_delete):
        signal.connect(on_user_changed, get_user_model(), dispatch_uid="rest_channels.user")
