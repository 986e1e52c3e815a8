"""
What is subscribed to: a collection or a row of a stream, as one frame asked for it.

The request half makes a `Subscribe` and knows nothing of what becomes of it; the live half calls
`Topic.review` and knows nothing of frames and DRF's dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rest_framework.exceptions import ValidationError

from rest_channels.protocol import MISSING, Missing

if TYPE_CHECKING:
    from rest_framework.generics import GenericAPIView

    from rest_channels.authentication import Credentials


@dataclass(frozen=True, slots=True)
class Review:
    """
    What DRF says of a subscription now.

    `view` is the viewset instance behind `queryset`, everything on it that this subscriber may
    see, and `serializer_class`, which shows it; all None where `status`, an error of the 400s,
    says that there is nothing to see. `reads` is what of the request decided it.
    """

    status: int
    view: GenericAPIView | None = None
    queryset: Any = None
    serializer_class: Any = None
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False, slots=True)
class Topic:
    """
    A collection, or a row.

    `review`, in a worker thread, has DRF judge anew. `place` is all that the answer may depend on
    beside who asks: viewset, action, path, query, host, language, form. `name` is the same text
    for the same topic in every process, `row` the lookup of a row's, `alias` the database.
    `credentials` tell who asks, unless the frame `has_own_credentials`; `circumstances` are what
    authentication may have looked at beside them.
    """

    review: Callable[[], Review]
    place: Hashable
    name: str
    row: str | None
    alias: str
    credentials: Credentials
    has_own_credentials: bool = False
    circumstances: Hashable = None

    @property
    def is_row(self) -> bool:
        return self.row is not None

    @property
    def identity(self) -> Hashable:
        """Equal for subscribers whom DRF takes for the same user; see `Credentials.identity`."""
        if self.has_own_credentials:
            return self
        return self.credentials.identity, self.circumstances


#: The keys of a frame by which a subscription begins; see `Options`.
OPTION_KEYS: Final = frozenset({"snapshot", "since", "held", "credit"})


@dataclass(frozen=True, slots=True)
class Options:
    """
    How a subscription begins. `since` is a position's token, MISSING where none is given;
    `held` maps the keys of rows the client says it holds, as text, to what it called them;
    `credit` is how many events it takes before it has acknowledged any, None where it does not say.
    """

    snapshot: bool = False
    since: Any = MISSING
    held: Mapping[str, Any] | None = None
    credit: int | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """What an action returns that subscribes: in its response, for the connection to act on."""

    alias: str
    options: Options = field(default_factory=Options)
    is_row: bool = False

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any], alias: str, *, is_row: bool) -> Subscribe:
        """Read a frame's keys. Raises DRF's `ValidationError`."""
        snapshot = keys.get("snapshot", False)
        if not isinstance(snapshot, bool):
            raise ValidationError({"snapshot": ["Must be true or false."]})
        return cls(
            alias,
            Options(
                snapshot=snapshot,
                # Whatever it is: what is no position leads to a reset.
                since=MISSING if keys.get("since") is None else keys["since"],
                held=_held(keys.get("held")),
                credit=_credit(keys.get("credit")),
            ),
            is_row,
        )


def _held(value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, Missing):
        return None
    if not isinstance(value, list) or not all(
        isinstance(key, (str, int)) and not isinstance(key, bool) for key in value
    ):
        raise ValidationError({"held": ["Must be a list of primary keys."]})
    return {str(key): key for key in value}


def _credit(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValidationError({"credit": ["Must be a positive integer."]})
    return value
