"""Processes are killed in the middle of a frame with a key: repeated, it has written once."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from rest_channels.models import StoredReply
from tests.models import Room
from tests.support.keyed_processes import KeyedServer
from tests.support.server_processes import RemoteGate, answer, ask, reply
from tests.support.subscription_stories import as_user

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = [f"statement {count}" for count in range(1, 21)]
ENDS = ["before the commit", "after the commit", "before the reply"]


@pytest.fixture
def ann():
    return User.objects.create_user("ann")


@pytest.fixture
def server(ann):
    with KeyedServer() as server:
        yield server


def socket_to(server, user):
    return server.connect("/", additional_headers=as_user(user))


def test_a_server_killed_at_any_step_has_written_once_when_the_frame_is_repeated(ann, server):
    replayed = {}
    for step in [*STEPS, *ENDS]:
        create = {"data": {"name": step.replace(" ", "-")}, "idempotency_key": step}
        with KeyedServer(stop_at=step) as victim, socket_to(victim, ann) as socket:
            ask(socket, "create", **create)
            if not victim.has_stopped():
                assert step in STEPS, step
                continue
            victim.kill()
        with socket_to(server, ann) as socket:
            again, once_more = (answer(socket, "create", **create) for _ in range(2))
        assert again["response_status"] == 201, step
        # It is the first reply that stays.
        assert once_more == {**again, "replayed": True}, step
        assert again["data"]["id"] == Room.objects.get(**create["data"]).pk, step
        replayed[step] = again.get("replayed", False)
    assert [step for step, is_stored in replayed.items() if is_stored] == ENDS[1:]
    assert len(replayed) >= 8, "it has not come to its steps"


def test_two_processes_get_the_frame_at_once(ann, server):
    with (
        RemoteGate() as gate,
        KeyedServer() as other,
        socket_to(server, ann) as one,
        socket_to(other, ann) as two,
    ):
        wait = {"data": {"port": gate.port}, "idempotency_key": "k"}
        ask(one, "wait", **wait)
        gate.entered()
        ask(two, "wait", **wait)
        # Nobody else comes through the gate: the second waits for the first.
        with pytest.raises(TimeoutError):
            two.recv(0.5)
        gate.open()
        first, second = reply(one), reply(two)
    assert (first["data"], first["response_status"]) == ("waited", 200)
    assert second == {**first, "replayed": True}
    assert StoredReply.objects.count() == 1


def test_the_second_process_runs_if_the_first_is_killed(ann, server):
    create = {"data": {"name": "hall"}, "idempotency_key": "k"}
    with (
        KeyedServer(stop_at="before the commit") as victim,
        socket_to(victim, ann) as one,
        socket_to(server, ann) as two,
    ):
        ask(one, "create", **create)
        assert victim.has_stopped()
        ask(two, "create", **create)
        with pytest.raises(TimeoutError):
            two.recv(0.5)
        victim.kill()
        second = reply(two)
    assert (second["response_status"], second.get("replayed")) == (201, None)
    assert Room.objects.count() == 1


def test_a_client_leaves_while_its_frame_runs_and_repeats_it(ann, server):
    with RemoteGate() as gate:
        wait = {"data": {"port": gate.port}, "idempotency_key": "k"}
        with socket_to(server, ann) as socket:
            ask(socket, "wait", **wait)
            gate.entered()
        with socket_to(server, ann) as socket:
            ask(socket, "wait", **wait)
            gate.open()
            again = reply(socket)
    assert (again["data"], again["replayed"]) == ("waited", True)


def test_frames_that_wait_for_another_take_no_threads(ann):
    with KeyedServer(WORKER_THREADS=2, MAX_THREADS_PER_USER=2) as server, RemoteGate() as gate:
        sockets = [socket_to(server, ann) for _ in range(5)]
        first, *others = [opening.__enter__() for opening in sockets]
        wait = {"data": {"port": gate.port}, "idempotency_key": "k"}
        ask(first, "wait", **wait)
        gate.entered()
        for socket in others:
            ask(socket, "wait", **wait)
        with socket_to(server, ann) as neighbour:
            # One thread is left for all of them: each goes through it more than once.
            for _ in range(20):
                assert answer(neighbour, "list")["response_status"] == 200
        gate.open()
        replies = [reply(socket) for socket in (first, *others)]
        for opening in sockets:
            opening.__exit__(None, None, None)
    assert [r.get("replayed", False) for r in replies] == [False, True, True, True, True]
