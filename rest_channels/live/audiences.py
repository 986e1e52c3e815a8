"""
Subscribers who may share one query, one serialization and one encoded text.

All of it in the thread of a pass (`rest_channels.live.passes`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from rest_framework.exceptions import APIException
from rest_framework.permissions import BasePermission
from rest_framework.views import APIView

from rest_channels.counters import counters
from rest_channels.live.capture import key_of, label_of
from rest_channels.live.dependencies import dependencies
from rest_channels.live.equalities import equalities
from rest_channels.live.evaluations import EVERYBODY, ONE_SOCKET, Evaluation, reach_of
from rest_channels.live.log import Entry, Kind, Note
from rest_channels.live.watch import WatchedRequest, reading
from rest_channels.response import rendered

if TYPE_CHECKING:
    from rest_channels.live.subscriptions import Subscription


#: Keys that one statement asks for; it has other parameters, too, and old SQLites take 999.
MAX_KEYS: Final = 500

#: Rows as somebody sees them, in their order: JSON texts by key.
Texts = dict[str, str]


@dataclass(slots=True)
class Changes:
    """
    What happened to the rows of one model: the entries of each key; `whole` where any may be.
    `referring` remembers which rows refer to those, by model and lookup.
    """

    of_key: dict[str, list[Any]] = field(default_factory=dict)
    whole: bool = False
    referring: dict[tuple[Any, str], set[str]] = field(default_factory=dict)

    @classmethod
    def by_label(cls, entries: Iterable[Entry | Note]) -> dict[str, Changes]:
        found: dict[str, Changes] = {}
        for entry in entries:
            changes = found.setdefault(entry.model, cls())
            if entry.key is None:
                changes.whole = True
            else:
                changes.of_key.setdefault(entry.key, []).append(entry)
        return found

    @property
    def written(self) -> list[str]:
        """Keys of rows that others may refer to: one just created nobody refers to yet."""
        return [
            key
            for key, entries in self.of_key.items()
            if any(entry.kind != Kind.CREATE for entry in entries)
        ]


class Audience:
    """
    `members` are the keys of the rows that each of `subscriptions` holds, as far as the server
    knows, with the hash of the text that all of them were sent, None where there is none.
    `evaluation` is one subscriber's, whose queryset stands for all; `reach` says to whom the text
    of a row may be given that was made for one of them.
    """

    def __init__(self, key: Hashable, evaluation: Evaluation, *, is_row: bool) -> None:
        self.key = key
        self.is_row = is_row
        self.evaluation = evaluation
        self.model: Any = evaluation.queryset.model
        self.label = label_of(self.model)
        self.depends_on = dependencies(evaluation.queryset)
        #: Those who read the same tables are concerned by the same changes.
        self.tables = self.label, frozenset(self.depends_on)
        asked = equalities(evaluation.queryset)
        #: Columns of the row's own table, and what they have to be equal to.
        self.asked = tuple(asked), tuple(asked.values())
        self.reach = EVERYBODY
        self.has_shown = False
        self.members: dict[str, int | None] = {}
        self.is_populated = False
        self.subscriptions: set[Subscription] = set()
        # When rows have to be read again because of a related table (monotonic seconds).
        self.refresh_at: float | None = None

    def __repr__(self) -> str:
        return f"<Audience of {len(self.subscriptions)} for {self.label}>"

    @property
    def is_shared(self) -> bool:
        """Whether the text of a row is known to be the same for all."""
        return self.has_shown and self.reach == EVERYBODY

    def is_concerned(self, changes: Mapping[str, Changes]) -> bool:
        """Whether it reads a table that was written to."""
        return self.label in changes or not self.depends_on.keys().isdisjoint(changes)

    def own_keys(self, changes: Mapping[str, Changes]) -> Set[str] | None:
        """
        Keys of the rows that were written to, where nothing else concerns it: a view, to be
        asked by many. None where more was written to than single rows of its own.
        """
        if not self.depends_on.keys().isdisjoint(changes):
            return None
        own = changes.get(self.label)
        if own is None:
            return frozenset()
        return None if own.whole else own.of_key.keys()

    def concerned_keys(self, changes: Mapping[str, Changes]) -> set[str] | None:
        """
        Keys of rows that may look different now, or be seen or not; None for all of them. One
        query for each related table that was written to, for all audiences of one model.
        """
        own = changes.get(self.label, Changes())
        if own.whole:
            return None
        keys = set(own.of_key)
        for label, paths in self.depends_on.items():
            related = changes.get(label)
            if related is None:
                continue
            if paths is None or related.whole:
                return None
            for path in paths:
                keys |= self._referring(path, related)
        return keys

    def _referring(self, path: str, related: Changes) -> set[str]:
        if (self.model, path) not in related.referring:
            related.referring[self.model, path] = self._read_referring(path, related.written)
        return related.referring[self.model, path]

    def _read_referring(self, path: str, keys: list[str]) -> set[str]:
        rows = self.model._base_manager.using(self.evaluation.queryset.db)
        referring: set[str] = set()
        for part in in_parts(keys):
            found = rows.filter(**{f"{path}__pk__in": part}).values_list("pk", flat=True)
            referring |= {key for pk in found if (key := key_of(self.model, pk)) is not None}
        return referring

    def removal(self, key: str) -> str:
        """The data of a `delete`: the primary key as JSON, or what a client took for one."""
        try:
            pk = self.model._meta.pk.to_python(key)
        except ValidationError:
            pk = key
        return f'{{"pk": {rendered(self.evaluation.view, pk)}}}'


def in_parts(keys: Iterable[str]) -> Iterator[list[str]]:
    """`keys` in their order, as many as one statement may ask for at a time."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), MAX_KEYS):
        yield ordered[start : start + MAX_KEYS]


def show(evaluation: Evaluation, instances: list[Any], *, is_row: bool) -> tuple[Texts, int]:
    """
    Rows as the subscriber of `evaluation` sees them, less those that an object permission hides;
    and to whom that may be given as well.
    """
    request = evaluation.view.request
    if evaluation.has_own_state or not isinstance(request, WatchedRequest):
        return evaluation.run(_texts, evaluation, instances, is_row), ONE_SOCKET
    with reading(request) as reads:
        texts = evaluation.run(_texts, evaluation, instances, is_row)
    return texts, reach_of(reads)


def _texts(evaluation: Evaluation, instances: list[Any], is_row: bool) -> Texts:
    view = evaluation.view
    if is_row:
        seen = [instance for instance in instances if _may_see(view, instance)]
        data = [view.get_serializer(instance).data for instance in seen]
    else:
        seen = instances
        data = view.get_serializer(seen, many=True).data if seen else []
    counters.encodes += len(data)
    if len(data) != len(seen):
        raise ImproperlyConfigured(
            f"{evaluation.serializer_class.__name__} with many=True gave {len(data)} items for "
            f"{len(seen)} rows: set live = False on {type(view).__name__}."
        )
    keys = [key_of(type(instance), instance.pk) or "" for instance in seen]
    return {key: rendered(view, item) for key, item in zip(keys, data, strict=True)}


def _may_see(view: Any, instance: Any) -> bool:
    try:
        view.check_object_permissions(view.request, instance)
    except (APIException, DjangoPermissionDenied, Http404):
        return False
    return True


def judges_rows(view: Any) -> bool:
    """Whether `view` itself, or any permission of it, looks at single rows."""
    return type(view).check_object_permissions is not APIView.check_object_permissions or any(
        getattr(type(permission), "has_object_permission", None)
        is not BasePermission.has_object_permission
        for permission in view.get_permissions()
    )
