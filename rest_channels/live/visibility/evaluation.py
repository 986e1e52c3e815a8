"""
An evaluation: DRF's answer for one subscriber, and its reach, which says who can share it.

One evaluation serves all subscribers for whom it is the same: those of one topic's place and one
user, or one socket if the answer depends on more of the request than the user.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from contextvars import copy_context
from itertools import count
from typing import Any, TypeVar

from asgiref.sync import _restore_context
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from rest_channels.live.exact_values import Inexact, exact
from rest_channels.live.interface import Review, Shown, Topic
from rest_channels.live.log_database import log_of
from rest_channels.live.visibility import declarations
from rest_channels.live.visibility.clocks import Clock, clock_of, seconds_of_the_day
from rest_channels.live.visibility.queries import own_function, statement_of, unproven_rows
from rest_channels.live.visibility.request_tracking import SOCKET, USER, WatchedRequest, reading
from rest_channels.live.visibility.sharing import (
    is_declared,
    judging,
    undeclarable,
    unproven_rendering,
)
from rest_channels.live.visibility.side_effects import (
    has_traces,
    is_changed,
    keeps_more,
    state_of,
    ways_of_django,
)
from rest_channels.live.visibility.surroundings import Surroundings
from rest_channels.metrics import figures
from rest_channels.settings import socket_settings
from rest_channels.workers.contexts import Variables, enter

T = TypeVar("T")

#: The reach of an evaluation: all users, one user or one socket can share it.
EVERYBODY, ONE_USER, ONE_SOCKET = 0, 1, 2


_numbers = count(1)


def reach_of(reads: frozenset[str] | set[str]) -> int:
    """Return the reach of a result whose code read `reads` of a request."""
    if SOCKET in reads:
        return ONE_SOCKET
    return ONE_USER if USER in reads else EVERYBODY


def family_of(topic: Topic) -> tuple[Any, ...]:
    """
    Return the viewset and action of a topic: the same code makes the evaluations of one family.
    """
    return topic.place[:3]


def owner_of(topic: Topic, reach: int) -> Hashable:
    """Return a key that is equal for subscribers who can share a result of that reach."""
    if reach == EVERYBODY:
        return None
    return topic.identity if reach == ONE_USER else topic


class Evaluation:
    """
    DRF's answer for a subscriber.

    `tables` are those whose rows the answer was made from; a change to one of them ends it before
    its lease. `key` is equal for querysets that return the same rows and columns.

    `reach` says with whom the answer can be shared. Texts made with its view may be shared less,
    because their code may read more of the request: `text_reach` is the known bound for texts,
    `row_reach` for rows. `unproven` names the first code that is not proven to give all users the
    same result, None if there is none; `is_declared` says that the viewset declares so. A view that
    such code has used `is_spent`: it serves no other rendering.

    If an answer `is_bound`, it left state outside the view. Then rows are read and texts made only
    by `within`, which is called during DRF's dispatch and returns `result`. `state` names that
    state; `refusal` says why such an answer cannot be served.
    """

    def __init__(
        self,
        topic: Topic,
        alias: str,
        *,
        tables: set[str],
        as_of: float,
        surroundings: Surroundings,
        least_reach: int = ONE_USER,
        least_text_reach: int = EVERYBODY,
        is_bound: bool = False,
        within: Callable[[Evaluation], Any] | None = None,
        refusal: str = "",
    ) -> None:
        """Ask DRF, in a copy of the context variables. Raises what `Topic.review` raises."""
        figures.evaluations.add()
        self.tables = tables
        self.family = family_of(topic)
        #: A younger answer has a greater number.
        self.number = next(_numbers)
        self.alias = alias
        self.is_bound = is_bound
        #: A SQL function that reads its rows and that may have been made for this answer.
        self.own_function = ""
        self.state = self.cause = ""
        self.refusal = refusal
        self.result: Any = None
        self._is_row = topic.is_row
        self._reads: set[str] = set()
        self._failure: BaseException | None = None
        self._surroundings = surroundings
        self._within = within
        self.reach = ONE_SOCKET
        self.as_of = as_of
        self.user_pk = topic.credentials.user_pk
        self._context = copy_context()
        self._thread = threading.get_ident()
        self._context.run(enter, topic.variables)
        self._variables = Variables(self._context)
        self.view: Any = None
        self.queryset: Any = None
        self.serializer_class: Any = None
        self.key: tuple[Any, ...] | None = None
        self.unproven: str | None = None
        self.is_declared = self.is_spent = False
        self.row_reach, self.text_reach = EVERYBODY, least_text_reach
        self._given_seconds: float | None = None
        self._clock: Clock | None = None
        self._began = timezone.now()
        # A refused family is not asked again.
        review = Review(403) if refusal else self._context.run(topic.review, self._on_shown)
        if self._failure is not None:
            raise self._failure
        self.status = review.status
        self.view = None if review.shown is None else review.shown.view
        # At least ONE_USER by default, because the code may find a user in a global.
        self.reach = max(reach_of(review.reads), least_reach)
        self.as_of = min(as_of, topic.credentials.read_at)
        self.user_pk = topic.credentials.user_pk
        if review.shown is not None:
            if has_traces(self.view, review.shown.queryset):
                self.text_reach = ONE_SOCKET
            if self.key is None:
                self._context.run(self._take, review.shown)
        if self.is_bound:
            self.reach = ONE_SOCKET

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.as_of < socket_settings.LEASE_SECONDS

    @property
    def is_usable(self) -> bool:
        """Whether it can serve another subscriber."""
        return self.is_fresh and not self.is_spent

    @property
    def is_doubted(self) -> bool:
        return self.as_of == float("-inf")

    @property
    def is_allowed(self) -> bool:
        return self.view is not None and not self.refusal

    def doubt(self) -> None:
        """End the lease now, because something the answer was made from has changed."""
        self.as_of = float("-inf")

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """
        Call `function` with the language, time zone and other context that DRF's answer left.

        The parts of the request that it reads count as reads of this answer.
        """
        request = self.view.request
        if not isinstance(request, WatchedRequest):
            # The project replaced the request, so its reads are unknown.
            self._reads.add(SOCKET)
            return self._run(function, *args)
        with reading(request) as reads:
            try:
                return self._run(function, *args)
            finally:
                self._reads |= reads

    def _run(self, function: Callable[..., T], *args: Any) -> T:
        if self._thread != threading.get_ident():
            # Another track's: asgiref shows what `Local` holds, such as the language, only in the
            # thread that it was set in, or restored to.
            moved = self._context.copy()
            moved.run(_restore_context, self._context)
            self._context, self._thread = moved, threading.get_ident()
        return self._context.copy().run(function, *args)

    def use(self, function: Callable[..., Any], *args: Any) -> Any:
        """
        Call `function` as `run` does, to make text with this answer's view.

        Raises `ImproperlyConfigured` under DEBUG if the viewset declares `shared = True` but the
        text depends on the request.
        """
        before = state_of(self.view) if self.is_declared else []
        made = self.run(function, *args)
        if self.unproven is not None:
            if self.is_declared and settings.DEBUG and self._reads:
                raise ImproperlyConfigured(undeclarable(self.view))
            # A bound answer is asked for again each time.
            is_used = not self.is_declared or is_changed(before, state_of(self.view))
            self.is_spent = self.is_spent or (is_used and not self.is_bound)
        return made

    @property
    def needs(self) -> int:
        """The reach of texts made with its view, by everything they have read so far."""
        return max(self.text_reach, reach_of(self._reads))

    @property
    def sql(self) -> str:
        """The text of the queryset's statement; empty if it can never return rows."""
        assert self.key is not None
        text: str = self.key[0][0]
        return text

    @property
    def seconds(self) -> float | None:
        """The seconds for which its rows are valid without a write; None for no limit."""
        if self._given_seconds is None and self._clock is Clock.TIME:
            return float(socket_settings.LEASE_SECONDS)
        if self._given_seconds is None and self._clock is Clock.DAY:
            return seconds_of_the_day()
        return self._given_seconds

    def _on_shown(self, shown: Shown) -> None:
        trace = self._surroundings.trace()
        self.state, self.cause = trace.name, trace.cause
        if self._variables.changed():
            self.cause = self.cause or "a context variable"
            self.is_bound = True
        self.is_bound = self.is_bound or bool(trace.name)
        self.refusal = trace.refusal or self._other_database(shown.queryset)
        if self.is_bound and self._within is not None and not self.refusal:
            # DRF would handle an exception raised here as the project's own.
            try:
                self.view = shown.view
                self._take(shown)
                self.result = self._within(self)
            except BaseException as exc:
                self._failure = exc

    def _other_database(self, queryset: Any) -> str:
        alias = log_of(queryset)
        return "" if alias == self.alias else f"its rows are now in another database, {alias!r}"

    def _take(self, shown: Shown) -> None:
        queryset = self.queryset = shown.queryset.using(self.alias)
        self.serializer_class = shown.serializer_class
        statement, parameters = statement_of(queryset, self.alias)
        self.own_function = own_function(statement, self.alias)
        self._judge(shown.view, statement)
        self.key = (
            *(statement, self._exactly(parameters), self.serializer_class),
            *(ways_of_django(), self.state),
        )
        self._given_seconds = declarations.seconds(shown.view)
        self._clock = clock_of(self.queryset, self._began, self.sql)

    def _judge(self, view: Any, statement: Hashable) -> None:
        """Set the reach of rows and texts, as far as their code shows it."""
        judge = judging(view) if self._is_row else None
        rows = unproven_rows(self.queryset, statement)
        self.unproven = (
            rows or unproven_rendering(view, self.serializer_class, self.queryset) or judge
        )
        self.is_declared = is_declared(view)
        if self.unproven is not None and not self.is_declared:
            self.text_reach = max(self.text_reach, ONE_USER)
            self.row_reach = EVERYBODY if rows is None else ONE_USER
        if judge is not None or keeps_more(self.queryset):
            # An object permission may hide a row from one subscriber and show it to another.
            self.row_reach = ONE_SOCKET
        if self.is_bound:
            self.row_reach = self.text_reach = ONE_SOCKET

    def _exactly(self, parameters: list[Any]) -> Hashable:
        try:
            return exact(parameters)
        except Inexact:
            # No other parameters are known to be the same, nor those of the next answer.
            self.row_reach = ONE_SOCKET
            return object()
