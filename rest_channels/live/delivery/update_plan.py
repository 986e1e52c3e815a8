"""The plan of a pass for an audience, and the part of the log that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.log.positions import Position
from rest_channels.live.log.replay import History
from rest_channels.live.visibility.audiences import ModelChanges
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.live.visibility.windows import Order
from rest_channels.protocol import MISSING


@dataclass(eq=False)
class Join:
    """
    A subscriber that joins an audience.

    `held` are the rows that one from another audience holds, and `names` its names of these rows;
    `held` is None for a new subscription.
    """

    subscription: Subscription
    evaluation: Evaluation
    identity: Any
    held: Mapping[str, int | None] | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_new(self) -> bool:
        return self.held is None

    @property
    def resumes(self) -> bool:
        return self.is_new and self.subscription.options.since is not MISSING

    @property
    def needs_all(self) -> bool:
        return not self.is_new or self.subscription.options.snapshot


@dataclass
class UpdatePlan:
    """
    The plan of a pass for one audience.

    `keys` are the rows whose changes its subscribers receive, None for all; `arrivals` join. If one
    of them needs all rows, the pass `reads_all`.

    In a window, other rows than those of `keys` may have moved: if the plan `reads_order`, or has
    keys, the pass reads the `order` that its rows have now. If nothing but rows that clients are
    `lacking` is needed, these are read instead of all.
    """

    keys: set[str] | None = field(default_factory=set)
    arrivals: list[Join] = field(default_factory=list)
    reads_all: bool = False
    reads_order: bool = False
    order: Order | None = None
    lacking: set[str] | None = None

    @property
    def tells(self) -> bool:
        """Whether existing subscribers may receive an event."""
        return self.keys is None or bool(self.keys) or self.reads_order

    @property
    def wanted(self) -> set[str] | None:
        """The keys of the rows to read, None for all."""
        if self.lacking is not None:
            return self.lacking
        return None if self.reads_all else self.keys


@dataclass(frozen=True)
class LogWindow:
    """
    The part of the log that a pass reads, up to `target`.

    The rows may already show `pending` changes, which are not in the log; there may be more of
    those than were read.
    """

    target: Position
    history: History
    changes: Mapping[str, ModelChanges]
    pending: Mapping[str, ModelChanges]
    marks: Mapping[int, int]
    has_more_pending: bool = False


@dataclass(frozen=True)
class MissedChanges:
    """
    The changes to a topic's rows since `place`.

    They concern the rows of `keys`, None for all; `own` has the changes of the topic's own table by
    key.
    """

    place: Position
    keys: set[str] | None
    own: Mapping[str, Sequence[Any]]
