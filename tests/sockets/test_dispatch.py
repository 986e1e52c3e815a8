"""One frame and its replies: async actions, generators, and what goes wrong in them."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import itertools
import logging
import threading
import uuid

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError, connection
from django.http import Http404, HttpResponse, JsonResponse
from django.utils import translation
from rest_framework import exceptions, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import SimpleRouter
from rest_channels.test import SocketClient
from tests.models import Room
from tests.support.talk import OpenViewSet, serving, talking_to


def asking(viewset, *frames):
    """Ask for each frame in turn, over a socket whose work runs in worker threads."""

    async def story():
        async with talking_to(serving(viewset)) as socket:
            replies = []
            for frame in frames:
                word, keys = (frame, {}) if isinstance(frame, str) else frame
                replies.append([await socket.ask(word, **keys)])
                while replies[-1][-1]["response_status"] == 206:
                    replies[-1].append(await socket.receive())
            # First in, first out: a reply too many would come before this one.
            assert (await socket.ask("is that all", request_id="end"))["request_id"] == "end"
            return replies

    return asyncio.run(story())


def answer(function, *frames):
    """The replies to an action that is `function`."""
    viewset = type("OneViewSet", (OpenViewSet,), {"one": action(detail=False)(function)})
    return asking(viewset, *(frames or ["one"]))[0]


def logged(caplog):
    """Return the log lines of this package, without those that do not matter here."""
    return [
        record
        for record in caplog.records
        if record.name == "rest_channels" and record.levelno >= logging.WARNING
    ]


# Async actions


def test_an_async_action():
    async def one(self, request):
        await asyncio.sleep(0)
        return Response({"word": request.query_params["word"]})

    (reply,) = answer(one, ("one", {"query": {"word": "hello"}}))
    assert (reply["response_status"], reply["data"]) == (200, {"word": "hello"})


@pytest.mark.parametrize(
    "exc,status,errors,codes",
    [
        (exceptions.ValidationError({"a": ["no"]}, "bad"), 400, [{"a": ["no"]}], [{"a": ["bad"]}]),
        (exceptions.NotFound(), 404, ["Not found."], ["not_found"]),
        (Http404(), 404, ["Not found."], ["not_found"]),
        (
            PermissionDenied(),
            403,
            ["You do not have permission to perform this action."],
            ["permission_denied"],
        ),
        (SuspiciousOperation("sql"), 400, ["Bad request."], ["bad_request"]),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_what_an_action_raises_is_its_last_reply(kind, exc, status, errors, codes):
    reply = answer(raising(exc, kind))[-1]
    assert (reply["response_status"], reply["errors"], reply["codes"]) == (status, errors, codes)
    assert reply["data"] is None


def raising(exc, kind):
    def plain(self, request):
        raise exc

    async def coroutine(self, request):
        raise exc

    def generator(self, request):
        yield 1
        raise exc

    async def async_generator(self, request):
        yield 1
        raise exc

    function = {
        "plain": plain,
        "async": coroutine,
        "generator": generator,
        "async generator": async_generator,
    }[kind]
    function.__name__ = "one"
    return function


@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_a_server_error_is_logged_once_under_the_id_that_the_client_is_shown(kind, caplog):
    told = []

    def on_exception(sender, request, **kwargs):
        told.append(request.path)

    got_request_exception.connect(on_exception)
    try:
        reply = answer(raising(ZeroDivisionError("the secret"), kind))[-1]
    finally:
        got_request_exception.disconnect(on_exception)
    (record,) = logged(caplog)
    assert record.exc_info[0] is ZeroDivisionError
    assert reply["response_status"] == record.status_code == 500
    assert reply["errors"] == [f"Server error (error {record.error_id})."]
    assert reply["codes"] == ["error"]
    assert "secret" not in str(reply)
    assert told == ["/one/"]


@pytest.mark.parametrize("exc", [OperationalError("host db.internal"), InterfaceError("closed")])
@pytest.mark.parametrize("kind", ["plain", "async", "generator"])
def test_a_database_out_of_reach_is_503(exc, kind, caplog):
    reply = answer(raising(exc, kind))[-1]
    assert (reply["response_status"], reply["codes"]) == (503, ["unavailable"])
    assert "internal" not in str(reply)
    assert [r.exc_info[1] for r in logged(caplog)] == [exc]


@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_debug_propagate_exceptions_hands_the_server_the_very_exception(settings, kind):
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    exc = ZeroDivisionError("very")
    with pytest.raises(ZeroDivisionError) as caught:
        answer(raising(exc, kind))
    assert caught.value is exc


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_returning_nothing_is_an_error_of_the_server(kind, caplog):
    def plain(self, request):
        pass

    async def coroutine(self, request):
        pass

    function = plain if kind == "plain" else coroutine
    function.__name__ = "one"
    (reply,) = answer(function)
    assert reply["response_status"] == 500
    (record,) = logged(caplog)
    assert "Expected a `Response`" in str(record.exc_info[1])


@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_where_something_within_was_cancelled_there_is_a_reply(kind, caplog):
    (*_, reply) = answer(raising(asyncio.CancelledError(), kind))
    assert (reply["response_status"], reply["codes"]) == (500, ["error"])
    (record,) = logged(caplog)
    raised = record.exc_info[1]
    assert asyncio.CancelledError in {type(raised), type(raised.__cause__)}


def test_an_exception_group_in_an_async_action(caplog):
    async def one(self, request):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.fail())

    class GroupViewSet(OpenViewSet):
        async def fail(self):
            raise ZeroDivisionError

    GroupViewSet.one = action(detail=False)(one)
    ((reply,),) = asking(GroupViewSet, "one")
    assert reply["response_status"] == 500


def test_handle_exception_of_the_view_has_its_say():
    class KindViewSet(OpenViewSet):
        @action(detail=False)
        async def fail(self, request):
            raise ZeroDivisionError

        @action(detail=False)
        def fail_later(self, request):
            yield 1
            raise ZeroDivisionError

        def handle_exception(self, exc):
            return Response({"sorry": type(exc).__name__}, status=418)

    for replies in asking(KindViewSet, "fail", "fail_later"):
        assert replies[-1]["response_status"] == 418
        assert replies[-1]["errors"] == [{"sorry": "ZeroDivisionError"}]


def test_permissions_come_before_an_async_action_runs():
    ran = []

    class ClosedViewSet(OpenViewSet):
        @action(detail=False)
        async def closed(self, request):
            ran.append("closed")

        @action(detail=False)
        def open(self, request):
            return Response()

        def check_permissions(self, request):
            if self.action == "closed":
                self.permission_denied(request)

    ((reply,),) = asking(ClosedViewSet, "closed")
    assert (reply["response_status"], ran) == (403, [])


def test_an_async_action_runs_in_the_language_asked_for(settings):
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]

    class LanguageViewSet(OpenViewSet):
        @action(detail=False)
        async def async_one(self, request):
            await asyncio.sleep(0)
            return Response(translation.get_language())

        @action(detail=False)
        def generator(self, request):
            yield translation.get_language()

        @action(detail=False)
        async def async_generator(self, request):
            yield translation.get_language()

    german = {"headers": {"accept-language": "de"}}
    frames = [(word, german) for word in ("async_one", "generator", "async_generator")]
    for replies in asking(LanguageViewSet, *frames):
        assert replies[0]["data"] == "de"


@pytest.mark.django_db(transaction=True)
def test_the_orm_in_async_actions():
    class RoomViewSet(OpenViewSet):
        queryset = Room.objects.all()

        @action(detail=False)
        async def first(self, request):
            room = await self.get_queryset().order_by("name").afirst()
            return Response(room.name)

        @action(detail=False)
        async def names(self, request):
            async for room in self.get_queryset().order_by("name"):
                yield room.name

        @action(detail=True)
        async def name_of(self, request, pk):
            return Response((await Room.objects.aget(pk=pk)).name)

    attic = Room.objects.create(name="attic")
    Room.objects.create(name="lobby")
    first, names, name = asking(RoomViewSet, "first", "names", ("name_of", {"pk": attic.pk}))
    assert first[0]["data"] == name[0]["data"] == "attic"
    assert [reply["data"] for reply in names] == ["attic", "lobby", None]


# Generators


def test_each_item_is_a_reply_and_the_last_says_that_it_is():
    def one(self, request):
        yield {"a": 1}
        yield None
        yield []

    replies = answer(one, ("one", {"request_id": "r"}))
    assert [r["response_status"] for r in replies] == [206, 206, 206, 200]
    assert [r["data"] for r in replies] == [{"a": 1}, None, [], None]
    assert {(r["request_id"], r["action"], str(r["errors"])) for r in replies} == {
        ("r", "one", "[]")
    }


def test_more_items_than_are_drawn_ahead_come_in_order():
    def one(self, request):
        yield from range(200)

    assert [r["data"] for r in answer(one)[:-1]] == list(range(200))


@pytest.mark.parametrize("is_async", [False, True])
def test_no_items(is_async):
    def generator(self, request):
        yield from ()

    async def async_generator(self, request):
        for item in ():
            yield item

    function = async_generator if is_async else generator
    function.__name__ = "one"
    (reply,) = answer(function)
    assert (reply["response_status"], reply["data"], reply["errors"]) == (200, None, [])


def test_items_are_rendered_as_responses_are():
    key = uuid.UUID(int=7)
    items = [
        datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        datetime.timedelta(seconds=90),
        decimal.Decimal("1.50"),
        key,
        translation.gettext_lazy("Yes"),
        {"nested": [key]},
        (number for number in range(2)),
    ]

    async def one(self, request):
        for item in items:
            yield item

    assert [r["data"] for r in answer(one)[:-1]] == [
        "2030-01-02T03:04:05Z",
        "90.0",
        1.5,
        str(key),
        "Yes",
        {"nested": [str(key)]},
        [0, 1],
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_items_that_are_responses(is_async):
    responses = [
        Response({"a": 1}, headers={"X-Part": "1"}),
        Response({"b": 2}, status=404),
        HttpResponse("plain", content_type="text/plain"),
        JsonResponse({"c": 3}),
    ]

    def generator(self, request):
        yield from responses

    async def async_generator(self, request):
        for response in responses:
            yield response

    function = async_generator if is_async else generator
    function.__name__ = "one"
    replies = answer(function)
    assert [r["response_status"] for r in replies] == [206, 206, 206, 206, 200]
    assert [r["data"] for r in replies] == [{"a": 1}, {"b": 2}, "plain", {"c": 3}, None]
    assert replies[0]["headers"] == {"X-Part": "1"}


class ClosingViewSet(OpenViewSet):
    """Says whether a generator was closed before its last reply was made."""

    is_closed = False

    @action(detail=False)
    def items(self, request):
        try:
            yield 1
            yield object()
            yield 2
        finally:
            self.is_closed = True

    @action(detail=False)
    async def async_items(self, request):
        try:
            yield 1
            yield object()
            yield 2
        finally:
            self.is_closed = True

    def handle_exception(self, exc):
        return Response([type(exc).__name__, self.is_closed], status=500)


@pytest.mark.parametrize("word", ["items", "async_items"])
def test_an_item_that_is_no_json_ends_the_generator_with_an_error(word):
    (replies,) = asking(ClosingViewSet, word)
    assert [r["response_status"] for r in replies] == [206, 500]
    assert replies[-1]["errors"] == ["TypeError", True]


def test_a_generator_is_drawn_in_one_thread_a_little_ahead_of_the_client(settings):
    settings.REST_CHANNELS = {"MAX_QUEUE_BYTES": 20_000}
    drawn, lags, threads = [], [], set()

    class CountingViewSet(OpenViewSet):
        @action(detail=False)
        def counts(self, request):
            for number in itertools.count():
                drawn.append(number)
                threads.add(threading.get_ident())
                yield "x" * 1_000

    async def story():
        inbox = asyncio.Queue()

        async def send(message):
            if message["type"] == "websocket.send":
                await asyncio.sleep(0)
                lags.append(len(drawn) - len(lags))
            if len(lags) == 300:
                inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

        inbox.put_nowait({"type": "websocket.connect"})
        inbox.put_nowait({"type": "websocket.receive", "text": '{"action": "counts"}'})
        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"testserver")]}
        await asyncio.wait_for(serving(CountingViewSet)(scope, inbox.get, send), 10)

    asyncio.run(story())
    # 20 that wait in the queue, 4 that wait for it, and what is under way.
    assert 0 < max(lags) < 30
    assert len(threads) == 1


@pytest.mark.django_db(transaction=True)
def test_a_generator_over_a_cursor_of_the_servers():
    Room.objects.bulk_create(Room(name=f"room-{number:03}") for number in range(50))

    class RoomViewSet(OpenViewSet):
        queryset = Room.objects.order_by("name")

        @action(detail=False)
        def names(self, request):
            rows = self.get_queryset().iterator(chunk_size=3)
            yield connection.vendor
            for room in rows:
                yield room.name

    (replies,) = asking(RoomViewSet, "names")
    assert replies[0]["data"] == connection.vendor
    assert [r["data"] for r in replies[1:-1]] == [f"room-{number:03}" for number in range(50)]
    assert replies[-1]["response_status"] == 200


# Exactly one last reply


@pytest.mark.parametrize(
    "status", [200, 201, 202, 203, 205, 226, 301, 304, 400, 404, 418, 500, 599]
)
def test_any_status_of_a_response(status):
    def one(self, request):
        return Response({"a": 1}, status=status)

    (reply,) = answer(one)
    assert reply["response_status"] == status
    assert (reply["data"] is None) == (status >= 400 or status == 304)
    assert reply["errors"] == ([{"a": 1}] if status >= 400 else [])


def test_a_response_that_cannot_be_rendered(caplog):
    def one(self, request):
        return Response({"a": object()})

    (reply,) = answer(one)
    assert (reply["response_status"], reply["data"]) == (500, None)


def test_a_plain_drf_viewset_may_have_async_and_generator_actions():
    class PlainViewSet(viewsets.ViewSet):
        authentication_classes = []

        @action(detail=False)
        async def one(self, request):
            return Response(1)

        @action(detail=False)
        def two(self, request):
            yield 2

    router = SimpleRouter()
    router.register("plain", PlainViewSet, "plain")
    with SocketClient(router.as_asgi(), "/plain/") as client:
        assert client.request("one").data == 1
        assert client.request("two").parts == [2]
