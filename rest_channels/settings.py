"""
Settings, all in one dictionary of the project's settings module.

    REST_CHANNELS = {"WORKER_THREADS": 16, "MAX_FRAME_BYTES": 16 * 1024}

Read them as attributes of `socket_settings`. `docs/settings.md` says what a client sees at each
bound; `rest_channels.checks` refuses unknown names and invalid values.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

DEFAULTS: dict[str, Any] = {
    # Threads in which permissions, queries and serializers run; also the largest number of database
    # connections that this process holds for sockets. Few threads serve fast queries best (the
    # interpreter lock), many threads slow ones. A thread starts only when work waits.
    "WORKER_THREADS": 8,
    # The share of those threads that one user's sockets may take at a time; the user's other work
    # waits. An address counts as the user until the user is known. None: half.
    "MAX_THREADS_PER_USER": None,
    # True: all of it runs where asgiref runs thread-sensitive code, which in a test is the thread
    # that holds the transaction.
    "THREAD_SENSITIVE": False,
    # How long a worker thread keeps a database connection if CONN_MAX_AGE is shorter. Django closes
    # a request's connections with it, because its threads may be many; these are few. 0: as Django.
    "CONNECTION_SECONDS": 60,
    # A longer message is answered with 413; the keys of rows by which a subscription resumes do not
    # count. Phoenix and AnyCable recommend similar sizes; a form with a few thousand words fits.
    "MAX_FRAME_BYTES": 64 * 1024,
    # Levels of nested arrays and objects.
    "MAX_FRAME_DEPTH": 32,
    "MAX_REQUEST_ID_CHARS": 128,
    # Frames of one connection that were received and not yet answered.
    "MAX_IN_FLIGHT": 16,
    # Text that waits for the client to read it; above this, the socket closes with 4408.
    "MAX_QUEUE_BYTES": 1024 * 1024,
    # Groups that the hosted consumers of one connection may join; a frame that would join more is
    # answered with 503. Centrifugo allows a client the same number of channels.
    "MAX_SUBSCRIPTIONS": 128,
    # Frames of one connection per second, on average, and how many may arrive at once. Above this,
    # a frame is answered with 429; after FRAME_BURST such frames, the socket closes with 4429.
    "FRAME_RATE": 100,
    "FRAME_BURST": 200,
    # Subscriptions and watches that a user, or an address without one, may begin a second, and at
    # once: as if sixteen sockets came back with MAX_SUBSCRIPTIONS each. None: as many as they like.
    "SUBSCRIBE_RATE": 100,
    "SUBSCRIBE_BURST": 2_000,
    # Handshakes of one address: all clients of an office may come back at once.
    "HANDSHAKE_RATE": 50,
    "HANDSHAKE_BURST": 1_000,
    # Open sockets of one user in this process, and of one address. A further socket closes with
    # 4429. None: no bound.
    "MAX_CONNECTIONS_PER_USER": 256,
    "MAX_CONNECTIONS_PER_ADDRESS": 4_096,
    # How long a reading of a session and its user may be relied on.
    "LEASE_SECONDS": 5,
    # How writes are captured: by "triggers" of the database, whichever program writes, or by
    # "signals" of this project's processes. "auto": triggers on PostgreSQL and SQLite, once
    # `migrate` has installed them, and signals for all other tables. None turns subscriptions off.
    "CAPTURE": "auto",
    # The models to capture: "__all__" except sessions, the admin's log and content types, or a list
    # of "app_label" and "app_label.Model".
    "CAPTURE_MODELS": "__all__",
    # The timeout of the channel layer for a message or a membership; no writer waits for it.
    "PUBLISH_SECONDS": 2,
    # How often a process with subscribers looks for changes if no doorbell rings.
    "POLL_SECONDS": 1,
    # How often a process reports which users its sockets have in rooms. A process that has been
    # silent for three and a half times as long counts as gone.
    "PRESENCE_SECONDS": 10,
    # The longest silence on a socket with subscriptions, so that clients can tell a dead connection
    # from a quiet one. Phoenix and Centrifugo use 25 to 30 seconds; nginx disconnects after 60.
    "SYNC_SECONDS": 25,
    # How long the reply to a frame with a fence waits for the events of what the frame committed.
    # Several passes of a busy follower, and as long as a client waits for an ordinary reply.
    "FENCE_SECONDS": 5,
    # Threads of a database, beside two or three, for subscriptions whose queries or serializers are
    # slow, so that they do not delay others. Each has a connection while it is used. 0: all in one.
    "SLOW_TRACKS": 2,
    # How long a client may be away and still receive exactly what it missed.
    "RETENTION_SECONDS": 24 * 60 * 60,
    # Stored replies of one user within that time, one for each write with an idempotency key. Above
    # it, such a write is refused with 429: to forget a key sooner would let a repeated write happen
    # twice.
    "MAX_STORED_REPLIES": 10_000,
    # The largest reply that is stored; a write with a larger reply is undone and answered with 400.
    "MAX_STORED_REPLY_BYTES": 64 * 1024,
    # Rows of one subscription; a larger collection is refused with 400: filter it.
    "MAX_SUBSCRIPTION_ROWS": 10_000,
    # The memory of all subscriptions of one connection, estimated: some 100,000 rows. A further one
    # is answered with 503.
    "MAX_SUBSCRIBED_BYTES": 10 * 1024 * 1024,
    # How soon a watched action runs again after its last run began, if a table that it read is
    # written to meanwhile.
    "WATCH_SECONDS": 0.2,
    # Watches of one connection; they also count in MAX_SUBSCRIPTIONS. A watch above this is
    # answered with 503.
    "MAX_WATCHES": 32,
    # The largest answer that can be watched; a larger one is refused with 400: watch a page.
    "MAX_WATCH_BYTES": 256 * 1024,
    # How long a run of a watched action may take; a slower one is refused with 400.
    "MAX_WATCH_SECONDS": 10,
    # How long a stopping server may take to close its sockets, each after its replies. Keep it
    # below the time after which the server is killed: 10 seconds with Docker, 30 with Kubernetes.
    # 0: the server ends them.
    "SHUTDOWN_SECONDS": 5,
    # How often rest_channels.stats() is logged, by the logger rest_channels.stats; 0: never.
    "STATS_SECONDS": 0,
    # True: each answered frame is a line of the logger rest_channels.access.
    "ACCESS_LOG": False,
    # True: a socket all of whose frames would be refused gets HTTP 403. False: it is accepted and
    # closed with 4401 or 4403, because browsers hide the status of a handshake from their pages.
    "REFUSE_HANDSHAKES": False,
    # False: no serializer fields are copied and no message is sent without a task of its own. Both
    # are done for speed alone, in place of what DRF and asyncio do.
    "SHORT_CUTS": True,
    # Context managers around each frame, called with its request, and around each pass of the
    # subscriptions, called without arguments.
    "FRAME_CONTEXTS": [],
    "PASS_CONTEXTS": [],
    # Origins whose pages may open a socket, besides the site's own and CSRF_TRUSTED_ORIGINS.
    "ALLOWED_ORIGINS": [],
    # Named sets of permissions, for as_routes(perms="private") of class-based consumers.
    "PERMISSIONS": {},
    # The permission class, or the callable of a request, that says who may open the console. None:
    # all users while `DEBUG` is on, and otherwise none.
    "CONSOLE_ACCESS": None,
    # The classes that serve one socket: a viewset's own, and the root's with many streams.
    "CONNECTION_CLASS": "rest_channels.sockets.connection.StreamConnection",
    "DEMULTIPLEXER_CLASS": "rest_channels.sockets.demultiplexer.Demultiplexer",
}

IMPORT_STRINGS = {
    *["CONNECTION_CLASS", "DEMULTIPLEXER_CLASS", "CONSOLE_ACCESS"],
    *["FRAME_CONTEXTS", "PASS_CONTEXTS"],
}


def _imported(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_imported(item) for item in value]
    return import_string(value) if isinstance(value, str) else value


class SocketSettings:
    """`REST_CHANNELS` over `DEFAULTS`; the dotted names of `IMPORT_STRINGS` are imported."""

    # Types only: `__getattr__` finds the values.
    WORKER_THREADS: int
    MAX_THREADS_PER_USER: int | None
    THREAD_SENSITIVE: bool
    CONNECTION_SECONDS: float
    MAX_FRAME_BYTES: int
    MAX_FRAME_DEPTH: int
    MAX_REQUEST_ID_CHARS: int
    MAX_IN_FLIGHT: int
    MAX_QUEUE_BYTES: int
    MAX_SUBSCRIPTIONS: int
    FRAME_RATE: float
    FRAME_BURST: int
    SUBSCRIBE_RATE: float | None
    SUBSCRIBE_BURST: int
    HANDSHAKE_RATE: float | None
    HANDSHAKE_BURST: int
    MAX_CONNECTIONS_PER_USER: int | None
    MAX_CONNECTIONS_PER_ADDRESS: int | None
    LEASE_SECONDS: float
    CAPTURE: str | None
    CAPTURE_MODELS: str | list[str]
    PUBLISH_SECONDS: float
    POLL_SECONDS: float
    PRESENCE_SECONDS: float
    SYNC_SECONDS: float
    FENCE_SECONDS: float
    SLOW_TRACKS: int
    RETENTION_SECONDS: float
    MAX_STORED_REPLIES: int
    MAX_STORED_REPLY_BYTES: int
    MAX_SUBSCRIPTION_ROWS: int
    MAX_SUBSCRIBED_BYTES: int
    WATCH_SECONDS: float
    MAX_WATCHES: int
    MAX_WATCH_BYTES: int
    MAX_WATCH_SECONDS: float
    SHUTDOWN_SECONDS: float
    STATS_SECONDS: float
    ACCESS_LOG: bool
    REFUSE_HANDSHAKES: bool
    SHORT_CUTS: bool
    FRAME_CONTEXTS: list[Callable[..., AbstractContextManager[Any]]]
    PASS_CONTEXTS: list[Callable[..., AbstractContextManager[Any]]]
    ALLOWED_ORIGINS: list[str]
    PERMISSIONS: dict[str, Any]
    CONSOLE_ACCESS: Callable[..., Any] | None
    # A StreamConnection and a Demultiplexer, which this module cannot import.
    CONNECTION_CLASS: type[Any]
    DEMULTIPLEXER_CLASS: type[Any]

    @property
    def user_settings(self) -> dict[str, Any]:
        given = getattr(settings, "REST_CHANNELS", {})
        # The checks, which run once the apps are ready, report a value that is not a dictionary.
        return given if isinstance(given, dict) else {}

    # Hidden from type checkers, so that they find a name that is misspelt.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in DEFAULTS:
                raise AttributeError(
                    f"REST_CHANNELS has no setting {name!r}; it has {', '.join(sorted(DEFAULTS))}."
                )
            # A reload in another thread replaces the dictionary: a value read before the reload is
            # then stored in the old dictionary, which is not used any more.
            known = self.__dict__
            value = self.user_settings.get(name, DEFAULTS[name])
            if name in IMPORT_STRINGS:
                value = _imported(value)
            # From now on, found without __getattr__: settings are read for every frame.
            known[name] = value
            return value

    def reload(self) -> None:
        self.__dict__ = {}


socket_settings = SocketSettings()


def reload_socket_settings(*, setting: str, **kwargs: Any) -> None:
    """Forget cached values when a test overrides `REST_CHANNELS`."""
    if setting == "REST_CHANNELS":
        socket_settings.reload()


setting_changed.connect(reload_socket_settings)
