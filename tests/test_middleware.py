"""Tokens for writes over HTTP, and the action that waits for their events."""

from __future__ import annotations

import re

import pytest
from asgiref.sync import sync_to_async
from django.core import signing
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import AsyncClient, Client, TestCase, override_settings
from django.urls import path
from rest_framework.decorators import action
from rest_framework.response import Response

from rest_channels.bus import news
from rest_channels.live.change_path import ChangePath
from rest_channels.live.fence_checks import check_fences
from rest_channels.live.fence_tokens import HEADER, is_valid, make_token
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketTestCase
from tests.models import Room
from tests.support.gates import Gate
from tests.support.room_viewsets import OpenRooms
from tests.support.server_processes import Server, ask, reply
from tests.support.subscription_stories import run
from tests.support.talk import OpenViewSet, happened, talking_to

FENCE = "rest_channels.middleware.FenceMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"

# No answer by a timeout, and none by a poll.
SLOW = {"FENCE_SECONDS": 60, "POLL_SECONDS": 60}


class OwnFence(OpenViewSet):
    @action(detail=False)
    def fence(self, request):
        return Response("of wood")


router = DefaultRouter()
router.register("rooms", OpenRooms)
router.register("own", OwnFence, "own")
application = router.as_asgi()


# Views


def write(request):
    Room.objects.create(name="written")
    return HttpResponse()


def roll_back(request):
    with transaction.atomic():
        Room.objects.create(name="never")
        transaction.set_rollback(True)
    return HttpResponse()


def write_later(request):
    with transaction.atomic():
        transaction.on_commit(lambda: Room.objects.create(name="later"))
    return HttpResponse()


def write_by_sql(request):
    statement = "INSERT INTO tests_room (name, is_staff_only) VALUES (%s, %s)"
    with connection.cursor() as cursor:
        cursor.execute(statement, ["sql", False])
    return HttpResponse()


async def write_without_waiting(request):
    await Room.objects.acreate(name="async")
    return HttpResponse()


async def write_in_a_thread(request):
    await sync_to_async(write)(request)
    return HttpResponse()


def read(request):
    return HttpResponse(Room.objects.count())


VIEWS = [
    *[write, roll_back, write_later, write_by_sql],
    *[write_without_waiting, write_in_a_thread, read],
]
urlpatterns = [path(view.__name__, view) for view in VIEWS]

with_middleware = override_settings(
    ROOT_URLCONF=__name__, MIDDLEWARE=[FENCE, SESSIONS], REST_CHANNELS=SLOW
)


@pytest.fixture
def http(monkeypatch):
    # No pass begins because the database tells of one that is over.
    monkeypatch.setattr(news, "listen", lambda alias, ear: None)
    with with_middleware:
        yield


# Which responses have a token

WRITING = ["write", "write_later", "write_without_waiting", "write_in_a_thread"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", WRITING)
def test_a_request_that_has_committed_changes(http, name):
    assert is_valid(Client().get(f"/{name}")[HEADER])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", WRITING)
def test_a_request_to_an_asgi_server(http, name):
    async def story():
        assert is_valid((await AsyncClient().get(f"/{name}"))[HEADER])
        assert HEADER not in await AsyncClient().get("/read")

    run(story)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["read", "roll_back"])
