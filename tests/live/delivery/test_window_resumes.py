"""Windows that a client resumes, grows or shrinks: it receives what it lacks, and nothing more."""

from __future__ import annotations

import pytest
from rest_framework import serializers

from rest_channels.viewsets import ModelConsumerViewSet
from tests.models import Club, Note
from tests.support.ordered_lists import OrderedList
from tests.support.stepped_processes import running
from tests.support.subscription_stories import routes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def processes():
    with running() as shared:
        yield shared


class NoteSerializer(serializers.ModelSerializer):
    club_name = serializers.CharField(source="club.name")

    class Meta:
        model = Note
        fields = ["id", "text", "club_name"]


class Notes(ModelConsumerViewSet):
    queryset = Note.objects.select_related("club").order_by("-id")
    serializer_class = NoteSerializer
    authentication_classes = []
    permission_classes = []


class Resumer:
    """A client of a window, which may go to another process and come back."""

    def __init__(self, application, size):
        self.application = application
        self.held = OrderedList(size)
        self.socket = None

    def subscribe(self, process, size=None, **keys):
        """Subscribe on `process`, or grow or shrink there; return the messages that follow."""
        if self.socket is None:
            self.socket = process.connect(self.application, "/", {})
        self.held.size = size or self.held.size
        if self.held.position is not None:
            held = [row["id"] for row in self.held.rows]
            keys = {"since": self.held.position, "held": held, **keys}
        asked = {"request_id": "s", "window": self.held.size, "snapshot": True, **keys}
        _, reply = self.socket.ask("subscribe", **asked)
        assert reply["response_status"] == 201, reply
        self.held.take(reply)
        process.settle()
        return self.take()

    def take(self):
        frames = self.socket.drain()
        for frame in frames:
            self.held.take(frame)
        return frames

    def leave(self):
        self.socket.leave()
        self.socket = None


def make_notes(count):
    club = Club.objects.create(name="chess")
    return club, [Note.objects.create(club=club, text=f"{number}") for number in range(count)]


def test_rows_whose_related_row_has_changed_meanwhile(processes):
    club, _ = processes.write(lambda: make_notes(5))
    client = Resumer(routes(Notes), 3)
    client.subscribe(processes.start())
    client.leave()
    club.name = "go"
    processes.write(club.save)
    frames = client.subscribe(processes.start())
    assert [frame["action"] for frame in frames] == ["update"] * 3
    assert {row["club_name"] for row in client.held.rows} == {"go"}
