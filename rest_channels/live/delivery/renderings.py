"""
Render rows as text: once for an audience, for each of its users, or for each of its sockets.

Rows are copied before they are rendered, so that state that a serializer leaves on one copy does
not appear in another text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from django.db.models import Model, QuerySet

from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.keys import key_of
from rest_channels.live.table_names import noting
from rest_channels.live.visibility.audiences import Audience, Texts, TooFarReaching, show
from rest_channels.live.visibility.evaluation import Evaluation, owner_of
from rest_channels.live.visibility.row_loader import read_again
from rest_channels.live.visibility.row_names import Names
from rest_channels.live.visibility.sharing import report

# Immutable types.
_CONSTANT: Final = frozenset(
    {
        *[type(None), bool, int, float, str, bytes, Decimal, UUID],
        *[date, datetime, time, timedelta],
    }
)


class Uncopyable(TypeError):
    """A row with a value that cannot be copied for certain; the caller reads the row again."""


def copies(rows: Iterable[Any]) -> list[Any]:
    """
    Return copies of rows just read, with the related and prefetched rows that they hold.

    Objects that two rows share are shared by their copies. Raises `Uncopyable`.
    """
    known: dict[int, Any] = {}
    return [_copied(row, known) for row in rows]


def _copied(value: Any, known: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _CONSTANT or isinstance(value, Enum):
        return value
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, Model):
        return _copied_row(value, known)
    if isinstance(value, QuerySet):
        return _copied_queryset(value, known)
    if kind is list:
        twin = known[id(value)] = []
        twin.extend(_copied(item, known) for item in value)
        return twin
    if kind is dict:
        twins = known[id(value)] = {}
        twins.update((_copied(k, known), _copied(v, known)) for k, v in value.items())
        return twins
    if kind in (tuple, set, frozenset):
        return kind(_copied(item, known) for item in value)
    if kind is memoryview:
        return memoryview(bytes(value))
    raise Uncopyable(f"{kind.__qualname__} cannot be copied for certain.")


def _copied_row(row: Any, known: dict[int, Any]) -> Any:
    if any(getattr(base, "__slots__", ()) for base in type(row).__mro__):
        raise Uncopyable(f"{type(row).__qualname__} keeps values outside its __dict__.")
    twin = known[id(row)] = object.__new__(type(row))
    values = vars(row).copy()
    state = copy.copy(values.pop("_state"))
    if "fields_cache" in vars(state):
        state.fields_cache = _copied(state.fields_cache, known)
    if "peers" in vars(state):
        # Django 6.1: rows that were read together, for fetching deferred fields together.
        state.peers = ()
    twin.__dict__ = {"_state": state, **{n: _copied(value, known) for n, value in values.items()}}
    return twin


def _copied_queryset(rows: Any, known: dict[int, Any]) -> Any:
    """Return a copy of the rows of a prefetch, as a row holds them."""
    twin = known[id(rows)] = rows._chain()
    vars(twin).update(
        _result_cache=_copied(rows._result_cache, known),
        _prefetch_done=rows._prefetch_done,
        _hints=_copied(rows._hints, known),
        # By field: rows by key.
        _known_related_objects={
            field: _copied(found, known) for field, found in rows._known_related_objects.items()
        },
    )
    return twin


@dataclass
class Group:
    """Subscribers with the same `texts`, which the view of `evaluation` makes for all of them."""

    owner: Hashable
    evaluation: Evaluation
    subscriptions: list[Subscription] = field(default_factory=list)
    texts: Texts = field(default_factory=dict)
    #: Their names of the rows that were read; None until needed.
    names: dict[str, str] | None = None

    @cached_property
    def naming(self) -> Names:
        """The names that they use for rows."""
        return Names(self.evaluation)


def render(
    audience: Audience,
    evaluations: Mapping[Subscription, Evaluation],
    rows: Mapping[str, Any],
    needed_by: Callable[[Sequence[Subscription]], Collection[str] | None],
) -> tuple[list[Group], bool]:
    """
    Render the rows that subscribers need, in groups that share texts.

    `needed_by` returns the keys that a group's subscribers need, None for all of the `rows`.
    Returns the groups, and whether rendering a part of the rows read more tables than were known.
    Raises `TooFarReaching` if that reads more of the request than the subscribers of a group have
    in common.
    """
    reach = max([audience.reach, *(e.text_reach for e in evaluations.values())])
    if any(evaluation.reach < reach for evaluation in evaluations.values()):
        # A view would serve more subscribers than it was made for.
        raise TooFarReaching(audience.evaluation.family, reach)
    audience.reach = reach
    groups = _grouped(evaluations, reach)
    is_partial = reads_more = False
    for group in groups:
        needed = needed_by(group.subscriptions)
        is_partial = is_partial or needed is not None
        wanted = {k: row for k, row in rows.items() if needed is None or k in needed}
        if wanted:
            instances = list(own_rows(audience, group.evaluation, wanted).values())
            with noting() as statements:
                group.texts = show(group.evaluation, instances, is_row=audience.is_row)
            reads_more = audience.note(statements) or reads_more
            audience.has_shown = audience.has_shown or bool(group.texts)
    check_reach(audience, groups)
    if len(groups) > 1 and audience.evaluation.unproven is not None:
        report(audience.evaluation.view, audience.evaluation.unproven)
    return groups, is_partial and reads_more


def _grouped(evaluations: Mapping[Subscription, Evaluation], reach: int) -> list[Group]:
    groups: dict[Hashable, Group] = {}
    for subscription, evaluation in evaluations.items():
        owner = owner_of(subscription.topic, reach)
        group = groups.get(owner)
        if group is None:
            group = groups[owner] = Group(owner, evaluation)
        elif evaluation.number > group.evaluation.number:
            group.evaluation = evaluation
        group.subscriptions.append(subscription)
    return list(groups.values())


def check_reach(audience: Audience, groups: Sequence[Group]) -> None:
    """Raise `TooFarReaching` if a text was made that is not the same for all of a group."""
    for group in groups:
        if group.evaluation.needs > audience.reach:
            raise TooFarReaching(group.evaluation.family, group.evaluation.needs)


def own_rows(
    audience: Audience, evaluation: Evaluation, rows: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return `rows` as read, for code that may change them: as copies, or read again."""
    if evaluation.unproven is None:
        return rows
    try:
        return dict(zip(rows, copies(rows.values()), strict=True))
    except (Uncopyable, RecursionError):
        found = read_again(audience, evaluation, rows)
        again = {key_of(audience.model, row.pk) or "": row for row in reversed(found)}
        return {key: again[key] for key in rows}
