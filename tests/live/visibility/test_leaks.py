"""Ways round request tracking: no user receives a text that was made for another user."""

from __future__ import annotations

import copy
import operator
from contextvars import ContextVar
from threading import local

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from rest_framework.authentication import BaseAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from tests.models import Room
from tests.support.greeting_rooms import (
    Rooms,
    RoomSerializer,
    greets,
    two_users,
    what_is_told,
    who_is_told,
)
from tests.support.subscription_stories import (
    ByHeader,
    event,
    routes,
    run,
    subscribed,
    told,
    written,
)
from tests.support.talk import talking_to

pytestmark = pytest.mark.django_db(transaction=True)

EACH_THEIR_OWN = ({"hello": "ann"}, {"hello": "bob"})


def hears(viewset, expected=EACH_THEIR_OWN):
    async def story():
        assert await who_is_told(viewset) == expected

    run(story)


# A serializer that goes round


@pytest.mark.parametrize(
    "get_user",
    [
        lambda request: vars(request)["_user"],
        lambda request: request.__dict__["_user"],
        lambda request: vars(request._request)["user"],
        lambda request: copy.copy(request).user,
        lambda request: request.__reduce_ex__(4)[2]["_user"],
        lambda request: type(request).user.fget(request),
        lambda request: request.__getattribute__("user"),
        lambda request: operator.attrgetter("user")(request),
        lambda request: request.parser_context["request"].user,
        lambda request: request.parser_context["view"].request.user,
        lambda request: request._request.view.request.user,
        lambda request: (
            request._request.credentials.user_pk
            and User.objects.get(pk=request._request.credentials.user_pk)
        ),
    ],
    ids=[
        *["vars", "__dict__", "django's vars", "copy", "reduced", "property"],
        *["__getattribute__", "attrgetter", "parser", "parser's view", "message's view"],
        *["credentials"],
    ],
)
def test_a_request_looked_at_from_behind(get_user):
    class Greeted(Rooms):
        serializer_class = greets(lambda context: get_user(context["request"]).username)

    hears(Greeted)


def test_a_copy_that_was_made_before():
    class Greeted(Rooms):
        serializer_class = greets(lambda context: context["kept"].user.username)

        def get_serializer_context(self):
            return {**super().get_serializer_context(), "kept": copy.copy(self.request)}

    hears(Greeted)


def test_a_request_class_of_ones_own():
    class OwnRequest(Request):
        pass

    class Greeted(Rooms):
        serializer_class = greets(lambda context: context["request"].user.username)

        def initialize_request(self, request, *args, **kwargs):
            made = super().initialize_request(request, *args, **kwargs)
            made.__class__ = OwnRequest
            return made

    hears(Greeted)


# A view that leaves out what usually reads the user


class Unchecked(Rooms):
    def check_permissions(self, request):
        """Everybody may."""


def test_a_view_that_asks_no_permissions():
    class Greeted(Unchecked):
        serializer_class = greets(lambda context: context["request"].user.username)

    hears(Greeted)


def test_a_view_that_authenticates_late():
    class Own(Unchecked):
        def perform_authentication(self, request):
            """Leave it to the first use of `request.user`."""

        def get_queryset(self):
            return super().get_queryset().filter(name=f"room of {self.request.user.username}")

    async def story():
        ann, bob = await two_users()
        application = routes(Own)
        async with told(application, user=ann) as anns, told(application, user=bob) as bobs:
            await subscribed(anns)
            await subscribed(bobs)
            for name in ("bob", "ann"):
                await written(Room.objects.create, name=f"room of {name}")
            assert (await event(anns))[1]["name"] == "room of ann"
            assert (await event(bobs))[1]["name"] == "room of bob"

    run(story)


# What is read of the socket, by those whom DRF takes for the same


class Devices(Rooms):
    """For anybody: by DRF's own classes, and so by none, sockets are not told apart."""

    authentication_classes = []


def devices_hear(viewset):
    async def story():
        headers = [{"x-device": name} for name in ("ann", "bob")]
        assert await what_is_told(routes(viewset), *headers) == EACH_THEIR_OWN

    run(story)


def test_a_serializer_that_reads_a_header_of_who_is_not_signed_in():
    class Greeted(Devices):
        serializer_class = greets(lambda context: context["request"].headers["x-device"])

    devices_hear(Greeted)


