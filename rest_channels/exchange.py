"""
One frame and its replies: the way through DRF, from top to bottom.
"""

from __future__ import annotations

import asyncio
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
)
from dataclasses import replace
from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpResponseBase
from django.urls import NoReverseMatch
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language
from rest_framework import authentication
from rest_framework.response import Response

from rest_channels.exceptions import FrameError
from rest_channels.live.topics import OPTION_KEYS, Options, Review, Subscribe, Topic
from rest_channels.live.watch import (
    SOCKET,
    WatchedMessageRequest,
    WatchedRequest,
    reads_of,
    unwatched,
)
from rest_channels.protocol import Frame, Reply, header_value
from rest_channels.request import (
    Call,
    Handshake,
    MessageRequest,
    activate_language,
    activate_script_prefix,
)
from rest_channels.response import reply_to, reply_to_cancel, reply_to_crash
from rest_channels.streams import Stream
from rest_channels.threads import close_old_connections, drawers, workers

_DONE: Final = object()

# Items of a generator drawn ahead of the client's reading.
_PARTS_AHEAD: Final = 4

# A client that takes none of them for so long has its action stopped, which holds a thread.
_SECONDS_TO_TAKE_A_PART: Final = 30


def is_unfinished(response: Any) -> bool:
    """Whether an action returned a coroutine or a generator where DRF expects a response."""
    return isinstance(response, (Coroutine, Generator, AsyncGenerator))


# For the thread in which asgiref runs the queries of async code.
_renew_connections = sync_to_async(close_old_connections)


class Exchange:
    """
    The life of one frame.

    1. One hop into a worker thread: `begin` finds the view, and DRF's `dispatch()` runs, from
       authentication to the renderer. Mostly that is the reply.
    2. An `async def` action leaves a coroutine; it runs on the loop. A generator leaves items;
       each is a reply with status 206.
    3. `finish`, in a second hop, gives DRF the response or the exception of such an action.

    `request` is there from the moment `begin` knows what to call; `subscribes` once an action has
    returned that the client is to be subscribed, and to what.
    """

    request: MessageRequest
    subscribes: tuple[Topic, Options] | None = None

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

    async def reply(self) -> Reply | None:
        """The one reply, on the loop; None where the action goes on: then there are `replies`."""
        # Apart from those, for a generator costs more than all else a plain action does here.
        return reply_to_cancel(self.frame) if self._is_cancelled else await self._run(self.begin)

    async def replies(self) -> AsyncIterator[Reply]:
        """What an action that goes on tells the client; ends with exactly one last reply."""
        outcome: HttpResponseBase | Exception
        try:
            await _renew_connections()
            if self._is_stopped:
                raise asyncio.CancelledError
            if inspect.iscoroutine(self._unfinished):
                outcome = await self._stoppable(lambda: self._unfinished)
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
    def signs_out(self) -> bool:
        """Whether the action signed the socket's user out: the reply said is the last."""
        request = getattr(self, "request", None)
        return request is not None and request.signs_out

    def stop(self) -> None:
        """Stop an async or generator action, now or when it turns out to be one; on the loop."""
        self._is_stopped = True
        if self._step is not None:
            self._step.cancel()

    def cancel(self) -> None:
        """Stop, and do not begin where it has not begun. A plain action goes on to its end."""
        self._is_cancelled = True
        self.stop()

    def begin(self) -> Reply | None:
        """Run DRF's dispatch; in a worker thread. None where the action left something to do."""
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
            call = self.request.call
            response = call.view(self.request, **call.kwargs)
            if is_unfinished(response):
                self._unfinished = response
                return None
            return self._settled(response)
        except BaseException as exc:
            return reply_to_crash(self.frame, self.request, exc)

    def finish(self, outcome: HttpResponseBase | Exception) -> Reply:
        """Let DRF handle the outcome of an async or generator action; in a worker thread."""
        try:
            return self._settled(self._finalized(outcome))
        except BaseException as exc:
            return reply_to_crash(self.frame, self.request, exc)

    def part(self, item: Any) -> Reply:
        """The reply for one item of a generator, data or a response; in a worker thread."""
        response = item if isinstance(item, HttpResponseBase) else Response(item)
        response.status_code = 206
        return reply_to(self.frame, self._finalized(response))

    def _find(self) -> MessageRequest:
        frame, query = self.frame, self.stream.query(self.frame)
        if query is not frame.query:
            frame = replace(frame, query=query)
        return MessageRequest(self.handshake, frame, self._call(frame))

    def _call(self, frame: Frame) -> Call:
        return self.stream.call(frame, self.handshake, is_row=self.is_row)

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        owner, action = self.handshake.credentials.owner, self.frame.action
        # What a client makes up is of no kind: it would be remembered.
        kind = (self.stream, action) if action in self.stream.actions else None
        return await workers.run(function, *args, owner=owner, kind=kind)

    def _finalized(self, outcome: HttpResponseBase | Exception) -> HttpResponseBase:
        # The last two of DRF's dispatch() steps, for a response that came after it returned.
        activate_script_prefix(self.handshake.scope)
        activate_language(self.request)
        view: Any = self.request.view
        if isinstance(outcome, Exception):
            outcome = view.handle_exception(outcome)
        view.response = view.finalize_response(view.request, outcome, *view.args, **view.kwargs)
        return view.response

    def _settled(self, response: HttpResponseBase) -> Reply:
        reply = reply_to(self.frame, response)
        self.handshake.credentials.settle(self.request, reply.status)
        wanted = getattr(response, "subscribe", None)
        if wanted is not None and reply.status < 300:
            self.subscribes = self._topic(wanted), wanted.options
        return reply

    def _topic(self, wanted: Subscribe) -> Topic:
        request = self.request
        view: Any = request.view
        call = self.stream.review_call(request.call, view.action, is_row=wanted.is_row)
        kwargs = repr(sorted(call.kwargs.items()))
        query = request.META["QUERY_STRING"]
        renderer = view.request.accepted_renderer
        place = (
            *(self.stream, view.action, wanted.is_row, call.method, call.path, kwargs, query),
            *(request.get_host(), request.is_secure(), request.META.get("SCRIPT_NAME")),
            *(get_language(), get_current_timezone_name()),
            *(type(renderer), view.request.accepted_media_type, view.request.version),
            tuple(sorted(self.frame.headers.items())),
        )
        # What the client says it holds may be long, and is of use but once.
        rest = {k: v for k, v in request.frame.rest.items() if k not in OPTION_KEYS}
        return Topic(
            review=partial(review, self.handshake, replace(request.frame, rest=rest), call),
            place=place,
            name=repr((self.stream.prefix, view.action, wanted.is_row, kwargs, query)),
            row=_row(view) if wanted.is_row else None,
            alias=wanted.alias,
            credentials=self.handshake.credentials,
            has_own_credentials=request.has_own_credentials,
            circumstances=_circumstances(view, self.handshake),
        )

    async def _stoppable(self, begin: Callable[[], Awaitable[Any]]) -> Any:
        self._step = asyncio.ensure_future(_contained(begin))
        try:
            return await self._step
        except asyncio.CancelledError:
            self._step.cancel()
            raise

    def _parts(self) -> AsyncIterator[Reply]:
        if inspect.isasyncgen(self._unfinished):
            return self._parts_of_loop()
        return self._parts_of_thread()

    async def _parts_of_loop(self) -> AsyncIterator[Reply]:
        items = self._unfinished
        try:
            # Stopped between two steps there is no step to cancel.
            while not self._is_stopped:
                item = await self._stoppable(lambda: anext(items, _DONE))
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
        # Callbacks of a loop run in order: this one comes after the last part.
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
        # All items in one thread, the one whose database connection the generator's cursor uses;
        # none of the threads that answer frames, for it waits for the client to read.
        items = self._unfinished
        try:
            for item in items:
                if not emit(self.part(item)):
                    break
        finally:
            items.close()


