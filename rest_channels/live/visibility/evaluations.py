"""The evaluations that one database's subscriptions rely on, each valid for a lease."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any
from weakref import WeakSet

from django.apps import apps
from django.conf import settings
from django.db import connections
from django.utils import timezone, translation

from rest_channels.live.catalogue import tables_behind
from rest_channels.live.interface import Credentials, Topic
from rest_channels.live.keys import user_key
from rest_channels.live.log_database import is_read_elsewhere
from rest_channels.live.model_tables import label_of, models_named, table_of
from rest_channels.live.table_names import names_in, noting
from rest_channels.live.visibility.evaluation import (
    EVERYBODY,
    ONE_USER,
    Evaluation,
    family_of,
    owner_of,
)
from rest_channels.live.visibility.learned import Learned
from rest_channels.live.visibility.surroundings import (
    NOT_RESTORABLE,
    Surroundings,
    around,
    log_here,
    rolled_back,
)

logger = logging.getLogger("rest_channels")


class AskAgain(Exception):
    """
    An error: an answer left state that only the end of the transaction undoes.

    The caller ends the transaction and asks again in another one, which is prepared for that state.
    """


class Evaluations:
    """The valid evaluations of one database's subscriptions. Used in one thread."""

    def __init__(self, alias: str, learned: Learned | None = None) -> None:
        self.alias = alias
        self.learned = Learned() if learned is None else learned
        self._known: dict[Hashable, Evaluation] = {}
        # All answers in use, and every table that any of them was made from.
        self._all: WeakSet[Evaluation] = WeakSet()
        self._tables: set[str] = set()
        # The version of what was learned that all answers in use agree with.
        self._agreed = self.learned.version
        self._next_sweep = 256
        self._log: Any = None

    @property
    def are_narrowed(self) -> bool:
        """Whether some answers `serves_too_many`, so that the next pass must replace them."""
        return self._agreed != self.learned.version

    def agree(self, version: int) -> None:
        """Note that a pass that began with this version of what was learned has ended."""
        self._agreed = version

    def adopt(self, topic: Topic, evaluation: Evaluation) -> None:
        """Rely on an answer for `topic` that another track has relied on until now."""
        self._all.add(evaluation)
        self._tables |= evaluation.tables
        self._known.setdefault(self._key(topic, evaluation.family), evaluation)

    def release(self, given: Set[Evaluation]) -> None:
        """Stop using answers, because the passes of another track use them from now on."""
        self._known = {key: found for key, found in self._known.items() if found not in given}
        for evaluation in given:
            self._all.discard(evaluation)

    def of(self, topic: Topic) -> Evaluation:
        """
        Return the current answer for `topic`: a valid one, or DRF's own.

        Raises exceptions that DRF's exception handler does not handle.
        """
        family = family_of(topic)
        known = self._known.get(self._key(topic, family))
        if known is not None and known.is_usable and not self.serves_too_many(known):
            return known
        return self._ask(topic)

    def within(self, topic: Topic, function: Callable[[Evaluation], Any]) -> Evaluation:
        """
        Return DRF's answer for `topic`, with the `result` of `function`, called in its dispatch.

        So `function` runs in all the state that the dispatch has set. Raises what `function`
        raises.
        """
        self.learned.kept.add(family_of(topic))
        return self._ask(topic, function)

    def bind(self, family: Hashable, cause: str) -> None:
        """
        Stop sharing answers of `family`, because reading its rows or making texts leaves state.
        """
        if family not in self.learned.bound:
            logger.warning(
                "%s leaves state outside the view while it reads or shows rows (%s): each "
                "subscriber is evaluated and rendered alone.",
                _named(family),
                cause,
            )
        self.learned.bind(family)

    def _ask(self, topic: Topic, within: Callable[[Evaluation], Any] | None = None) -> Evaluation:
        family = family_of(topic)
        tables: set[str] = set()
        # Do not inherit what another review has activated.
        translation.deactivate()
        timezone.deactivate()
        self._renew(topic.credentials)
        judge = partial(
            Evaluation,
            topic,
            self.alias,
            tables=tables,
            as_of=time.monotonic(),
            least_reach=self.learned.reach.get(family, ONE_USER),
            least_text_reach=self.learned.text_reach.get(family, EVERYBODY),
            is_bound=family in self.learned.bound,
        )
        with (
            _noting_tables(tables, self.alias),
            self._undoing(family) as surroundings,
            _usable_transaction(self.alias),
        ):
            evaluation = _judged(
                judge, surroundings, within, refusal=self.learned.refused.get(family, "")
            )
        if evaluation.refusal:
            self._complain(family, evaluation)
        elif not evaluation.is_bound and evaluation.own_function:
            self.bind(family, f"the function {evaluation.own_function}()")
            raise AskAgain
        self.learned.limit(family, evaluation.reach)
        # Keyed by the identity it was made with, because the user may have been read again.
        self._known[self._key(topic, family)] = evaluation
        self._all.add(evaluation)
        self._tables |= tables
        self._sweep()
        return evaluation

    @contextmanager
    def _undoing(self, family: Hashable) -> Iterator[Surroundings]:
        """
        Undo the state that DRF's answer leaves.

        Raises `AskAgain` if only the end of the transaction undoes it; the next attempt is then
        prepared for it.
        """
        is_kept = family in self.learned.kept
        if is_kept and self._log is None:
            self._log = log_here(self.alias)
        with around(self.alias, self._log) as surroundings, ExitStack() as stack:
            if is_kept:
                stack.enter_context(rolled_back(self.alias))
            try:
                yield surroundings
            finally:
                if surroundings.has_lasting:
                    self.learned.refused[family] = NOT_RESTORABLE
                    raise AskAgain
                if not is_kept and surroundings.has_changed:
                    self.learned.kept.add(family)
                    raise AskAgain

    def _complain(self, family: Hashable, evaluation: Evaluation) -> None:
        complaint = family, evaluation.refusal
        if complaint not in self.learned.complaints:
            self.learned.complaints.add(complaint)
            logger.warning(
                "Subscriptions to %s are refused: %s (%s). Filter rows by user in get_queryset() "
                "instead, or set live = False.",
                _named(family),
                evaluation.refusal,
                evaluation.cause,
            )

    def narrow(self, family: Hashable, reach: int) -> None:
        """Limit answers of `family` to `reach`, because a text made with one has no wider reach."""
        self.learned.narrow(family, reach)

    def serves_too_many(self, evaluation: Evaluation) -> bool:
        """Return whether others of its family have turned out to have a narrower reach."""
        if evaluation.family in self.learned.bound and not evaluation.is_bound:
            return True
        return evaluation.reach < self.learned.reach.get(evaluation.family, ONE_USER)

    def doubt(self, changes: Mapping[str, Any] | None) -> bool:
        """
        Stop relying on answers made from rows that `changes` wrote to; None stands for any rows.

        Returns whether there are such answers.
        """
        whose = users_in(changes) if changes is not None else None
        self.learned.note_written(whose)
        if changes is None:
            doubted = list(self._all)
        elif self._tables.isdisjoint(_tables_of(changes)) and whose is not None and not whose:
            return False
        else:
            doubted = [known for known in self._all if is_judged_by(known, changes)]
        for evaluation in doubted:
            evaluation.doubt()
        return bool(doubted)

    def _renew(self, credentials: Credentials) -> None:
        """Make a user be read again if a write to it was seen since; also for a new subscriber."""
        pks = map(user_key, credentials.user_pks)
        credentials.doubt(before=self.learned.stale_before(pks))
        if is_read_elsewhere(credentials.session_user, self.alias):
            credentials.doubt()

    def _key(self, topic: Topic, family: Hashable) -> Hashable:
        return topic.place, owner_of(topic, self.learned.reach.get(family, ONE_USER))

    def _sweep(self) -> None:
        if len(self._known) >= self._next_sweep:
            self._known = {key: found for key, found in self._known.items() if found.is_fresh}
            self._next_sweep = 256 + 2 * len(self._known)


