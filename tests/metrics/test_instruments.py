"""Counters, gauges and histograms."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rest_channels.metrics.instruments import OTHER, Family, Histogram, Names, Registry, Sample


def test_a_histogram_counts_observations_by_size():
    sizes = Histogram([1, 10])
    for size in (0, 1, 1.5, 10, 11, 1000):
        sizes.observe(size)
    assert sizes.counts == [2, 2, 2]
    assert sizes.total == 1023.5


def test_a_value_that_is_not_known_becomes_other():
    registry = Registry()
    actions = Names(["list"])
    metric = registry.counters("frames", "Frames.", {"action": actions, "status": Names([200])})
    for number in range(100):
        metric.of(f"made up {number}", 200).add()
        metric.of("list", number).add()
    metric.of("list", 200).add()
    assert {values: counter.value for values, counter in metric.series()} == {
        (OTHER, 200): 100,
        ("list", OTHER): 100,
        ("list", 200): 1,
    }
    actions.declare(["create"])
    assert metric.of("create", 200).value == 0


def test_a_registry_collects_what_it_made():
    registry = Registry()
    registry.counter("frames", "Frames.").add(3)
    seconds = registry.histograms("seconds", "Durations.", [0.5], {"status": Names([200])})
    registry.gauges({"sockets": "Sockets."}, lambda: {"sockets": 7})
    seconds.of(200).observe(0.25)
    seconds.of(200).observe(2)
    assert list(registry.collect()) == [
        Family("frames", "Frames.", "counter", (), (Sample((), 3),)),
        Family(
            *("seconds", "Durations.", "histogram", ("status",)),
            samples=(Sample((200,), 2.25, (1, 1)),),
            bounds=(0.5,),
        ),
        Family("sockets", "Sockets.", "gauge", (), (Sample((), 7),)),
    ]
    assert registry.plain() == {"frames": 3, "sockets": 7}


def test_a_name_is_used_once():
    registry = Registry()
    registry.counter("frames", "Frames.")
    with pytest.raises(ValueError, match="'frames' already: choose another name"):
        registry.histogram("frames", "Frames.", [1])


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs the interpreter lock"
)
def test_threads_lose_no_count_under_the_interpreter_lock():
    registry = Registry()
    counter = registry.counter("frames", "Frames.")
    histogram = registry.histogram("seconds", "Durations.", [0.5])
    interval = sys.getswitchinterval()

    def count(_):
        for _ in range(20_000):
            counter.add()
            histogram.observe(1)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert counter.value == 80_000
    assert histogram.counts == [0, 80_000] and histogram.total == 80_000
