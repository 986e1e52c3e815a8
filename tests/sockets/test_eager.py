"""Work that need not wait runs at once, in any task; other work goes on in a task of its own."""

from __future__ import annotations

import asyncio
import sys
from unittest import mock

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from rest_channels.sockets.outbox import Outbox, is_servers_own, start
from tests.support.server_processes import KINDS, Server


def run(story):
    return asyncio.run(story())


def test_what_need_not_wait_is_done_at_once():
    async def story():
        done = []

        async def send():
            done.append(1)

        assert start(send(), is_plain=True) is None
        assert done == [1]

    run(story)


def test_what_waits_goes_on_in_a_task():
    async def story():
        gate, steps = asyncio.Event(), []

        async def send():
            steps.append("begun")
            await gate.wait()
            steps.append(asyncio.current_task())
            await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await asyncio.to_thread(steps.append, "ended")

        task = start(send(), is_plain=True)
        assert steps == ["begun"]
        gate.set()
        await asyncio.wait_for(task, 10)
        assert steps == ["begun", task, "ended"]

    run(story)


def test_what_waits_can_be_cancelled_and_clean_up():
    async def story():
        steps = []

        async def send():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                steps.append("cleaned up")
                raise

        task = start(send(), is_plain=True)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["cleaned up"]

    run(story)


def test_what_is_cancelled_before_its_task_has_begun_ends_all_the_same():
    async def story():
        steps = []

        async def send():
            try:
                await asyncio.Event().wait()
            finally:
                steps.append("ended")

        task = start(send(), is_plain=True)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert steps == ["ended"]

    run(story)


def test_what_is_raised_later_is_the_tasks():
    async def story():
        async def send():
            await asyncio.sleep(0)
            raise ValueError

        with pytest.raises(ValueError):
            await start(send(), is_plain=True)

    run(story)


def test_what_may_ask_for_its_task_has_one_of_its_own_from_the_start():
    async def story():
        found = []

        async def send():
            found.append(asyncio.current_task())

        task = start(send(), is_plain=False)
        if sys.version_info >= (3, 12):
            assert task is None
        else:
            await task
        assert found[0] is not asyncio.current_task()

    run(story)


class Own:
    """Like the method of a server's protocol."""

    def __init__(self) -> None:
        self.sent = []

    async def send(self, message):
        self.sent.append(message["text"])


def test_whose_send_it_is(monkeypatch):
    class Sessions:
        def __init__(self, send) -> None:
            self.real_send = send

        async def send(self, message):
            await self.real_send(message)

    own = Own()

    async def wrapped(message):
        await own.send(message)

    assert not is_servers_own(own.send)
    monkeypatch.setattr(Own, "__module__", "uvicorn.protocols.websockets.wsproto_impl")
    assert is_servers_own(own.send) and is_servers_own(Sessions(own.send).send)
    assert not is_servers_own(wrapped) and not is_servers_own(Sessions(wrapped).send)


def test_an_outbox_sends_at_once_what_is_posted_while_nothing_waits(monkeypatch):
    monkeypatch.setattr(Own, "__module__", "uvicorn.protocols.websockets.wsproto_impl")

    async def story():
        own = Own()
        outbox = Outbox(own.send, 100)
        outbox.post("one")
        outbox.post("two")
        assert own.sent == ["one", "two"]

    run(story)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.only_on("sqlite")
def test_servers_whose_send_is_known(kind):
    with Server(kind, "tests.support.apps.sends_app:application") as server:
        told = {}
        for path in ("/direct/", "/sessions/", "/w/"):
            with server.connect(path) as socket:
                told[path] = socket.recv(10)
    # granian's is not Python's.
    is_known = str(kind != "granian")
    assert told == {"/direct/": is_known, "/sessions/": is_known, "/w/": "False"}


class Slow(Own):
    """Its client reads the messages after each of which `waits` says so, after a while."""

    def __init__(self, waits) -> None:
        super().__init__()
        self._waits = iter(waits)

    async def send(self, message):
        if next(self._waits, False):
            await asyncio.sleep(0)
        self.sent.append(message.get("text", message.get("code")))


# Bytes of a text; None closes the socket; -1 lets the loop run.
steps = st.lists(st.integers(0, 12) | st.just(-1) | st.none(), max_size=12)


@given(steps, st.lists(st.booleans(), max_size=12))
def test_a_client_receives_the_same_as_when_each_message_has_a_task(steps, waits):
    async def story():
        client = Slow(waits)
        outbox = Outbox(client.send, 20)
        for number, step in enumerate(steps):
            if step is None:
                outbox.close(4400)
            elif step < 0:
                await asyncio.sleep(0)
            else:
                await outbox.put(f"{number}:".ljust(step, "x"))
        for _ in range(100):
            await asyncio.sleep(0)
        return client.sent, outbox.sent_count, outbox.waiting_bytes

    received = []
    for is_on in (True, False):
        with (
            mock.patch.object(Own, "__module__", "uvicorn.protocols.websockets.wsproto_impl"),
            mock.patch.object(Slow, "__module__", "uvicorn.protocols.websockets.wsproto_impl"),
            override_settings(REST_CHANNELS={"SHORT_CUTS": is_on}),
        ):
            received.append(run(story))
    assert received[0] == received[1]


def test_without_short_cuts_each_message_has_a_task(monkeypatch, settings):
    monkeypatch.setattr(Own, "__module__", "uvicorn.protocols.websockets.wsproto_impl")
    settings.REST_CHANNELS = {"SHORT_CUTS": False}

    async def story():
        own = Own()
        Outbox(own.send, 100).post("one")
        assert own.sent == []
        await asyncio.sleep(0)
        assert own.sent == ["one"]

    run(story)