def is_judged_by(evaluation: Evaluation, changes: Mapping[str, Any]) -> bool:
    """Return whether the answer was made from rows that `changes`, by model, wrote to."""
    if not evaluation.tables.isdisjoint(_tables_of(changes)):
        return True
    users = users_in(changes)
    return users is None or user_key(evaluation.user_pk) in users


def users_in(changes: Mapping[str, Any]) -> set[str] | None:
    """
    Return the keys of the users whose rows `changes`, by model, wrote to.

    Returns None if they wrote to rows that the permissions of any user may depend on.
    """
    user, others = _user_labels()
    if not others.isdisjoint(changes):
        return None
    if user not in changes:
        return set()
    return None if changes[user].whole else set(changes[user].of_key)


@lru_cache(1)
def _user_labels() -> tuple[str, frozenset[str]]:
    """Return the label of the user model, and of the models that hold users' permissions."""
    if not apps.is_installed("django.contrib.auth"):
        return "", frozenset()
    user = apps.get_model(settings.AUTH_USER_MODEL)
    group, permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    through = [field.remote_field.through for field in user._meta.many_to_many]
    through.append(group._meta.get_field("permissions").remote_field.through)
    return label_of(user), frozenset(map(label_of, (group, permission, *through)))


def _tables_of(changes: Mapping[str, Any]) -> set[str]:
    return {table for label in changes if (table := table_of(label)) is not None}


def _judged(
    judge: Callable[..., Evaluation],
    surroundings: Surroundings,
    within: Callable[[Evaluation], Any] | None,
    refusal: str,
) -> Evaluation:
    """Return DRF's answer, refused if it depends on refused statements."""
    try:
        evaluation = judge(surroundings=surroundings, within=within, refusal=refusal)
    except Exception:
        if not surroundings.is_refused:
            raise
        evaluation = judge(surroundings=surroundings, refusal=NOT_RESTORABLE)
    if surroundings.is_refused and not evaluation.refusal:
        evaluation.refusal = NOT_RESTORABLE
    evaluation.cause = evaluation.cause or surroundings.cause
    return evaluation


def _named(family: Any) -> str:
    stream, action, _ = family
    viewset = getattr(stream, "viewset", type(stream))
    return f"{viewset.__name__}.{action}"


@contextmanager
def _noting_tables(tables: set[str], alias: str) -> Iterator[None]:
    with noting() as statements:
        yield
    tables |= tables_behind(alias, statements)
    for statement in statements:
        for name in names_in(statement.sql):
            tables.update(model._meta.db_table for model in models_named(name.text))


@contextmanager
def _usable_transaction(alias: str) -> Iterator[None]:
    """
    Restore the transaction if DRF's exception handler marks it for rollback.

    Under `ATOMIC_REQUESTS` the handler does so, but this transaction is the pass's, not the
    request's.
    """
    connection = connections[alias]
    before = connection.needs_rollback
    yield
    if connection.in_atomic_block:
        connection.set_rollback(before)
