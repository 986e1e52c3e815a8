"""
Gates at which threads of this process wait; `server_processes.RemoteGate` is one for others.

    gate = Gate()
    future = pool.submit(gate.pass_through)
    gate.await_arrivals(1)
    gate.opened.set()
"""

from __future__ import annotations

import threading


class Gate:
    """A place where threads wait until the story opens it; counts those that have arrived."""

    def __init__(self) -> None:
        #: Set once one thread has arrived.
        self.reached = threading.Event()
        self.opened = threading.Event()
        self.arrived = threading.Semaphore(0)

    def pass_through(self) -> None:
        """Wait in a thread until the gate is open."""
        self.arrived.release()
        self.reached.set()
        assert self.opened.wait(10)

    def await_arrivals(self, number: int) -> None:
        """Wait until this many more threads have arrived."""
        for _ in range(number):
            assert self.arrived.acquire(timeout=10)
