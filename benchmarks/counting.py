"""
The process that `benchmarks.instructions` runs under valgrind: frames of one subject.

A `Socket` stands in for the server, whose instructions are not counted. For each kind of frame,
callgrind writes four dumps, one at each `mark`: the second covers N frames, the fourth 2N. Their
difference is free of the cost of beginning and ending.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

# First: it sets Django up.
from benchmarks.site import MAKERS, SUBJECT, MessageSerializer, MessageViewSet, Pages, messages

# isort: split
from channels.layers import get_channel_layer
from django.core.handlers.asgi import ASGIRequest
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.viewsets import ModelViewSet

from benchmarks.messages.models import Author, Message
from rest_channels.bus import doorbell
from rest_channels.live.log.maintenance import housekeeper

#: Frames before the first counted one: by then, caches are filled and connections are open.
WARM_UP: Final = 10

#: Sockets that receive the row saved by `event`, or the message of `group`.
SUBSCRIBERS: Final = 1000

#: A row that every subscriber sees, and one that the subscriber of `nobody` does not see.
SEEN, UNSEEN = 1, 500

DATA: Final = {"author": 3, "text": "hello", "score": 3}

#: The frame of each kind, and the status of its reply.
FRAMES: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "retrieve": ({"action": "retrieve", "pk": 5}, 200),
    "list": ({"action": "list"}, 200),
    "update": ({"action": "update", "pk": 7, "data": DATA}, 200),
    "create": ({"action": "create", "data": DATA}, 201),
    "refused": ({"action": "explode"}, 405),
    "idle": ({"action": "idle"}, 200),
}
#: The members of the group, by kind.
GROUP_KINDS: Final = {"group": SUBSCRIBERS, "pair": 2}

SCOPE: Final = {
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://127.0.0.1:8000")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 8000),
}


class Socket:
    """The server's end of one websocket; `on_event` receives messages that answer no `ask`."""

    # An outbox calls a known server's `send` without a task, as it would uvicorn's.
    __module__ = "uvicorn.protocols.websockets.counting"

    def __init__(
        self, application: Any, path: str, on_event: Callable[[str], None] = lambda text: None
    ) -> None:
        self.on_event = on_event
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answer: asyncio.Future[str] | None = None
        scope = {**SCOPE, "type": "websocket", "scheme": "ws", "path": path, "subprotocols": []}
        self._serving = asyncio.ensure_future(application(scope, self.receive, self.send))
        self._serving.add_done_callback(self._on_end)

    async def open(self) -> Socket:
        """Wait until the socket is accepted."""
        await self._answered({"type": "websocket.connect"})
        return self

    async def ask(self, text: str) -> str:
        """Send a frame, and return the next message."""
        return await self._answered({"type": "websocket.receive", "text": text})

    def put(self, text: str) -> None:
        """Send a frame that is not answered."""
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def receive(self) -> dict[str, Any]:
        """Return the next message of the client: ASGI's `receive`."""
        return await self._incoming.get()

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message to the client: ASGI's `send`."""
        if message["type"] == "websocket.close":
            raise RuntimeError(f"The socket was closed: {message}")
        answer, text = self._answer, message.get("text") or ""
        if answer is None:
            self.on_event(text)
        else:
            self._answer = None
            answer.set_result(text)

    def _answered(self, message: dict[str, Any]) -> asyncio.Future[str]:
        self._answer = answer = asyncio.get_running_loop().create_future()
        self._incoming.put_nowait(message)
        return answer

    def _on_end(self, serving: asyncio.Task[None]) -> None:
        if not serving.cancelled() and self._answer is not None:
            self._answer.set_exception(serving.exception() or RuntimeError("The socket ended."))


class DRFViewSet(ModelViewSet):
    """The viewset of `benchmarks.site` as DRF alone has it."""

    queryset = messages()
    serializer_class = MessageSerializer
    pagination_class = Pages

    @action(detail=False)
    def idle(self, request: Any) -> Response:
        """Return what `idle` of the other subjects returns."""
        return Response({"idle": True})


#: Handles as many frames as it is given.
Handle = Callable[[int], None]


