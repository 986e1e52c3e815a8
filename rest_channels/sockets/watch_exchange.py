"""
A frame that watches an action: the action's first run, and each later one.

    {"action": "watch", "of": "list", "query": {"page": 2}}

A run is an exchange of its own, in which DRF's dispatch runs as for a frame that asks for the
action itself.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from inspect import isasyncgen
from time import perf_counter
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import router
from django.http import HttpResponseBase
from django.utils import timezone, translation
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.response import Response

from rest_channels.decorators import seconds_of
from rest_channels.live.interface import (
    Answer,
    Basis,
    Check,
    Sharing,
    SubscribeResponse,
    Tables,
    Watch,
)
from rest_channels.live.log.positions import Position
from rest_channels.live.log_database import primary_of, reading_written
from rest_channels.live.visibility import declarations
from rest_channels.live.visibility.request_tracking import (
    SOCKET,
    RunRequest,
    WatchedRequest,
    end_watch,
    unwatched,
)
from rest_channels.live.watches.answer_sharing import entry_of
from rest_channels.live.watches.read_tables import Found, Reading, declared, find, united, warn
from rest_channels.live.watches.run_state import State
from rest_channels.live.watches.watch_runs import Run, TooSlow, within_limit
from rest_channels.protocol import MISSING, Frame, Reply, byte_length
from rest_channels.settings import socket_settings
from rest_channels.sockets.dispatch import Exchange, is_unfinished
from rest_channels.sockets.request import Call, Handshake, MessageRequest
from rest_channels.sockets.response import reply_to, reply_to_cancel, reply_to_exception
from rest_channels.sockets.reviews import circumstances, reads_in
from rest_channels.sockets.streams import Stream
from rest_channels.workers.contexts import around_pass, enter

#: The keys of a frame that belong to the watch, not to the action.
WATCH_KEYS = frozenset({"of", "since"})


class InvalidWatch(Exception):
    """An error: a frame does not say what to watch. `reply` is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def asked(frame: Frame) -> Frame:
    """
    Return the frame that asks for the action that `frame` watches. Raises `InvalidWatch`.
    """
    action, method = frame.rest.get("of"), frame.method
    if not isinstance(action, str) or not action:
        raise _invalid(frame, "of", "Must be the name of an action.")
    if method not in (None, "get"):
        raise _invalid(frame, "method", "Must be GET, or left out.")
    rest = {key: value for key, value in frame.rest.items() if key not in WATCH_KEYS}
    return replace(frame, action=action, rest=rest, data=MISSING, method=None, hints=())


def _invalid(frame: Frame, key: str, detail: str) -> InvalidWatch:
    return InvalidWatch(_refusal(frame, key, detail))


def _refusal(frame: Frame, key: str, detail: str) -> Reply:
    reply = reply_to_exception(frame, ValidationError({key: [detail]}))
    # No view has made it.
    reply.headers = None
    return reply


