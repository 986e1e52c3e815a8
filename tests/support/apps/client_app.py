"""A chat for stories of the Python client: rooms and their messages, tokens, and a room."""

from __future__ import annotations

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django_filters.rest_framework import DjangoFilterBackend  # noqa: E402
from rest_framework import serializers, viewsets  # noqa: E402
from rest_framework.authentication import TokenAuthentication  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework.decorators import action  # noqa: E402
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from rest_channels.consumers import RoomConsumers  # noqa: E402
from rest_channels.routers import DefaultRouter  # noqa: E402
from tests.models import Message, Room  # noqa: E402


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["id", "room", "text"]


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["id", "name"]


class Accounts(viewsets.ViewSet):
    """Users sign up, and get a token."""

    authentication_classes = permission_classes = []

    def create(self, request):
        user, _ = User.objects.get_or_create(username=request.data["username"])
        Token.objects.filter(user=user).delete()
        return Response({"token": Token.objects.create(user=user).key}, 201)


class Rooms(viewsets.ModelViewSet):
    queryset = Room.objects.order_by("id")
    serializer_class = RoomSerializer
    authentication_classes = [TokenAuthentication]
    permission_classes = []


class Messages(viewsets.ModelViewSet):
    queryset = Message.objects.order_by("id")
    serializer_class = MessageSerializer
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]
    filter_backends = [DjangoFilterBackend]
    filterset_fields = ["room"]

    @action(detail=False)
    def count(self, request):
        return Response({"count": self.filter_queryset(self.get_queryset()).count()})

    @action(detail=False)
    def export(self, request):
        yield from ({"text": message.text} for message in self.get_queryset())

    @action(detail=True, methods=["post"])
    def shout(self, request, pk):
        message = self.get_object()
        message.text = message.text.upper()
        message.save()
        return Response({"text": message.text})


class Here(RoomConsumers):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]
    presence_grace = 0
    history = 50


router = DefaultRouter()
router.register("accounts", Accounts, "account")
router.register("rooms", Rooms)
router.register("messages", Messages)
router.register("here", Here, "here")
application = router.as_asgi()