def over_socket(kind: str, loop: asyncio.Runner) -> Handle:
    """Return a function that sends frames of `kind` over a socket."""
    frame, status = FRAMES[kind]
    text = json.dumps({"request_id": 1, **frame})

    async def ask(socket: Socket, times: int) -> None:
        for _ in range(times):
            reply = await socket.ask(text)
        if json.loads(reply)["response_status"] != status:
            raise RuntimeError(f"{kind} was answered {reply}")

    socket = loop.run(opened(MAKERS[SUBJECT](), "/messages/"))
    return lambda times: loop.run(ask(socket, times))


def by_hand(viewset: Any, kind: str) -> Handle:
    """Return a function that calls the view with one HTTP request and renders the response."""
    frame, status = FRAMES[kind]
    verb, name = {
        "list": ("get", "list"),
        "update": ("put", "update"),
        "create": ("post", "create"),
        "refused": ("post", "retrieve"),
        "idle": ("get", "idle"),
    }.get(kind, ("get", "retrieve"))
    view = viewset.as_view({"get" if kind == "refused" else verb: name})
    body = json.dumps(frame["data"]).encode() if "data" in frame else b""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {
        **{**SCOPE, "type": "http", "method": verb.upper(), "path": "/messages/"},
        "headers": [*SCOPE["headers"], (b"accept", b"application/json, */*"), *headers],
    }
    request: Any = ASGIRequest(scope, io.BytesIO(body))
    # Once its body is read, the request can be parsed any number of times.
    assert request.body == body
    request._dont_enforce_csrf_checks = True
    kwargs = {"pk": frame["pk"]} if "pk" in frame else {}

    def handle(times: int) -> None:
        for _ in range(times):
            response = view(request, **kwargs).render()
        if response.status_code != status:
            raise RuntimeError(f"{kind} was answered {response.content}")

    return handle


def by_orm(kind: str) -> Handle:
    """Return a function that makes the queries of `kind`."""

    def update() -> None:
        row = messages().get(pk=7)
        row.author = Author.objects.get(pk=3)
        row.save()

    def create() -> None:
        Message(author=Author.objects.get(pk=3), text="hello", score=3).save()

    call: Callable[[], Any] = {
        "retrieve": lambda: messages().get(pk=5),
        "list": lambda: (messages().count(), list(messages()[:25])),
        "update": update,
        "create": create,
    }[kind]

    def handle(times: int) -> None:
        for _ in range(times):
            call()

    return handle


async def opened(application: Any, path: str, **kwargs: Any) -> Socket:
    return await Socket(application, path, **kwargs).open()


class Audience:
    """`count` sockets that subscribe, and one that saves rows."""

    def __init__(self, count: int, query: dict[str, Any]) -> None:
        from benchmarks.live_site import application

        self.application = application()
        self.count = count
        self.query = query
        self.number = 0
        self._missing = 0
        self._is_over = asyncio.Event()

    async def gather(self) -> None:
        """Open the sockets, and subscribe."""
        text = json.dumps({"action": "subscribe", "request_id": 1, "query": self.query})
        for _ in range(self.count):
            socket = await opened(self.application, "/messages/", on_event=self._on_event)
            await socket.ask(text)
        self.writer = await opened(self.application, "/write/")

    async def save(self, pk: int, times: int) -> None:
        """Save the row `times` times, each after every socket has received the save before."""
        for _ in range(times):
            self._begin()
            self._missing = self.count
            await self._saved(pk)

    async def save_unseen(self, pk: int, times: int) -> None:
        """Save a row that no socket sees, each time after the pass for the save before."""
        loop = asyncio.get_running_loop()
        on_pass.append(lambda: loop.call_soon_threadsafe(self._is_over.set))
        for _ in range(times):
            self._begin()
            await self._saved(pk)
        on_pass.clear()

    def _begin(self) -> None:
        self.number += 1
        self._is_over.clear()

    async def _saved(self, pk: int) -> None:
        frame = {"pks": [pk], "number": self.number, "together": False}
        await self.writer.ask(json.dumps(frame))
        await asyncio.wait_for(self._is_over.wait(), 600)

    def _on_event(self, text: str) -> None:
        # A saved row begins with "#". Other messages, such as heartbeats, do not count.
        if f"#{self.number}#" in text:
            self._missing -= 1
            if not self._missing:
                self._is_over.set()


on_pass: list[Callable[[], Any]] = []


@contextlib.contextmanager
def noticed_pass() -> Iterator[None]:
    """Call `on_pass` after each pass: for `PASS_CONTEXTS`."""
    yield
    for call in on_pass:
        call()


