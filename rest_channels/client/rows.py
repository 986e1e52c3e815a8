"""Rows in the server's order, by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rest_channels.client.incoming import Key
from rest_channels.protocol import MISSING


class Rows:
    """The rows of a list; `key_of` returns the key of one. Rows are never changed in place."""

    def __init__(self, key_of: Callable[[Any], Key]) -> None:
        self._key_of = key_of
        self._by_key: dict[Key, Any] = {}
        self._keys: list[Key] = []
        self._list: tuple[Any, ...] | None = ()

    @property
    def by_key(self) -> Mapping[Key, Any]:
        return self._by_key

    @property
    def keys(self) -> list[Key]:
        """The keys in the order of the rows, in a list of the caller's own."""
        return [*self._keys]

    @property
    def list(self) -> tuple[Any, ...]:
        """The rows in order: the same tuple until something changes."""
        if self._list is None:
            self._list = tuple(map(self._by_key.__getitem__, self._keys))
        return self._list

    def replace(self, rows: Iterable[Any]) -> None:
        self._by_key = {self._key_of(row): row for row in rows}
        self._keys = [*self._by_key]
        self._list = None

    def put(self, key: Key, row: Any, after: Any = MISSING) -> None:
        """
        Insert or change a row.

        It goes behind the row `after`, to the front for None; without `after` it stays where it is,
        or goes to the end.
        """
        is_new = key not in self._by_key
        self._by_key[key] = row
        self._list = None
        if not is_new and after is MISSING:
            return
        if not is_new:
            self._keys.remove(key)
        self._keys.insert(self._place_behind(after), key)

    def delete(self, key: Key) -> None:
        if self._by_key.pop(key, MISSING) is MISSING:
            return
        self._keys.remove(key)
        self._list = None

    def _place_behind(self, after: Any) -> int:
        # Most new rows go to the end: look there first.
        if after is MISSING or (self._keys and self._keys[-1] == after):
            return len(self._keys)
        return self._keys.index(after) + 1 if after in self._by_key else 0