class WatchExchange(Exchange):
    """
    The first run of an action that `frame` watches.

    `followed` are places that followers have reached in the logs, by database. After `begin`,
    `answer` is what the run found.
    """

    #: Whether the client has asked for this run.
    is_first = True

    def __init__(
        self,
        stream: Stream,
        frame: Frame,
        handshake: Handshake,
        *,
        is_row: bool = False,
        followed: Mapping[str, Position],
    ) -> None:
        """Read what `frame` watches. Raises `InvalidWatch`."""
        super().__init__(stream, frame, handshake, is_row=is_row)
        self._asked = asked(frame)
        self._reading = Reading(followed)
        self._identity = handshake.credentials.identity
        self._ends = self._is_late = False
        self._reads = frozenset({SOCKET})
        # Whether other users share the answer, as known before the action, and after it.
        self._entry: Hashable = None
        self._is_for_all = False
        self._watch: Watch | None = None
        self.answer: Answer | None = None

    async def reply(self) -> Reply | None:
        if self._is_cancelled:
            return reply_to_cancel(self.frame)
        action = self._asked.action
        kind = (self.stream, "watch", action) if action in self.stream.actions else None
        owner = self.handshake.credentials.owner
        try:
            reply: Reply = await within_limit(self._run_of_frame(), owner=owner, kind=kind)
        except TooSlow as slow:
            self._is_late = True
            return slow.reply(self.frame)
        return reply

    def _run_of_frame(self) -> Run:
        if (report := self.frame.report) is None:
            return Run(self.begin)
        return Run(self._measured, report, perf_counter(), self.begin)

    def begin(self) -> Reply:
        """Run the action; in a worker thread. Returns the reply to the frame."""
        with around_pass(), reading_written(), self._reading:
            reply = super().begin()
        assert reply is not None, "unfinished actions are refused"
        if reply.status < 300 and byte_length(reply.data) > socket_settings.MAX_WATCH_BYTES:
            reply = self._too_large()
        self.answer = self._answer_with(reply)
        if self.is_first and reply.status < 300:
            self._watch = self._made_watch()
        return reply

    @property
    def watches(self) -> Watch | None:
        """The watch that begins with this run; None if the run was refused or has failed."""
        return None if self._is_late else self._watch

    def _made_watch(self) -> Watch:
        request = self.request
        view: Any = request.view
        call = request.call
        # Later runs have no reply that could wait.
        frame = replace(self._kept(self.frame, self.frame.rest), fence=False)
        return Watch(
            run=partial(run_again, Rerun, self.stream, frame, self.handshake, self.is_row),
            check=partial(run_again, Recheck, self.stream, frame, self.handshake, self.is_row),
            kind=(self.stream, "watch", view.action),
            title=f"{type(view).__name__}.{view.action}",
            place=self._place(call, is_row=self.is_row),
            name=self._name(view.action, call, is_row=self.is_row),
            credentials=self.handshake.credentials,
            since=self.frame.rest.get("since", MISSING),
            has_own_credentials=request.has_own_credentials,
            circumstances=circumstances(view, self.handshake),
            variables=self.handshake.variables,
            kept_bytes=self._kept_bytes(frame),
        )

    def _find(self) -> MessageRequest:
        frame = self._asked
        frame = replace(frame, query=self.stream.query(frame))
        request = self._request(frame, self._call(frame))
        # Django's resolver is populated by now, which also leaves state.
        self._state, self._had_state = State(), False
        return request

    def _call(self, frame: Frame) -> Call:
        call = self.stream.watched_call(frame, self.handshake, is_row=self.is_row)
        return call if self.is_first else replace(call, is_review=True)

    def _request(self, frame: Frame, call: Call) -> MessageRequest:
        return RunRequest(self.handshake, frame, call, self._enter_body)

    def _enter_body(self, view: Any, handler: Any) -> Response | None:
        """Note how things stand after all checks; returns a response to answer with instead."""
        with self._reading.paused():
            self._had_state = self._state.has_changed()
            if not self._had_state and isinstance(view.request, WatchedRequest):
                self._entry = entry_of(view, handler, self.handshake)
        self._reading.enter_body()
        return None

    def _dispatched(self) -> Reply:
        self._prepare()
        call = self.request.call
        response = call.view(self.request, **call.kwargs)
        if is_unfinished(response):
            _discard(response)
            return self._refuse("An async or generator action cannot be watched: call it instead.")
        if isinstance(response, SubscribeResponse):
            return self._refuse("An action that subscribes cannot be watched: call it instead.")
        return self._settled(response)

    def _prepare(self) -> None:
        """Read the ends of logs that no statement may show, and then the session's user."""
        with self._reading.paused():
            self._reading.prepare(_databases_of(self.stream.viewset))
            if self.request.session_key is not None:
                if self.is_first or _database_of_users() not in self._reading.followed:
                    # An older reading may miss a write that the log has already.
                    self.handshake.credentials.doubt()
                # Read here, its statements do not count: the log names this user's writes.
                with suppress(AuthenticationFailed):  # DRF raises it again in its place.
                    bool(self.request.user)

    def _settled(self, response: HttpResponseBase) -> Reply:
        reply = reply_to(self.frame, response)
        self._reads = self._end_reads()
        credentials = self.handshake.credentials
        if self.is_first:
            self.signs_out = credentials.settle(self.request, reply.status)
        else:
            # Nobody has used the session.
            credentials.note_user(self.request)
        return reply

    def _end_reads(self) -> frozenset[str]:
        """Return the parts of the request that decided the answer, and record no more reads."""
        assert isinstance(self.request, RunRequest)
        # Reads of this function decide nothing.
        with unwatched(self.request):
            reads = reads_in(self.request.view)
        end_watch(self.request)
        # Code that has left state may have found some as well, which belongs to the socket.
        is_of_socket = self._had_state or self._state.has_changed()
        self._is_for_all = self._entry is not None and not reads and not is_of_socket
        return self.request.checking | reads | ({SOCKET} if is_of_socket else set())

    def _refuse(self, detail: str) -> Reply:
        self._ends = True
        return _refusal(self.frame, "of", detail)

    def _too_large(self) -> Reply:
        self._ends = True
        limit = socket_settings.MAX_WATCH_BYTES
        detail = f"An answer must not have more than {limit} bytes to be watched: ask for less."
        return Reply.error(400, detail, "too_large", to=self.frame)

    def _answer_with(self, reply: Reply) -> Answer:
        found = find(self._reading)
        view = self.request.view if hasattr(self, "request") else None
        users = [_database_of_users()] if self.handshake.credentials.user_pks else []
        more = united(_declared_of(view), dict.fromkeys(users, ()))
        if reply.status < 300:
            self._warn(view, found.unseen)
        basis = Basis(
            self._followable(found.tables, more),
            self._reading.heads,
            self._reads,
            seconds=_seconds_of(view),
            writes_own=found.writes_own,
            sharing=self._sharing(found, more, users) if reply.status < 300 else None,
        )
        return Answer(reply, basis, ends=self._ends)

    def _sharing(self, found: Found, more: Tables, users: list[str]) -> Sharing | None:
        """Return how clients of other users share the answer, None if they do not."""
        tables = self._followable(found.making, more)
        checked = self._followable(found.checking, dict.fromkeys(users, ()))
        # Checks that write what they read would drive themselves.
        if not self._is_for_all or found.writes_own:
            return None
        if checked.keys() - tables.keys():
            tables = united(tables, dict.fromkeys(checked, ()))
        reading = self._reading
        as_of = min(reading.began, self.handshake.credentials.read_at)
        check = Check(checked, reading.heads, self._identity, reading.began, as_of)
        return Sharing(self._entry, tables, check)

    def _followable(self, *tables: Mapping[str, Collection[str]]) -> Tables:
        """Return the tables in databases that have a log."""
        heads = self._reading.heads
        return {alias: t for alias, t in united(*tables).items() if alias in heads}

    def _warn(self, view: Any, unseen: Mapping[str, str]) -> None:
        if unseen and not declarations.has_any(view) and _seconds_of(view) is None:
            warn(f"{type(view).__name__}.{view.action}", unseen)


