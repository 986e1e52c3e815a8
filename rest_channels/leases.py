"""
Sockets whose user is gone: found within the lease, in batches.

While sockets are open, what was read of their sessions and users is read anew, some queries for
hundreds of sockets at a time. Signals of this process only make it sooner: what they hint at is
read from the database as well, after the transaction they came from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any, Final
from weakref import WeakKeyDictionary

from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from rest_channels.authentication import Credentials, Reading, session_store, session_user
from rest_channels.settings import socket_settings
from rest_channels.threads import workers

logger = logging.getLogger("rest_channels")

# Sockets read anew by one query each for sessions and users: below SQLite's limit of 999
# parameters of a statement, as it was before 3.32.
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
        """Read `credentials` anew until `forget`; on the loop that serves the socket."""
        loop = asyncio.get_running_loop()
        if loop not in self._watched:
            self._watched[loop] = set()
            self._schedule(loop)
        self._watched[loop].add(credentials)

    def forget(self, credentials: Credentials) -> None:
        """The socket is closed; on its loop. The last one ends the reading."""
        loop = asyncio.get_running_loop()
        watched = self._watched.get(loop, set())
        watched.discard(credentials)

    def hint(self, concerns: Callable[[Credentials], bool]) -> None:
        """Read those that `concerns` admits anew soon; from any thread."""
        for loop, watched in list(self._watched.items()):
            if not loop.is_closed() and any(map(concerns, list(watched))):
                loop.call_soon_threadsafe(self._review_soon, loop, concerns)

    def end(self, concerns: Callable[[Credentials], bool]) -> None:
        """End those that `concerns` admits at once; from any thread."""
        for watched in list(self._watched.values()):
            for credentials in filter(concerns, list(watched)):
                credentials.end()

    async def review(self, credentials: Iterable[Credentials]) -> None:
        """Read all of `credentials` anew and end what no longer holds."""
        for batch in _batches(credentials, BATCH_SIZE):
            try:
                await workers.run(_review, batch)
            except Exception:
                # Frames read for themselves once the lease is over: nothing stale is served.
                logger.warning("Sessions and users could not be read anew.", exc_info=True)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        # Twice a lease, so that nothing gets older than one; a timer costs an idle socket nothing.
        loop.call_later(socket_settings.LEASE_SECONDS / 2, self._on_time, loop)

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        watched = self._watched.get(loop)
        if not watched:
            self._watched.pop(loop, None)
            return
        task = loop.create_task(self.review(list(watched)))
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
    """End those of `batch` whose session or user is gone; renew the others. In a worker thread."""
    now = time.monotonic()
    current = [credentials for credentials in batch if not credentials.has_ended]
    users = _usable_users({pk for credentials in current for pk in credentials.user_pks})
    keys = {c.session_key for c in current if c.session_key and c.session_user is not None}
    sessions = _stored_sessions(keys)
    for credentials in current:
        # Both first: a frame may replace the credentials meanwhile, in another thread.
        key, before = credentials.session_key, credentials.session_user
        named = credentials.user_pk
        if (named is not None and named not in users) or (before and before.pk not in users):
            holds = False
        elif key is None or before is None:
            continue
        else:
            user = _user_of_session(key, sessions.get(key), before, users[before.pk])
            holds = user.is_authenticated and user.pk == before.pk
            credentials.renew(Reading(key, now, user))
        if not holds and credentials.session_key == key:
            credentials.end()


def _user_of_session(key: str, session: Any, before: Any, user: Any) -> Any:
    if session is not None and _is_unchanged(session, before, user):
        return user
    # Anything else is Django's to judge, with queries of its own.
    return session_user(SimpleNamespace(session=session_store(key)))


def _is_unchanged(session: dict[str, Any], before: Any, user: Any) -> bool:
    """Whether what Django once found good is still what is stored: the same user and password."""
    from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY

    return (
        session.get(SESSION_KEY) == user._meta.pk.value_to_string(user)
        and _is_plain_backend(session.get(BACKEND_SESSION_KEY))
        and hasattr(user, "get_session_auth_hash")
        and before.get_session_auth_hash() == user.get_session_auth_hash()
    )


def _is_plain_backend(path: str | None) -> bool:
    """Whether a user's being there and active is all that the backend asks of a session."""
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
    """The data of unexpired sessions by key; none where the store cannot be asked for many."""
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
    """A user was saved or deleted here."""
    pk = instance.pk
    transaction.on_commit(lambda: leases.hint(lambda c: pk in c.user_pks), using=using)


def on_logged_out(sender: type, request: Any, **kwargs: Any) -> None:
    """Somebody signed out here: their session is deleted right after this signal."""
    key = getattr(getattr(request, "session", None), "session_key", None)
    # Signing out over the socket itself is `Credentials.settle`'s: its reply comes first.
    own = getattr(getattr(request, "_request", request), "credentials", None)
    if key is not None:
        leases.end(lambda c: c.session_key == key and c is not own)


def connect_signals() -> None:
    """Called once, when the apps are ready."""
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth import get_user_model
    from django.contrib.auth.signals import user_logged_out
    from django.db.models.signals import post_delete, post_save

    user_logged_out.connect(on_logged_out, dispatch_uid="rest_channels.logged_out")
    for signal in (post_save, post_delete):
        signal.connect(on_user_changed, get_user_model(), dispatch_uid="rest_channels.user")
