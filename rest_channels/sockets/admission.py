"""
Bounds of clients that open many sockets or subscriptions: of a user, and of an address.

Each process counts for itself. Places are counted only while sockets are open, and rates are kept
of the `_MOST_KEYS` addresses and users seen last, so no number of addresses fills the memory.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Any, Final

from rest_channels.metrics import figures
from rest_channels.observing.paced_warnings import Pace
from rest_channels.protocol import Frame, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets.credentials import SocketCredentials
from rest_channels.sockets.endpoints import SUBSCRIPTIONS
from rest_channels.sockets.ratelimit import RateLimit, Verdict, retry_headers

logger = logging.getLogger("rest_channels")

#: The actions that count as the beginning of a subscription or a watch before they are run.
BEGINNINGS: Final = frozenset({*SUBSCRIPTIONS, "watch"})

# 3.4 MB for each of two tables (tracemalloc). A client with more addresses at a time is not
# stopped by bounds of addresses.
_MOST_KEYS: Final = 10_000

# Sockets that are accepted at a time only to be closed with a code: a client may never answer the
# close. Further ones are refused.
_MOST_TOLD: Final = 1_000

# The loops of a process share the counts.
_counting = threading.Lock()


class Places:
    """How many sockets are open, by user or address."""

    def __init__(self) -> None:
        self._taken: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, key: Hashable, limit: int | None) -> bool:
        """Count a socket, unless `limit` are open."""
        with _counting:
            if limit is not None and self._taken[key] >= limit:
                return False
            self._taken[key] += 1
            return True

    def leave(self, key: Hashable) -> None:
        """Stop counting a socket."""
        with _counting:
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]


class Rates:
    """Rate limits by user or address: those of the `_MOST_KEYS` that came last."""

    def __init__(self) -> None:
        self._limits: OrderedDict[Hashable, RateLimit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._limits)

    def seconds_to_wait(self, key: Hashable, rate: float | None, burst: int) -> int | None:
        """
        Count one event; None if the rate admits it, else whole seconds until it may come again.

        A refused event does not count, so that others behind the same address are admitted at the
        full rate however many are refused.
        """
        if rate is None:
            return None
        # Tests change the settings.
        key = key, rate, burst
        with _counting:
            limit = self._limits.get(key)
            if limit is None:
                limit = self._limits[key] = RateLimit(rate, burst)
                if len(self._limits) > _MOST_KEYS:
                    self._limits.popitem(last=False)
            self._limits.move_to_end(key)
            if limit.take() is Verdict.ANSWER:
                return None
            limit.give_back()
            return limit.retry_after


sockets_of_users: Final = Places()
sockets_of_addresses: Final = Places()
_sockets_told: Final = Places()
_handshakes: Final = Rates()
_subscriptions: Final = Rates()


class Admission:
    """The places that one socket has taken. On its loop."""

    def __init__(self, credentials: SocketCredentials) -> None:
        self._credentials = credentials
        self._address: str | None = None
        self._user: Any = None
        self._has_users_place = False
        self._is_told = False
        self._has_left = False

    def enter(self) -> bool:
        """Count a handshake; return whether the bounds of its address admit it."""
        name, is_one_client = self._credentials.address
        if not is_one_client:
            return True
        rate, burst = socket_settings.HANDSHAKE_RATE, socket_settings.HANDSHAKE_BURST
        if _handshakes.seconds_to_wait(name, rate, burst) is not None:
            figures.excess_handshakes.add()
            _warn("HANDSHAKE_RATE", f"address {name}", _PERHAPS_A_PROXY)
            return False
        if not sockets_of_addresses.take(name, socket_settings.MAX_CONNECTIONS_PER_ADDRESS):
            figures.excess_address_connections.add()
            _warn("MAX_CONNECTIONS_PER_ADDRESS", f"address {name}", _PERHAPS_A_PROXY)
            return False
        self._address = name
        return True

    def follow(self) -> bool:
        """
        Count the socket for the user that it belongs to now; return whether the bound admits it.

        The user may be new each time. Strangers are counted by address alone.
        """
        user = _user_of(self._credentials)
        if user != self._user and not self._has_left:
            self._leave_user()
            self._user = user
            self._has_users_place = user is not None and self._enter_user(user)
        return user is None or self._has_users_place

    def may_be_told(self) -> bool:
        """Return whether this socket, which is not admitted, may be accepted to learn why."""
        self._is_told = self._is_told or _sockets_told.take(None, _MOST_TOLD)
        return self._is_told

    def leave(self) -> None:
        """Leave all places, because the socket has ended."""
        self._has_left = True
        self._leave_user()
        if self._address is not None:
            sockets_of_addresses.leave(self._address)
        if self._is_told:
            _sockets_told.leave(None)

    def _enter_user(self, user: Any) -> bool:
        if sockets_of_users.take(user, socket_settings.MAX_CONNECTIONS_PER_USER):
            return True
        figures.excess_user_connections.add()
        _warn("MAX_CONNECTIONS_PER_USER", f"user {user}")
        return False

    def _leave_user(self) -> None:
        if self._has_users_place:
            sockets_of_users.leave(self._user)
            self._has_users_place = False


def _user_of(credentials: SocketCredentials) -> Any:
    if credentials.user_pk is not None or credentials.session_user is None:
        return credentials.user_pk
    return credentials.session_user.pk


def excess_subscription(credentials: SocketCredentials, frame: Frame) -> Reply | None:
    """
    Count the beginning of a subscription or a watch; return its refusal if it is one too many.
    """
    if (owner := credentials.bounded_owner) is None:
        return None
    rate, burst = socket_settings.SUBSCRIBE_RATE, socket_settings.SUBSCRIBE_BURST
    seconds = _subscriptions.seconds_to_wait(owner, rate, burst)
    if seconds is None:
        return None
    figures.excess_subscriptions.add()
    _warn("SUBSCRIBE_RATE", " ".join(map(str, owner)))
    detail = "Too many subscriptions and watches in a short time: slow down."
    return Reply.error(429, detail, "throttled", to=frame, headers=retry_headers(seconds))


_PERHAPS_A_PROXY: Final = (
    " If it is a proxy's, set REST_FRAMEWORK['NUM_PROXIES'] to the number of proxies."
)
_pace: Final = Pace()


def _warn(setting: str, whose: str, hint: str = "") -> None:
    """Log that a bound was met, once a minute for each bound."""
    if _pace.is_due(setting):
        logger.warning(
            "The bound REST_CHANNELS[%r] was met by the %s, which is refused more.%s",
            setting,
            whose,
            hint,
        )