def review(handshake: Handshake, frame: Frame, call: Call) -> Review:
    """
    What the subscriber of `frame` may see now, by DRF's dispatch; in a worker thread. Raises what
    DRF's exception handler leaves alone: then it is not known.
    """
    activate_script_prefix(handshake.scope)
    request = WatchedMessageRequest(handshake, frame, call)
    activate_language(request)
    response = call.view(request, **call.kwargs)
    # What this function asks is not what decided it.
    with unwatched(request):
        view: Any = request.view
        reads = _reads(view)
        handshake.credentials.note_user(request)
    if response.status_code >= 400:
        return Review(response.status_code)
    return Review(response.status_code, view, view.reviewed, view.shown_by, reads)


def _reads(view: Any) -> frozenset[str]:
    if not isinstance(view.request, WatchedRequest):
        # Made by the project itself: what is read of it is not known.
        return frozenset({SOCKET})
    return frozenset(reads_of(view.request))


def _circumstances(view: Any, handshake: Handshake) -> Hashable:
    """
    All that an authentication class of the project's own may look at: whom it finds may have no
    key, or more to them than their key. DRF's own look at session and Authorization header alone.
    """
    if all(type(a).__module__ == authentication.__name__ for a in view.get_authenticators()):
        return None
    return tuple(handshake.headers.items()), str(handshake.scope.get("client", [""])[0])


def _row(view: Any) -> str:
    return str(view.kwargs[view.lookup_url_kwarg or view.lookup_field])


async def _contained(begin: Callable[[], Awaitable[Any]]) -> Any:
    """
    Await what `begin` gives. SystemExit, which would end the event loop, and a cancellation that
    nobody asked this task for are errors like others.
    """
    try:
        return await begin()
    except (SystemExit, asyncio.CancelledError) as exc:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"{type(exc).__name__} was raised by an action.") from exc


class Authentication(Exchange):
    """The connection's own action: credentials that replace the socket's where DRF takes them."""

    def __init__(self, stream: Stream, frame: Frame, handshake: Handshake) -> None:
        """Raises `FrameError` where `frame.data` has no `authorization`."""
        try:
            if not isinstance(frame.data, dict):
                raise FrameError("'data' is an object with 'authorization'.", code="required")
            authorization = frame.data.get("authorization")
            if not isinstance(authorization, str):
                raise FrameError("'authorization' is the header's value, a string.")
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
