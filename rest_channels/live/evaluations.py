"""
Who may see what: DRF's answer for a subscriber, relied on for as long as a lease.

One answer serves all subscribers for whom it would be the same: those of one place and one user,
or one socket where more of the request was read than the user.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from django.apps import apps
from django.conf import settings
from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.utils import timezone, translation

from rest_channels.authentication import Credentials
from rest_channels.counters import counters
from rest_channels.live.topics import Review, Topic
from rest_channels.live.traces import changes_context, has_traces, keeps_more
from rest_channels.live.watch import SOCKET, USER
from rest_channels.settings import socket_settings

# How databases quote names.
_QUOTED_NAME = re.compile(r'["`\[]([^"`\]]+)["`\]]')

#: How far an answer reaches: to everybody, to one user, to one socket.
EVERYBODY, ONE_USER, ONE_SOCKET = 0, 1, 2


def reach_of(reads: frozenset[str] | set[str]) -> int:
    """To whom a result may be given that was made reading `reads` of a request."""
    if SOCKET in reads:
        return ONE_SOCKET
    return ONE_USER if USER in reads else EVERYBODY


def family_of(topic: Topic) -> Hashable:
    """Viewset and action: subscriptions whose answers the same code makes."""
    return topic.place[:3]  # type: ignore[index]


def owner_of(topic: Topic, reach: int) -> Hashable:
    """What subscribers have in common who may share a result of that reach."""
    if reach == EVERYBODY:
        return None
    return topic.identity if reach == ONE_USER else topic


class Evaluation:
    """
    DRF's answer. `tables` are those whose rows it was made of; a change to one of them ends it
    before its time. `key` tells apart querysets that give other rows or columns.

    `reach` says whom it serves. Texts made with its view are given to as many at most, for what
    makes them may read more of the request than the answer has; where it `has_own_state`, to its
    socket alone, and where it `has_own_rows`, not even the rows are others'.
    """

    def __init__(
        self,
        topic: Topic,
        alias: str,
        *,
        tables: set[str],
        as_of: float,
        least_reach: int = ONE_USER,
    ) -> None:
        """Ask DRF, in context variables of its own. Raises what `Topic.review` raises."""
        counters.evaluations += 1
        self.tables = tables
        self.family = family_of(topic)
        self._context = copy_context()
        before = self._context.copy()
        review = self._context.run(topic.review)
        self.status = review.status
        self.view: Any = review.view
        # To be the same for all users it would have to know that nobody is found in a global.
        self.reach = max(reach_of(review.reads), least_reach)
        self.as_of = min(as_of, topic.credentials.read_at)
        self.user_pk = topic.credentials.user_pk
        self.queryset: Any = None
        self.serializer_class: Any = None
        self.key: Hashable = None
        self.has_own_state = self.has_own_rows = False
        if review.view is not None:
            self.has_own_state = has_traces(self.view, review.queryset) or changes_context(
                before, self._context
            )
            self._context.run(self._take, review, alias)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.as_of < socket_settings.LEASE_SECONDS

    @property
    def is_doubted(self) -> bool:
        return self.as_of == float("-inf")

    @property
    def is_allowed(self) -> bool:
        return self.view is not None

    def doubt(self) -> None:
        """Something that it was made of has changed."""
        self.as_of = float("-inf")

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function` with language, time zone and all else as DRF's answer left it."""
        return self._context.copy().run(function, *args)

    def _take(self, review: Review, alias: str) -> None:
        self.queryset = review.queryset.using(alias)
        self.has_own_rows = keeps_more(self.queryset)
        serializer_class = self.serializer_class = review.serializer_class
        # Chosen for this user, it is part of the key; asking again would count as reading.
        self.view.get_serializer_class = lambda: serializer_class
        self.key = (
            _sql_key(self.queryset, alias),
            serializer_class,
            translation.get_language(),
            timezone.get_current_timezone_name(),
        )


