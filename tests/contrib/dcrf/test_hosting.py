"""djangochannelsrestframework's consumers as streams, unchanged."""

from __future__ import annotations

import asyncio
import datetime

import pytest
from channels.auth import AuthMiddlewareStack
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.dispatch import Signal
from django.urls import path
from djangochannelsrestframework import permissions
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from djangochannelsrestframework.decorators import action, detached
from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import (
    CreateModelMixin,
    DeleteModelMixin,
    ListModelMixin,
    PatchModelMixin,
    RetrieveModelMixin,
    StreamedPaginatedListMixin,
    UpdateModelMixin,
)
from djangochannelsrestframework.observer import model_observer, observer
from djangochannelsrestframework.observer.generics import ObserverModelInstanceMixin
from djangochannelsrestframework.pagination import WebsocketLimitOffsetPagination
from rest_framework import serializers, viewsets
from rest_framework.permissions import IsAuthenticated

from rest_channels.contrib.dcrf import hosting
from rest_channels.routers import DefaultRouter
from rest_channels.test import SocketClient, SocketClosed
from tests.models import Room, Sensor
from tests.support.room_viewsets import RoomSerializer


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer


class EchoConsumer(AsyncAPIConsumer):
    """The smallest one there is."""

    @action()
    async def echo(self, **kwargs):
        return kwargs, 200


def client(path: str = "/", *, headers=None, subprotocols=None, **streams) -> SocketClient:
    """A client of a router with these streams, and a viewset `rooms` beside them."""
    router = DefaultRouter()
    router.register("rooms", RoomViewSet)
    for prefix, stream in streams.items():
        router.register(prefix, stream)
    return SocketClient(router.as_asgi(), path, headers=headers, subprotocols=subprotocols)


# A consumer as its author wrote it


class RoomConsumer(
    ListModelMixin,
    RetrieveModelMixin,
    CreateModelMixin,
    UpdateModelMixin,
    PatchModelMixin,
    DeleteModelMixin,
    GenericAsyncAPIConsumer,
):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "stream"), [("/", "old"), ("/old/", None)])
def test_the_generic_actions_on_the_root_and_on_its_own_socket(path, stream):
    with client(path, old=RoomConsumer) as socket:
        made = socket.create(stream, {"name": "lobby"})
        assert made.status_code == 201
        pk = made.data["id"]
        assert socket.list(stream).data == [{"id": pk, "name": "lobby"}]
        assert socket.retrieve(stream, pk).data == {"id": pk, "name": "lobby"}
        assert socket.update(stream, pk, {"name": "attic"}).data["name"] == "attic"
        assert socket.request("patch", stream, pk=pk, data={"name": "hall"}).data["name"] == "hall"
        assert socket.create(stream, {}).errors == [{"name": ["This field is required."]}]
        assert socket.request("delete", stream, pk=pk).status_code == 204
        assert socket.retrieve(stream, pk).status_code == 404


@pytest.mark.django_db
def test_an_action_gets_every_key_as_it_came():
    keys = {"query": "text", "headers": [1], "method": {"a": None}, "data": 1.5, "anything": "else"}
    with client(echo=EchoConsumer) as socket:
        reply = socket.request("echo", "echo", **keys, request_id="mine")
    assert reply.data == {**keys, "request_id": "mine", "action": "echo"}


@pytest.mark.django_db
def test_a_sync_action_and_an_unknown_one():
    class Sync(AsyncAPIConsumer):
        @action()
        def count(self, **kwargs):
            return Room.objects.count(), 200

    Room.objects.create(name="lobby")
    with client(sync=Sync) as socket:
        assert socket.request("count", "sync").data == 1
        assert socket.request("nonsense", "sync").status_code == 405


@pytest.mark.django_db
def test_a_stream_of_pages():
    class Paged(StreamedPaginatedListMixin, GenericAsyncAPIConsumer):
        queryset = Room.objects.order_by("id")
        serializer_class = RoomSerializer
        pagination_class = WebsocketLimitOffsetPagination

    Room.objects.bulk_create(Room(name=f"room-{n}") for n in range(3))
    with client(paged=Paged) as socket:
        first = socket.list("paged", limit=2, offset=0, request_id=7)
        second = socket.event()
    assert [room["name"] for room in first.data["results"]] == ["room-0", "room-1"]
    assert (second.request_id, second.data["offset"]) == (7, 2)
    assert [room["name"] for room in second.data["results"]] == ["room-2"]


