"""The visibility in a pass: which subscribers may still see what, and which audiences they join."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Final

from rest_channels.live.delivery.pass_state import Draft, blaming
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.update_plan import Join, UpdatePlan
from rest_channels.live.delivery.window_plan import look_at_order
from rest_channels.live.visibility.evaluation import Evaluation, owner_of

# The most audiences of which a pass reads all rows for new subscribers, because their texts are in
# memory together.
_READS_AT_A_TIME: Final = 50

# The number of passes that try to unite an audience with its twin before rows are read for it.
_TRIES: Final = 20


class Judging:
    """
    The part of a pass that asks DRF what subscribers may see now.

    `has_doubts` says that some answers may no longer be relied on.
    """

    def __init__(self, draft: Draft, *, has_doubts: bool) -> None:
        self.draft = draft
        self.has_doubts = has_doubts
        # The number of audiences of which all rows are read for new subscribers.
        self._reads = 0

    def judge_all(self, asking: Sequence[Subscription]) -> None:
        """
        Ask DRF again about subscribers whose answer cannot be relied on.

        These are subscribers who will receive an event and whose lease is over, and those whose
        answer is in doubt or has too wide a reach.
        """
        evaluations = self.draft.state.evaluations
        self._unite_stubborn()
        for subscription in asking:
            audience = subscription.audience
            if audience is not None and not (subscription.is_over or subscription.is_judged):
                self._judge(subscription, audience)
        if self.has_doubts or evaluations.are_narrowed:
            for audience in self.draft.audiences():
                for subscription in self._unreliable(audience, is_told=False):
                    with self.draft.timed(audience):
                        self._judge(subscription, audience)
        # A subscriber who joins an audience may cause events for its other subscribers.
        told: set[SubscribedAudience] = set()
        while to_be_told := [
            a for a, work in self.draft.work.items() if work.tells and a not in told
        ]:
            told.update(to_be_told)
            for audience in to_be_told:
                with self.draft.timed(audience):
                    for subscription in self._unreliable(audience, is_told=True):
                        self._judge(subscription, audience)

    def _unreliable(self, audience: SubscribedAudience, *, is_told: bool) -> list[Subscription]:
        """Return the subscribers of `audience` whose answers cannot be relied on any more."""
        # One answer may serve thousands of subscribers.
        holds: dict[Evaluation, bool] = {}
        found = []
        for subscription in list(audience.subscriptions):
            evaluation = subscription.evaluation
            if evaluation not in holds:
                holds[evaluation] = not (
                    evaluation.is_doubted
                    or (is_told and not evaluation.is_usable)
                    or self.draft.state.evaluations.serves_too_many(evaluation)
                )
            is_reliable = holds[evaluation] and not (is_told and subscription.is_of_another)
            if not (
                is_reliable or subscription in self.draft.left or subscription in self.draft.judged
            ):
                found.append(subscription)
        return found

    def _unite_stubborn(self) -> None:
        """Let subscribers of an audience join its twin if they never hold the same rows."""
        for twin in self.draft.state.twins:
            if twin.tries > _TRIES:
                for subscription in list(twin.subscriptions):
                    self._judge(subscription, twin, moves=True)

    def _judge(
        self, subscription: Subscription, audience: SubscribedAudience, *, moves: bool = False
    ) -> None:
        """Ask DRF again about a subscriber; it `moves` to the first audience of its key."""
        evaluation = self._evaluation(subscription)
        identity = subscription.topic.identity
        if not evaluation.is_allowed:
            self.draft.leave(subscription, audience)
            self.draft.end(subscription, evaluation)
            return
        is_same = not moves and audience.key == _key(subscription, evaluation)
        judged = audience if is_same else self._audience(subscription, evaluation)
        # The write may change how rows look, not only which rows there are.
        looks_different = subscription.is_in_doubt and not audience.is_shared
        if judged is not audience or looks_different:
            self.draft.leave(subscription, audience)
            held = audience.held_by(subscription.topic)
            with blaming([subscription]):
                names = audience.names_for(judged, subscription.topic, subscription.evaluation)
            self._arrive(judged, Join(subscription, evaluation, identity, held, names))
            return
        if not audience.evaluation.is_usable:
            # The same rows, with a view that was evaluated just now.
            audience.evaluation = evaluation
        self.draft.judged[subscription] = evaluation
        self.draft.commits.append(partial(subscription.judge, evaluation, identity))

    def let_all_in(self, joining: Sequence[Subscription]) -> None:
        """Let new subscriptions in, or postpone those that would read too much at once."""
        for number, subscription in enumerate(joining):
            if self._reads >= _READS_AT_A_TIME:
                self.draft.outcome.postponed = list(joining[number:])
                return
            began = time.perf_counter()
            self._let_in(subscription)
            self.draft.outcome.spent[subscription] = time.perf_counter() - began

    def _let_in(self, subscription: Subscription) -> None:
        if subscription.is_over:
            return
        evaluation = self._evaluation(subscription)
        if evaluation.is_allowed:
            arrival = Join(subscription, evaluation, subscription.topic.identity)
            self._arrive(self._audience(subscription, evaluation), arrival)
        else:
            self.draft.refuse(subscription, evaluation)

    def _evaluation(self, subscription: Subscription) -> Evaluation:
        with blaming([subscription]):
            return self.draft.state.evaluations.of(subscription.topic)

    def _audience(self, subscription: Subscription, evaluation: Evaluation) -> SubscribedAudience:
        topic, key = subscription.topic, _key(subscription, evaluation)
        audience = self.draft.state.audiences.get(key) or self.draft.new.get(key)
        if audience is None:
            with blaming([subscription]):
                audience = SubscribedAudience(
                    key, evaluation, is_row=topic.is_row, window=subscription.window
                )
            self.draft.new[key] = audience
        elif not audience.evaluation.is_usable:
            audience.evaluation = evaluation
        return audience

    def _arrive(self, audience: SubscribedAudience, arrival: Join) -> None:
        work = self.draft.work.setdefault(audience, UpdatePlan())
        work.arrivals.append(arrival)
        reads_all = arrival.needs_all or arrival.resumes or audience.is_row
        if not audience.is_known or reads_all:
            with blaming([arrival.subscription, *audience.subscriptions]):
                self._read_all(audience, work)

    def _read_all(self, audience: SubscribedAudience, work: UpdatePlan) -> None:
        """
        Read all rows for a new subscriber.

        This snapshot may show changes that existing subscribers have not received: of a related
        table whose rows wait to be read again, or pending ones. They receive them now as well,
        because all subscribers must hold the same rows at the next change.
        """
        if work.reads_all:
            return
        self._reads += 1
        work.reads_all = True
        if audience.refresh_at is not None or self.draft.window.has_more_pending:
            work.keys = None
        elif work.keys is not None and audience.is_concerned(self.draft.window.pending):
            keys = audience.concerned_keys(self.draft.window.pending)
            work.keys = None if keys is None else work.keys | keys
        look_at_order(audience, work)


def _key(subscription: Subscription, evaluation: Evaluation) -> Hashable:
    """Return the key of the audience that `subscription` belongs to by DRF's answer."""
    topic = subscription.topic
    owner = owner_of(topic, evaluation.row_reach)
    return topic.place, evaluation.key, topic.row, owner, subscription.window