def test_a_request_that_has_changed_nothing(http, name):
    assert HEADER not in Client().get(f"/{name}")
    assert HEADER not in Client().head(f"/{name}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_any_request_that_may_write(http, method):
    assert HEADER in getattr(Client(), method)("/write_by_sql")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_undone", [False, True])
def test_atomic_requests(http, monkeypatch, is_undone):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    response = Client().get("/roll_back" if is_undone else "/write")
    assert (HEADER in response) is not is_undone


@with_middleware
class WithinATransaction(TestCase):
    def test_a_request_that_has_written(self):
        assert HEADER in self.client.get("/write")
        assert HEADER not in self.client.get("/read")


def test_without_capture_there_is_nothing_to_wait_for(http, db, settings):
    settings.REST_CHANNELS = {"CAPTURE": None}
    assert HEADER not in Client().post("/read")


def test_a_token_says_nothing_and_fits_in_a_header(settings):
    token = make_token()
    assert re.fullmatch(r"[A-Za-z0-9_:-]{20,100}", token)
    for alias in settings.DATABASES:
        assert alias not in token


# The action


@with_middleware
class FencedTests(SocketTestCase):
    application = application

    def test_events_come_before_the_reply(self):
        self.socket.request("subscribe", "rooms", request_id="s")
        token = self.client.get("/write")[HEADER]
        answer = self.socket.request("fence", "rooms", data={"token": token})
        assert (answer.status_code, answer.data, answer.fenced) == (200, None, True)
        assert [event.data["name"] for event in self.socket.unread] == ["written"]
        # It can be used again.
        assert self.socket.request("fence", "rooms", data={"token": token}).fenced is True

    def test_without_subscriptions(self):
        assert self.socket.request("fence", "rooms", data={"token": make_token()}).fenced is True


@pytest.mark.django_db(transaction=True)
def test_the_reply_waits_for_the_pass(http, monkeypatch):
    gate, number = Gate(), ChangePath._number

    def waiting(self):
        found = number(self)
        gate.pass_through()
        return found

    async def story():
        async with talking_to(application) as socket:
            await socket.ask("subscribe", "rooms", request_id="s")
            monkeypatch.setattr(ChangePath, "_number", waiting)
            token = (await AsyncClient().post("/write"))[HEADER]
            await happened(gate.reached)
            await socket.send("fence", "rooms", request_id="f", data={"token": token})
            await socket.send("list", "rooms", request_id="next")
            assert (await socket.ask("ping", "rooms"))["action"] == "ping"
            gate.opened.set()
            messages = [await socket.receive() for _ in range(3)]
            assert [m["request_id"] for m in messages] == ["s", "f", "next"]
            assert messages[1]["fenced"] is True

    run(story)


@pytest.mark.django_db(transaction=True)
def test_cancelled_or_too_late(http, monkeypatch, settings):
    gate, number = Gate(), ChangePath._number

    def waiting(self):
        gate.pass_through()
        return number(self)

    async def story():
        async with talking_to(application) as socket:
            await socket.ask("subscribe", "rooms", request_id="s")
            monkeypatch.setattr(ChangePath, "_number", waiting)
            data = {"token": make_token()}
            await socket.send("fence", "rooms", request_id="f", data=data)
            await happened(gate.reached)
            cancelled = await socket.ask(
                "cancel", "rooms", request_id="c", data={"request_id": "f"}
            )
            assert cancelled["response_status"] == 204
            answer = await socket.receive()
            assert (answer["request_id"], answer["fenced"]) == ("f", False)
            settings.REST_CHANNELS = {**SLOW, "FENCE_SECONDS": 0.05}
            answer = await socket.ask("fence", "rooms", request_id="g", data=data)
            assert (answer["response_status"], answer["fenced"]) == (200, False)
            gate.opened.set()

    run(story)


@pytest.fixture
def socket(db):
    with SocketClient(application, "/rooms/") as client:
        yield client


def old_token():
    signer = signing.TimestampSigner(salt="rest_channels.fence")
    signer.timestamp = lambda: signing.b62_encode(0)
    return signer.sign("1")


WRONG = {
    **{"forged": "1:aaaaaa:bbbb", "empty": "", "a number": 1, "null": None, "a list": []},
    **{"of another salt": signing.TimestampSigner(salt="x").sign("1"), "old": old_token()},
    **{"a NUL": "\0", "long": "1:" * 10_000, "unsigned": "1", "not ASCII": "é:é:é"},
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG)
def test_a_token_that_is_not_valid(socket, token):
    answer = socket.request("fence", data={"token": token})
    assert (answer.status_code, answer.data, answer.fenced) == (400, None, None)
    assert answer.codes == [{"token": ["invalid"]}]
    assert HEADER in answer.errors[0]["token"][0]


@pytest.mark.parametrize("data", [{}, [], "token", None])
def test_a_frame_without_a_token(socket, data):
    answer = socket.request("fence", data=data)
    assert (answer.status_code, answer.codes) == (400, ["required"])
    assert socket.request("fence").codes == ["required"]


def test_tokens_are_valid_for_as_long_as_changes(socket, settings, monkeypatch):
    token = make_token()
    settings.REST_CHANNELS = {"RETENTION_SECONDS": 100}
    made_at = signing.time.time()
    for age, status in [(90, 200), (110, 400)]:
        monkeypatch.setattr(signing.time, "time", lambda age=age: made_at + age)
        assert socket.request("fence", data={"token": token}).status_code == status


@pytest.mark.parametrize("address", ["/rooms/1/", "/"])
def test_on_any_socket(db, address):
    with SocketClient(application, address) as client:
        stream = "rooms" if address == "/" else None
        assert client.request("fence", stream, data={"token": make_token()}).fenced is True


def test_an_action_of_that_name_wins(db):
    with SocketClient(application, "/own/") as client:
        assert client.request("fence").data == "of wood"


@pytest.mark.only_on("sqlite")
def test_a_write_by_another_process():
    """The process of the socket has not heard of it; nor has it numbered it."""
    kind = "uvicorn"
    application = "tests.support.apps.live_rooms_app:application"
    write_and_print = (
        "from tests.models import Room\n"
        "from rest_channels.live.fence_tokens import make_token\n"
        "Room.objects.create(name='elsewhere')\n"
        "print(make_token())"
    )
    with Server(kind, application, POLL_SECONDS=60) as server, server.connect() as socket:
        ask(socket, "subscribe", "s")
        assert reply(socket)["response_status"] == 201
        for _ in range(3):
            server.execute("DELETE FROM tests_room")
            token = server.run(write_and_print).strip()
            ask(socket, "fence", "f", data={"token": token})
            messages = []
            while not messages or messages[-1]["request_id"] != "f":
                messages.append(reply(socket))
            assert messages[-1]["fenced"] is True
            created = [m["data"]["name"] for m in messages[:-1] if m["action"] == "create"]
            assert created == ["elsewhere"]


# Checks


@pytest.mark.parametrize(
    ("middleware", "ids"),
    [
        ([], []),
        ([SESSIONS], []),
        ([FENCE, SESSIONS], []),
        (["django.middleware.security.SecurityMiddleware", FENCE, SESSIONS], []),
        ([SESSIONS, FENCE], ["rest_channels.W017"]),
        (["django.middleware.cache.UpdateCacheMiddleware", FENCE], ["rest_channels.W017"]),
        (["nowhere.Middleware", FENCE], []),
    ],
)
def test_the_place_of_the_middleware(settings, middleware, ids):
    settings.MIDDLEWARE = middleware
    assert [message.id for message in check_fences()] == ids


@pytest.mark.parametrize(
    ("exposed", "ids"),
    [
        (None, ["rest_channels.W018"]),
        (["rest-channels-fence"], []),
        (["X-Other"], ["rest_channels.W018"]),
    ],
)
def test_pages_of_other_origins_have_to_read_the_header(settings, exposed, ids):
    settings.MIDDLEWARE = [FENCE]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS]
    assert check_fences() == []
    settings.INSTALLED_APPS.append("corsheaders")
    if exposed is not None:
        settings.CORS_EXPOSE_HEADERS = exposed
    assert [message.id for message in check_fences()] == ids