def test_a_serializer_that_reads_a_header_of_two_sockets_of_one_user():
    class Greeted(Rooms):
        authentication_classes = [TokenAuthentication]
        serializer_class = greets(lambda context: context["request"].headers["x-device"])

    async def story():
        ann, _ = await two_users()
        await written(Token.objects.create, user=ann, key="t")
        headers = [{"authorization": "Token t", "x-device": name} for name in ("ann", "bob")]
        assert await what_is_told(routes(Greeted), *headers) == EACH_THEIR_OWN

    run(story)


def test_who_has_seen_nothing_yet_when_it_is_found_out():
    class Greeted(Devices):
        serializer_class = greets(lambda context: context["request"].headers["x-device"])

    async def story():
        room = await written(Room.objects.create, name="lobby")
        application = routes(Greeted)
        async with (
            talking_to(application, "/", {"x-device": "ann"}) as anns,
            talking_to(application, "/", {"x-device": "bob"}) as bobs,
        ):
            assert await subscribed(anns, snapshot=False) is None
            assert await subscribed(bobs) == [{"hello": "bob"}]
            await written(room.save)
            assert await event(anns) == ("update", {"hello": "ann"})
            assert await event(bobs) == ("update", {"hello": "bob"})

    run(story)


def test_a_serializer_chosen_by_a_header():
    serializers = {name: greets(lambda context, name=name: name) for name in ("ann", "bob")}

    class Greeted(Devices):
        def get_serializer_class(self):
            return serializers[self.request.headers["x-device"]]

    devices_hear(Greeted)


def test_an_object_permission_that_reads_a_header():
    class Guarded(Devices):
        def check_object_permissions(self, request, obj):
            if obj.name == "secret" and request.headers["x-device"] != "ann":
                self.permission_denied(request)

    async def story():
        room = await written(Room.objects.create, name="lobby")
        application = routes(Guarded)
        async with (
            talking_to(application, "/", {"x-device": "ann"}) as anns,
            talking_to(application, "/", {"x-device": "bob"}) as bobs,
        ):
            for socket in (bobs, anns):
                reply = await socket.ask("subscribe_instance", pk=room.pk, request_id=1)
                assert reply["response_status"] == 201
            for name, action in (("secret", "delete"), ("hall", "create")):
                room.name = name
                await written(room.save)
                assert await event(anns) == ("update", {"id": room.pk, "name": name})
                assert (await event(bobs))[0] == action

    run(story)


# What a view leaves somewhere


def remembering(remember, recall):
    """A view that keeps the user's name somewhere, from where its serializer takes it."""

    class Greeted(Rooms):
        serializer_class = greets(recall)

        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            remember(self, request.user.username)

    return Greeted


current_name: ContextVar[str] = ContextVar("current_name", default="nobody")


def put_into_query(view, name):
    view.request._request.GET = view.request._request.GET.copy()
    view.request._request.GET["name"] = name


def put_a_method(view, name):
    view.get_serializer_class = lambda: greets(lambda context: name)


def put_into_renderer(view, name):
    view.request.accepted_renderer.charset = name


@pytest.mark.parametrize(
    ("remember", "recall"),
    [
        (
            lambda view, name: view.kwargs.update(name=name),
            lambda context: context["view"].kwargs["name"],
        ),
        (
            lambda view, name: setattr(view, "name", name),
            lambda context: context["view"].name,
        ),
        (
            lambda view, name: setattr(view, "args", (name,)),
            lambda context: context["view"].args[0],
        ),
        (
            lambda view, name: setattr(view, "basename", name),
            lambda context: context["view"].basename,
        ),
        (put_a_method, lambda context: "nobody"),
        (
            lambda view, name: view.headers.update({"X-Name": name}),
            lambda context: context["view"].headers["X-Name"],
        ),
        (put_into_query, lambda context: context["request"].query_params["name"]),
        (
            lambda view, name: setattr(view.request, "version", name),
            lambda context: context["request"].version,
        ),
        (
            lambda view, name: setattr(view.request._request, "LANGUAGE_CODE", name),
            lambda context: context["request"].LANGUAGE_CODE,
        ),
        (
            lambda view, name: setattr(view.request, "tenant", name),
            lambda context: context["request"].tenant,
        ),
        (
            lambda view, name: view.request.parser_context.update(name=name),
            lambda context: context["request"].parser_context["name"],
        ),
        (put_into_renderer, lambda context: context["request"].accepted_renderer.charset),
        (lambda view, name: current_name.set(name), lambda context: current_name.get()),
    ],
    ids=[
        *["kwargs", "name", "args", "basename", "get_serializer_class", "headers", "query"],
        *["version", "language", "request", "parser", "renderer", "contextvar"],
    ],
)
def test_a_view_that_keeps_who_asks(remember, recall):
    hears(remembering(remember, recall))


