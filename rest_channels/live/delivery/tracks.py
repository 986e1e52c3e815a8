"""
The tracks of one database beside its main one: where new subscriptions join, and slow audiences.

A subscription belongs to one track at a time. It changes only between two passes, together with its
audience and the position that both have reached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from rest_channels.live.change_path import ChangePath
from rest_channels.live.delivery.arrivals import Arrivals
from rest_channels.live.delivery.paces import Paces, warm_up
from rest_channels.live.delivery.pass_state import Outcome, State
from rest_channels.live.delivery.subscription import SubscribedAudience, Subscription
from rest_channels.live.delivery.track import Track
from rest_channels.settings import socket_settings

# A slow track that is further behind stays where it is, because the main one would have to catch
# up (changes).
_MAX_BEHIND: Final = 1_000


class ArrivalTrack(Track):
    """Passes that let new subscriptions in; their audiences move on at once."""

    def __init__(self, tracks: Tracks, *, heavy: bool) -> None:
        self._tracks = tracks
        self.heavy = heavy
        name = "heavy arrivals" if heavy else "arrivals"
        path = ChangePath(tracks.alias, tracks.main.state.learned)
        super().__init__(path, name, tracks.settle_arrivals, tracks.on_end)

    def has_work(self) -> bool:
        return self._has_joining()

    def _next_joining(self) -> list[Subscription]:
        # From where the main track is, whose passes have noted what was written before.
        self.path.begin_at(self._tracks.main.state.place)
        return self._tracks.arrivals.next(heavy=self.heavy)

    def _has_joining(self) -> bool:
        return self._tracks.arrivals.has(heavy=self.heavy)

    def _postpone(self, joining: Collection[Subscription]) -> None:
        self._tracks.arrivals.add_first(joining)


class Tracks:
    """
    The tracks of one database beside its `main` one. On the loop.

    `on_passed` is called after each pass of them.
    """

    def __init__(self, main: Track, on_passed: Callable[[], None]) -> None:
        self.main = main
        self.on_passed = on_passed
        self.alias = main.alias
        self.arrivals = Arrivals()
        self._paces = Paces()
        self._slow: dict[int, Track] = {}
        self._arriving: dict[bool, ArrivalTrack] = {}

    @property
    def all(self) -> list[Track]:
        """All tracks that run, without the main one."""
        return [*self._slow.values(), *self._arriving.values()]

    @property
    def are_busy(self) -> bool:
        """Whether any of them has subscriptions."""
        return bool(self._slow or self._arriving or self.arrivals.all())

    @property
    def has_slow(self) -> bool:
        """Whether there are slow audiences, which need the main track's numbers."""
        return bool(self._slow)

    def join(self, subscription: Subscription) -> None:
        """Let `subscription` join in its turn."""
        self.arrivals.add(subscription)
        self._wake_arrivals()

    def _wake_arrivals(self) -> None:
        for heavy in (False, True):
            if self.arrivals.has(heavy=heavy):
                if heavy not in self._arriving:
                    self._arriving[heavy] = ArrivalTrack(self, heavy=heavy)
                self._arriving[heavy].ring()

    def settle_arrivals(self, track: Track, outcome: Outcome) -> None:
        """Let the audiences of new subscriptions move on to their tracks."""
        outcome = _without_cold_starts(outcome)
        self._charge(outcome)
        moves: dict[Track, list[SubscribedAudience]] = {}
        for audience in list(track.state.audiences.values()):
            moves.setdefault(self._track_for(audience, outcome), []).append(audience)
        for target, audiences in moves.items():
            target.take(*track.give(audiences))
        if moves:
            self.main.make_up()
        self._wake_arrivals()
        self.on_passed()

    def _charge(self, outcome: Outcome) -> None:
        """Count what a pass took for each owner of new subscriptions."""
        for subscription, spent in outcome.spent.items():
            audience = subscription.audience
            seconds = spent
            if audience is not None and audience.subscriptions:
                seconds += outcome.seconds.get(audience, 0.0) / len(audience.subscriptions)
            self.arrivals.debts.add(subscription.topic.credentials.owner, seconds)

    def _track_for(self, audience: SubscribedAudience, outcome: Outcome) -> Track:
        """Return the track that has the rows of `audience` already, or one by what it took."""
        for track in (self.main, *self._slow.values()):
            if audience.key in track.state.audiences:
                return track
        seconds = outcome.seconds.get(audience, 0.0)
        seconds += max((outcome.spent.get(s, 0.0) for s in audience.subscriptions), default=0.0)
        return self.main if self._paces.is_quick_arrival(seconds) else self._slow_for(audience)

    def _slow_for(self, audience: SubscribedAudience) -> Track:
        # All of one owner in one track: then they delay no others there.
        number = hash(audience.sole_owner or audience.key) % socket_settings.SLOW_TRACKS
        if number not in self._slow:
            path = ChangePath(self.alias, self.main.state.learned, numbers=False)
            self._slow[number] = Track(path, f"slow {number}", self.settle_slow, self.on_end)
        return self._slow[number]

    def settle_main(self, outcome: Outcome) -> None:
        """Let slow audiences leave the main track, and slow tracks look at what it has numbered."""
        moves: dict[Track, list[SubscribedAudience]] = {}
        main = self.main
        for audience in self.choose_slow(outcome, main):
            moves.setdefault(self._slow_for(audience), []).append(audience)
        for target, audiences in moves.items():
            target.take(*main.give(_with_sharers(audiences, main.state)))
        self._ring_slow()

    def _ring_slow(self) -> None:
        for track in self._slow.values():
            if track.state.place != self.main.state.place:
                track.ring()

    def settle_slow(self, track: Track, outcome: Outcome) -> None:
        """Let quick audiences leave a slow track."""
        place, main_place = track.state.place, self.main.state.place
        is_behind = place and main_place and main_place.number - place.number > _MAX_BEHIND
        quick = [] if is_behind or outcome.has_more else self.choose_quick(outcome, track)
        if quick:
            self.main.take(*track.give(_with_sharers(quick, track.state)))
        self.on_passed()

    def choose_slow(self, outcome: Outcome, track: Track) -> list[SubscribedAudience]:
        """Return the audiences of the main track that are slow."""
        return _here(self._paces.slow(outcome.seconds), track)

    def choose_quick(self, outcome: Outcome, track: Track) -> list[SubscribedAudience]:
        """Return the audiences of a slow track that are quick."""
        return _here(self._paces.quick(outcome.seconds), track)

    def on_end(self, track: Track) -> None:
        """Forget a track without work, and let the main one look whether it is needed."""
        self._slow = {n: known for n, known in self._slow.items() if known is not track}
        self._arriving = {h: known for h, known in self._arriving.items() if known is not track}
        self._wake_arrivals()
        self.main.ring()


