"""
The parts of a frame's time, and the gain of each optimisation.

Processor time of one thread, in this process, without a socket. It is the least of many short runs
taken in turns, some of which even a busy machine leaves undisturbed.

    BENCH_DATABASE=postgresql python -m benchmarks.levers
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

# First, because it sets Django up.
from benchmarks.site import MessageSerializer, MessageViewSet, messages

# isort: split
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from rest_channels import viewsets
from rest_channels.authentication import Credentials
from rest_channels.protocol import Frame, decode
from rest_channels.sockets import streams
from rest_channels.sockets.dispatch import Exchange
from rest_channels.sockets.field_cache import lend_fields
from rest_channels.sockets.request import Handshake
from rest_channels.sockets.streams import Stream
from rest_channels.workers.connections import close_old_connections
from rest_channels.workers.threads import workers

Case = tuple[str, Callable[[], Any], Callable[[], contextlib.AbstractContextManager[Any]]]

SCOPE = {
    "type": "websocket",
    "path": "/messages/",
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 8000),
    "scheme": "ws",
}
DATA = {"author": 3, "text": "hello", "score": 3}
FRAMES: dict[str, dict[str, Any]] = {
    "retrieve": {"pk": 5},
    "list": {},
    "create": {"data": DATA},
    "update": {"pk": 7, "data": DATA},
}


class Idle(MessageViewSet):
    """A viewset whose `retrieve` does nothing, which leaves the cost of a frame by itself."""

    def retrieve(self, request, *args, **kwargs):
        return Response({})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    database = os.environ.get("BENCH_DATABASE", "sqlite")
    show(f"the parts of a frame, {database}", measure(parts(), rounds))
    show("an action that does nothing", measure(without(answering(Idle, "retrieve")), rounds))
    for action in FRAMES:
        figures = measure(without(answering(MessageViewSet, action)), rounds)
        show(f"{action}, {database}", figures)
    show(f"growth with the page, {database}", measure(pages(), rounds))
    print("\nto a worker thread and back")
    for many in (1, 64):
        print(f"  {f'{many} at once':44} {hop(many, rounds):8.1f} us", flush=True)


def show(title: str, figures: dict[str, float]) -> None:
    print(f"\n{title}")
    for name, us in figures.items():
        print(f"  {name:44} {us:8.1f} us", flush=True)


def measure(cases: Iterable[Case], rounds: int, seconds: float = 0.01) -> dict[str, float]:
    """Return microseconds of processor time per call, by name."""
    cases = list(cases)
    best: dict[str, float] = {}
    for number in range(rounds):
        for name, call, condition in cases:
            with condition():
                call()
                calls, began = 0, time.thread_time()
                while (passed := time.thread_time() - began) < seconds:
                    call()
                    calls += 1
            if number:  # The first is a warm-up.
                best[name] = min(best.get(name, float("inf")), 1e6 * passed / calls)
    return best


def parts() -> Iterable[Case]:
    """Return the work of DRF, Django and JSON for a frame."""

    def shown(rows, copied, **kwargs):
        serializer = MessageSerializer(rows, **kwargs)
        if copied:
            lend_fields(serializer)
        return serializer.data

    row, rows = messages().get(pk=5), list(messages()[:25])
    of_row, of_rows = shown(row, True), shown(rows, True, many=True)
    text = json.dumps({"action": "retrieve", "request_id": 12, "pk": 512})
    calls: dict[str, Callable[[], Any]] = {
        "a row by Django's ORM": lambda: messages().get(pk=5),
        "its SQL, of which": lambda: messages().filter(pk=5).query.sql_with_params(),
        "25 rows by Django's ORM": lambda: list(messages()[:25]),
        "their count": lambda: messages().count(),
        "a serializer, its fields built by DRF": lambda: shown(row, False),
        "a serializer, its fields copied": lambda: shown(row, True),
        "a serializer of 25 rows, copied": lambda: shown(rows, True, many=True),
        "a frame whose action does nothing": answering(Idle, "retrieve"),
        "a frame decoded and checked": lambda: Frame.from_payload(decode(text, max_depth=32)),
        "a row as JSON, by DRF": lambda: JSONRenderer().render(of_row),
        "25 rows as JSON, by DRF": lambda: JSONRenderer().render(of_rows),
    }
    with contextlib.suppress(ImportError):
        import orjson

        calls["a row as JSON, by orjson"] = lambda: orjson.dumps(of_row)
        calls["25 rows as JSON, by orjson"] = lambda: orjson.dumps(of_rows)
        calls["a frame decoded by orjson, not checked"] = lambda: orjson.loads(text)
    return [(name, call, contextlib.nullcontext) for name, call in calls.items()]


def pages() -> Iterable[Case]:
    for size in (1, 25, 100):
        answer = answering(MessageViewSet, "list", limit=size)
        yield f"a list of {size}", answer, contextlib.nullcontext


def without(answer: Callable[[], Any]) -> Iterable[Case]:
    """Measure a frame with all optimisations, without each, and without all."""
    levers = {
        "copied fields": (viewsets, "lend_fields", lambda serializer: None),
        "remembered URLs": (streams, "_is_worth_keeping", lambda lookups: False),
    }

    @contextlib.contextmanager
    def lacking(*names: str) -> Any:
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(mock.patch.object(*levers[name]))
            yield

    yield "with all", answer, lacking
    for name in levers:
        yield f"without {name}", answer, lambda name=name: lacking(name)
    yield "without all of them", answer, lambda: lacking(*levers)


def answering(viewset: type, action: str, **more: Any) -> Callable[[], Any]:
    """Return a function that answers a frame as a worker thread does."""
    stream = Stream(viewset, "messages", "message", SimpleRouter())
    handshake = Handshake(SCOPE, Credentials(SCOPE), {})

    def answer() -> None:
        close_old_connections()
        frame = Frame.from_payload({"action": action, "request_id": 1, **FRAMES[action], **more})
        reply = Exchange(stream, frame, handshake).begin()
        assert reply is not None and reply.status < 300, reply
        close_old_connections()

    return answer


def hop(many: int, rounds: int, calls: int = 1000) -> float:
    """Return microseconds of processor time, of all threads, for a call that does nothing."""

    async def ask() -> None:
        for _ in range(calls // many):
            await workers.run(bool, kind="nothing")

    async def once() -> float:
        began = time.process_time()
        await asyncio.gather(*(ask() for _ in range(many)))
        return 1e6 * (time.process_time() - began) / (calls // many * many)

    return min(asyncio.run(once()) for _ in range(rounds))


if __name__ == "__main__":
    main()
