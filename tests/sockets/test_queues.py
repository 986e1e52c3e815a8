"""The order of replies, what may be stopped, and what a closed socket leaves running."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from asgiref.sync import sync_to_async
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.routers import DefaultRouter
from tests.support.gates import Gate
from tests.support.talk import OpenViewSet, happened, ids, serving, talking_to


class EchoViewSet(OpenViewSet):
    @action(detail=False)
    def echo(self, request):
        return Response(request.data)


def gated(**attributes):
    """A viewset whose action `gated` waits at the gate it is returned with, and echoes."""
    gate = Gate()

    class GatedViewSet(EchoViewSet):
        @action(detail=False)
        def gated(self, request):
            gate.pass_through()
            return Response("through")

    for name, value in attributes.items():
        setattr(GatedViewSet, name, value)
    return gate, GatedViewSet


# Order


def test_first_in_first_out():
    gate, viewset = gated()

    async def story():
        async with talking_to(serving(viewset)) as socket:
            await socket.send("gated", request_id="first")
            await happened(gate.reached)
            for number in range(5):
                await socket.send("echo", request_id=number, data=number)
            await socket.send_text("no JSON")
            await socket.send("nothing", request_id="last")
            gate.opened.set()
            replies = [await socket.receive() for _ in range(8)]
            assert ids(replies) == ["first", 0, 1, 2, 3, 4, None, "last"]
            assert [reply["data"] for reply in replies[1:6]] == [0, 1, 2, 3, 4]
            assert [reply["response_status"] for reply in replies[6:]] == [400, 405]

    asyncio.run(story())


def test_a_slow_frame_delays_no_other_stream():
    gate, viewset = gated()
    router = DefaultRouter()
    router.register("slow", viewset, "slow")
    router.register("quick", EchoViewSet, "quick")

    async def story():
        async with talking_to(router.as_asgi()) as socket:
            await socket.send("gated", "slow", request_id=1)
            await socket.send("echo", "slow", request_id=2)
            await happened(gate.reached)
            for number in range(5):
                reply = await socket.ask("echo", "quick", request_id=number, data=number)
                assert (reply["request_id"], reply["data"]) == (number, number)
            gate.opened.set()
            assert ids([await socket.receive(), await socket.receive()]) == [1, 2]

    asyncio.run(story())


def test_a_slow_socket_delays_no_other_socket():
    gate, viewset = gated()
    application = serving(viewset)

    async def story():
        async with talking_to(application) as slow, talking_to(application) as quick:
            await slow.send("gated", request_id="slow")
            await happened(gate.reached)
            assert (await quick.ask("echo", request_id="quick"))["request_id"] == "quick"
            gate.opened.set()
            assert (await slow.receive())["request_id"] == "slow"

    asyncio.run(story())


def test_max_in_flight_of_a_viewset_lets_replies_overtake():
    gate, viewset = gated(max_in_flight=3)

    async def story():
        async with talking_to(serving(viewset)) as socket:
            await socket.send("gated", request_id="slow")
            await happened(gate.reached)
            assert (await socket.ask("echo", request_id="quick"))["request_id"] == "quick"
            gate.opened.set()
            assert (await socket.receive())["request_id"] == "slow"

    asyncio.run(story())


def test_max_in_flight_is_how_many_run_at_once():
    barrier = threading.Barrier(3)

    class MeetingViewSet(OpenViewSet):
        max_in_flight = 3

        @action(detail=False)
        def meet(self, request):
            return Response(barrier.wait(10) >= 0)

    async def story():
        async with talking_to(serving(MeetingViewSet)) as socket:
            for number in range(6):
                await socket.send("meet", request_id=number)
            replies = [await socket.receive() for _ in range(6)]
            assert {reply["response_status"] for reply in replies} == {200}
            assert set(ids(replies[:3])) == {0, 1, 2}

    asyncio.run(story())


# Cancel


class Endless:
    """A viewset of actions that never end, and the traces of their end."""

    def __init__(self) -> None:
        self.started = started = threading.Event()
        self.ended = ended = threading.Event()
        self.go_on = go_on = threading.Event()

        class EndlessViewSet(EchoViewSet):
            @action(detail=False)
            async def waits(self, request):
                try:
                    started.set()
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            @action(detail=False)
            def counts(self, request):
                try:
                    number = 0
                    while True:
                        yield number
                        number += 1
                        started.set()
                finally:
                    ended.set()

            @action(detail=False)
            async def counts_slowly(self, request):
                try:
                    yield 0
                    started.set()
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            @action(detail=False)
            async def counts_quickly(self, request):
                try:
                    while True:
                        yield 0
                        started.set()
                finally:
                    ended.set()

            @action(detail=False)
            def works(self, request):
                started.set()
                assert go_on.wait(10)
                ended.set()
                return Response("done")

        self.viewset = EndlessViewSet


async def last_reply(socket, request_id):
    """The last reply to a request, and whatever came before it but its parts."""
    others = []
    while True:
        reply = await socket.receive()
        if reply["request_id"] == request_id and reply["response_status"] != 206:
            return reply, others
        if reply["response_status"] != 206:
            others.append(reply)


@pytest.mark.parametrize("word", ["waits", "counts", "counts_slowly", "counts_quickly"])
def test_cancel_stops_what_runs(word):
    endless = Endless()

    async def story():
        async with talking_to(serving(endless.viewset)) as socket:
            await socket.send(word, request_id="r")
            await happened(endless.started)
            await socket.send("cancel", request_id="c", data={"request_id": "r"})
            reply, others = await last_reply(socket, "r")
            assert (reply["response_status"], reply["data"]) == (499, None)
            assert (reply["errors"], reply["codes"]) == (
                ["The request was cancelled."],
                ["cancelled"],
            )
            assert [(r["request_id"], r["response_status"]) for r in others] == [("c", 204)]
            assert endless.ended.is_set()
            assert (await socket.ask("echo", data=1))["data"] == 1

    asyncio.run(story())


def test_cancel_lets_a_plain_action_end():
    endless = Endless()

    async def story():
        async with talking_to(serving(endless.viewset)) as socket:
            await socket.send("works", request_id="r")
            await happened(endless.started)
            reply = await socket.ask("cancel", request_id="c", data={"request_id": "r"})
            assert (reply["request_id"], reply["response_status"]) == ("c", 204)
            endless.go_on.set()
            reply = await socket.receive()
            assert (reply["request_id"], reply["data"]) == ("r", "done")

    asyncio.run(story())


def test_cancel_of_what_waits_is_answered_in_its_turn_without_running():
    gate, viewset = gated()
    ran = []
    viewset.initial = lambda self, request, *args, **kwargs: ran.append(self.action)

    async def story():
        async with talking_to(serving(viewset)) as socket:
            await socket.send("gated", request_id=1)
            await happened(gate.reached)
            await socket.send("echo", request_id=2)
            await socket.send("echo", request_id=3)
            assert (await socket.ask("cancel", data={"request_id": 2}))["response_status"] == 204
            gate.opened.set()
            replies = [await socket.receive() for _ in range(3)]
            assert ids(replies) == [1, 2, 3]
            assert [reply["response_status"] for reply in replies] == [200, 499, 200]
            assert ran == ["gated", "echo"]

    asyncio.run(story())


@pytest.mark.parametrize("given,named", [(1, "1"), ("1", 1), (1, True), (0, False), (1, 1.0)])
def test_cancel_knows_an_id_by_its_type(given, named):
    gate, viewset = gated()

    async def story():
        async with talking_to(serving(viewset)) as socket:
            await socket.send("gated", request_id=given)
            await happened(gate.reached)
            reply = await socket.ask("cancel", request_id="c", data={"request_id": named})
            assert (reply["response_status"], reply["codes"]) == (404, ["not_found"])
            gate.opened.set()
            assert (await socket.receive())["request_id"] == given

    asyncio.run(story())


def test_cancel_of_what_is_answered_already():
    async def story():
        async with talking_to(serving(EchoViewSet)) as socket:
            await socket.ask("echo", request_id=1)
            reply = await socket.ask("cancel", request_id=2, data={"request_id": 1})
            assert (reply["response_status"], reply["action"]) == (404, "cancel")

    asyncio.run(story())


@pytest.mark.parametrize(
    "keys",
    [
        {"data": {"request_id": None}},
        {},
        {"data": None},
        {"data": 1},
        {"data": {}},
        {"data": ["1"]},
    ],
)
def test_cancel_without_an_id(keys):
    async def story():
        async with talking_to(serving(EchoViewSet)) as socket:
            reply = await socket.ask("cancel", request_id=1, **keys)
            assert (reply["response_status"], reply["codes"]) == (400, ["required"])

    asyncio.run(story())


def test_cancel_stops_nothing_on_another_stream():
    gate, viewset = gated()
    router = DefaultRouter()
    router.register("one", viewset, "one")
    router.register("other", EchoViewSet, "other")

    async def story():
        async with talking_to(router.as_asgi()) as socket:
            await socket.send("gated", "one", request_id=1)
            await happened(gate.reached)
            reply = await socket.ask("cancel", "other", data={"request_id": 1})
            assert reply["response_status"] == 404
            gate.opened.set()
            assert (await socket.receive())["response_status"] == 200

    asyncio.run(story())


def test_a_viewsets_own_cancel_wins():
    class OrderViewSet(EchoViewSet):
        @action(detail=False, methods=["post"])
        def cancel(self, request):
            return Response(f"cancelled {request.data['order']}")

    async def story():
        async with talking_to(serving(OrderViewSet)) as socket:
            assert (await socket.ask("cancel", data={"order": 7}))["data"] == "cancelled 7"

    asyncio.run(story())


def test_cancel_while_an_item_is_on_its_way():
    gate = Gate()

    class SlowViewSet(OpenViewSet):
        @action(detail=False)
        async def words(self, request):
            while True:
                yield "word"

        def finalize_response(self, request, response, *args, **kwargs):
            if getattr(response, "data", None) == "word":
                gate.pass_through()
            return super().finalize_response(request, response, *args, **kwargs)

    async def story():
        async with talking_to(serving(SlowViewSet)) as socket:
            await socket.send("words", request_id=1)
            await happened(gate.reached)
            assert (await socket.ask("cancel", data={"request_id": 1}))["response_status"] == 204
            gate.opened.set()
            reply, others = await last_reply(socket, 1)
            assert (reply["response_status"], others) == (499, [])

    asyncio.run(story())


def test_cancel_while_an_async_action_is_about_to_run():
    gate = Gate()
    begun = threading.Event()
    ran = []

    class LateViewSet(OpenViewSet):
        @action(detail=False)
        async def late(self, request):
            ran.append("late")

        def finalize_response(self, request, response, *args, **kwargs):
            begun.set()
            return super().finalize_response(request, response, *args, **kwargs)

    async def story():
        async with talking_to(serving(LateViewSet)) as socket:
            # Async actions make their queries there, so it is made ready before they run.
            busy = asyncio.create_task(sync_to_async(gate.pass_through)())
            await happened(gate.reached)
            await socket.send("late", request_id=1)
            await happened(begun)
            assert (await socket.ask("cancel", data={"request_id": 1}))["response_status"] == 204
            gate.opened.set()
            assert (await socket.receive())["response_status"] == 499
            await busy
        assert ran == []

    asyncio.run(story())


# Disconnect


@pytest.mark.parametrize("word", ["waits", "counts", "counts_slowly", "counts_quickly"])
def test_a_disconnect_stops_async_and_generator_actions(word):
    endless = Endless()

    async def story():
        async with talking_to(serving(endless.viewset)) as socket:
            await socket.send(word)
            await happened(endless.started)
            await socket.disconnect()
            assert endless.ended.is_set()

    asyncio.run(story())


def test_a_disconnect_lets_plain_actions_end_in_their_order():
    gate = Gate()
    done = []

    class WritingViewSet(OpenViewSet):
        @action(detail=False, methods=["post"])
        def write(self, request):
            gate.pass_through()
            done.append(request.data)
            return Response()

    async def story():
        async with talking_to(serving(WritingViewSet)) as socket:
            for number in range(4):
                await socket.send("write", data=number)
            await happened(gate.reached)
            await socket.leave()
            gate.opened.set()
            await socket.communicator.wait(10)
        assert done == [0, 1, 2, 3]

    asyncio.run(story())


def test_a_disconnect_drops_async_actions_that_wait():
    gate = Gate()
    ran = []

    class MixedViewSet(OpenViewSet):
        @action(detail=False)
        def works(self, request):
            gate.pass_through()
            return Response()

        @action(detail=False)
        async def waits(self, request):
            ran.append("waits")

        @action(detail=False)
        def counts(self, request):
            ran.append("counts")
            yield

    async def story():
        async with talking_to(serving(MixedViewSet)) as socket:
            for word in ("works", "waits", "counts"):
                await socket.send(word)
            await happened(gate.reached)
            await socket.leave()
            gate.opened.set()
            await socket.communicator.wait(10)
        assert ran == []

    asyncio.run(story())


def test_a_server_that_stops_interrupts_what_runs():
    endless = Endless()

    async def story():
        async with talking_to(serving(endless.viewset)) as socket:
            await socket.send("waits")
            await happened(endless.started)
            socket.communicator.future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await socket.communicator.future
            await happened(endless.ended)

    asyncio.run(story())


# What a frame costs


@pytest.mark.parametrize("word", ["echo", "nothing"])
def test_tasks_of_a_frame(word):
    """
    One that answers, one that sends. From Python 3.12 on, the second starts eagerly.

    A task factory does not see tasks that start eagerly.
    """
    scheduled = ["StreamQueue._serve"]
    if sys.version_info < (3, 12):
        scheduled.append("Outbox._write")
    made = []

    def factory(loop, coroutine, **options):
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def story():
        async with talking_to(serving(EchoViewSet)) as socket:
            await socket.ask(word)
            asyncio.get_running_loop().set_task_factory(factory)
            await socket.ask(word)
            ours = [name for name in made if name.startswith(("StreamQueue", "Outbox"))]
            assert ours == scheduled

    asyncio.run(story())