def _without_cold_starts(outcome: Outcome) -> Outcome:
    """Return `outcome` without what this process took for code that it ran for the first time."""
    cold = warm_up(outcome.spent)
    if not cold:
        return outcome
    audiences = {subscription.audience for subscription in cold}
    return replace(
        outcome,
        seconds={a: seconds for a, seconds in outcome.seconds.items() if a not in audiences},
        spent={s: seconds for s, seconds in outcome.spent.items() if s not in cold},
    )


def _here(audiences: Iterable[SubscribedAudience], track: Track) -> list[SubscribedAudience]:
    """Return those that are still in `track` after its pass."""
    audiences = list(audiences)
    if not audiences:
        # As a rule. There may be ten thousand others.
        return []
    here = set(track.state.audiences.values())
    return [audience for audience in audiences if audience in here]


def _with_sharers(audiences: list[SubscribedAudience], state: State) -> list[SubscribedAudience]:
    """
    Return `audiences`, and the others that rely on the same answers.

    Only one thread at a time may use the view of an answer.
    """
    taken = dict.fromkeys(audiences)
    while True:
        places = {audience.topic_place for audience in taken}
        answers = {e for audience in taken for e in audience.evaluations}
        more = [
            other
            for other in state.audiences.values()
            if other not in taken and other.topic_place in places and other.evaluations & answers
        ]
        if not more:
            return list(taken)
        taken.update(dict.fromkeys(more))
