"""Frames of a socket, handled by `manage.py runworker` in another process, over Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.support.distribution import ROOT
from tests.support.server_processes import Server


@contextmanager
def worker(application, *channels):
    """A worker process for `channels`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "runworker", *channels],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_ASGI_APPLICATION": application,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("redis_layer")
@pytest.mark.only_on("sqlite")
def test_a_worker_handles_what_a_server_receives_until_it_dies_and_then_another():
    module = "tests.support.apps.worker_app"
    with (
        Server("uvicorn", f"{module}:application") as server,
        server.connect("/pid/attic/") as socket,
    ):
        with worker(f"{module}.application", "pid") as first:
            with server.connect("/pid/cellar/") as other:
                for each, room in ((socket, "attic"), (other, "cellar")):
                    each.send(json.dumps({"ask": "pid", "é": [1]}))
                    assert json.loads(each.recv(20)) == {
                        "pid": first.pid,
                        "kwargs": {"room": room},
                        "content": {"ask": "pid", "é": [1]},
                    }
                # No worker is left to take the rest of their messages.
                for _ in range(10):
                    other.send(json.dumps({"ask": "async"}))
                other.recv(20)
            socket.send(json.dumps({"ask": "async"}))
            said = [json.loads(socket.recv(20)) for _ in range(3)]
            assert said == [{"pid": first.pid, "number": number} for number in range(3)]
            socket.send(json.dumps({"ask": "nobody", "request_id": 7}))
            error = json.loads(socket.recv(20))
            assert (error["response_status"], error["request_id"]) == (404, 7)
        # Killed: what is sent meanwhile waits in the layer.
        socket.send(json.dumps({"ask": "pid"}))
        with worker(f"{module}.application", "pid") as second:
            assert json.loads(socket.recv(20))["pid"] == second.pid


@pytest.mark.usefixtures("redis_layer")
@pytest.mark.only_on("sqlite")
def test_what_a_worker_sends_to_a_group_reaches_its_sockets():
    module = "tests.support.apps.worker_app"
    with (
        worker(f"{module}.application", "shared") as process,
        Server("uvicorn", f"{module}:application") as server,
        server.connect("/shared/attic/") as ann,
        server.connect("/shared/attic/") as bob,
    ):
        ann.send(json.dumps({"kind": "async"}))
        for socket in (ann, bob):
            assert json.loads(socket.recv(20)) == {"kind": "async", "pid": process.pid}
        # No handler takes it: the group has it, from a thread of the worker's.
        bob.send(json.dumps({"kind": "other"}))
        for socket in (ann, bob):
            assert json.loads(socket.recv(20)) == {"kind": "other"}