class Rerun(WatchExchange):
    """A later run, which no client has asked for."""

    is_first = False


class Recheck(Rerun):
    """A run without the action: only what precedes it, such as authentication and permissions."""

    def _enter_body(self, view: Any, handler: Any) -> Response | None:
        super()._enter_body(view, handler)
        return Response()


def run_again(
    kind: type[Rerun],
    stream: Stream,
    frame: Frame,
    handshake: Handshake,
    is_row: bool,
    followed: Mapping[str, Position],
) -> Answer:
    """Run the action that `frame` watches again; in a worker thread."""
    # Do not inherit what another run has activated.
    return copy_context().run(_run_again, kind, stream, frame, handshake, is_row, followed)


def _run_again(
    kind: type[Rerun],
    stream: Stream,
    frame: Frame,
    handshake: Handshake,
    is_row: bool,
    followed: Mapping[str, Position],
) -> Answer:
    translation.deactivate()
    timezone.deactivate()
    enter(handshake.variables)
    exchange = kind(stream, frame, handshake, is_row=is_row, followed=followed)
    exchange.begin()
    assert exchange.answer is not None
    return exchange.answer


def _declared_of(view: Any) -> Tables:
    return united(declared(declarations.labels(view))) if view is not None else {}


def _databases_of(viewset: Any) -> set[str]:
    """Return the databases whose changes count although no statement may show it."""
    return {*declared(declarations.labels(viewset)), *filter(None, [_database_of_users()])}


def _database_of_users() -> str:
    """Return the database that users are written to; empty without Django's users."""
    if not apps.is_installed("django.contrib.auth"):
        return ""
    return primary_of(router.db_for_write(get_user_model()))


def _seconds_of(view: Any) -> float | None:
    """Return the seconds after which an action must run again; None for never."""
    if view is None:
        return None
    handler = getattr(type(view), getattr(view, "action", None) or "", None)
    given = [seconds_of(handler), declarations.seconds(view)]
    return min((seconds for seconds in given if seconds is not None), default=None)


def _discard(unfinished: Any) -> None:
    """Close a coroutine or generator that has not begun."""
    if not isasyncgen(unfinished):
        unfinished.close()