@pytest.mark.django_db
def test_a_detached_action_lets_others_pass():
    class Slow(AsyncAPIConsumer):
        async def connect(self):
            self.may_end = asyncio.Event()
            await self.accept()

        @action(detached=True)
        async def wait(self, **kwargs):
            await self.may_end.wait()
            return "waited", 200

        @action()
        async def end(self, **kwargs):
            self.may_end.set()
            return "ended", 200

    with client(slow=Slow) as socket:
        waiting = socket.send("wait", "slow")
        assert socket.request("end", "slow").data == "ended"
        assert socket.reply(waiting).data == "waited"


@pytest.mark.django_db
def test_detached_tasks_end_with_the_socket():
    ended = []

    class Forever(AsyncAPIConsumer):
        @action()
        async def begin(self, **kwargs):
            await self.forever()
            return None, 200

        @detached
        async def forever(self):
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

    with client(forever=Forever) as socket:
        assert socket.request("begin", "forever").status_code == 200
    assert ended == [True]


@pytest.mark.django_db
def test_payloads_of_another_shape():
    class Verbs(AsyncAPIConsumer):
        async def get_action_name(self, content, **kwargs):
            return content.pop("verb"), content

        @action()
        async def greet(self, name, **kwargs):
            return f"Hello {name}", 200

    with client("/verbs/", verbs=Verbs) as socket:
        socket.send_text('{"verb": "greet", "name": "Ann", "request_id": 1}')
        assert socket.receive()["data"] == "Hello Ann"


# Subscriptions


class SensorSerializer(serializers.ModelSerializer):
    class Meta:
        model = Sensor
        fields = ["id", "name"]


class SensorViewSet(viewsets.ModelViewSet):
    queryset = Sensor.objects.order_by("id")
    serializer_class = SensorSerializer


class ObservingConsumer(CreateModelMixin, GenericAsyncAPIConsumer):
    queryset = Sensor.objects.order_by("id")
    serializer_class = SensorSerializer

    async def accept(self, **kwargs):
        await self.on_change.subscribe()
        await super().accept(**kwargs)

    @model_observer(Sensor)
    async def on_change(self, message, action, subscribing_request_ids=(), **kwargs):
        for request_id in subscribing_request_ids or [None]:
            await self.reply(action=action, data=message, request_id=request_id)

    @on_change.serializer
    def on_change(self, instance, action, **kwargs):
        return {"name": instance.name}

    @action()
    async def watch(self, request_id, **kwargs):
        await self.on_change.subscribe(request_id=request_id)
        return None, 201


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("path", "stream"), [("/", "live"), ("/live/", None)])
def test_a_model_observer_subscribed_to_in_accept(path, stream):
    with client(path, live=ObservingConsumer) as socket:
        socket.create(stream, {"name": "door"})
        event = socket.event()
    assert (event.action, event.data, event.request_id) == ("create", {"name": "door"}, None)


@pytest.mark.django_db(transaction=True)
def test_a_model_observer_tells_what_a_viewset_changed():
    with client(live=ObservingConsumer, sensors=SensorViewSet) as socket:
        assert socket.request("watch", "live", request_id="w").status_code == 201
        socket.create("sensors", {"name": "door"})
        event = socket.event()
    assert (event.action, event.data, event.request_id) == ("create", {"name": "door"}, "w")


class InstanceConsumer(ObserverModelInstanceMixin, UpdateModelMixin, GenericAsyncAPIConsumer):
    queryset = Sensor.objects.order_by("id")
    serializer_class = SensorSerializer


