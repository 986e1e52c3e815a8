"""Context managers of a project's around frames and passes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from contextvars import Context

import pytest
from channels.routing import URLRouter
from django.test import override_settings
from django.utils import translation
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from rest_channels.consumers import WebsocketConsumers, consumer
from rest_channels.test import SocketClient
from rest_channels.viewsets import ModelConsumerViewSet
from rest_channels.workers.contexts import variables_here
from tests.models import Room
from tests.support.talk import OpenViewSet

pytestmark = pytest.mark.django_db

current = threading.local()
passes: list[str] = []


@contextmanager
def asking(request):
    """As middleware does that lets models know who is asking."""
    current.path = request.path
    try:
        yield
    finally:
        del current.path


def who():
    return getattr(current, "path", None)


class Paths(OpenViewSet):
    def list(self, request):
        return Response(who())

    def create(self, request):
        def items():
            for number in range(3):
                yield [number, who()]

        return items()

    def retrieve(self, request, pk):
        raise ZeroDivisionError

    def handle_exception(self, exc):
        return Response(who(), status=400) if isinstance(exc, ZeroDivisionError) else super()


class Listening(WebsocketConsumers):
    @consumer
    def say(self, message):
        self.reply(who())


@pytest.fixture
def surrounded(settings):
    settings.REST_CHANNELS = {"FRAME_CONTEXTS": [f"{__name__}.asking"]}
    yield
    assert who() is None


def test_an_action_runs_within_the_frames_contexts(surrounded):
    with SocketClient(URLRouter(Paths.as_routes("paths", "paths")), "/paths/") as socket:
        assert socket.list().data == "/paths/"
        assert socket.retrieve(pk=1).errors == ["/paths/1/"]
        parts = socket.create(data={}).parts
        assert parts == [[number, "/paths/"] for number in range(3)]


def test_so_does_the_handler_of_a_consumer(surrounded):
    with SocketClient(URLRouter(Listening.as_routes(path="/ears")), "/ears") as socket:
        socket.send_text("{}")
        assert socket.receive() == "/ears"


def test_without_the_setting_there_are_none():
    with SocketClient(URLRouter(Paths.as_routes("paths", "paths")), "/paths/") as socket:
        assert socket.list().data is None


def test_django_simple_history_knows_who_has_written():
    command = [sys.executable, "-m", "tests.support.projects.history_project"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    authors = json.loads(done.stdout.splitlines()[-1])
    assert authors.pop("nobody") is None
    assert authors == dict.fromkeys(
        ["created", "updated", "async", "part 0", "part 1", "crud", "handler"], "ann"
    )


@contextmanager
def noting():
    passes.append("begins")
    yield
    passes.append("ends")


class RoomSerializer(ModelSerializer):
    class Meta:
        model = Room
        fields = ["name"]

    def to_representation(self, room):
        passes.append("reads")
        return super().to_representation(room)


class Rooms(ModelConsumerViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer


def test_a_pass_runs_within_its_contexts(settings):
    settings.REST_CHANNELS = {"PASS_CONTEXTS": [noting]}
    passes.clear()
    with SocketClient(URLRouter(Rooms.as_routes("rooms", "rooms")), "/rooms/") as socket:
        Room.objects.create(name="attic")
        assert socket.list().data == [{"name": "attic"}]
        # A frame is not a pass.
        assert passes == ["reads"]
        socket.request("subscribe", snapshot=True)
    assert passes[1:4] == ["begins", "reads", "ends"]


def test_a_language_is_not_a_projects_own_variable_after_a_change_of_settings():
    def german():
        translation.activate("de")
        return variables_here()

    context = Context()
    assert context.run(german) == {}
    with override_settings(LANGUAGES=[("en", "English"), ("de", "German")]):
        assert Context().run(german) == context.run(german) == {}
    assert Context().run(german) == {}
