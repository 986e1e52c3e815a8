"""
Settings, all in one dictionary of the project's settings module:

    REST_CHANNELS = {"WORKER_THREADS": 16, "MAX_FRAME_BYTES": 16 * 1024}

Read them as attributes of `socket_settings`. `docs/settings.md` says what a client meets at
each bound; `rest_channels.checks` refuses unknown names and values that make no sense.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

DEFAULTS: dict[str, Any] = {
    # Threads in which permissions, queries and serializers run; also the most database
    # connections this process holds for sockets. Fast queries are served best by few threads
    # (the interpreter lock), slow ones by many; threads start only when work waits.
    "WORKER_THREADS": 8,
    # Of these, how many one user's sockets may take at a time; the rest of that user's work waits.
    # Before a user is known, and for those who never are, an address counts as one. None: half.
    "MAX_THREADS_PER_USER": None,
    # True: all of it runs where asgiref runs thread-sensitive code, which in a test is the
    # thread that holds the transaction.
    "THREAD_SENSITIVE": False,
    # A message longer than this closes the socket with 1009. Phoenix and AnyCable ask for
    # similar sizes; a form with a few thousand words fits.
    "MAX_FRAME_BYTES": 64 * 1024,
    # Arrays and objects within one another.
    "MAX_FRAME_DEPTH": 32,
    "MAX_REQUEST_ID_CHARS": 128,
    # Frames of one connection received and not yet answered.
    "MAX_IN_FLIGHT": 16,
    # Text waiting to be read by the client; beyond it the socket closes with 4408.
    "MAX_QUEUE_BYTES": 1024 * 1024,
    # Groups that the hosted consumers of one connection may join; a frame that would join more is
    # answered 503. Centrifugo lets a client be in as many channels.
    "MAX_SUBSCRIPTIONS": 128,
    # Frames a second of one connection, on average, and how many may come at once. Beyond, a
    # frame is answered 429; twice FRAME_BURST beyond, the socket closes with 4429.
    "FRAME_RATE": 100,
    "FRAME_BURST": 200,
    # How long what was read of a session and its user may be relied on.
    "LEASE_SECONDS": 5,
    # How writes are noticed: "signals", of this project's processes, or "triggers", of whoever
    # writes to PostgreSQL or SQLite; None switches subscriptions off.
    "CAPTURE": "signals",
    # Which models: "__all__" but sessions, the admin's log and content types, or a list of
    # "app_label" and "app_label.Model".
    "CAPTURE_MODELS": "__all__",
    # How long a writer's doorbell may take; the writer does not wait for it.
    "PUBLISH_SECONDS": 2,
    # A process that has subscribers looks for changes this often where no doorbell rings.
    "POLL_SECONDS": 1,
    # How often a process says which users its sockets have in rooms. One that has said nothing for
    # three and a half times as long is gone.
    "PRESENCE_SECONDS": 10,
    # How long a client may be away and still be told just what it missed.
    "RETENTION_SECONDS": 24 * 60 * 60,
    # Rows of one subscription; a larger collection is refused with 400: filter it.
    "MAX_SUBSCRIPTION_ROWS": 10_000,
    # How long a server that is told to stop may take to close its sockets, each after its replies:
    # less than what it is killed after, which is 10 seconds with Docker, 30 with Kubernetes. 0:
    # they end as the server ends them.
    "SHUTDOWN_SECONDS": 5,
    # How often rest_channels.stats() is logged, by the logger rest_channels.stats; 0: never.
    "STATS_SECONDS": 0,
    # Origins, beside the site's own and CSRF_TRUSTED_ORIGINS, whose pages may open a socket.
    "ALLOWED_ORIGINS": [],
    # Named sets of permissions, for as_routes(perms="private") of class-based consumers.
    "PERMISSIONS": {},
    # The classes that serve one socket: a viewset's own, and the root's with many streams.
    "CONNECTION_CLASS": "rest_channels.connection.StreamConnection",
    "DEMULTIPLEXER_CLASS": "rest_channels.demultiplexer.Demultiplexer",
}

IMPORT_STRINGS = {"CONNECTION_CLASS", "DEMULTIPLEXER_CLASS"}


class SocketSettings:
    """`REST_CHANNELS` over `DEFAULTS`; dotted names of `IMPORT_STRINGS` become what they name."""

    @property
    def user_settings(self) -> dict[str, Any]:
        given = getattr(settings, "REST_CHANNELS", {})
        # What is no dictionary is for the checks to report, which run once the apps are ready.
        return given if isinstance(given, dict) else {}

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(
                f"REST_CHANNELS has no setting {name!r}; there are {', '.join(sorted(DEFAULTS))}."
            )
        # Whoever reloads meanwhile, in another thread, puts another dictionary in its place: what
        # was read before is kept in one that nobody looks at.
        known = self.__dict__
        value = self.user_settings.get(name, DEFAULTS[name])
        if name in IMPORT_STRINGS and isinstance(value, str):
            value = import_string(value)
        # Found without __getattr__ from now on: settings are read for every frame.
        known[name] = value
        return value

    def reload(self) -> None:
        self.__dict__ = {}


socket_settings = SocketSettings()


def reload_socket_settings(*, setting: str, **kwargs: Any) -> None:
    """Forget what was read when a test overrides `REST_CHANNELS`."""
    if setting == "REST_CHANNELS":
        socket_settings.reload()


setting_changed.connect(reload_socket_settings)
