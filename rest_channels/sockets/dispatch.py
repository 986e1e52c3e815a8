"""One frame and its replies: the path through DRF, from top to bottom."""

from __future__ import annotations

import asyncio
import enum
import inspect
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Mapping,
)
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponseBase
from django.urls import NoReverseMatch
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language
from rest_framework.response import Response

from rest_channels.exceptions import FrameError
from rest_channels.live.exact_values import Inexact, exact
from rest_channels.live.interface import (
    Options,
    Subscribe,
    SubscribeResponse,
    Topic,
)
from rest_channels.live.topics import OPTION_KEYS
from rest_channels.observing.reports import FrameReport
from rest_channels.protocol import TRACE_HEADERS, Frame, Reply, header_value
from rest_channels.sockets.frame_fence import FrameFence
from rest_channels.sockets.kept_memory import kept_bytes
from rest_channels.sockets.request import (
    Call,
    Handshake,
    MessageRequest,
    activate_language,
    activate_script_prefix,
    pk_of_user,
)
from rest_channels.sockets.response import reply_to, reply_to_cancel, reply_to_crash
from rest_channels.sockets.reviews import circumstances, review
from rest_channels.sockets.streams import Stream
from rest_channels.workers.connection_state import begin_afresh, statements_here
from rest_channels.workers.connections import close_old_connections
from rest_channels.workers.contexts import around_frame
from rest_channels.workers.threads import drawers, thread_sensitive, workers

_DONE: Final = object()


class Stage(enum.StrEnum):
    """The stage of an exchange, or what it waits for, in the words of the log of stalls."""

    QUEUED = "it waits for a free worker thread"
    WORKING = "it is in a worker thread"
    ACTING = "its async or generator action continues"
    TURN = "it waits for earlier frames about its subscription"
    FENCING = "it waits until subscriptions have received what it committed"
    JOINING = "it waits for the passes of its database"
    KEY = "it waits for an earlier frame with its idempotency key"
    ANSWERING = "it is in the outbox, because the client does not read"


# Items of a generator drawn ahead of the client's reading.
_PARTS_AHEAD: Final = 4

# If a client reads none of them for this long, its action, which holds a thread, is stopped.
_SECONDS_TO_TAKE_A_PART: Final = 30


def is_unfinished(response: Any) -> bool:
    """Return whether an action returned a coroutine or a generator instead of a response."""
    # Most are responses: abstract classes take ten times as long to say no.
    if isinstance(response, HttpResponseBase):
        return False
    return isinstance(response, (Coroutine, Generator, AsyncGenerator))


def _renew() -> None:
    # In a test's own thread, the connections are the test's.
    if not thread_sensitive.get():
        begin_afresh()
    close_old_connections()


# For the thread in which asgiref runs the queries of async code.
_renew_connections = sync_to_async(_renew)