class Evaluations:
    """The answers that are relied on now, of one database's subscriptions. In one thread."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._known: dict[Hashable, Evaluation] = {}
        # All that somebody relies on, and every table that any of them was ever made of.
        self._all: WeakSet[Evaluation] = WeakSet()
        self._tables: set[str] = set()
        # How far answers reach, by viewset and action: as little as they ever did, or as what
        # was made with them.
        self._reach: dict[Hashable, int] = {}
        #: Some `serves_too_many`, and are to be replaced by the next pass.
        self.are_narrowed = False
        self._next_sweep = 256
        # When it was seen that a user was written to, by primary key, and any user (monotonic
        # seconds): what was read of them before is of no use.
        self._written_at: dict[str, float] = {}
        self._all_written_at = float("-inf")

    def of(self, topic: Topic) -> Evaluation:
        """
        The answer for `topic` now: one that holds already, or DRF's own. Raises what DRF's
        exception handler leaves alone.
        """
        family = family_of(topic)
        known = self._known.get(self._key(topic, family))
        if known is not None and known.is_fresh:
            return known
        tables: set[str] = set()
        # What another review has activated is not this one's.
        translation.deactivate()
        timezone.deactivate()
        self._renew(topic.credentials)
        with _noting_tables(tables), _usable_transaction(self.alias):
            evaluation = Evaluation(
                topic,
                self.alias,
                tables=tables,
                as_of=time.monotonic(),
                least_reach=self._reach.get(family, ONE_USER),
            )
        self._reach[family] = evaluation.reach
        # Under the identity that it was made with: the reading of a user may have been renewed.
        self._known[self._key(topic, family)] = evaluation
        self._all.add(evaluation)
        self._tables |= tables
        self._sweep()
        return evaluation

    def narrow(self, family: Hashable, reach: int) -> None:
        """
        Let answers of `family` serve no more than `reach` says: with one of them a text was made
        that is for no more than that.
        """
        self._reach[family] = max(self._reach.get(family, ONE_USER), reach)
        self.are_narrowed = True

    def serves_too_many(self, evaluation: Evaluation) -> bool:
        """Whether others of its family have turned out to serve fewer."""
        return evaluation.reach < self._reach.get(evaluation.family, ONE_USER)

    def doubt(self, changes: Mapping[str, Any] | None) -> bool:
        """
        Rely no more on those made of what `changes` wrote to, None for anything; says whether
        there are any.
        """
        whose = users_in(changes) if changes is not None else None
        self._note_written(whose)
        if changes is None:
            doubted = list(self._all)
        elif self._tables.isdisjoint(_tables_of(changes)) and whose is not None and not whose:
            return False
        else:
            doubted = [known for known in self._all if is_judged_by(known, changes)]
        for evaluation in doubted:
            evaluation.doubt()
        return bool(doubted)

    def _note_written(self, whose: set[str] | None) -> None:
        now = time.monotonic()
        if whose is None:
            self._all_written_at = now
            self._written_at.clear()
        elif whose:
            oldest = now - socket_settings.LEASE_SECONDS
            kept = {pk: at for pk, at in self._written_at.items() if at > oldest}
            self._written_at = {**kept, **dict.fromkeys(whose, now)}

    def _renew(self, credentials: Credentials) -> None:
        """Let a user be read anew who was written to since: by who has only now subscribed."""
        pks = map(str, credentials.user_pks)
        seen_at = max(
            (self._written_at.get(pk, float("-inf")) for pk in pks), default=float("-inf")
        )
        credentials.doubt(before=max(seen_at, self._all_written_at))

    def _key(self, topic: Topic, family: Hashable) -> Hashable:
        return topic.place, owner_of(topic, self._reach.get(family, ONE_USER))

    def _sweep(self) -> None:
        if len(self._known) >= self._next_sweep:
            self._known = {key: found for key, found in self._known.items() if found.is_fresh}
            self._next_sweep = 256 + 2 * len(self._known)


def is_judged_by(evaluation: Evaluation, changes: Mapping[str, Any]) -> bool:
    """Whether the answer was made of rows that `changes`, by model, wrote to."""
    if not evaluation.tables.isdisjoint(_tables_of(changes)):
        return True
    users = users_in(changes)
    return users is None or str(evaluation.user_pk) in users


def users_in(changes: Mapping[str, Any]) -> set[str] | None:
    """
    The keys of the users whose rows `changes`, by model, wrote to; None where it wrote to what
    anybody's permissions are made of.
    """
    user, others = _user_labels()
    if not others.isdisjoint(changes):
        return None
    if user not in changes:
        return set()
    return None if changes[user].whole else set(changes[user].of_key)


@lru_cache(1)
def _user_labels() -> tuple[str, frozenset[str]]:
    """The model of users, and those that say what they may do."""
    if not apps.is_installed("django.contrib.auth"):
        return "", frozenset()
    user = apps.get_model(settings.AUTH_USER_MODEL)
    group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    through = [field.remote_field.through for field in user._meta.many_to_many]
    through.append(group._meta.get_field("permissions").remote_field.through)
    return user._meta.label, frozenset(m._meta.label for m in (group, permission, *through))


def _tables_of(changes: Mapping[str, Any]) -> set[str]:
    return {apps.get_model(label)._meta.db_table for label in changes if label in _labels()}


@lru_cache(1)
def _labels() -> frozenset[str]:
    return frozenset(model._meta.label for model in apps.get_models(include_auto_created=True))


def _sql_key(queryset: Any, alias: str) -> Hashable:
    """What tells this queryset from others: its SQL, and that of its prefetches."""
    prefetches = tuple(
        lookup
        if isinstance(lookup, str)
        else (
            lookup.prefetch_through,
            lookup.to_attr,
            None if lookup.queryset is None else _sql_key(lookup.queryset, alias),
        )
        for lookup in queryset._prefetch_related_lookups
    )
    made_by = type(queryset), queryset._iterable_class
    return (*_sql(queryset, alias), prefetches, queryset.model, made_by)


def _sql(queryset: Any, alias: str) -> tuple[str, str]:
    try:
        sql, params = queryset.query.get_compiler(using=alias).as_sql()
    except EmptyResultSet:
        return "", ""
    return sql, repr(params)


@contextmanager
def _noting_tables(tables: set[str]) -> Iterator[None]:
    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        tables.update(_QUOTED_NAME.findall(sql))
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(note))
        yield


@contextmanager
def _usable_transaction(alias: str) -> Iterator[None]:
    """
    Undo that DRF's exception handler, under `ATOMIC_REQUESTS`, marks for rollback a transaction
    that is not the request's but ours.
    """
    connection = connections[alias]
    before = connection.needs_rollback
    yield
    if connection.in_atomic_block:
        connection.needs_rollback = before
