"""The place of the work: a bounded pool, clean threads, clean connections."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest
from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import get_channel_layer
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation
from rest_framework.decorators import action
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from rest_channels.workers.pool import Pool
from rest_channels.workers.threads import threads_per_user, workers
from tests.support.talk import OpenViewSet, happened, serving, talking_to


def all_of(functions):
    """Return the results of functions that run side by side in worker threads."""

    async def story():
        return await asyncio.gather(*map(workers.run, functions))

    return asyncio.run(story())


def asking(viewset, *words):
    """The data of the replies to actions asked one after the other on one socket."""

    async def story():
        async with talking_to(serving(viewset)) as socket:
            return [(await socket.ask(word))["data"] for word in words]

    return asyncio.run(story())


class ThreadViewSet(OpenViewSet):
    @action(detail=False)
    def thread(self, request):
        return Response(threading.current_thread().name)


# The pool


def test_at_most_so_many_threads_work_at_once(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 3}
    lock, running, most = threading.Lock(), set(), []
    full = threading.Barrier(3)

    def work():
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        full.wait(10)
        with lock:
            running.discard(threading.get_ident())

    all_of([work] * 9)
    assert max(most) == 3


def test_threads_start_only_while_work_waits(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 32}
    # Mostly one; a thread that has just answered may not be seen to be idle yet.
    assert len(set(asking(ThreadViewSet, *["thread"] * 40))) < 8


def test_no_thread_is_started_before_there_is_work(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 8}
    before = threading.active_count()
    workers.executor.submit  # noqa: B018 - made, not used
    assert threading.active_count() == before


def test_new_settings_make_a_new_pool(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}
    one = workers.executor
    settings.REST_CHANNELS = {"WORKER_THREADS": 2}
    assert workers.executor is not one
    assert all_of([threading.get_ident])[0] != threading.get_ident()


@pytest.mark.parametrize(
    "threads,given,share", [(8, None, 4), (1, None, 1), (3, None, 2), (8, 2, 2), (2, 8, 2)]
)
def test_the_share_of_one_user(settings, threads, given, share):
    settings.REST_CHANNELS = {"WORKER_THREADS": threads, "MAX_THREADS_PER_USER": given}
    assert threads_per_user() == share


def test_one_owner_takes_no_more_than_a_share(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 4, "MAX_THREADS_PER_USER": 2}
    pair = threading.Barrier(2)
    running, most, lock = set(), [], threading.Lock()

    def work():
        with lock:
            running.add(threading.get_ident())
            most.append(len(running))
        pair.wait(10)
        with lock:
            running.discard(threading.get_ident())

    async def story():
        await asyncio.gather(*(workers.run(work, owner="ann") for _ in range(6)))

    asyncio.run(story())
    assert max(most) == 2


def test_other_owners_work_while_one_waits(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 2, "MAX_THREADS_PER_USER": 1}
    opened = threading.Event()

    async def story():
        waiting = [asyncio.create_task(workers.run(opened.wait, 10, owner="ann")) for _ in range(3)]
        await workers.run(opened.set, owner="bob")
        assert await asyncio.gather(*waiting) == [True, True, True]

    asyncio.run(story())


def test_what_a_function_raises_is_raised():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        all_of([fail])


def test_a_function_that_has_begun_goes_on_where_nobody_waits_for_it():
    begun, opened, ended = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        assert opened.wait(10)
        ended.set()

    async def story():
        task = asyncio.create_task(workers.run(work))
        await happened(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        opened.set()
        await happened(ended)

    asyncio.run(story())


# What a frame leaves behind: nothing


class ChangingViewSet(OpenViewSet):
    @action(detail=False)
    def change(self, request):
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        set_urlconf("tests.urls_elsewhere")
        set_script_prefix("/elsewhere/")
        return Response(self.state())

    @action(detail=False)
    def look(self, request):
        return Response(self.state())

    def state(self):
        return [
            translation.get_language(),
            timezone.get_current_timezone_name(),
            get_urlconf(),
            get_script_prefix(),
            threading.current_thread().name,
        ]


def test_what_a_frame_activates_ends_with_it(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}
    before, changed, after = asking(ChangingViewSet, "look", "change", "look")
    thread = "rest_channels_0"
    assert changed == ["de", "Asia/Tokyo", "tests.urls_elsewhere", "/elsewhere/", thread]
    assert before == after == ["en-us", settings.TIME_ZONE, None, "/", thread]


def test_it_ends_where_one_thread_does_all_sensitive_work(settings):
    settings.REST_CHANNELS = {"THREAD_SENSITIVE": True}
    before, changed, after = asking(ChangingViewSet, "look", "change", "look")
    assert changed[0] == "de"
    assert before == after


def test_a_frame_sees_nothing_of_the_frames_beside_it(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 2, "MAX_THREADS_PER_USER": 2}
    both = threading.Barrier(2)

    class SideBySideViewSet(ChangingViewSet):
        max_in_flight = 2

        @action(detail=False)
        def change(self, request):
            translation.activate("de")
            both.wait(10)
            both.wait(10)
            return Response()

        @action(detail=False)
        def look(self, request):
            both.wait(10)
            language = translation.get_language()
            both.wait(10)
            return Response(language)

    async def story():
        async with talking_to(serving(SideBySideViewSet)) as socket:
            await socket.send("change", request_id=1)
            await socket.send("look", request_id=2)
            replies = {r["request_id"]: r["data"] for r in [await socket.receive() for _ in "12"]}
            assert replies[2] == "en-us"

    asyncio.run(story())


# THREAD_SENSITIVE


def test_thread_sensitive_work_runs_where_asgiref_runs_such(settings):
    settings.REST_CHANNELS = {"THREAD_SENSITIVE": True}

    async def story():
        there = await sync_to_async(threading.get_ident)()
        return there, await workers.run(threading.get_ident)

    there, here = asyncio.run(story())
    assert there == here != threading.get_ident()


def test_other_work_does_not(settings):
    settings.REST_CHANNELS = {"THREAD_SENSITIVE": False}
    (name,) = asking(ThreadViewSet, "thread")
    assert name.startswith("rest_channels")


# The loop from within a thread


@pytest.mark.parametrize("is_sensitive", [False, True])
def test_an_action_sends_to_a_group_of_the_channel_layer(settings, is_sensitive):
    settings.REST_CHANNELS = {"THREAD_SENSITIVE": is_sensitive}
    layer = get_channel_layer()

    class GroupViewSet(OpenViewSet):
        @action(detail=False)
        def tell(self, request):
            async_to_sync(layer.group_send)("rooms", {"type": "hello"})
            return Response("told")

    async def story():
        await layer.group_add("rooms", "listener")
        async with talking_to(serving(GroupViewSet)) as socket:
            assert (await socket.ask("tell"))["data"] == "told"
        assert await asyncio.wait_for(layer.receive("listener"), 10) == {"type": "hello"}

    asyncio.run(story())


@pytest.mark.parametrize("is_sensitive", [False, True])
def test_what_an_action_awaits_runs_on_the_loop_of_the_socket(settings, is_sensitive):
    settings.REST_CHANNELS = {"THREAD_SENSITIVE": is_sensitive}

    async def loop_thread():
        return threading.get_ident()

    async def story():
        return await workers.run(async_to_sync(loop_thread))

    assert asyncio.run(story()) == threading.get_ident()


def test_what_a_cancelled_function_awaits_is_cancelled():
    begun, ended = threading.Event(), threading.Event()

    async def wait_forever():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def story():
        task = asyncio.create_task(workers.run(async_to_sync(wait_forever)))
        await happened(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await happened(ended)

    asyncio.run(story())


# What comes along and comes back


colour: ContextVar[str] = ContextVar("colour", default="none")


def test_context_variables_and_locals_come_along_and_come_back():
    local = Local()

    def paint():
        seen = colour.get(), local.shape
        colour.set("blue")
        local.shape = "square"
        return seen

    async def story():
        colour.set("red")
        local.shape = "round"
        assert await workers.run(paint) == ("red", "round")
        assert (colour.get(), local.shape) == ("blue", "square")

    asyncio.run(story())


def test_what_a_failing_function_has_set_comes_back_too():
    def fail():
        colour.set("blue")
        raise ZeroDivisionError

    async def story():
        with pytest.raises(ZeroDivisionError):
            await workers.run(fail)
        assert colour.get() == "blue"

    asyncio.run(story())


@pytest.mark.parametrize("raised", [SystemExit, asyncio.CancelledError, StopIteration])
def test_what_would_mean_something_else_to_the_loop_is_an_error(raised):
    def fail():
        raise raised

    with pytest.raises(RuntimeError, match=f"A worker thread raised {raised.__name__}"):
        all_of([fail])


# Ways back


def test_results_that_wait_for_the_loop_wake_it_once():
    """Results that come while the loop is busy are handed over together."""
    ended = threading.Semaphore(0)
    wake_ups = []

    async def story():
        loop = asyncio.get_running_loop()
        call_soon_threadsafe = loop.call_soon_threadsafe

        def count(callback, *args, **kwargs):
            wake_ups.append(callback)
            return call_soon_threadsafe(callback, *args, **kwargs)

        loop.call_soon_threadsafe = count
        calls = [asyncio.ensure_future(workers.run(ended.release)) for _ in range(20)]
        await asyncio.sleep(0)
        # The loop stands still until all of them have been called.
        for _ in calls:
            assert ended.acquire(timeout=10)
        await asyncio.gather(*calls)

    asyncio.run(story())
    # The last may have been called before it was put; and one more may have slipped in between.
    assert len(wake_ups) <= 2


def test_no_result_is_lost_however_they_come_back():
    async def story():
        async def ask(number):
            for turn in range(20):
                assert await workers.run(divmod, number, 7, owner=number % 5) == divmod(number, 7)
                if turn % 7 == number % 7:
                    await asyncio.sleep(0)

        await asyncio.wait_for(asyncio.gather(*map(ask, range(32))), 60)

    asyncio.run(story())


def test_a_result_for_a_loop_that_is_closed_hurts_nobody():
    begun, opened = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert opened.wait(10)

    async def story():
        task = asyncio.ensure_future(workers.run(work))
        await happened(begun)
        assert not task.done()

    asyncio.run(story())
    opened.set()
    assert all_of([lambda: "well"]) == ["well"]


def test_a_call_that_is_cancelled_in_the_queue_is_not_made(settings):
    settings.REST_CHANNELS = {"WORKER_THREADS": 1}
    begun, opened = threading.Event(), threading.Event()
    made = []

    def work():
        begun.set()
        assert opened.wait(10)

    async def story():
        first = asyncio.create_task(workers.run(work))
        await happened(begun)
        second = asyncio.create_task(workers.run(made.append, 2))
        await asyncio.sleep(0)
        second.cancel()
        third = asyncio.create_task(workers.run(made.append, 3))
        opened.set()
        await asyncio.gather(first, third)
        assert second.cancelled()

    asyncio.run(story())
    assert made == [3]


# What a frame costs


class CountedViewSet(OpenViewSet):
    @action(detail=False)
    def plain(self, request):
        return Response("plain")

    @action(detail=False)
    async def waits(self, request):
        return Response("async")


@pytest.fixture
def hops(monkeypatch):
    """The jobs that are put into pools, as they come."""
    jobs, put = [], Pool.put

    def remember(pool, job):
        jobs.append(job)
        put(pool, job)

    monkeypatch.setattr(Pool, "put", remember)
    return jobs


@pytest.mark.parametrize("word,count", [("plain", 1), ("nothing", 1), ("waits", 2)])
def test_hops_of_a_frame(hops, word, count):
    async def story():
        async with talking_to(serving(CountedViewSet)) as socket:
            hops.clear()
            await socket.ask(word)

    asyncio.run(story())
    assert len(hops) == count


@pytest.mark.parametrize(
    "text,status",
    [
        ('{"action": "plain", "request_id": 1.5}', 400),
        ('{"action": "plain", "action": "plain"}', 400),
        ('{"action": "plain", "query": 3}', 400),
        ("[]", 400),
        ("plain", 400),
        ('{"action": "cancel", "data": {"request_id": 7}}', 404),
        ('{"action": "ack", "request_id": 7, "data": {}}', 400),
        ('{"action": "unsubscribe", "request_id": 7}', 204),
        ('{"action": "authenticate", "data": {}}', 400),
    ],
)
def test_what_asks_no_viewset_is_answered_without_a_hop(hops, text, status):
    async def story():
        async with talking_to(serving(CountedViewSet)) as socket:
            hops.clear()
            await socket.send_text(text)
            return await socket.receive()

    assert asyncio.run(story())["response_status"] == status
    assert hops == []


def test_too_much_is_refused_without_a_hop(hops, settings):
    settings.REST_CHANNELS = {"FRAME_RATE": 0.001, "FRAME_BURST": 1}

    async def story():
        async with talking_to(serving(CountedViewSet)) as socket:
            hops.clear()
            await socket.ask("plain")
            return await socket.ask("plain")

    assert asyncio.run(story())["response_status"] == 429
    assert len(hops) == 1


def test_a_frame_has_one_task_and_is_rendered_once(monkeypatch):
    rendered, tasks = [], []
    render = JSONRenderer.render

    def remember(renderer, data, *args, **kwargs):
        rendered.append(data)
        return render(renderer, data, *args, **kwargs)

    def make(loop, coroutine, **kwargs):
        tasks.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    monkeypatch.setattr(JSONRenderer, "render", remember)

    async def story():
        async with talking_to(serving(CountedViewSet)) as socket:
            asyncio.get_running_loop().set_task_factory(make)
            await socket.ask("plain")
            return [*tasks]

    made = asyncio.run(story())
    assert rendered == ["plain"]
    # The sending is tested in tests/sockets/test_eager.py.
    of_ours = {"StreamQueue", "Exchange", "Workers"}
    ours = [name for name in made if name.partition(".")[0] in of_ours]
    assert ours == ["StreamQueue._serve"]


def test_an_action_is_a_kind_and_what_clients_make_up_is_none(hops):
    asking(CountedViewSet, "plain", "nothing")
    handshake, plain, nothing = hops
    assert (handshake.kind, plain.kind[1], nothing.kind) == (None, "plain", None)