def live(kind: str, loop: asyncio.Runner) -> Handle:
    """Return a function that saves a row which `SUBSCRIBERS` sockets receive, or none."""
    if kind == "event":
        audience = Audience(SUBSCRIBERS, {})
        save = partial(audience.save, SEEN)
    else:
        audience = Audience(1, {"id__lte": SEEN})
        save = partial(audience.save_unseen, UNSEEN)
    loop.run(audience.gather())
    return lambda times: loop.run(save(times))


class Group:
    """
    `count` members of a group, one of which sends messages to all.

    If the layer is shared, this process receives each of its messages from it as well.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._missing = 0
        self._is_over = asyncio.Event()
        self._is_shared = "BENCH_REDIS" in os.environ
        if self._is_shared:
            self._notice_receive(get_channel_layer())

    async def gather(self) -> None:
        """Open the sockets."""
        application = MAKERS["group" if SUBJECT == "rest_channels" else "plain_group"]()
        for _ in range(self.count):
            self.member = await opened(application, "/messages/", on_event=self._on_event)

    async def send(self, times: int) -> None:
        """Send `times` messages, each after every member has received the one before."""
        text = json.dumps({"text": "word " * 20})
        for _ in range(times):
            self._is_over.clear()
            self._missing = self.count + self._is_shared
            self.member.put(text)
            await asyncio.wait_for(self._is_over.wait(), 600)

    def _notice_receive(self, layer: Any) -> None:
        receive = layer.receive

        async def noticed(*args: Any) -> Any:
            message = await receive(*args)
            self._on_event(str(message))
            return message

        layer.receive = noticed

    def _on_event(self, text: str) -> None:
        if "word" in text:
            self._missing -= 1
            if not self._missing:
                self._is_over.set()


def group(kind: str, loop: asyncio.Runner) -> Handle:
    """Return a function that sends messages to a group."""
    members = Group(GROUP_KINDS[kind])
    loop.run(members.gather())
    return lambda times: loop.run(members.send(times))


@contextlib.contextmanager
def instrumented() -> Iterator[None]:
    """Switch counting on; while it is off, valgrind is several times as fast."""
    monitor("instrumentation", "on")
    yield
    monitor("instrumentation", "off")


def monitor(*command: str) -> None:
    """Give valgrind a command, which it reads only while this process computes."""
    process = subprocess.Popen(
        ["vgdb", f"--pid={os.getpid()}", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        pass
    if process.returncode:
        raise RuntimeError(f"vgdb {command} failed: {process.returncode}")


def mark() -> None:
    """Make callgrind write a dump: it does so before each call of this function of libc."""
    os.getpriority(os.PRIO_PROCESS, 0)


def count(handle: Handle, frames: int) -> None:
    """Handle `frames` frames, then twice as many."""
    handle(WARM_UP)
    with instrumented():
        for times in (frames, 2 * frames):
            # A full collection, of everything imported, would count by chance in one run alone.
            gc.collect()
            gc.freeze()
            mark()
            handle(times)
            mark()


SUBJECTS: Final[dict[str, Callable[[str, asyncio.Runner], Handle]]] = {
    "rest_channels": over_socket,
    "dcrf": over_socket,
    "plain": over_socket,
    "view": lambda kind, loop: by_hand(MessageViewSet, kind),
    "drf": lambda kind, loop: by_hand(DRFViewSet, kind),
    "orm": lambda kind, loop: by_orm(kind),
}

#: Kinds that every subject serves in a way of its own.
MAKERS_OF_KINDS: Final[dict[str, Callable[[str, asyncio.Runner], Handle]]] = {
    "event": live,
    "nobody": live,
    "group": group,
    "pair": group,
}


def main() -> None:
    """Count the kinds asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("kinds", nargs="+", help="retrieve:50 counts 50 frames, and 100")
    options = parser.parse_args()
    # It numbers changes 30 seconds after a write, and so in any kind of frame.
    doorbell.remove_listener(housekeeper)
    with asyncio.Runner() as loop:
        for asked in options.kinds:
            kind, _, frames = asked.partition(":")
            make = MAKERS_OF_KINDS.get(kind, SUBJECTS[options.subject])
            count(make(kind, loop), int(frames))
        sys.stdout.flush()
        # Not by return: closing a thousand sockets under valgrind takes minutes.
        os._exit(0)
