"""
Audiences: subscribers who can share one query, one serialization and one encoded text.

All of it runs in the thread of a pass (`rest_channels.live.delivery.refresh`).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import connections
from django.db.models import QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.http import Http404
from rest_framework.exceptions import APIException

from rest_channels.live.catalogue import sources, warn
from rest_channels.live.interface import Topic, Window
from rest_channels.live.keys import key_of, kin_of, pk_of, shares_keys
from rest_channels.live.log.store import Change, Kind, PendingChange
from rest_channels.live.model_tables import label_of
from rest_channels.live.table_names import Name, Statement, names_in
from rest_channels.live.visibility import declarations
from rest_channels.live.visibility.dependencies import dependencies, field_at, is_enforced
from rest_channels.live.visibility.evaluation import EVERYBODY, Evaluation, owner_of
from rest_channels.live.visibility.filter_index import Asked, asked_of
from rest_channels.live.visibility.query_shapes import is_read_whole
from rest_channels.live.visibility.row_names import Names, are_of_keys, lookup_of
from rest_channels.live.visibility.window_edges import columns_of
from rest_channels.metrics import figures
from rest_channels.sockets.response import rendered

#: The most keys in one statement. It has other parameters, too, and old SQLites take 999.
MAX_KEYS: Final = 500

#: Rows as one subscriber sees them, in their order: JSON texts by key.
Texts = dict[str, str]


@dataclass(slots=True)
class ModelChanges:
    """
    The changes to the rows of one model in a part of the log.

    `of_key` has the changes of each key; `whole` says that any row may have changed. `referring`
    caches the rows that refer to the changed ones, by model and lookup.
    """

    of_key: dict[str, list[Any]] = field(default_factory=dict)
    whole: bool = False
    referring: dict[tuple[Any, str], set[str]] = field(default_factory=dict)

    @classmethod
    def by_label(cls, entries: Iterable[Change | PendingChange]) -> dict[str, ModelChanges]:
        found: dict[str, ModelChanges] = {}
        for entry in entries:
            changes = found.setdefault(entry.model, cls())
            if entry.key is None:
                changes.whole = True
            else:
                changes.of_key.setdefault(entry.key, []).append(entry)
        return found

    def joined(self, later: ModelChanges) -> ModelChanges:
        """Return these changes and `later` ones."""
        of_key = {key: list(entries) for key, entries in self.of_key.items()}
        for key, entries in later.of_key.items():
            of_key.setdefault(key, []).extend(entries)
        return ModelChanges(of_key, self.whole or later.whole)

    @property
    def old(self) -> list[str]:
        """The keys of rows that existed before, so that other rows may refer to them."""
        return [
            key
            for key, entries in self.of_key.items()
            if any(entry.kind != Kind.CREATE for entry in entries)
        ]


class TooFarReaching(Exception):
    """
    An error: answers of `family` serve subscribers who need different texts.

    The pass then narrows the family to `reach` and starts again.
    """

    def __init__(self, family: Any, reach: int) -> None:
        super().__init__()
        self.family = family
        self.reach = reach


class Audience:
    """
    Subscribers whose rows one query reads, and the rows they hold.

    `members` are the keys of the rows that each subscriber holds, as far as the server knows, with
    the hash of the text that all of them received, or None if they did not share one. `own` has the
    hashes of texts that not all of them share, by owner. `evaluation` is the answer of one
    subscriber, whose queryset serves all; `reach` says with whom a row's text made for one of them
    can be shared. If they follow a `window`, `members` are in its order.
    """

    def __init__(
        self,
        key: Hashable,
        evaluation: Evaluation,
        *,
        is_row: bool,
        window: Window | None = None,
    ) -> None:
        self.key = key
        self.is_row = is_row
        self.window = window
        self.evaluation = evaluation
        self.model: Any = evaluation.queryset.model
        self.label = label_of(self.model)
        self.depends_on = dependencies(evaluation.queryset)
        self._take_lookup()
        #: Whether its rows depend on one another, so that they are read and compared together.
        self.is_whole = is_read_whole(evaluation.queryset, evaluation.serializer_class)
        #: Other tables that hold part of its rows, under the same keys.
        self.kin = self._take_kin()
        self._shares_keys = shares_keys(self.model)
        self._noted: set[tuple[str, Name]] = set()
        self._depend_on(self._read_by_queryset() | declarations.labels(evaluation.view))
        # When rows are read again even without a change (monotonic seconds).
        self.expires_at: float | None = None
        self.is_bound = evaluation.is_bound
        # In a subscriber's own state, the database may show other rows than here.
        is_compared = not (self.is_whole or self.is_bound)
        #: Columns of the row's own table, and the values they must equal.
        self.asked: Asked = asked_of(evaluation.queryset) if is_compared else ((), ())
        is_edged = is_compared and window is not None
        #: The columns of a window's order, and their values in its last row; see `window_edges`.
        self.columns = columns_of(evaluation.queryset) if is_edged else None
        self.edge: tuple[Any, ...] | None = None
        self.reach = evaluation.text_reach
        self.has_shown = False
        self.members: dict[str, int | None] = {}
        self.own: dict[Hashable, dict[str, int]] = {}
        #: By owner, the name of each row in a `delete`, if the key is not enough to make it.
        self.names: dict[Hashable, dict[str, str]] = {}
        self.keeps_names = window is not None or not are_of_keys(evaluation)
        self.is_populated = False
        # When rows must be read again because of a related table (monotonic seconds).
        self.refresh_at: float | None = None

    def names_for(self, other: Audience, topic: Topic, evaluation: Evaluation) -> dict[str, str]:
        """
        Return the names by which a subscriber to `topic` knows the rows it holds.

        They come from the answer that the subscriber relied on, in case `other` names rows
        otherwise.
        """
        made_by, made_by_other = self.evaluation, other.evaluation
        if self.keeps_names or made_by.serializer_class is made_by_other.serializer_class:
            return dict(self.names.get(owner_of(topic, self.reach), {}))
        names = Names(evaluation)
        return {key: names.of_key(key) for key in self.members}

    def _take_lookup(self) -> None:
        """Depend on the tables that give rows their names, if those are not their own table."""
        lookup = lookup_of(self.evaluation)
        if lookup is not None and LOOKUP_SEP in lookup:
            rows = QuerySet(self.model).filter(**{f"{lookup}__isnull": False})
            for label, paths in dependencies(rows).items():
                known = self.depends_on.setdefault(label, paths)
                if known is not None:
                    self.depends_on[label] = None if paths is None else known | paths

    def _take_kin(self) -> frozenset[str]:
        kin = kin_of(self.model)
        for label, has_same_key in kin.items():
            # A part under another key may concern any row.
            if has_same_key:
                self.depends_on.pop(label, None)
            else:
                self.depends_on.setdefault(label, None)
        return frozenset(label for label, has_same_key in kin.items() if has_same_key)

    def note(self, statements: Iterable[Statement]) -> bool:
        """
        Depend on the tables that `statements` have read while rows were read or shown.

        A change of any row there concerns the audience. Returns whether that adds a table.
        """
        names = {(s.alias, name) for s in statements for name in names_in(s.sql)}
        if names <= self._noted:
            return False
        self._noted |= names
        return self._depend_on(self._sources(statements))

    def _read_by_queryset(self) -> set[str]:
        """Return the tables that its own statement reads and of which any row may matter."""
        main = Statement(self.evaluation.queryset.db, self.evaluation.sql)
        labels = self._sources([main])
        return labels if self.is_whole else labels - {self.label, *self.kin, *self.depends_on}

    def _sources(self, statements: Iterable[Statement]) -> set[str]:
        found = sources(self.evaluation.queryset.db, statements)
        if found.unseen and not declarations.has_any(self.evaluation.view):
            warn(self.evaluation.view, found.unseen)
        return found.labels

    def _depend_on(self, labels: Iterable[str]) -> bool:
        more = [label for label in labels if self.depends_on.get(label, ()) is not None]
        self.depends_on.update(dict.fromkeys(more))
        #: The same changes concern all audiences that read the same tables.
        self.tables = (
            *(self.label, frozenset(self.depends_on), self.kin),
            *(self._shares_keys, self.is_whole),
        )
        return bool(more)

    def absorb(self, other: Audience) -> None:
        """Take over what is known of `other`, which has the same key and holds the same rows."""
        # In place: a copy for each of many new subscribers would cost as much as all of them.
        self.own.update(other.own)
        self.names.update(other.names)
        self.has_shown = self.has_shown or other.has_shown
        times = [at for at in (self.expires_at, other.expires_at) if at is not None]
        self.expires_at = min(times, default=None)
        self._noted |= other._noted
        self._depend_on(label for label, paths in other.depends_on.items() if paths is None)

    def renew(self, now: float) -> None:
        """Set the time until which rows that are read `now` are valid, if DRF's answer expires."""
        seconds = self.evaluation.seconds
        self.expires_at = None if seconds is None else now + seconds

    @property
    def is_known(self) -> bool:
        """Whether the rows are known, and the same for every subscriber."""
        return self.is_populated and self.reach == EVERYBODY

    @property
    def keeps_texts(self) -> bool:
        """Whether `members` has the hashes of texts, because each row has only one text."""
        return self.reach == EVERYBODY or self.is_bound

    @property
    def is_shared(self) -> bool:
        """Whether a row's text is known to be the same for all subscribers."""
        return self.has_shown and self.reach == EVERYBODY

    def is_concerned(self, changes: Mapping[str, ModelChanges]) -> bool:
        """Return whether it reads a table that was written to."""
        return self.label in changes or self._is_concerned_by_others(changes)

    def _is_concerned_by_others(self, changes: Mapping[str, ModelChanges]) -> bool:
        return not (self.depends_on.keys().isdisjoint(changes) and self.kin.isdisjoint(changes))

    def own_changes(self, changes: Mapping[str, ModelChanges]) -> ModelChanges:
        """Return the changes of its own table; of unknown rows if the log has other keys for it."""
        own = changes.get(self.label)
        if own is None:
            return ModelChanges()
        return own if self._shares_keys else ModelChanges(whole=True)

    def own_keys(self, changes: Mapping[str, ModelChanges]) -> Set[str] | None:
        """
        Return the keys of the changed rows, if nothing else concerns it; a view, shared by many.

        Returns None if more than single rows of its own table changed.
        """
        if self._is_concerned_by_others(changes):
            return None
        own = self.own_changes(changes)
        if own.whole or (self.is_whole and own.of_key):
            return None
        return own.of_key.keys()

    def concerned_keys(
        self, changes: Mapping[str, ModelChanges], among: Collection[str] | None = None
    ) -> set[str] | None:
        """
        Return the keys of rows that may look different, appear or disappear; None for all rows.

        Runs one query for each related table that was written to, for all audiences of one model.
        In a window, only the rows `among` these keys can refer to changed ones; by default the rows
        that its subscribers hold.
        """
        among = self.members if among is None else among
        parts = [self.own_changes(changes), *(changes[k] for k in self.kin if k in changes)]
        if any(part.whole for part in parts):
            return None
        if self.is_whole and self.is_concerned(changes):
            return None
        keys = {key for part in parts for key in part.of_key}
        for label, paths in self.depends_on.items():
            related = changes.get(label)
            if related is None:
                continue
            if paths is None or related.whole or self.is_bound:
                return None
            for path in paths:
                if not shares_keys(field_at(self.model, path).related_model):
                    return None
                referring = self._referring(path, related, among)
                if referring is None:
                    return None
                keys |= referring
        return keys

    def _referring(
        self, path: str, related: ModelChanges, among: Collection[str]
    ) -> set[str] | None:
        keys: Collection[str] = related.of_key if self._may_dangle(path) else related.old
        if self.window is not None:
            # Thousands of rows outside the window may refer to them.
            is_too_much = max(len(keys), len(among)) > MAX_KEYS
            return None if is_too_much else self._read_referring(path, keys, among=among)
        if (self.model, path) not in related.referring:
            related.referring[self.model, path] = self._read_referring(path, keys)
        return related.referring[self.model, path]

    def _may_dangle(self, path: str) -> bool:
        """Return whether rows may refer to a row that is only now created."""
        # On SQLite, triggers take INSERT OR REPLACE of an existing row as a creation.
        is_replaced = connections[self.evaluation.queryset.db].vendor == "sqlite"
        return is_replaced or not is_enforced(field_at(self.model, path))

    def _read_referring(
        self, path: str, keys: Iterable[str], among: Iterable[str] | None = None
    ) -> set[str]:
        # Not with a manager of the project, which may leave rows out.
        rows: QuerySet[Any] = QuerySet(self.model, using=self.evaluation.queryset.db)
        if among is not None:
            rows = rows.filter(pk__in=[pk_of(self.model, key) for key in among])
        referred = field_at(self.model, path).related_model
        referring: set[str] = set()
        for part in in_parts(keys):
            pks = [pk_of(referred, key) for key in part]
            found = rows.filter(**{f"{path}__pk__in": pks}).values_list("pk", flat=True)
            referring |= {key for pk in found if (key := key_of(self.model, pk)) is not None}
        return referring

    def held_by(self, topic: Topic) -> dict[str, int | None]:
        """
        Return the rows that a subscriber to `topic` holds: their keys, and hashes of their texts.
        """
        if self.keeps_texts:
            return dict(self.members)
        own = self.own.get(owner_of(topic, self.reach), {})
        return {key: own.get(key) for key in self.members}


