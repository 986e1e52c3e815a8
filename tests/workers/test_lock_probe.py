"""A sleep knows whether another thread had the interpreter lock, however busy the machine is."""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from rest_channels.workers import lock_probe
from tests.support.gates import Gate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it")

SLEEPS = 20


@contextmanager
def beside(work):
    """Run `work` again and again in another thread."""
    is_over = threading.Event()

    def run():
        while not is_over.is_set():
            work()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    is_over.set()
    thread.join(10)


def taken():
    """How many of `SLEEPS` sleeps found the lock taken."""
    return sum(lock_probe.sleep(0.001) for _ in range(SLEEPS))


def test_the_lock_is_taken_beside_a_thread_that_computes():
    with beside(lambda: sum(range(20_000))):
        assert taken() > SLEEPS / 2


def test_it_is_free_beside_a_thread_that_waits():
    with beside(lambda: time.sleep(0.005)):
        assert taken() < SLEEPS / 2


def test_where_the_system_does_not_tell_it_counts_as_free(monkeypatch):
    monkeypatch.setattr(lock_probe, "_resource", None)
    with beside(lambda: sum(range(20_000))):
        assert taken() == 0


def test_a_thread_that_computes_without_the_lock_is_runnable():
    ids = []

    def compute():
        ids[:] = [threading.get_native_id()]
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20_000)

    with beside(compute):
        counts = []
        for _ in range(SLEEPS):
            time.sleep(0.001)
            counts.append(lock_probe.count_runnable(ids))
    assert sum(counts) > SLEEPS / 2


def test_a_thread_that_waits_is_not_runnable():
    gate = Gate()
    thread = threading.Thread(target=gate.pass_through)
    thread.start()
    gate.await_arrivals(1)
    assert thread.native_id is not None
    # Between its arrival and its wait, it may lack a processor.
    looks = itertools.count()
    while lock_probe.count_runnable([thread.native_id]):
        assert next(looks) < 5_000
        time.sleep(0.001)
    gate.opened.set()
    thread.join(10)


def test_an_id_of_no_thread_is_not_runnable():
    assert lock_probe.count_runnable([0]) == 0
