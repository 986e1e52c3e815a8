"""How many frames a second a client may send."""

from __future__ import annotations

import pytest

from rest_channels.sockets import ratelimit
from rest_channels.sockets.ratelimit import RateLimit, Verdict, retry_headers
from tests.support.clocks import Clock

ANSWER, REFUSE, CLOSE = Verdict.ANSWER, Verdict.REFUSE, Verdict.CLOSE


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(ratelimit, "time", clock)
    return clock


def taken(limit: RateLimit, frames: int) -> list[Verdict]:
    return [limit.take() for _ in range(frames)]


def test_a_burst_is_answered_then_as_much_refused_then_it_is_over(clock):
    limit = RateLimit(rate=10, burst=3)
    assert taken(limit, 7) == [ANSWER] * 3 + [REFUSE] * 3 + [CLOSE]


def test_a_steady_client_is_always_answered(clock):
    limit = RateLimit(rate=10, burst=1)
    for _ in range(100):
        assert limit.take() is ANSWER
        clock.now += 0.125


def test_refused_frames_cost_as_much_as_answered_ones(clock):
    limit = RateLimit(rate=1, burst=2)
    taken(limit, 4)
    clock.now += 2
    assert limit.take() is REFUSE
    clock.now += 2
    assert limit.take() is ANSWER


def test_a_pause_saves_up_no_more_than_a_burst(clock):
    limit = RateLimit(rate=10, burst=3)
    clock.now += 3600
    assert taken(limit, 4) == [ANSWER] * 3 + [REFUSE]


@pytest.mark.parametrize(("rate", "refused", "seconds"), [(1, 1, 2), (1, 3, 4), (100, 1, 1)])
def test_it_says_when_to_come_back_and_means_it(clock, rate, refused, seconds):
    limit = RateLimit(rate=rate, burst=5)
    taken(limit, 5 + refused)
    assert limit.retry_after == seconds
    clock.now += seconds
    assert limit.take() is ANSWER


def test_a_slow_rate_is_counted_in_fractions(clock):
    limit = RateLimit(rate=0.5, burst=1)
    assert taken(limit, 2) == [ANSWER, REFUSE]
    assert limit.retry_after == 4
    clock.now += 3.9
    assert limit.take() is REFUSE


def test_those_who_are_refused_together_come_back_apart():
    seconds = [int(retry_headers()["Retry-After"]) for _ in range(1_000)]
    assert set(seconds) == set(range(1, 11))
    assert max(seconds.count(second) for second in set(seconds)) < 300
