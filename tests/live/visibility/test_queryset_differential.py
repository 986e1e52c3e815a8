"""
Random querysets and writes: what a subscriber holds is what `list` shows, or the subscription was
refused with the documented error. Silence is a fault, and so is a row that `list` never showed.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from rest_framework import serializers

from rest_channels.live.delivery import updates
from rest_channels.live.visibility import audiences
from rest_channels.viewsets import ReadOnlyModelConsumerViewSet
from tests.support import random_querysets
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
    pytest.mark.programs,
]

#: Rounds of each way to capture; `TEST_PROGRAMS` says how many more there are in all.
ROUNDS = max(4, int(os.environ.get("TEST_PROGRAMS", 1_000)) // 40)
SHAPES_AT_ONCE = 10
WRITES_OF_A_ROUND = 6

# By number: what the viewset below shows.
SHAPES: dict[int, random_querysets.Shape] = {}


class Shown(ReadOnlyModelConsumerViewSet):
    """The queryset, and what a row shows, of `?shape=`."""

    authentication_classes = permission_classes = filter_backends = []

    @property
    def shape(self):
        return SHAPES[int(self.request.query_params["shape"])]

    def get_queryset(self):
        return self.shape.queryset.all()

    def get_serializer_class(self):
        shape = self.shape

        class ShownSerializer(serializers.Serializer):
            id = serializers.ReadOnlyField(source="pk")
            shown = serializers.SerializerMethodField()

            def get_shown(self, row):
                return shape.show(row)

        if not hasattr(shape, "serializer_class"):
            shape.serializer_class = ShownSerializer
        return shape.serializer_class


class Client:
    """A socket that keeps the events that come before a reply."""

    def __init__(self, socket):
        self._socket = socket
        self._events = []

    def ask(self, action, **keys):
        before, reply = self._socket.ask(action, **keys)
        self._events += before
        return reply

    def drain(self):
        events, self._events = self._events + self._socket.drain(), []
        return events


class Mirror:
    """The rows that a client holds of one shape."""

    def __init__(self, socket, number):
        self.socket, self.number = socket, number
        self.query = {"shape": str(number)}
        listed = socket.ask("list", query=self.query)
        self.is_listed = listed["response_status"] == 200
        #: Every row that `list` showed since the last write.
        self.listed = self._by_key(listed["data"]) if self.is_listed else {}
        self.refusal = None
        if not self.is_listed:
            return
        reply = self._subscribe(snapshot=True)
        if reply["response_status"] != 201:
            self.refusal = reply["response_status"], reply["codes"]
        else:
            self.rows = self._by_key(reply["data"])
            self.position = reply["position"]

    @staticmethod
    def _by_key(rows):
        return {str(row.get("id", row.get("pk"))): row for row in rows}

    def _subscribe(self, **keys):
        return self.socket.ask(
            "subscribe", request_id=f"shape {self.number}", query=self.query, **keys
        )

    def resume(self):
        """As a client does that was away."""
        reply = self._subscribe(since=self.position, held=[row["id"] for row in self.rows.values()])
        assert reply["response_status"] == 201, reply
        self.position = reply["position"]

    def apply(self, event):
        action, data = event["action"], event["data"]
        self.position = event.get("position", self.position)
        if action == "revoke":
            self.refusal = event["response_status"], None
        elif action == "delete":
            self.rows.pop(str(data["pk"]), None)
        elif action == "reset":
            self.rows = self._by_key(data or [])
        elif action in ("create", "update"):
            self.rows[str(data["id"])] = data
            return data
        return None

    def relist(self):
        reply = self.socket.ask("list", query=self.query)
        assert reply["response_status"] == 200, reply
        self.listed = self._by_key(reply["data"])
        #: Whether a row comes more than once.
        self.has_rivals = len(self.listed) < len(reply["data"])


class Round:
    """Some shapes, subscribed to at once by one socket, and writes one after the other."""

    def __init__(self, shared, seed, capture, tally):
        self.shared, self.rng, self.tally = shared, random.Random(seed), tally
        self.writes = [
            *random_querysets.WRITES,
            *([random_querysets.raw] * 3 if capture == "triggers" else []),
        ]
        self.log = [f"TEST_SEED={seed} capture={capture}"]

    def run(self):
        self.shared.write(lambda: self._begin())
        process = self.shared.start()
        socket = process.connect(routes(Shown), "/", {})
        try:
            self._follow(process, Client(socket))
        finally:
            socket.leave()
            process.stop()
            self.shared._all.remove(process)

    def _begin(self):
        for model in (
            *random_querysets.STEPS,
            random_querysets.Tag,
            random_querysets.Label,
            random_querysets.Club,
        ):
            model.objects.all().delete()
        random_querysets.fill(self.rng)

    def _follow(self, process, socket):
        SHAPES.clear()
        SHAPES.update(enumerate(random_querysets.shape(self.rng) for _ in range(SHAPES_AT_ONCE)))
        mirrors = {f"shape {n}": Mirror(socket, n) for n in SHAPES}
        for name in [name for name, mirror in mirrors.items() if self._is_out(mirror)]:
            del mirrors[name]
        for _ in range(WRITES_OF_A_ROUND):
            write = self.rng.choice(self.writes)
            self.log.append(write.__name__)
            resumes = self.rng.random() < 0.15 and write is not None
            self.shared.write(lambda write=write: write(self.rng))
            if resumes:
                for mirror in mirrors.values():
                    mirror.resume()
            process.look()
            shown = [(e["request_id"], e) for e in socket.drain() if e["request_id"] in mirrors]
            told = [(mirrors[name], mirrors[name].apply(event)) for name, event in shown]
            for name in [name for name, mirror in mirrors.items() if self._is_out(mirror)]:
                del mirrors[name]
            for mirror in mirrors.values():
                mirror.relist()
            for mirror, row in told:
                if row is not None and mirror.refusal is None:
                    assert mirror.listed.get(str(row["id"])) == row, self._report(mirror, row)
            for mirror in mirrors.values():
                assert mirror.rows == mirror.listed, self._report(mirror, mirror.rows)
                self.tally["compared"] += 1

    def _is_out(self, mirror):
        """Whether there is nothing to follow; if so, that it was said as documented."""
        steps = SHAPES[mirror.number].steps
        if not mirror.is_listed:
            self.tally["not listed"] += 1
            return True
        if mirror.refusal is None:
            return False
        status, codes = mirror.refusal
        assert (status, codes) in [(400, ["cannot_subscribe"]), (400, None)], mirror.refusal
        mirror.relist()
        assert mirror.has_rivals or "values" in steps, (steps, mirror.refusal)
        self.tally["refused"] += 1
        return True

    def _report(self, mirror, seen):
        shape = SHAPES[mirror.number]
        return "\n".join(
            [*self.log, " | ".join(shape.steps), f"list: {mirror.listed}", f"seen: {seen}"]
        )


BY_TRIGGERS = pytest.param("triggers", marks=pytest.mark.only_on("sqlite", "postgresql"))


@pytest.mark.parametrize("capture", ["signals", BY_TRIGGERS])
def test_subscribers_end_with_what_list_shows(capture):
    given = os.environ.get("TEST_SEED")
    seeds = [random.SystemRandom().randrange(2**32) for _ in range(ROUNDS)]
    tally = Counter()
    with running(capture) as shared:
        for seed in [int(given)] if given else seeds:
            Round(shared, seed, capture, tally).run()
    print(tally)
    assert given or tally["compared"] > ROUNDS * SHAPES_AT_ONCE * WRITES_OF_A_ROUND * 0.6


def without_whole_reads(patch):
    """Read the changed rows alone, whatever the others are to them."""
    patch.setattr(audiences, "is_read_whole", lambda queryset, serializer_class: False)


def without_reads(patch):
    """Depend on what the shape of a queryset says, and not on what is read."""
    patch.setattr(audiences.Audience, "note", lambda self, statements: False)


def without_refusals(patch):
    patch.setattr(updates, "_values", lambda row: {})


# Enough for each of them to matter once.
_UNTIL_ONE_FAILS = 1_000


@pytest.mark.once
@pytest.mark.parametrize(
    ("leave_out", "finders"),
    [
        (without_whole_reads, [151958416]),
        (without_reads, [872502490]),
        (without_refusals, [2748532854]),
    ],
)
def test_rounds_notice_what_is_left_out(leave_out, finders, monkeypatch):
    """`finders` are seeds of rounds that have noticed it before."""
    leave_out(monkeypatch)
    others = [random.SystemRandom().randrange(2**32) for _ in range(_UNTIL_ONE_FAILS)]
    with running() as shared, pytest.raises(AssertionError):
        for seed in [*finders, *others]:
            print("noticed by", seed)
            Round(shared, seed, "signals", Counter()).run()
