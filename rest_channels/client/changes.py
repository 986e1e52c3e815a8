"""Single changes of a live list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from rest_channels.client.incoming import Key
from rest_channels.protocol import MISSING

R = TypeVar("R")


@dataclass(frozen=True)
class Reset(Generic[R]):
    """All rows, in order, instead of those before."""

    rows: tuple[R, ...]
    type: Literal["reset"] = "reset"


@dataclass(frozen=True)
class Put(Generic[R]):
    """
    A row that is new or has changed.

    It goes behind the row with the key `after`, to the front for None, and stays in its place if
    `after` is `MISSING`.
    """

    type: Literal["create", "update"]
    key: Key
    row: R
    after: Any = MISSING


@dataclass(frozen=True)
class Delete:
    """A row that is gone: deleted, hidden, or outside of the window."""

    key: Key
    type: Literal["delete"] = "delete"


Change = Reset[R] | Put[R] | Delete