@pytest.mark.django_db(transaction=True)
def test_subscribe_instance_and_unsubscribe_instance():
    door = Sensor.objects.create(name="door")
    with client(one=InstanceConsumer) as socket:
        begun = socket.request("subscribe_instance", "one", pk=door.pk, request_id="s")
        assert begun.status_code == 201
        socket.update("one", door.pk, {"name": "gate"})
        event = socket.event()
        assert (event.action, event.request_id) == ("update", "s")
        assert event.data == {"id": door.pk, "name": "gate"}
        ended = socket.request("unsubscribe_instance", "one", pk=door.pk, request_id="s")
        assert ended.status_code == 204
        socket.update("one", door.pk, {"name": "wall"})
        # Were there an event, it would come before this.
        assert socket.retrieve("one", door.pk).data["name"] == "wall"
        assert socket.unread == []


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_deleted_is_told():
    door = Sensor.objects.create(name="door")
    with client(one=InstanceConsumer, sensors=SensorViewSet) as socket:
        socket.request("subscribe_instance", "one", pk=door.pk, request_id="s")
        socket.destroy("sensors", door.pk)
        event = socket.event()
    assert (event.action, event.status_code, event.data) == ("delete", 204, {"pk": door.pk})


rang = Signal()


@pytest.mark.django_db
def test_an_observer_of_a_signal():
    class Bell(AsyncAPIConsumer):
        async def accept(self, **kwargs):
            await self.on_ring.subscribe()
            await super().accept(**kwargs)

        @observer(rang)
        async def on_ring(self, message, observer=None, **kwargs):
            await self.send_json({**message, "request_id": None, "response_status": 200})

        @on_ring.serializer
        def on_ring(self, signal, times, **kwargs):
            return {"errors": [], "action": "ring", "data": times}

        @action()
        def ring(self, **kwargs):
            rang.send(sender=None, times=3)
            return None, 200

    with client(bell=Bell) as socket:
        socket.request("ring", "bell")
        assert socket.event().data == 3


# Who is there


class WhoConsumer(AsyncAPIConsumer):
    @action()
    async def who(self, **kwargs):
        user = self.scope["user"]
        return [user.username, self.scope["session"].get("_auth_user_id")], 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/who/"])
def test_the_user_and_the_session_are_in_the_scope(path):
    ann = User.objects.create_user("ann")
    with client(path, who=WhoConsumer) as socket:
        socket.force_login(ann)
        reply = socket.request("who", "who" if path == "/" else None)
    assert reply.data == ["ann", str(ann.pk)]


@pytest.mark.django_db
def test_nobody_is_there():
    with client(who=WhoConsumer) as socket:
        assert socket.request("who", "who").data == ["", None]


@pytest.mark.django_db
def test_a_user_whom_a_middleware_put_into_the_scope():
    class Middleware:
        def __init__(self, application):
            self.application = application

        async def __call__(self, scope, receive, send):
            scope = {**scope, "user": User(pk=1, username="token-user"), "session": {}}
            await self.application(scope, receive, send)

    router = DefaultRouter()
    router.register("who", WhoConsumer)
    User.objects.create_user("token-user", pk=1)
    with SocketClient(Middleware(URLRouter(router.urls))) as socket:
        assert socket.request("who", "who").data == ["token-user", None]


@pytest.mark.django_db
@pytest.mark.parametrize("has_middleware", [False, True])
def test_cookies_of_another_page_do_not_count_in_a_stack_built_by_hand(has_middleware):
    router = DefaultRouter()
    router.register("who", WhoConsumer)
    application = URLRouter(router.urls)
    if has_middleware:
        application = AuthMiddlewareStack(application)
    headers = {"origin": "https://elsewhere.example"}
    with SocketClient(application, headers=headers) as socket:
        socket.force_login(User.objects.create_user("ann"))
        assert socket.request("who", "who").data == ["", None]


@pytest.mark.django_db
@pytest.mark.parametrize("end", ["delete", "deactivate", "log out"])
def test_a_socket_of_hosted_consumers_alone_ends_with_its_user(end, settings):
    settings.REST_CHANNELS = {"LEASE_SECONDS": 0.1}
    ann = User.objects.create_user("ann")
    with client("/who/", who=WhoConsumer) as socket:
        socket.force_login(ann)
        assert socket.request("who").data[0] == "ann"
        if end == "delete":
            ann.delete()
        elif end == "deactivate":
            # By another process: without a signal.
            User.objects.update(is_active=False)
        else:
            socket.logout()
        with pytest.raises(SocketClosed) as caught:
            socket.receive()
        assert caught.value.code == 4401


