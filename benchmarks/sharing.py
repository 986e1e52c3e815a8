"""
The cost of a save for a thousand users who see the same rows.

Their serializer is plain, or has code of the project's own, with and without `shared = True`. In
this process, without sockets: processor time of the pass, the median of several.

    python -m benchmarks.sharing --users 1000
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import chain
from types import SimpleNamespace
from typing import Any

# First, because it sets Django up.
from benchmarks.running import fill
from benchmarks.site import MessageSerializer, MessageViewSet, messages

# isort: split
from django.contrib.auth.models import User
from django.db import connection
from rest_framework import routers, serializers

from rest_channels.authentication import Credentials
from rest_channels.live.delivery.pass_state import State
from rest_channels.live.delivery.refresh import Pass
from rest_channels.live.delivery.subscription import Subscription
from rest_channels.live.delivery.window_subscription import new_subscription
from rest_channels.live.log.sequencer import sequence
from rest_channels.live.log.transactions import snapshot
from rest_channels.live.visibility.audiences import TooFarReaching
from rest_channels.metrics.figures import encodes, evaluations
from rest_channels.protocol import Frame
from rest_channels.sockets.dispatch import Exchange
from rest_channels.sockets.request import Handshake
from rest_channels.sockets.streams import Stream


class LoudSerializer(MessageSerializer):
    """A serializer whose text is the same for all users, which cannot be proven."""

    loud = serializers.SerializerMethodField()

    class Meta(MessageSerializer.Meta):
        fields = [*MessageSerializer.Meta.fields, "loud"]

    def get_loud(self, message: Any) -> str:
        return str(message.text).upper()


class Loud(MessageViewSet):
    serializer_class = LoudSerializer


class Declared(Loud):
    shared = True


class Outbox:
    """A client that takes everything at once."""

    is_behind = is_closed = False
    has_room = True

    def post(self, text: Any, *args: Any) -> None:
        """Discard the text."""


def subscription(
    stream: Stream, number: int, query: dict[str, list[str]] | None = None, **keys: Any
) -> Subscription:
    """Return the subscription of a user, with a `query` and further `keys` of the frame."""
    scope = {
        "type": "websocket",
        "path": "/messages/",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "user": User(pk=number, username=f"user {number}"),
    }
    frame = Frame("subscribe", request_id=number, query=query or {}, rest=keys)
    exchange = Exchange(stream, frame, Handshake(scope, Credentials(scope), {}))
    reply = exchange.begin()
    assert exchange.subscribes is not None, reply
    outbox: Any = Outbox()
    wire: Any = SimpleNamespace(outbox=outbox, post=outbox.post, stream=None)
    return new_subscription(*exchange.subscribes, frame, wire)


def looked(state: State, joining: list[Subscription]) -> None:
    """Run one pass and return what it sends."""
    sequence("default")
    while True:
        try:
            with snapshot("default"):
                looking = Pass(state)
                outcome = looking.run(joining)
        except TooFarReaching as found:
            state.evaluations.narrow(found.family, found.reach)
        else:
            break
    looking.commit()
    for send in chain.from_iterable(outcome.sendings):
        send()


def measured(viewset: Any, users: int, saves: int) -> dict[str, float]:
    stream = Stream(viewset, "messages", "message", routers.SimpleRouter())
    state = State("default")
    looked(state, [subscription(stream, number) for number in range(1, users + 1)])
    row = messages()[0]
    seconds = []
    before = encodes.value, evaluations.value
    queries = 0

    def count(execute: Any, *args: Any) -> Any:
        nonlocal queries
        queries += 1
        return execute(*args)

    for number in range(saves):
        row.text = f"save {number}"
        row.save()
        with connection.execute_wrapper(count):
            began = time.process_time()
            looked(state, [])
            seconds.append(time.process_time() - began)
    return {
        "ms": 1000 * statistics.median(seconds),
        "encodes": (encodes.value - before[0]) / saves,
        "reviews": (evaluations.value - before[1]) / saves,
        "queries": queries / saves,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharing", description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--saves", type=int, default=9)
    options = parser.parse_args()
    fill("sqlite")
    cases = {"plain": MessageViewSet, "custom": Loud, "custom, shared": Declared}
    found = {name: measured(case, options.users, options.saves) for name, case in cases.items()}
    for name, figures in found.items():
        print(
            f"{name:16} {figures['ms']:8.1f} ms, {figures['ms'] / found['plain']['ms']:6.1f} x, "
            f"{figures['encodes']:6.0f} encodes, {figures['reviews']:6.0f} reviews, "
            f"{figures['queries']:6.0f} queries a save"
        )


if __name__ == "__main__":
    main()