class Exchange:
    """
    The life of one frame.

    1. One hop into a worker thread: `begin` finds the view, and DRF's `dispatch()` runs, from
       authentication to the renderer. For most frames this is the reply.
    2. An `async def` action leaves a coroutine, which runs on the loop. A generator leaves items;
       each is a reply with status 206.
    3. `finish`, in a second hop, gives DRF the response or the exception of such an action.

    `request` is set once `begin` knows what to call; `subscribes` once an action has asked for a
    subscription: its topic and options.
    """

    request: MessageRequest
    subscribes: tuple[Topic, Options] | None = None
    #: Whether the action signed the socket's user out: its reply is the last.
    signs_out = False
    #: Set once the client has been answered, if the subscription does that.
    settled: asyncio.Event | None = None
    #: Its stage, for the log of stalls, and the thread that works on it.
    stage = Stage.QUEUED
    thread: int | None = None

    def __init__(
        self, stream: Stream, frame: Frame, handshake: Handshake, *, is_row: bool = False
    ) -> None:
        self.stream = stream
        self.frame = frame
        self.handshake = handshake
        self.is_row = is_row
        self._unfinished: Any = None
        self._step: asyncio.Future[Any] | None = None
        self._is_stopped = False
        self._is_cancelled = False
        #: Its wait for the events of what it commits, if it asks for one.
        self.fence = FrameFence() if frame.fence else None

    async def reply(self) -> Reply | None:
        """Return the only reply, on the loop; None if the action continues in `replies`."""
        # Apart from those, because a generator costs more than the rest of a plain action here.
        return reply_to_cancel(self.frame) if self._is_cancelled else await self._run(self.begin)

    async def replies(self) -> AsyncIterator[Reply]:
        """Yield the replies of an action that continues; the last one ends the frame."""
        outcome: HttpResponseBase | Exception
        self.stage = Stage.ACTING
        try:
            await _renew_connections()
            if self._is_stopped:
                raise asyncio.CancelledError
            if inspect.iscoroutine(self._unfinished):
                outcome = await self._stoppable(self._awaited)
            else:
                async for part in self._parts():
                    yield part
                outcome = Response()
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
            yield reply_to_cancel(self.frame)
            return
        except Exception as exc:
            outcome = exc
        finally:
            if inspect.iscoroutine(self._unfinished):
                self._unfinished.close()
            await _renew_connections()
        yield await self._run(self.finish, outcome)

    @property
    def keeps_long(self) -> bool:
        """Whether its frame is a long one, and not answered yet."""
        return self.frame.is_long and not (self.settled is not None and self.settled.is_set())

    def stop(self) -> None:
        """
        Stop an async or generator action, now or when it turns out to be one; on the loop.

        The reply does not wait for a fence any more.
        """
        self._is_stopped = True
        if self._step is not None:
            self._step.cancel()
        if self.fence is not None:
            self.fence.give_up()

    def cancel(self) -> None:
        """Stop, or do not begin. A plain action that has begun continues to its end."""
        self._is_cancelled = True
        self.stop()

    def begin(self) -> Reply | None:
        """Run DRF's dispatch; in a worker thread. Returns None if the action is unfinished."""
        self.stage, self.thread = Stage.WORKING, threading.get_ident()
        activate_script_prefix(self.handshake.scope)
        try:
            self.request = self._find()
        except FrameError as error:
            return Reply.error(400, error.detail, error.code, to=self.frame)
        except NoReverseMatch:
            return Reply.error(404, "Not found.", "not_found", to=self.frame)
        except Exception as exc:
            return reply_to_crash(self.frame, None, exc)
        try:
            activate_language(self.request)
            with around_frame(self.request):
                return self._dispatched()
        except BaseException as exc:
            return reply_to_crash(self.frame, self.request, exc)

    def _dispatched(self) -> Reply | None:
        call = self.request.call
        response = call.view(self.request, **call.kwargs)
        if is_unfinished(response):
            self._unfinished = response
            return None
        return self._settled(response)

    def finish(self, outcome: HttpResponseBase | Exception) -> Reply:
        """Let DRF handle the outcome of an async or generator action; in a worker thread."""
        self.stage, self.thread = Stage.WORKING, threading.get_ident()
        try:
            with around_frame(self.request):
                return self._settled(self._finalized(outcome))
        except BaseException as exc:
            return reply_to_crash(self.frame, self.request, exc)

    def part(self, item: Any) -> Reply:
        """Return the reply for one item of a generator, data or a response; in a worker thread."""
        response = item if isinstance(item, HttpResponseBase) else Response(item)
        response.status_code = 206
        with around_frame(self.request):
            return reply_to(self.frame, self._finalized(response))

    def _find(self) -> MessageRequest:
        frame, query = self.frame, self.stream.query(self.frame)
        if query is not frame.query:
            frame = replace(frame, query=query)
        return self._request(frame, self._call(frame))

    def _request(self, frame: Frame, call: Call) -> MessageRequest:
        return MessageRequest(self.handshake, frame, call)

    def _call(self, frame: Frame) -> Call:
        return self.stream.call(frame, self.handshake, is_row=self.is_row)

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        owner, action = self.handshake.credentials.owner, self.frame.action
        # An invented action has no kind, because kinds are remembered.
        kind = (self.stream, action) if action in self.stream.actions else None
        if (report := self.frame.report) is not None:
            function = partial(self._measured, report, perf_counter(), function)
        return await workers.run(function, *args, owner=owner, kind=kind)

    def _measured(
        self, report: FrameReport, asked_at: float, function: Callable[..., Any], *args: Any
    ) -> Any:
        """Note in `report` the wait since `asked_at`, the queries, and whom DRF has found."""
        report.thread_seconds += perf_counter() - asked_at
        before = statements_here()
        try:
            return function(*args)
        finally:
            report.queries += statements_here() - before
            request = vars(self).get("request")
            if request is not None:
                report.verb, report.user_pk = request.call.method, pk_of_user(request)

    def _finalized(self, outcome: HttpResponseBase | Exception) -> HttpResponseBase:
        # The last two steps of DRF's dispatch(), for a response that came after it returned.
        activate_script_prefix(self.handshake.scope)
        activate_language(self.request)
        view: Any = self.request.view
        if isinstance(outcome, Exception):
            outcome = view.handle_exception(outcome)
        view.response = view.finalize_response(view.request, outcome, *view.args, **view.kwargs)
        return view.response

    def _settled(self, response: HttpResponseBase) -> Reply:
        return self._noted(response, reply_to(self.frame, response))

    def _noted(self, response: HttpResponseBase, reply: Reply) -> Reply:
        self.signs_out = self.handshake.credentials.settle(self.request, reply.status)
        if isinstance(response, SubscribeResponse) and reply.status < 300:
            self.subscribes = self._topic(response.asks), response.asks.options
        return reply

    def _topic(self, wanted: Subscribe) -> Topic:
        request = self.request
        view: Any = request.view
        call = self.stream.review_call(request.call, view.action, is_row=wanted.is_row)
        # The client's `held` may be long, and is needed only once.
        rest = {k: v for k, v in request.frame.rest.items() if k not in OPTION_KEYS}
        return Topic(
            review=partial(review, self.handshake, self._kept(request.frame, rest), call),
            place=self._place(call, is_row=wanted.is_row),
            name=self._name(view.action, call, is_row=wanted.is_row),
            row=_row(view) if wanted.is_row else None,
            alias=wanted.alias,
            credentials=self.handshake.credentials,
            has_own_credentials=request.has_own_credentials,
            circumstances=circumstances(view, self.handshake),
            variables=self.handshake.variables,
            kept_bytes=self._kept_bytes(self._kept(self.frame, rest)),
        )

    @staticmethod
    def _kept(frame: Frame, rest: Mapping[str, Any]) -> Frame:
        """Return the part of `frame` that outlives it."""
        return replace(frame, rest=rest, headers=_lasting(frame.headers), report=None)

    def _kept_bytes(self, frame: Frame) -> int:
        return kept_bytes(frame, self.request.META["QUERY_STRING"])

    def _place(self, call: Call, *, is_row: bool) -> tuple[Any, ...]:
        """Return everything that an answer to `call` may depend on apart from the user."""
        request = self.request
        view: Any = request.view
        renderer = view.request.accepted_renderer
        return (
            *(self.stream, view.action, is_row, call.method, call.path),
            *(_compared(call.kwargs), request.META["QUERY_STRING"]),
            *(request.get_host(), request.is_secure(), request.META.get("SCRIPT_NAME")),
            *(get_language(), get_current_timezone_name()),
            *(type(renderer), view.request.accepted_media_type, view.request.version),
            tuple(sorted(_lasting(self.frame.headers).items())),
        )

    def _name(self, action: str | None, call: Call, *, is_row: bool) -> str:
        """Return a text that is the same in every process for the same action and query."""
        kwargs, query = repr(sorted(call.kwargs.items())), self.request.META["QUERY_STRING"]
        return repr((self.stream.prefix, action, is_row, kwargs, query))

    async def _stoppable(self, begin: Callable[[], Awaitable[Any]]) -> Any:
        self._step = asyncio.ensure_future(_contained(begin))
        try:
            return await self._step
        except asyncio.CancelledError:
            self._step.cancel()
            raise

    async def _awaited(self) -> Any:
        with around_frame(self.request):
            return await self._unfinished

    async def _next_item(self) -> Any:
        with around_frame(self.request):
            return await anext(self._unfinished, _DONE)

    def _parts(self) -> AsyncIterator[Reply]:
        if inspect.isasyncgen(self._unfinished):
            return self._parts_of_loop()
        return self._parts_of_thread()

    async def _parts_of_loop(self) -> AsyncIterator[Reply]:
        items = self._unfinished
        try:
            # Between two steps there is no step to cancel.
            while not self._is_stopped:
                item = await self._stoppable(self._next_item)
                if item is _DONE:
                    return
                yield await self._run(self.part, item)
            raise asyncio.CancelledError
        finally:
            await items.aclose()

    async def _parts_of_thread(self) -> AsyncIterator[Reply]:
        loop = asyncio.get_running_loop()
        parts: asyncio.Queue[Any] = asyncio.Queue()
        room = threading.Semaphore(_PARTS_AHEAD)

        def emit(part: Reply) -> bool:
            if not room.acquire(timeout=_SECONDS_TO_TAKE_A_PART):
                self._is_stopped = True
            if not self._is_stopped:
                loop.call_soon_threadsafe(parts.put_nowait, part)
            return not self._is_stopped

        owner = self.handshake.credentials.owner
        drawing = asyncio.ensure_future(drawers.run(self._draw, emit, owner=owner))
        # A loop runs callbacks in order: this one comes after the last part.
        drawing.add_done_callback(lambda _: parts.put_nowait(_DONE))
        try:
            while (part := await self._stoppable(parts.get)) is not _DONE:
                yield part
                room.release()
            drawing.result()
            if self._is_stopped:
                raise asyncio.CancelledError
        finally:
            self._is_stopped = self._is_stopped or not drawing.done()
            room.release()
            await asyncio.wait([drawing])

    def _draw(self, emit: Callable[[Reply], bool]) -> None:
        # All items in one thread, because its database connection has the generator's cursor; and
        # not in a thread that answers frames, because it waits for the client to read.
        items = self._unfinished
        try:
            while (item := self._drawn(items)) is not _DONE:
                if not emit(self.part(item)):
                    break
        finally:
            items.close()

    def _drawn(self, items: Any) -> Any:
        with around_frame(self.request):
            return next(items, _DONE)


