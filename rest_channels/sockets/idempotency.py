"""
A write that happens once: the action of a frame with an idempotency key.

`KeyedExchange` makes a `KeyedRequest` of such a frame. The viewset calls its action through
`Attempt.run`, which comes after authentication, permissions and throttles:

    1. name     refuse strangers and invalid keys; hash user, stream and key   (keyed_frames)
    2. reserve  begin the transaction and insert the row of the key            (reply_store)
    3. act      call the action, if no other frame has the key
    4. replay   otherwise, have the stored reply sent, if the frame asks for the same

The exchange then renders the response, and `Attempt.settle` stores the text and commits.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    connections,
    models,
    transaction,
)
from django.http import Http404, HttpResponseBase
from rest_framework import status
from rest_framework.exceptions import (
    APIException,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ValidationError,
)
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from rest_channels.live.interface import SubscribeResponse
from rest_channels.live.log_database import log_of
from rest_channels.protocol import Frame, Reply
from rest_channels.settings import socket_settings
from rest_channels.sockets import reply_store
from rest_channels.sockets.dispatch import is_unfinished
from rest_channels.sockets.keyed_frames import (
    asked_of,
    entry_of,
    home_of,
    identity_of,
    refused,
    valid_key,
)
from rest_channels.sockets.reply_store import Entry, Outcome
from rest_channels.sockets.request import Call, Handshake, MessageRequest
from rest_channels.sockets.response import reply_to_exception
from rest_channels.sockets.running_keys import running_keys

_UNFINISHED: Final = "Async and generator actions take no key: send the frame without it."
_SUBSCRIBES: Final = "An action that subscribes takes no key: send the frame without it."
_ROLLED_BACK: Final = (
    "An action that succeeds although its transaction was rolled back takes no key: send the frame "
    "without it."
)


class Mismatch(APIException):
    """A key that was used for another request."""

    status_code = 422
    default_code = "idempotency_mismatch"
    default_detail = (
        "An 'idempotency_key' belongs to one request: this one was used with another action, "
        "lookup, query, data or form of reply. Make a new key for each write."
    )


class TooManyReplies(APIException):
    """A user who has `MAX_STORED_REPLIES` already; `wait` are the seconds until there is room."""

    status_code = 429
    default_code = "too_many_stored_replies"

    def __init__(self, wait: int) -> None:
        super().__init__(
            f"A user must not have more than {socket_settings.MAX_STORED_REPLIES} idempotency keys "
            "at a time: wait, or send the frame without 'idempotency_key'."
        )
        self.wait = wait


class State(enum.Enum):
    """The state of an attempt."""

    UNASKED = enum.auto()
    RESERVED = enum.auto()
    REPLAYS = enum.auto()
    BUSY = enum.auto()


class Attempt:
    """
    One attempt to answer a keyed frame, in one visit to a worker thread.

    `place` identifies the key in this process, and `alias` is the database, once they are known.
    It `has_stored` its reply if that is committed at the end of the block.
    """

    def __init__(self, frame: Frame, stream: tuple[str, ...]) -> None:
        self.state = State.UNASKED
        self.place: Hashable = None
        self.alias = DEFAULT_DB_ALIAS
        self.has_stored = False
        #: The response in place of the action's, if the action must not run.
        self.empty = Response(status=status.HTTP_204_NO_CONTENT)
        self._frame = frame
        self._stream = stream
        self._stack = ExitStack()
        self._entry = Entry("", "", "")
        self._stored: Outcome | None = None
        self._holds_key = False

    @property
    def is_busy(self) -> bool:
        """Whether another frame has the key at the moment."""
        return self.state is State.BUSY

    @contextmanager
    def open(self) -> Iterator[None]:
        """
        Commit the transaction at the end of the block.

        An exception undoes it, and so does `settle` for a reply that is not stored.
        """
        with self._stack:
            yield

    def end(self) -> None:
        """Let another frame of this process have the key, once all is committed."""
        if self._holds_key:
            running_keys.end(self.place)

    def run(
        self, view: Any, action: Callable[..., Any], request: Request, /, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """
        Answer `request` in place of `action`, a method of `view`, within DRF's dispatch.

        If the action must not run, the response is `empty`, and `state` says why.
        """
        if self.place is not None:
            raise RuntimeError("The action of a frame with an 'idempotency_key' must run once.")
        key, identity = valid_key(self._frame), identity_of(request.user)
        self.alias = _database_of(view)
        _require_commits(self.alias)
        identity += home_of(request.user, self.alias)
        asked = asked_of(view, request, self._frame)
        self._entry = entry_of(identity, self._stream, key, asked)
        self.place = self.alias, self._entry.key
        self._holds_key = running_keys.begin(self.place)
        if not self._holds_key:
            self.state = State.BUSY
            return self.empty
        try:
            self.state = self._reserved()
        except DatabaseError as exc:
            if not reply_store.is_contended(exc):
                raise
            self.state = State.BUSY
        if self.state is State.RESERVED:
            return self._acted(action, request, *args, **kwargs)
        if self.state is State.REPLAYS and not self._may_see(view):
            assert self._stored is not None
            self._stored = Outcome(self._stored.status, "null", None)
        return self.empty

    def settle(self, reply: Reply) -> Reply:
        """
        Return the reply to send for the rendered `reply`, and store it if its write is to stay.

        Within the transaction. Replies from status 400 on undo the write.
        """
        if reply.status >= 400:
            self._undo()
            return reply
        if self.state is State.REPLAYS:
            assert self._stored is not None
            return _replayed(self._stored, self._frame)
        if self.state is State.BUSY:
            return reply
        if self.state is State.UNASKED:
            raise ImproperlyConfigured(
                "A frame with an 'idempotency_key' was answered without it: call super() in the "
                "viewset's dispatch() and initial()."
            )
        if transaction.get_rollback(using=self.alias):
            return reply_to_exception(self._frame, refused(_ROLLED_BACK))
        outcome = Outcome(reply.status, reply.data, reply.headers)
        limit = socket_settings.MAX_STORED_REPLY_BYTES
        if reply_store.size_of(outcome) > limit:
            self._undo()
            return reply_to_exception(self._frame, _too_large(limit))
        reply_store.fill(self.alias, self._entry.key, outcome)
        self.has_stored = True
        return reply

    def _reserved(self) -> State:
        alias, entry = self.alias, self._entry
        for _ in range(2):
            if self._reserves():
                return State.RESERVED
            row = reply_store.find(alias, entry.key)
            if row is not None:
                if row.request != entry.request:
                    raise Mismatch
                self._stored = reply_store.outcome_of(row)
                return State.REPLAYS
            reply_store.forget_expired(alias, entry.key)
        # Another frame reserves it at the same time.
        return State.BUSY

    def _reserves(self) -> bool:
        """Begin the transaction with the row of the key; return False if there is one already."""
        try:
            with ExitStack() as attempt:
                attempt.enter_context(transaction.atomic(using=self.alias))
                if not reply_store.reserve(self.alias, self._entry):
                    return False
                self._stack.push(attempt.pop_all())
        except IntegrityError:
            return False
        except DatabaseError as exc:
            if reply_store.is_contended(exc) or _is_installed(self.alias):
                raise
            raise ImproperlyConfigured(
                "Idempotency keys require the table of stored replies: run "
                f"manage.py migrate rest_channels --database={self.alias}"
            ) from exc
        return True

    def _acted(
        self, action: Callable[..., Any], request: Request, /, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        wait = reply_store.seconds_until_room(self.alias, self._entry.owner)
        if wait is not None:
            raise TooManyReplies(wait)
        response = action(request, *args, **kwargs)
        if is_unfinished(response):
            _discard(response)
            raise refused(_UNFINISHED)
        if isinstance(response, SubscribeResponse):
            raise refused(_SUBSCRIBES)
        answer: HttpResponseBase = response
        return answer

    def _may_see(self, view: Any) -> bool:
        """
        Return whether the user may still see the row that the frame names, if it names one.

        Whatever the check writes is undone.
        """
        if not isinstance(view, GenericAPIView):
            return True
        if (view.lookup_url_kwarg or view.lookup_field) not in view.kwargs:
            return True
        try:
            with transaction.atomic(using=self.alias):
                view.get_object()
                transaction.set_rollback(True, using=self.alias)
        except (Http404, NotFound, DjangoPermissionDenied, PermissionDenied, NotAuthenticated):
            return False
        return True

    def _undo(self) -> None:
        if self.state is State.RESERVED:
            transaction.set_rollback(True, using=self.alias)


class KeyedRequest(MessageRequest):
    """The request of a keyed frame: it knows its attempt, because DRF passes only the request."""

    def __init__(
        self, handshake: Handshake, frame: Frame, call: Call, attempt: Attempt, *, is_again: bool
    ) -> None:
        super().__init__(handshake, frame, call)
        self.attempt = attempt
        self.is_again = is_again


def _too_large(limit: int) -> ValidationError:
    detail = f"The reply must not have more than {limit} bytes: send the frame without a key."
    return refused(detail, "too_large")


def _database_of(view: Any) -> str:
    """Return the database of the view's queryset, the default if it has none."""
    queryset = getattr(view, "queryset", None)
    if isinstance(queryset, models.Manager):
        queryset = queryset.all()
    if isinstance(view, GenericAPIView) and (
        queryset is not None or type(view).get_queryset is not GenericAPIView.get_queryset
    ):
        queryset = view.get_queryset()
    return log_of(queryset) if isinstance(queryset, models.QuerySet) else DEFAULT_DB_ALIAS


def _require_commits(alias: str) -> None:
    if not connections[alias].settings_dict["AUTOCOMMIT"]:
        raise ImproperlyConfigured(
            f"Idempotency keys require transactions that Django commits: remove AUTOCOMMIT = False "
            f"from DATABASES[{alias!r}]."
        )


def _is_installed(alias: str) -> bool:
    try:
        return reply_store.is_installed(alias)
    except DatabaseError:
        # The transaction has failed, or the database is gone: the first error says more.
        return True


def _discard(unfinished: Any) -> None:
    close = getattr(unfinished, "close", None)
    # An async generator that has not begun needs none.
    if close is not None:
        close()


def _replayed(stored: Outcome, frame: Frame) -> Reply:
    return Reply(
        stored.status,
        data=stored.data,
        headers=stored.headers,
        action=frame.action,
        request_id=frame.request_id,
        extra={"replayed": "true"},
    )