@pytest.mark.django_db
def test_lookups_of_the_url_are_in_the_scope():
    class Tenant(AsyncAPIConsumer):
        @action()
        async def tenant(self, **kwargs):
            return self.scope["url_route"]["kwargs"], 200

    router = DefaultRouter()
    router.register("tenant", Tenant)
    application = URLRouter([path("ws/<slug:tenant>/", URLRouter(router.urls))])
    with SocketClient(application, "/ws/acme/") as socket:
        assert socket.request("tenant", "tenant").data == {"tenant": "acme"}


@pytest.mark.django_db
def test_a_subprotocol_of_the_consumers_own():
    class Chat(AsyncAPIConsumer):
        async def connect(self):
            await self.accept("chat.v2")

    with client("/chat/", chat=Chat, subprotocols=["chat.v1", "chat.v2"]) as socket:
        socket.connect()
        assert socket.subprotocol == "chat.v2"


# Refusing and failing


class Refused(permissions.BasePermission):
    async def can_connect(self, scope, consumer, message=None):
        return False

    async def has_permission(self, scope, consumer, action, **kwargs):
        return True


class RefusingConsumer(EchoConsumer):
    permission_classes = [Refused]


class ClosingConsumer(EchoConsumer):
    async def connect(self):
        await self.close()


class RaisingConsumer(EchoConsumer):
    async def connect(self):
        raise KeyError("secret")


class ExitingConsumer(EchoConsumer):
    async def connect(self):
        raise SystemExit(1)


class SilentConsumer(EchoConsumer):
    async def connect(self):
        pass


@pytest.fixture(params=[RefusingConsumer, ClosingConsumer, RaisingConsumer, ExitingConsumer])
def shut(request):
    """A consumer that does not let anybody in."""
    return request.param


@pytest.mark.django_db
def test_a_stream_that_does_not_open_takes_no_other_with_it(shut):
    with client(shut=shut, echo=EchoConsumer) as socket:
        assert socket.request("echo", "echo").status_code == 200
        assert socket.list("rooms").status_code == 200
        reply = socket.request("echo", "shut")
    assert (reply.status_code, reply.codes) == (403, ["stream_closed"])


@pytest.mark.django_db
def test_its_own_socket_is_refused(shut):
    with pytest.raises(SocketClosed) as caught:
        client("/shut/", shut=shut).connect()
    assert caught.value.code is None


@pytest.mark.django_db
def test_the_root_is_refused_where_all_refuse(shut):
    class MembersViewSet(RoomViewSet):
        permission_classes = [IsAuthenticated]

    router = DefaultRouter()
    router.register("members", MembersViewSet)
    router.register("shut", shut)
    with SocketClient(router.as_asgi()) as socket, pytest.raises(SocketClosed) as caught:
        socket.receive()
    assert caught.value.code == 4401


@pytest.mark.django_db
def test_a_viewset_keeps_the_root_open_where_all_consumers_refuse(shut):
    with client(shut=shut) as socket:
        assert socket.list("rooms").status_code == 200


@pytest.mark.django_db
def test_consumers_that_never_say_whether_they_accept(monkeypatch, caplog):
    monkeypatch.setattr(hosting, "_SECONDS_TO_OPEN", 0.05)
    with client(one=SilentConsumer, two=SilentConsumer) as socket:
        assert socket.list("rooms").status_code == 200
        assert socket.request("echo", "one").codes == ["stream_closed"]
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]


class LateConsumer(EchoConsumer):
    async def connect(self):
        await asyncio.Event().wait()


@pytest.mark.django_db
def test_a_consumer_that_accepts_too_late_stays_closed(monkeypatch):
    monkeypatch.setattr(hosting, "_SECONDS_TO_OPEN", 0)
    monkeypatch.setattr(hosting, "_SECONDS_TO_END", 0.1)
    with client(late=LateConsumer) as socket:
        assert socket.list("rooms").status_code == 200
        assert socket.request("echo", "late").codes == ["stream_closed"]


