"""
The state that passes keep, and the findings of one pass.

A pass changes the state at its end, completely or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.update_plan import LogWindow, UpdatePlan
from rest_channels.live.delivery.updates import Sending
from rest_channels.live.log.positions import Position
from rest_channels.live.topics import CANNOT_SUBSCRIBE
from rest_channels.live.visibility.audiences import ModelChanges, TooFarReaching
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.live.visibility.evaluations import AskAgain, Evaluations
from rest_channels.live.visibility.learned import Learned
from rest_channels.protocol import Reply

#: The subscribers of an audience, with DRF's answer for each.
Known = dict[Subscription, Evaluation]

#: Keys of rows to read, by audience; None stands for all rows.
Wanted = Mapping[SubscribedAudience, set[str] | None]


class ProjectError(Exception):
    """
    An exception of the project's code, its cause, that concerns these subscribers.

    No event of the pass was sent.
    """

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        super().__init__()
        self.subscriptions = subscriptions


class ReadingError(Exception):
    """An error while rows of many audiences were read together; it does not say whose."""


@dataclass(frozen=True, slots=True)
class Seen:
    """
    The part of the log that a pass has read: the `changes` up to `place`, by model.

    If it is not `is_continuous`, changes before `place` may be missing: it is the first pass, or
    the log was pruned or replaced.
    """

    place: Position
    changes: Mapping[str, ModelChanges]
    is_continuous: bool


@dataclass
class Outcome:
    """
    The outcome of a pass.

    `seen` is what it has read of the log, None if it has failed. `sendings` are calls that send,
    for the loop, in order, in iterables of one or many. `postponed` subscriptions join in the next
    pass, and so do `waiting` cohorts; `unasked` subscriptions of these are asked then. `has_more`
    says that the log goes on, `refresh_at` when rows must be read again (monotonic seconds).
    `covers_commits` says whether it has read all changes that were committed when it began: they
    had numbers, and the log did not go on. `seconds` are what the pass took for each audience, and
    `spent` what it took to evaluate new subscriptions.
    """

    seen: Seen | None = None
    sendings: list[Iterable[Sending]] = field(default_factory=list)
    postponed: list[Subscription] = field(default_factory=list)
    waiting: list[Cohort] = field(default_factory=list)
    unasked: list[Subscription] = field(default_factory=list)
    has_more: bool = False
    refresh_at: float | None = None
    covers_commits: bool = False
    seconds: dict[SubscribedAudience, float] = field(default_factory=dict)
    spent: dict[Subscription, float] = field(default_factory=dict)


@dataclass
class State:
    """
    The state of one database's subscriptions: the position reached in the log, and the audiences.

    A pass changes it at its end, completely or not at all. Meanwhile the loop only ends
    subscriptions.
    """

    alias: str
    place: Position | None = None
    audiences: dict[Any, SubscribedAudience] = field(default_factory=dict)
    learned: Learned = field(default_factory=Learned)
    evaluations: Evaluations = field(init=False)
    #: Audiences of which `audiences` has another with the same key; see `uniting`.
    twins: list[SubscribedAudience] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.evaluations = Evaluations(self.alias, self.learned)

    @property
    def due_at(self) -> float | None:
        """When rows must be read again (monotonic seconds)."""
        times = ((a.refresh_at, a.expires_at) for a in self.audiences.values())
        return min((at for pair in times for at in pair if at is not None), default=None)

    def take_in(self, audiences: Iterable[SubscribedAudience]) -> None:
        """Add audiences that are where these are."""
        for audience in audiences:
            if not audience.subscriptions:
                continue
            if self.audiences.setdefault(audience.key, audience) is not audience:
                self.audiences[audience.key, id(audience)] = audience
                self.twins.append(audience)

    def give_up(self, audiences: Collection[SubscribedAudience]) -> None:
        """Remove audiences, with the answers that they rely on, for another track."""
        given = set(audiences)
        for key in [key for key, audience in self.audiences.items() if audience in given]:
            del self.audiences[key]
        self.twins = [twin for twin in self.twins if twin not in given]
        self.evaluations.release({e for audience in given for e in audience.evaluations})


@dataclass(frozen=True, eq=False)
class Cohort:
    """Audiences that move to another track, and the position that they have reached."""

    place: Position
    audiences: list[SubscribedAudience]


@dataclass
class Draft:
    """
    The findings of one pass so far, over one `window` of the log.

    `work` are the plans of audiences, `new` the audiences that begin with this pass, `left` the
    subscribers who leave theirs, and `judged` the answers that subscribers rely on from now on.
    `commits` change the state at the end of the pass. `windows` are those of audiences in cohorts,
    which begin elsewhere in the log.
    """

    state: State
    window: LogWindow
    outcome: Outcome
    work: dict[SubscribedAudience, UpdatePlan] = field(default_factory=dict)
    new: dict[Any, SubscribedAudience] = field(default_factory=dict)
    left: set[Subscription] = field(default_factory=set)
    judged: dict[Subscription, Evaluation] = field(default_factory=dict)
    commits: list[Callable[[], None]] = field(default_factory=list)
    windows: dict[SubscribedAudience, LogWindow] = field(default_factory=dict)

    def audiences(self) -> list[SubscribedAudience]:
        """Return the audiences that this pass may tell, with those of cohorts."""
        return [*self.state.audiences.values(), *self.windows]

    def window_of(self, audience: SubscribedAudience) -> LogWindow:
        """Return the part of the log that an audience does not reflect yet."""
        return self.windows.get(audience, self.window)

    @contextmanager
    def timed(self, audience: SubscribedAudience) -> Iterator[None]:
        """Count the time within for `audience`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.took(audience, time.perf_counter() - began)

    def took(self, audience: SubscribedAudience, seconds: float) -> None:
        """Count `seconds` for `audience`."""
        known = self.outcome.seconds
        known[audience] = known.get(audience, 0.0) + seconds

    def leave(self, subscription: Subscription, audience: SubscribedAudience) -> None:
        """Let `subscription` leave `audience` at the end of the pass."""
        self.left.add(subscription)
        self.commits.append(partial(audience.subscriptions.discard, subscription))

    def refuse(self, subscription: Subscription, evaluation: Evaluation) -> None:
        """Refuse a new subscription, because of DRF's answer."""
        detail = "You do not have permission to perform this action."
        refusal = Reply.error(403, detail, "permission_denied")
        if evaluation.refusal:
            refusal = _unrestorable()
        self.outcome.sendings.append([partial(subscription.refuse, refusal)])

    def end(self, subscription: Subscription, evaluation: Evaluation) -> None:
        """End a subscription, because of DRF's answer."""
        sending: Sending = subscription.revoke
        if evaluation.refusal:
            sending = partial(subscription.give_up, _unrestorable())
        self.outcome.sendings.append([sending])


def _unrestorable() -> Reply:
    detail = (
        "These rows depend on state of a database connection that cannot be restored for a "
        "subscription: filter by it in get_queryset(), or set live = False on the viewset. The "
        "server's log names the state."
    )
    return Reply.error(400, detail, CANNOT_SUBSCRIBE)


@contextmanager
def blaming(subscriptions: Iterable[Subscription]) -> Iterator[None]:
    """Attribute errors of the project's code to these subscriptions alone."""
    try:
        yield
    except (TooFarReaching, AskAgain):
        raise
    except Exception as exc:
        raise ProjectError(list(subscriptions)) from exc
