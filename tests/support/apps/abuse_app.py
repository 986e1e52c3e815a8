"""The application of the tests' servers: viewsets worth attacking, and accounts on request."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket

import django
from channels.routing import ProtocolTypeRouter, URLRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from django.contrib.auth import SESSION_KEY, login  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from rest_framework import pagination, permissions, serializers, viewsets  # noqa: E402
from rest_framework.authentication import SessionAuthentication, TokenAuthentication  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.filters import OrderingFilter, SearchFilter  # noqa: E402
from rest_framework.renderers import JSONRenderer  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from rest_channels.routers import DefaultRouter, SimpleRouter  # noqa: E402
from tests.models import Document, Message, Room, Tag  # noqa: E402


class JSONOnly:
    # The tests' settings have no templates for the browsable page.
    renderer_classes = [JSONRenderer]


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name", "is_staff_only"]


class RoomPagination(pagination.PageNumberPagination):
    page_size = 10
    page_size_query_param = "limit"


class RoomViewSet(JSONOnly, viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    pagination_class = RoomPagination
    filterset_fields = ["name", "is_staff_only"]

    @action(detail=False, methods=["post", "put"])
    def echo(self, request):
        return Response(request.data)

    @action(detail=False)
    def parts(self, request):
        yield 1
        yield 2

    @action(detail=True)
    async def later(self, request, pk=None):
        await asyncio.sleep(0)
        return Response(pk)

    def _private(self, request):
        raise AssertionError("No action: nobody can ask for it.")


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "author", "text", "created"]


class MessageViewSet(JSONOnly, viewsets.ModelViewSet):
    queryset = Message.objects.order_by("id")
    serializer_class = MessageSerializer
    pagination_class = pagination.CursorPagination
    filter_backends = [SearchFilter, OrderingFilter]
    search_fields = ["text"]


class TagSerializer(serializers.ModelSerializer):
    class Meta:
        model = Tag
        fields = ["id", "name"]


class TagViewSet(JSONOnly, viewsets.ModelViewSet):
    queryset = Tag.objects.order_by("name")
    serializer_class = TagSerializer
    lookup_field = "name"
    lookup_value_regex = r"[a-z]+"


class DocumentSerializer(serializers.ModelSerializer):
    class Meta:
        model = Document
        fields = ["id", "room", "file", "price"]


class DocumentViewSet(JSONOnly, viewsets.ModelViewSet):
    queryset = Document.objects.order_by("id")
    serializer_class = DocumentSerializer


class AccountViewSet(JSONOnly, viewsets.ViewSet):
    """Accounts for anybody: a user, with a token and a new session."""

    def create(self, request):
        user, _ = User.objects.get_or_create(username=request.data["username"])
        django_request = HttpRequest()
        django_request.session = SessionStore()
        login(django_request, user, "django.contrib.auth.backends.ModelBackend")
        django_request.session.save()
        assert django_request.session[SESSION_KEY] == str(user.pk)
        session_key = django_request.session.session_key
        token, _ = Token.objects.get_or_create(user=user)
        return Response({"session": session_key, "token": token.key})


class ProbeViewSet(JSONOnly, viewsets.ViewSet):
    """Actions that take as long, and answer as much, as the test wants."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    last_drawn = 0

    @action(detail=False)
    def me(self, request):
        return Response({"username": request.user.username})

    @action(detail=False, methods=["post"])
    def echo(self, request):
        return Response(request.data)

    @action(detail=False, permission_classes=[permissions.IsAuthenticated])
    def mine(self, request):
        return Response({"username": request.user.username})

    @action(detail=False, methods=["post"])
    def big(self, request):
        return Response("x" * request.data["bytes"])

    @action(detail=False, methods=["post"])
    def wait(self, request):
        """Until the test, which listens on that port, closes the connection."""
        with socket.create_connection(("127.0.0.1", request.data["port"])) as gate:
            gate.recv(1)
        return Response("waited")

    @action(detail=False)
    def endless(self, request):
        for number in itertools.count():
            ProbeViewSet.last_drawn = number
            yield {"number": number, "text": "x" * 20_000}

    @action(detail=False)
    def drawn(self, request):
        """How far the latest `endless` has come."""
        return Response(ProbeViewSet.last_drawn)

    @action(detail=False)
    def crash(self, request):
        raise RuntimeError("A secret of the project's.")


class ProbesInOrder(ProbeViewSet):
    pass


class ProbesSideBySide(ProbeViewSet):
    max_in_flight = 8


class MembersViewSet(JSONOnly, viewsets.ViewSet):
    """Nobody's who is not signed in."""

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [permissions.IsAuthenticated]

    def list(self, request):
        return Response({"username": request.user.username})


router = DefaultRouter()
router.register("rooms", RoomViewSet)
router.register("messages", MessageViewSet)
router.register("tags", TagViewSet)
router.register("documents", DocumentViewSet)
router.register("accounts", AccountViewSet, "account")
router.register("probes", ProbesInOrder, "probe")
router.register("side-by-side", ProbesSideBySide, "side-by-side")
router.register("members", MembersViewSet, "member")

application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": router.as_asgi()})

# A stack built by hand, whose middleware gives the sockets a `send` of its own.
by_hand = ProtocolTypeRouter({"websocket": AuthMiddlewareStack(URLRouter(router.urls))})

_members = DefaultRouter()
_members.register("members", MembersViewSet, "member")
_accounts = SimpleRouter()
_accounts.register("accounts", AccountViewSet, "account")

# A root where nobody who is not signed in is answered.
members_only = ProtocolTypeRouter({"websocket": URLRouter([*_members.urls, *_accounts.urls])})