def in_parts(keys: Iterable[str]) -> Iterator[list[str]]:
    """Yield `keys` in order, in lists that one statement can take."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), MAX_KEYS):
        yield ordered[start : start + MAX_KEYS]


def show(evaluation: Evaluation, instances: list[Any], *, is_row: bool) -> Texts:
    """Return rows as the subscriber of `evaluation` sees them, without those a permission hides."""
    texts: Texts = evaluation.use(_texts, evaluation, instances, is_row)
    return texts


def _texts(evaluation: Evaluation, instances: list[Any], is_row: bool) -> Texts:
    view = evaluation.view
    if is_row:
        seen = [instance for instance in instances if _may_see(view, instance)]
        data = [view.get_serializer(instance).data for instance in seen]
    else:
        seen = instances
        data = view.get_serializer(seen, many=True).data if seen else []
    figures.encodes.add(len(data))
    if len(data) != len(seen):
        raise ImproperlyConfigured(
            f"{evaluation.serializer_class.__name__} with many=True returned {len(data)} items "
            f"for {len(seen)} rows: set live = False on {type(view).__name__}."
        )
    keys = [key_of(type(instance), instance.pk) or "" for instance in seen]
    return {key: rendered(view, item) for key, item in zip(keys, data, strict=True)}


def _may_see(view: Any, instance: Any) -> bool:
    try:
        view.check_object_permissions(view.request, instance)
    except (APIException, DjangoPermissionDenied, Http404):
        return False
    return True