def _lasting(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers without those of this frame alone: an answer is the same without them."""
    if TRACE_HEADERS.isdisjoint(headers):
        return headers
    return {name: value for name, value in headers.items() if name not in TRACE_HEADERS}


def _compared(kwargs: Mapping[str, Any]) -> Hashable:
    """Return the lookups of a URL, which its converters may make of any type, for comparison."""
    try:
        return exact(dict(sorted(kwargs.items())))
    except Inexact:
        return object()


def _row(view: Any) -> str:
    return str(view.kwargs[view.lookup_url_kwarg or view.lookup_field])


async def _contained(begin: Callable[[], Awaitable[Any]]) -> Any:
    """
    Await the result of `begin`, and turn what would end the loop or this task into errors.

    These are SystemExit, and a cancellation that was not meant for this task.
    """
    try:
        return await begin()
    except (SystemExit, asyncio.CancelledError) as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"An action raised {type(exc).__name__}.") from exc


class Authentication(Exchange):
    """The connection's own action: new credentials replace the socket's if DRF accepts them."""

    def __init__(self, stream: Stream, frame: Frame, handshake: Handshake) -> None:
        """Read the credentials. Raises `FrameError` if `frame.data` has no `authorization`."""
        try:
            if not isinstance(frame.data, dict):
                raise FrameError("'data' must be an object with 'authorization'.", code="required")
            authorization = frame.data.get("authorization")
            if not isinstance(authorization, str):
                raise FrameError("'authorization' must be the header's value, a string.")
            headers = {**frame.headers, "authorization": header_value(authorization)}
        except FrameError as error:
            error.action, error.request_id = frame.action, frame.request_id
            raise
        super().__init__(stream, replace(frame, headers=headers), handshake)

    def _call(self, frame: Frame) -> Call:
        return self.stream.authentication_call(self.handshake)

    def _settled(self, response: HttpResponseBase) -> Reply:
        reply = super()._settled(response)
        if reply.status == 200:
            authorization = self.frame.headers["authorization"].encode("latin-1")
            self.handshake.credentials.replace(authorization, self.request)
        return reply