current = local()


class SetsCurrent(ByHeader):
    """As middleware and authentication classes do that keep the user in a thread-local."""

    def authenticate(self, request):
        found = super().authenticate(request)
        current.name = found[0].username
        return found


def test_a_thread_local_that_is_set_where_the_serializer_is_made():
    """Set again whenever the serializer is made, for any user."""

    class Greeted(Rooms):
        authentication_classes = [SetsCurrent]
        serializer_class = greets(lambda context: current.name)

        def get_queryset(self):
            return super().get_queryset().exclude(name=f"not for {current.name}")

        def get_serializer_context(self):
            current.name = self.request.user.username
            return super().get_serializer_context()

    hears(Greeted)


class Signed(QuerySet):
    """Rows that say for whom they were read."""

    reader = "nobody"

    def _clone(self):
        clone = super()._clone()
        clone.reader = self.reader
        return clone

    def _fetch_all(self):
        super()._fetch_all()
        for row in self._result_cache:
            row.name = self.reader


def test_a_queryset_that_keeps_who_asks():
    class Greeted(Rooms):
        def get_queryset(self):
            rooms = Signed(Room)
            rooms.reader = self.request.user.username
            return rooms.order_by("id")

        class serializer_class(RoomSerializer):
            class Meta(RoomSerializer.Meta):
                fields = ["name"]

    hears(Greeted, ({"name": "ann"}, {"name": "bob"}))


# Whom an authentication class of the project's own finds


class Guest(AnonymousUser):
    """A user who has not signed in, with a name of their own."""

    def __init__(self, name):
        self.username = name


class Service:
    """A user without a row in the database."""

    is_authenticated = True
    pk = None

    def __init__(self, name):
        self.username = name


def guest(name):
    return Guest(name)


def service(name):
    return Service(name)


def ann_acting_for(name):
    user, _ = User.objects.get_or_create(username="one")
    user.acts_for = name
    return user


@pytest.mark.parametrize("permissions", [[], [AllowAny]], ids=["none", "any"])
@pytest.mark.parametrize("find_user", [guest, service, ann_acting_for])
def test_users_whom_their_keys_do_not_tell_apart(find_user, permissions):
    class ByDevice(BaseAuthentication):
        def authenticate(self, request):
            return find_user(request.headers["x-device"]), None

    class Own(Rooms):
        authentication_classes = [ByDevice]
        permission_classes = permissions

        def get_queryset(self):
            user = self.request.user
            return super().get_queryset().filter(name=getattr(user, "acts_for", user.username))

    async def story():
        application = routes(Own)
        async with (
            talking_to(application, "/", {"x-device": "ann"}) as anns,
            talking_to(application, "/", {"x-device": "bob"}) as bobs,
        ):
            await subscribed(anns)
            await subscribed(bobs)
            for name in ("bob", "ann"):
                await written(Room.objects.create, name=name)
            assert (await event(anns))[1]["name"] == "ann"
            assert (await event(bobs))[1]["name"] == "bob"

    run(story)


def test_rows_made_by_a_class_for_who_asks():
    class Greeted(Rooms):
        def get_queryset(self):
            name = self.request.user.username

            class Named(ModelIterable):
                def __iter__(self):
                    for row in super().__iter__():
                        row.name = name
                        yield row

            rooms = super().get_queryset().all()
            rooms._iterable_class = Named
            return rooms

        class serializer_class(RoomSerializer):
            class Meta(RoomSerializer.Meta):
                fields = ["name"]

    hears(Greeted, ({"name": "ann"}, {"name": "bob"}))
