"""The reading of rows in a pass, and the updates of all audiences that they concern."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from rest_channels.live.delivery.pass_state import Draft, Known, ReadingError, Wanted, blaming
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.update_plan import UpdatePlan
from rest_channels.live.delivery.updates import AudienceUpdate
from rest_channels.live.delivery.window_growth import read_less
from rest_channels.live.delivery.window_plan import read_planned
from rest_channels.live.delivery.window_update import update_of
from rest_channels.live.visibility.evaluation import Evaluation
from rest_channels.live.visibility.evaluations import AskAgain
from rest_channels.live.visibility.surroundings import around


class Telling:
    """
    The part of a pass that reads rows and computes events.

    If it `reads_apart`, it reads the rows of one audience at a time, to find the cause of an error.
    """

    def __init__(self, draft: Draft, *, reads_apart: bool = False) -> None:
        self.draft = draft
        self._reads_apart = reads_apart

    def tell_all(self) -> None:
        """Compute the updates of all audiences of the draft."""
        known = {audience: self._known(audience) for audience in self.draft.work}
        wanted = {
            audience: work.wanted
            for audience, work in self.draft.work.items()
            if work.arrivals or known[audience]
        }
        bound = {audience: wanted.pop(audience) for audience in list(wanted) if audience.is_bound}
        self._tell_together(wanted, known)
        for audience in bound:
            self._tell_within(audience, known[audience])

    def _tell_together(self, wanted: Wanted, known: Mapping[SubscribedAudience, Known]) -> None:
        if self._reads_apart:
            for audience, keys in wanted.items():
                self._tell_watched({audience: keys}, known)
        elif wanted:
            self._tell_watched(wanted, known)

    def _tell_watched(self, wanted: Wanted, known: Mapping[SubscribedAudience, Known]) -> None:
        """
        Update audiences; if that leaves state, start again, because others would be read in it.
        """
        with around(self.draft.state.alias) as surroundings:
            began = time.perf_counter()
            for audience, rows in self._read_rows(wanted, known):
                work = self.draft.work[audience]
                window = self.draft.window_of(audience)
                telling = update_of(audience, work, known[audience], rows, window)
                with blaming(_concerned(work, known[audience])):
                    telling.run()
                self._take(telling)
                # With the time of its query, or of the one that reads several audiences together.
                now = time.perf_counter()
                self.draft.took(audience, now - began)
                began = now
            if not surroundings.has_changed:
                return
            if not self._reads_apart:
                raise ReadingError
            (audience,) = wanted
            cause = surroundings.trace().cause
            self.draft.state.evaluations.bind(audience.evaluation.family, cause)
            raise AskAgain

    def _tell_within(self, audience: SubscribedAudience, known: Known) -> None:
        """Update the one subscriber of an audience whose rows are read in a state of its own."""
        work = self.draft.work[audience]
        (subscription,) = concerned = _concerned(work, known)
        with blaming(concerned), self.draft.timed(audience):
            evaluation = self.draft.state.evaluations.within(
                subscription.topic, partial(self._told_within, audience, subscription, known)
            )
        if evaluation.is_allowed:
            self._take(evaluation.result)
        elif subscription in known:
            self.draft.leave(subscription, audience)
            self.draft.end(subscription, evaluation)
        else:
            self.draft.refuse(subscription, evaluation)

    def _told_within(
        self,
        audience: SubscribedAudience,
        subscription: Subscription,
        known: Known,
        evaluation: Evaluation,
    ) -> AudienceUpdate:
        work, identity = self.draft.work[audience], subscription.topic.identity
        if evaluation.key != audience.evaluation.key:
            # Another state than before, or another queryset.
            work.keys, work.reads_all = None, True
        audience.evaluation = evaluation
        for arrival in work.arrivals:
            arrival.evaluation = evaluation
        subscription.bind(evaluation.state)
        ((_, rows),) = read_planned({audience: work})
        window = self.draft.window_of(audience)
        telling = update_of(audience, work, dict.fromkeys(known, evaluation), rows, window)
        telling.run()
        if subscription in known:
            telling.commits.append(partial(subscription.judge, evaluation, identity))
        return telling

    def _take(self, telling: AudienceUpdate) -> None:
        self.draft.outcome.sendings += telling.sendings
        self.draft.commits += telling.commits

    def _read_rows(
        self, wanted: Wanted, known: Mapping[SubscribedAudience, Known]
    ) -> Iterable[tuple[SubscribedAudience, list[Any]]]:
        if self._reads_apart:
            for audience in wanted:
                with blaming(_concerned(self.draft.work[audience], known[audience])):
                    ((_, rows),) = self._planned([audience])
                yield audience, rows
            return
        found = self._planned(wanted)
        while True:
            try:
                one = next(found, None)
            except Exception as exc:
                # The transaction may be unusable now.
                raise ReadingError from exc
            if one is None:
                return
            yield one

    def _planned(
        self, audiences: Iterable[SubscribedAudience]
    ) -> Iterator[tuple[SubscribedAudience, list[Any]]]:
        work = {audience: self.draft.work[audience] for audience in audiences}
        for audience, plan in work.items():
            read_less(audience, plan, self.draft.window_of(audience))
        yield from read_planned(work)

    def _known(self, audience: SubscribedAudience) -> Known:
        return {
            subscription: self.draft.judged.get(subscription, subscription.evaluation)
            for subscription in list(audience.subscriptions)
            if subscription not in self.draft.left and not subscription.is_over
        }


def _concerned(work: UpdatePlan, known: Known) -> list[Subscription]:
    """Return the subscribers who receive events or join."""
    return [*known, *(arrival.subscription for arrival in work.arrivals)]
