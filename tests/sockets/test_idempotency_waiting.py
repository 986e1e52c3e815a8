"""While a frame with a key runs, another with the same key waits for it, and takes no thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.viewsets import GenericViewSet

from rest_channels.models import StoredReply
from rest_channels.sockets import keyed_exchange
from rest_channels.sockets.running_keys import running_keys
from rest_channels.viewsets import ConsumerViewSetMixin
from tests.models import Tag
from tests.support.gates import Gate
from tests.support.subscription_stories import ByHeader, as_user
from tests.support.talk import happened, serving, talking_to

pytestmark = pytest.mark.django_db(transaction=True)


class Rarely(UserRateThrottle):
    rate = "2/day"


class Gated:
    """A viewset whose action `write` waits at `gate`, and fails as long as it `fails`."""

    def __init__(self, **attributes):
        self.gate = gate = Gate()
        self.fails = False
        this = self

        class ViewSet(ConsumerViewSetMixin, GenericViewSet):
            authentication_classes = [ByHeader]
            permission_classes = []

            @action(detail=False, methods=["post"])
            def write(self, request):
                Tag.objects.create(name=request.data)
                gate.pass_through()
                if this.fails:
                    this.fails = False
                    raise ValidationError("The first fails.")
                return Response("written", status=201)

            @action(detail=False)
            def hello(self, request):
                return Response("hello")

        for name, value in attributes.items():
            setattr(ViewSet, name, value)
        self.application = serving(ViewSet)


@pytest.fixture
def ann():
    return User.objects.create_user("ann")


@pytest.fixture
def waits(monkeypatch):
    """Set once a frame waits for another, to do so until the test ends or the other has."""
    waiting = threading.Event()
    when_ended = running_keys.when_ended

    def noting(*args):
        found = when_ended(*args)
        waiting.set()
        return found

    monkeypatch.setattr(running_keys, "when_ended", noting)
    return waiting


@asynccontextmanager
async def one_at_the_gate(gated, user):
    """Two sockets of `user`; a frame of the first, with the key `k`, waits at the gate."""
    sockets = [talking_to(gated.application, headers=as_user(user)) for _ in range(2)]
    async with sockets[0] as first, sockets[1] as second:
        await first.send("write", data="red", idempotency_key="k")
        await happened(gated.gate.reached)
        yield first, second


def test_the_second_waits_in_its_turn_and_gets_the_first_reply(ann, waits):
    gated = Gated()

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            await second.send("write", data="red", idempotency_key="k", request_id=2)
            await second.send("hello", request_id=3)
            await happened(waits)
            gated.gate.opened.set()
            assert (await first.receive())["data"] == "written"
            replies = [await second.receive() for _ in range(2)]
        assert [reply["request_id"] for reply in replies] == [2, 3]
        assert (replies[0]["data"], replies[0]["replayed"]) == ("written", True)

    asyncio.run(story())
    assert Tag.objects.count() == 1


def test_the_second_runs_if_the_first_fails(ann, waits):
    gated = Gated()
    gated.fails = True

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            await second.send("write", data="red", idempotency_key="k")
            await happened(waits)
            gated.gate.opened.set()
            assert (await first.receive())["response_status"] == 400
            reply = await second.receive()
        assert (reply["data"], reply.get("replayed")) == ("written", None)

    asyncio.run(story())
    assert Tag.objects.count() == 1


def test_a_frame_that_waits_is_cancelled(ann, waits):
    gated = Gated()

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            await second.send("write", data="red", idempotency_key="k", request_id=2)
            await happened(waits)
            assert (await second.ask("cancel", data={"request_id": 2}))["response_status"] == 204
            cancelled = await second.receive()
            assert (cancelled["response_status"], cancelled["request_id"]) == (499, 2)
            gated.gate.opened.set()
            assert (await first.receive())["response_status"] == 201

    asyncio.run(story())


def test_the_wait_has_an_end(ann, monkeypatch):
    monkeypatch.setattr(keyed_exchange, "_PATIENCE_SECONDS", 0.2)
    gated = Gated()

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            refused = await second.ask("write", data="red", idempotency_key="k")
            assert refused["response_status"] == 503
            assert refused["codes"] == ["idempotency_in_progress"]
            assert 1 <= int(refused["headers"]["Retry-After"]) <= 10
            gated.gate.opened.set()
            assert (await first.receive())["response_status"] == 201
            assert (await second.ask("write", data="red", idempotency_key="k"))["replayed"]

    asyncio.run(story())


def test_a_frame_that_waits_counts_once_for_the_throttles(ann, waits):
    cache.clear()
    gated = Gated(throttle_classes=[Rarely])

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            await second.send("write", data="red", idempotency_key="k")
            await happened(waits)
            gated.gate.opened.set()
            assert (await first.receive())["response_status"] == 201
            assert (await second.receive())["replayed"]
            third = await second.ask("write", data="red", idempotency_key="k")
            assert third["response_status"] == 429

    asyncio.run(story())
    cache.clear()


def test_a_client_that_leaves_has_its_frame_finished(ann, waits):
    gated = Gated()
    gated.fails = True

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            await second.send("write", data="red", idempotency_key="k")
            await happened(waits)
            # Both leave; the first fails, so the second has to write.
            await first.leave()
            await second.leave()
            gated.gate.opened.set()
            await first.communicator.wait(10)
            await second.communicator.wait(10)

    asyncio.run(story())
    assert Tag.objects.count() == 1
    assert StoredReply.objects.get().status == 201


@pytest.mark.only_on("postgresql")
def test_other_keys_do_not_wait(ann):
    gated = Gated()

    async def story():
        async with one_at_the_gate(gated, ann) as (first, second):
            await second.send("write", data="red", idempotency_key="other")
            await asyncio.to_thread(gated.gate.await_arrivals, 2)
            gated.gate.opened.set()
            for socket in (first, second):
                assert "replayed" not in await socket.receive()

    asyncio.run(story())
    assert Tag.objects.count() == 2


def test_keys_of_frames_that_have_ended_are_forgotten(ann, waits):
    test_the_second_runs_if_the_first_fails(ann, waits)
    assert running_keys._waiting == {}
