"""Threads: as few as keep up, never more than allowed, none of them lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial

import pytest

from rest_channels.workers.pool import Pool
from rest_channels.workers.scheduling import SLOW_SECONDS, Job
from tests.support.gates import Gate


@contextmanager
def pool_of(limit, **options):
    pool = Pool(limit, **options)
    yield pool
    pool.shutdown()


class Task(Job):
    """A job of an owner and a kind; `ended` is set after it."""

    __slots__ = ("ended", "failure", "function")

    def __init__(self, function, owner=None, kind=None):
        super().__init__(owner, kind)
        self.function = function
        self.ended = threading.Event()
        self.failure = None

    def run(self):
        self.function()
        self.ended.set()

    def fail(self, exc):
        self.failure = exc
        self.ended.set()


def put(pool, function, **names):
    task = Task(function, **names)
    pool.put(task)
    return task


class Processor:
    """A clock of computed seconds that says the process is busy, or idle, and counts the looks."""

    def __init__(self, *, is_busy):
        self.is_busy = is_busy
        self.looks = threading.Semaphore(0)

    def __call__(self):
        self.looks.release()
        return time.monotonic() if self.is_busy else 0.0

    def await_looks(self, number):
        for _ in range(number):
            assert self.looks.acquire(timeout=10)


# Growth


def test_one_thread_does_what_does_not_wait():
    with pool_of(8) as pool:
        names = {pool.submit(lambda: threading.current_thread().name).result(10) for _ in "1234"}
        assert names == {"pool_0"}


def test_threads_are_added_while_jobs_wait_and_the_process_is_idle():
    gate = Gate()
    with pool_of(32, computed=Processor(is_busy=False)) as pool:
        futures = [pool.submit(gate.pass_through) for _ in range(40)]
        gate.await_arrivals(32)
        assert not gate.arrived.acquire(blocking=False)
        assert pool.width == 32
        gate.opened.set()
        wait(futures, 10)


def test_the_real_clock_finds_that_threads_wait():
    meeting = threading.Barrier(16)
    with pool_of(16) as pool:
        futures = [pool.submit(meeting.wait, 10) for _ in range(16)]
        assert sorted(future.result(10) for future in futures) == [*range(16)]


def test_no_thread_is_added_while_the_process_computes():
    processor = Processor(is_busy=True)
    gate = Gate()
    with pool_of(8, computed=processor) as pool:
        futures = [pool.submit(gate.pass_through) for _ in range(8)]
        processor.await_looks(4)
        assert pool.width == 1
        gate.opened.set()
        wait(futures, 10)


def test_no_thread_is_added_while_threads_compete_for_the_lock():
    # On a busy machine the process gets little processor time: it seems to be idle.
    processor = Processor(is_busy=False)

    def sleep(seconds):
        time.sleep(seconds)
        return True

    with pool_of(8, computed=processor, sleep=sleep) as pool:
        gate = Gate()
        waiting = [pool.submit(gate.pass_through) for _ in range(8)]
        processor.await_looks(5)
        assert pool.width == 1
        gate.opened.set()
        wait(waiting, 10)


def test_no_thread_is_added_while_threads_compute_without_the_lock():
    processor = Processor(is_busy=False)
    with pool_of(8, computed=processor, count_runnable=lambda ids: len(list(ids))) as pool:
        gate = Gate()
        waiting = [pool.submit(gate.pass_through) for _ in range(8)]
        processor.await_looks(5)
        assert pool.width == 1
        gate.opened.set()
        wait(waiting, 10)


def test_a_process_that_begins_to_compute_gives_threads_up():
    processor = Processor(is_busy=False)
    gate, lock = Gate(), threading.Lock()
    running, most = set(), []

    def work():
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        assert gate.opened.wait(10)
        with lock:
            running.discard(threading.get_ident())

    with pool_of(4, computed=processor) as pool:
        full = [pool.submit(gate.pass_through) for _ in range(5)]
        gate.await_arrivals(4)
        processor.is_busy = True
        while pool.width > 1:
            processor.await_looks(1)
        gate.opened.set()
        wait([*full, *(pool.submit(work) for _ in range(50))], 10)
        assert max(most) == 1


def test_a_job_that_goes_on_for_long_does_not_hold_up_the_others():
    # The process computes all the time: the width stays 1.
    gate = Gate()
    with pool_of(8, computed=Processor(is_busy=True)) as pool:
        long = pool.submit(gate.pass_through)
        gate.await_arrivals(1)
        pool.submit(gate.opened.set).result(10)
        long.result(10)
        assert pool.width == 1


def test_the_last_thread_to_rest_is_the_first_to_work():
    gate = Gate()
    with pool_of(3, computed=Processor(is_busy=False)) as pool:
        futures = [pool.submit(gate.pass_through) for _ in range(3)]
        gate.await_arrivals(3)
        gate.opened.set()
        wait(futures, 10)
        # A future is settled a moment before its thread rests.
        names = [pool.submit(lambda: threading.current_thread().name).result(10) for _ in range(9)]
        assert len(set(names[3:])) == 1


# Slow kinds


def make_slow(pool, kind):
    """Let `pool` know `kind` as one that takes a second."""
    pool.paces.learn(kind, took=1, computed=0, side_by_side=1)


def test_a_slow_kind_does_not_take_all_threads():
    with pool_of(8, computed=Processor(is_busy=False)) as pool:
        make_slow(pool, "report")
        gate = Gate()
        reports = [put(pool, gate.pass_through, kind="report") for _ in range(20)]
        gate.await_arrivals(6)
        # Before the reports that were there first.
        assert put(pool, lambda: None, kind="retrieve").ended.wait(10)
        assert not gate.arrived.acquire(blocking=False)
        gate.opened.set()
        assert all(report.ended.wait(10) for report in reports)


def test_slow_kinds_do_not_wait_for_growth():
    processor = Processor(is_busy=True)
    with pool_of(4, computed=processor) as pool:
        make_slow(pool, "report")
        meeting = threading.Barrier(3)
        reports = [put(pool, lambda: meeting.wait(10), kind="report") for _ in range(3)]
        assert all(report.ended.wait(10) for report in reports)
        assert pool.width == 1


def test_slow_work_of_an_owner_leaves_room_for_quick_work_of_the_same():
    with pool_of(16, share=4, computed=Processor(is_busy=False)) as pool:
        make_slow(pool, "report")
        gate = Gate()
        reports = [put(pool, gate.pass_through, owner="ann", kind="report") for _ in range(9)]
        gate.await_arrivals(3)
        assert put(pool, gate.opened.set, owner="ann", kind="retrieve").ended.wait(10)
        assert all(report.ended.wait(10) for report in reports)


def test_an_owners_jobs_that_compute_run_one_at_a_time():
    with pool_of(16, share=4, computed=Processor(is_busy=False)) as pool:
        pool.paces.learn("export", took=1, computed=1, delayed=0.0, side_by_side=1)
        gate = Gate()
        jobs = [put(pool, gate.pass_through, owner="ann", kind="export") for _ in range(3)]
        jobs += [put(pool, gate.pass_through, owner="ben", kind="export") for _ in range(3)]
        gate.await_arrivals(2)
        # Quick and waiting ones of the same owner go on.
        make_slow(pool, "report")
        for kind in ("retrieve", "report"):
            assert put(pool, lambda: None, owner="ann", kind=kind).ended.wait(10)
        assert not gate.arrived.acquire(blocking=False)
        gate.opened.set()
        assert all(job.ended.wait(10) for job in jobs)


def test_a_pool_learns_that_a_kind_computes():
    def compute():
        until = time.thread_time() + 2 * SLOW_SECONDS
        while time.thread_time() < until:
            pass

    with pool_of(4) as pool:
        number = 0
        while not pool.paces.computes("export"):
            assert put(pool, compute, kind="export").ended.wait(10)
            number += 1
    assert number < 20


# Owners


def test_an_owner_gets_a_share_and_the_others_the_rest():
    gate = Gate()
    with pool_of(4, share=2, computed=Processor(is_busy=False)) as pool:
        anns = [put(pool, gate.pass_through, owner="ann") for _ in range(6)]
        gate.await_arrivals(2)
        bobs = put(pool, lambda: None, owner="bob")
        assert bobs.ended.wait(10)
        assert not gate.arrived.acquire(blocking=False)
        gate.opened.set()
        assert all(job.ended.wait(10) for job in anns)


def test_an_owners_jobs_begin_in_their_order():
    order = []
    with pool_of(4, share=1) as pool:
        jobs = [put(pool, lambda n=n: order.append(n), owner="ann") for n in range(100)]
        assert all(job.ended.wait(10) for job in jobs)
    assert order == [*range(100)]


def test_nothing_is_kept_of_an_owner_without_work():
    with pool_of(4, share=2) as pool:
        jobs = [put(pool, lambda: None, owner=number % 7) for number in range(100)]
        assert all(job.ended.wait(10) for job in jobs)
        # After the last of them has been counted as ended.
        pool.shutdown()
        assert pool._shares == {}


# What goes wrong


def test_no_job_is_lost_under_stress():
    """Many putters, owners and kinds, and turns given away; each job runs once."""
    lock, counts = threading.Lock(), {}
    share = 3
    running: dict[str, int] = {}
    excess = []

    def work(number, owner, yields):
        with lock:
            counts[number] = counts.get(number, 0) + 1
            running[owner] = running.get(owner, 0) + 1
            if owner is not None and running[owner] > share:
                excess.append(owner)
        if yields:
            os.sched_yield()
        with lock:
            running[owner] -= 1

    with pool_of(8, share=share) as pool:
        chance = random.Random(1)
        make_slow(pool, "c")
        tasks = []

        def feed(numbers):
            for number in numbers:
                owner = chance.choice([None, "ann", "bob", "eve"])
                function = partial(work, number, owner, chance.random() < 0.3)
                tasks.append(put(pool, function, owner=owner, kind=chance.choice("abc")))

        feeders = [
            threading.Thread(target=feed, args=(range(start, start + 1000),))
            for start in range(0, 4000, 1000)
        ]
        for feeder in feeders:
            feeder.start()
        for feeder in feeders:
            feeder.join()
        assert all(task.ended.wait(20) for task in tasks)
    assert counts == dict.fromkeys(range(4000), 1)
    assert excess == []


def test_a_thread_that_is_interrupted_goes_on(caplog):
    class Interrupted(BaseException):
        pass

    def interrupt():
        raise Interrupted

    with pool_of(1) as pool:
        one = put(pool, interrupt)
        assert one.ended.wait(10) and isinstance(one.failure, Interrupted)
        assert pool.submit(lambda: "well").result(10) == "well"
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"


def test_without_threads_to_be_had_it_says_so_and_keeps_nothing(monkeypatch):
    with pool_of(2, share=1) as pool:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse_to_start)
            with pytest.raises(RuntimeError, match="can't start"):
                put(pool, lambda: None, owner="ann")
        assert put(pool, lambda: None, owner="ann").ended.wait(10)


def test_where_no_more_threads_are_to_be_had_those_there_are_do_it_all(monkeypatch):
    gate = Gate()
    with pool_of(4, computed=Processor(is_busy=False)) as pool:
        first = pool.submit(gate.pass_through)
        gate.await_arrivals(1)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse_to_start)
            others = [pool.submit(threading.get_ident) for _ in range(3)]
            gate.opened.set()
            first.result(10)
            assert len({future.result(10) for future in others}) == 1


def refuse_to_start(thread):
    raise RuntimeError("can't start new thread")


# The executor


def test_a_function_is_called_with_its_arguments_and_its_exception_is_the_futures():
    with pool_of(1) as pool:
        assert pool.submit(divmod, 7, 2).result(10) == (3, 1)
        assert pool.submit(sorted, [1, 2], reverse=True).result(10) == [2, 1]
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 7, 0).result(10)


def test_a_future_that_is_cancelled_before_its_turn_is_not_run():
    gate = Gate()
    with pool_of(1) as pool:
        pool.submit(gate.pass_through)
        ran = []
        future = pool.submit(ran.append, 1)
        assert future.cancel()
        gate.opened.set()
        pool.submit(int).result(10)
        assert ran == []


def test_shutdown_waits_for_what_was_put_and_takes_nothing_more():
    done = []
    gate = Gate()
    pool = Pool(2)
    for number in range(5):
        pool.submit(gate.pass_through)
        pool.submit(done.append, number)
    gate.opened.set()
    pool.shutdown()
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert pool.is_ended
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)


def test_threads_end_with_their_pool():
    before = set(threading.enumerate())
    pool = Pool(4, computed=Processor(is_busy=False))
    meeting = threading.Barrier(4)
    for _ in range(4):
        pool.submit(meeting.wait, 10)
    pool.submit(int).result(10)
    started = set(threading.enumerate()) - before
    pool.shutdown()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "pool.shutdown(wait=False)"])
def test_the_interpreter_waits_for_what_was_put_and_for_nothing_else(ending):
    code = f"""
import threading
from rest_channels.workers.pool import Pool
pool = Pool(2)
pool.submit(int).result()
begun = threading.Event()
def work():
    begun.set()
    threading.main_thread().join()
    print("worked", flush=True)
pool.submit(work)
pool.submit(print, "queued", flush=True)
begun.wait()
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (sorted(done.stdout.split()), done.stderr) == (["queued", "worked"], "")