class FailingConsumer(EchoConsumer):
    @action()
    async def fail(self, **kwargs):
        raise KeyError("secret")

    @action()
    async def exit(self, **kwargs):
        raise SystemExit(1)

    @action()
    async def cancel_itself(self, **kwargs):
        raise asyncio.CancelledError

    @action()
    async def not_json(self, **kwargs):
        return datetime.date.today(), 200

    @action()
    async def nan(self, **kwargs):
        return float("nan"), 200

    @action()
    async def text(self, **kwargs):
        await self.send(text_data='1}, "stream": "rooms"')

    @action()
    async def binary(self, **kwargs):
        await self.send(bytes_data=b"\x00")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "word", ["fail", "exit", "cancel_itself", "not_json", "nan", "text", "binary"]
)
def test_a_consumer_that_raises_ends_its_own_stream(word, caplog):
    with client(failing=FailingConsumer, echo=EchoConsumer) as socket:
        reply = socket.request(word, "failing")
        assert socket.request("echo", "failing").codes == ["stream_closed"]
        assert socket.request("echo", "echo").status_code == 200
        assert socket.list("rooms").status_code == 200
    assert (reply.status_code, reply.codes) == (500, ["error"])
    [record] = [r for r in caplog.records if r.name == "rest_channels"]
    assert reply.errors == [f"Server error (error {record.error_id})."]
    assert record.exc_info


@pytest.mark.django_db
def test_on_its_own_socket_it_is_answered_and_closed_with_1011():
    with client("/failing/", failing=FailingConsumer) as socket:
        assert socket.request("fail").status_code == 500
        with pytest.raises(SocketClosed) as caught:
            socket.receive()
    assert caught.value.code == 1011


@pytest.mark.django_db
def test_frames_behind_the_one_that_failed_are_refused():
    with client(failing=FailingConsumer) as socket:
        asked = [socket.send(word, "failing") for word in ("echo", "fail", "echo", "echo")]
        assert [socket.reply(n).status_code for n in asked] == [200, 500, 403, 403]


@pytest.mark.django_db
def test_a_failing_event_is_no_answer_to_the_frame_before_it(caplog):
    class Eventful(EchoConsumer):
        @action()
        async def arrange(self, **kwargs):
            await self.channel_layer.send(self.channel_name, {"type": "go.wrong"})
            return "arranged", 200

        async def go_wrong(self, event):
            raise KeyError

    with client(eventful=Eventful) as socket:
        assert socket.request("arrange", "eventful").data == "arranged"
        while socket.request("echo", "eventful").status_code == 200:
            pass
        assert socket.unread == []


@pytest.mark.django_db
def test_a_consumer_that_closes_itself():
    class Leaving(EchoConsumer):
        @action()
        async def leave(self, **kwargs):
            await self.reply(action="leave", request_id=kwargs["request_id"])
            await self.close(code=4123)

    with client(leaving=Leaving) as socket:
        assert socket.request("leave", "leaving").status_code == 200
        assert socket.request("echo", "leaving").codes == ["stream_closed"]
        assert socket.list("rooms").status_code == 200
    with client("/leaving/", leaving=Leaving) as socket:
        socket.request("leave")
        with pytest.raises(SocketClosed) as caught:
            socket.receive()
    assert caught.value.code == 4123


# The end


def grouped(seen):
    """A consumer in a group, that notes the code it is disconnected with."""

    class Grouped(EchoConsumer):
        async def connect(self):
            await self.add_group("everybody")
            await self.come_in()

        async def come_in(self):
            await self.accept()

        async def disconnect(self, code):
            seen.append((code, "everybody" in get_channel_layer().groups))

        @action()
        async def leave(self, **kwargs):
            await self.close(code=4123)

    return Grouped


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/old/"])
def test_a_consumer_is_disconnected_and_leaves_its_groups(path):
    seen = []
    socket = client(path, old=grouped(seen))
    socket.connect()
    assert "everybody" in get_channel_layer().groups
    socket.close(code=1001)
    assert seen == [(1001, False)]


@pytest.mark.django_db
def test_a_consumer_that_closes_itself_is_disconnected_at_once():
    seen = []
    with client(old=grouped(seen)) as socket:
        socket.send("leave", "old")
        while socket.request("echo", "old").status_code == 200:
            pass
        # While the socket stays open: its consumer has a task of its own.
        while not seen:
            socket.list("rooms")
        assert seen == [(4123, False)]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/old/"])
def test_a_consumer_that_refuses_is_disconnected_too(path):
    seen = []

    class Refusing(grouped(seen)):
        async def come_in(self):
            await self.close()

    router = DefaultRouter()
    router.register("old", Refusing)
    with SocketClient(router.as_asgi(), path) as socket, pytest.raises(SocketClosed):
        socket.receive()
    assert seen == [(1006, False)]


