"""
The values and protocols through which the request half and the live half meet.

    an action of a viewset   returns a `SubscribeResponse`, which carries a `Subscribe`
    the exchange             makes a `Topic` of it and passes it to the hub with its `Options`
    the live half            calls `Topic.review`, which runs DRF's dispatch again
    the viewset              passes a `Shown` to the live half during that dispatch
    the exchange             returns the outcome as a `Review`

The request half does not know how a `Subscribe` is served. The live half does not know frames or
DRF's dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from rest_framework import status
from rest_framework.generics import GenericAPIView
from rest_framework.response import Response

from rest_channels.live.log.positions import Position
from rest_channels.protocol import MISSING, Reply


class Credentials(Protocol):
    """
    The part of a socket's credentials that the live half uses; see `rest_channels.authentication`.
    """

    user_pk: Any
    has_ended: bool

    @property
    def user_pks(self) -> set[Any]:
        """The primary keys of all users this socket serves."""

    @property
    def owner(self) -> Hashable:
        """The user, or the address, whose share of threads and passes its work takes."""

    @property
    def identity(self) -> Hashable:
        """A key that is equal for sockets whose frames DRF attributes to the same user."""

    @property
    def session_user(self) -> Any:
        """The session's user as last read; None for an anonymous session."""

    @property
    def read_at(self) -> float:
        """The time when the session's user was read (monotonic seconds); infinity if never."""

    def doubt(self, before: float = ...) -> None:
        """Read the user again before the next use, unless the user was read after `before`."""


@dataclass(frozen=True, slots=True)
class Window:
    """
    The first `size` rows of an ordered list; all of its rows if `size` is None.

    Events of a subscription to a window say where a row goes.
    """

    size: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """
    The options with which a subscription begins.

    `since` is a position's token, MISSING if the client sent none. `held` are the keys of the rows
    that the client says it holds, None if it did not say. `credit` is the number of events that the
    client accepts before its first acknowledgement, None if unlimited. A subscription that `awaits`
    its row may begin before the row exists. `window` is None unless the client asked for an order.
    """

    snapshot: bool = False
    since: Any = MISSING
    held: Sequence[str | int | float] | None = None
    credit: int | None = None
    awaits: bool = False
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """An action's request to subscribe this client to a collection, or to one row if `is_row`."""

    #: The database whose log holds the changes.
    alias: str
    options: Options = field(default_factory=Options)
    is_row: bool = False


class SubscribeResponse(Response):
    """The response of an action that subscribes; the exchange acts on what it `asks`."""

    def __init__(self, asks: Subscribe) -> None:
        super().__init__(status=status.HTTP_201_CREATED)
        self.asks = asks


@dataclass(frozen=True, eq=False, slots=True)
class Shown:
    """
    The rows and the serializer that a subscription shows now.

    `queryset` has every row that this subscriber may see, and `serializer_class` represents them,
    both as `view` chose them in this review.
    """

    view: GenericAPIView
    queryset: Any
    serializer_class: Any


@dataclass(frozen=True, slots=True)
class Review:
    """
    DRF's answer to a subscription whose request ran again.

    `shown` is None if `status` is an error of the 400s: the subscriber may see nothing. `reads`
    names the parts of the request that decided the answer: see
    `rest_channels.live.visibility.request_tracking`.
    """

    status: int
    shown: Shown | None = None
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class Topic:
    """
    A collection or a row, as one frame asked for it.

    `review` runs DRF's dispatch again, in a worker thread; during that dispatch it calls its
    argument with what the view shows. `place` is everything that the answer may depend on apart
    from the user: viewset, action, path, query, host, language, form. `name` is the same text for
    the same topic in every process. `row` is the lookup of a row, None for a collection. `alias` is
    the database.

    `credentials` identify the subscriber, unless the frame `has_own_credentials`. `circumstances`
    are the other parts of the request that authentication may have read. `variables` are the
    context variables around the socket. `kept_bytes` estimates the memory that the frame takes.
    """

    review: Callable[[Callable[[Shown], None]], Review]
    place: tuple[Any, ...]
    name: str
    row: str | None
    alias: str
    credentials: Credentials
    has_own_credentials: bool = False
    circumstances: Hashable = None
    variables: Mapping[ContextVar[Any], Any] = field(default_factory=dict)
    kept_bytes: int = 0

    @property
    def is_row(self) -> bool:
        return self.row is not None

    @property
    def identity(self) -> Hashable:
        """
        A key that is equal for subscribers whom DRF takes for one user; see `Credentials.identity`.
        """
        if self.has_own_credentials:
            return self
        return self.credentials.identity, self.circumstances


#: Labels of models, as the log names them, by the database whose log has their changes.
Tables = Mapping[str, frozenset[str]]


@dataclass(frozen=True, eq=False, slots=True)
class Check:
    """
    The sources of a client's permission to have an answer.

    `tables` and `heads` are as for `Basis`, of authentication and permissions alone. It holds for a
    lease after `as_of` (monotonic seconds), for the client's `identity`; see
    `Credentials.identity`. `began` is when it began.
    """

    tables: Tables
    heads: Mapping[str, Position]
    identity: Hashable
    began: float
    as_of: float


@dataclass(frozen=True, eq=False, slots=True)
class Sharing:
    """
    How a run's answer is shared by clients of all users who are permitted to have it.

    `key` is equal for clients who would get the same answer. `tables` are those that the answer was
    made of, without those of the `check` of the client for whom it ran.
    """

    key: Hashable
    tables: Tables
    check: Check


@dataclass(frozen=True, eq=False, slots=True)
class Basis:
    """
    The sources of the answer of one run of a watched action.

    `tables` were read. `heads` are places in the logs, by database: every change up to there was
    visible to the whole run. `reads` names the parts of the request that decided the answer: see
    `rest_channels.live.visibility.request_tracking`. After `seconds` the action must run again even
    without a change; None for never. A run that `writes_own` has written to a table that it also
    reads. `sharing` is None if the answer may differ for other users.
    """

    tables: Tables
    heads: Mapping[str, Position]
    reads: frozenset[str]
    seconds: float | None = None
    writes_own: bool = False
    sharing: Sharing | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """
    The answer of one run of a watched action.

    If it `ends`, the action cannot be watched any more, whatever the reply's status.
    """

    reply: Reply
    basis: Basis
    ends: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Watch:
    """
    An action that a client watches.

    `run` runs it again, in a worker thread; its argument has the places that followers have reached
    in the logs, by database. `check` does the same without the action itself, only to find out
    whether this client may still have the answer. `kind` is equal for the same viewset and action,
    `title` names them. `since` is the token of the answer that the client has, MISSING if it sent
    none. The others are as for `Topic`.
    """

    run: Callable[[Mapping[str, Position]], Answer]
    check: Callable[[Mapping[str, Position]], Answer]
    kind: Hashable
    title: str
    place: tuple[Any, ...]
    name: str
    credentials: Credentials
    since: Any = MISSING
    has_own_credentials: bool = False
    circumstances: Hashable = None
    variables: Mapping[ContextVar[Any], Any] = field(default_factory=dict)
    kept_bytes: int = 0

    @property
    def identity(self) -> Hashable:
        """A key that is equal for clients whom DRF takes for one user; see `Topic.identity`."""
        if self.has_own_credentials:
            return self
        return self.credentials.identity, self.circumstances