@pytest.mark.django_db
def test_what_was_sent_is_done_though_the_client_has_gone():
    class Making(AsyncAPIConsumer):
        @action()
        def make(self, name, **kwargs):
            Room.objects.create(name=name)

    with client(making=Making) as socket:
        socket.send("make", "making", name="lobby")
        socket.send("make", "making", name="attic")
    assert Room.objects.count() == 2


# Bounds


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/echo/"])
def test_a_frame_that_is_too_long(path, settings):
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": 100}
    stream = "echo" if path == "/" else None
    with client(path, echo=EchoConsumer) as socket:
        for keys in ({"data": "x" * 100}, {"held": [1] * 100}):
            socket.send("echo", stream, request_id=7, **keys)
            reply = socket.receive()
            reply = reply if stream is None else reply["payload"]
            assert (reply["response_status"], reply["request_id"]) == (413, 7)


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/echo/"])
def test_a_frame_that_is_longer_than_any(path, settings):
    settings.REST_CHANNELS = {"MAX_FRAME_BYTES": 100, "MAX_SUBSCRIPTION_ROWS": 1}
    with client(path, echo=EchoConsumer) as socket:
        socket.send("echo", "echo" if path == "/" else None, data="x" * 100)
        with pytest.raises(SocketClosed) as caught:
            socket.receive()
    assert caught.value.code == 1009


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/echo/"])
def test_too_many_frames(path, settings):
    settings.REST_CHANNELS = {"FRAME_BURST": 2, "FRAME_RATE": 0.01}
    stream = "echo" if path == "/" else None
    with client(path, echo=EchoConsumer) as socket:
        asked = [socket.send("echo", stream) for _ in range(3)]
        assert sorted(socket.reply(n).status_code for n in asked) == [200, 200, 429]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/slow/"])
def test_too_many_frames_at_once(path, settings):
    settings.REST_CHANNELS = {"MAX_IN_FLIGHT": 2}
    stream = "slow" if path == "/" else None

    class Slow(EchoConsumer):
        async def connect(self):
            self.may_end = asyncio.get_running_loop().create_future()
            release.append(self.may_end)
            await self.accept()

        @action()
        async def wait(self, **kwargs):
            return await self.may_end, 200

    release = []
    with client(path, slow=Slow) as socket:
        asked = [socket.send("wait", stream) for _ in range(3)]
        assert socket.reply(asked[2]).codes == ["too_many_in_flight"]
        [future] = release
        future.get_loop().call_soon_threadsafe(future.set_result, "done")
        assert [socket.reply(n).data for n in asked[:2]] == ["done", "done"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text",
    ['{"stream": "echo", "payload": []}', '{"stream": "echo", "payload": {"action": 1}}'],
)
def test_what_is_no_frame_does_not_reach_the_consumer(text):
    with client(echo=EchoConsumer) as socket:
        socket.send_text(text)
        assert socket.receive()["payload"]["response_status"] == 400
        assert socket.request("echo", "echo").status_code == 200


class JoiningConsumer(AsyncAPIConsumer):
    @action()
    async def join(self, room, **kwargs):
        await self.add_group(f"room-{room}")
        return {"groups": len(self.groups)}, 200

    @action()
    async def leave(self, room, **kwargs):
        await self.remove_group(f"room-{room}")
        return None, 204


@pytest.mark.django_db
def test_the_consumers_of_a_socket_join_so_many_groups(settings):
    settings.REST_CHANNELS = {"MAX_SUBSCRIPTIONS": 3}
    with client(one=JoiningConsumer, other=JoiningConsumer) as socket:
        assert socket.request("join", "one", room=1).status_code == 200
        assert socket.request("join", "one", room=2).status_code == 200
        assert socket.request("join", "other", room=1).status_code == 200
        refused = socket.request("join", "other", room=2)
        assert refused.status_code == 503
        assert refused.errors == [hosting.TooManySubscriptions.default_detail]
        assert socket.request("join", "one", room=2).data == {"groups": 2}
        assert socket.request("leave", "one", room=1).status_code == 204
        assert socket.request("join", "other", room=2).status_code == 200
