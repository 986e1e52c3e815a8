"""An API of every odd shape that serializers, routers and versions have."""

from __future__ import annotations

from channels.routing import ProtocolTypeRouter, URLRouter
from django.db import models
from django.urls import include, path
from djangochannelsrestframework.consumers import AsyncAPIConsumer
from djangochannelsrestframework.decorators import action as dcrf_action
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    PolymorphicProxySerializer,
    extend_schema,
    extend_schema_field,
)
from rest_framework import routers as drf_routers
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import CursorPagination, LimitOffsetPagination
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.versioning import AcceptHeaderVersioning, NamespaceVersioning

from rest_channels.consumers import RoomConsumers, WebsocketConsumers, consumer
from rest_channels.consumers.subscription_consumers import ModelSubscribeConsumers
from rest_channels.routers import DefaultRouter, SimpleRouter
from tests.models import Book, Document, Room, Tag


class Mood(models.TextChoices):
    GOOD = "good", "Good"
    BAD = "bad", "Bad"


class Schema(AutoSchema):
    """As a project's own."""


class TagSerializer(serializers.ModelSerializer):
    class Meta:
        model = Tag
        fields = ["id", "name"]


class BookSerializer(serializers.ModelSerializer):
    """Its tags are nested, and writable."""

    tags = TagSerializer(many=True, required=False)
    mood = serializers.ChoiceField(Mood.choices, allow_null=True, allow_blank=True, default=None)
    rating = serializers.IntegerField(
        min_value=1, max_value=2**60, help_text="From 1 up.", allow_null=True
    )

    class Meta:
        model = Book
        fields = ["id", "title", "version", "shelf", "tags", "mood", "rating"]
        read_only_fields = ["version"]


class DocumentSerializer(serializers.ModelSerializer):
    class Meta:
        model = Document
        fields = ["id", "room", "file", "price"]


class NodeSerializer(serializers.Serializer):
    """A tree."""

    name = serializers.CharField(max_length=20)
    mood = serializers.ChoiceField(["good", "ugly"])
    extra = serializers.JSONField(required=False)
    secret = serializers.CharField(write_only=True)
    took = serializers.DurationField(default="0:00:01")
    counts = serializers.DictField(child=serializers.IntegerField(), read_only=True)
    shape = serializers.SerializerMethodField()
    depth = serializers.SerializerMethodField()

    def get_fields(self):
        return {**super().get_fields(), "children": NodeSerializer(many=True, required=False)}

    @extend_schema_field({"type": "object", "properties": {"nullable": {"type": "boolean"}}})
    def get_shape(self, node):
        return {"nullable": True}

    def get_depth(self, node) -> int | None:
        return None


class ShelfSerializer(serializers.Serializer):
    kind = serializers.CharField()
    length = serializers.DecimalField(max_digits=5, decimal_places=1)


class BoxSerializer(serializers.Serializer):
    kind = serializers.CharField()
    is_open = serializers.BooleanField(allow_null=True)


class Limits(LimitOffsetPagination):
    default_limit = 5


class Cursors(CursorPagination):
    ordering = "id"


class BookViewSet(viewsets.ModelViewSet):
    queryset = Book.objects.all()
    serializer_class = BookSerializer
    permission_classes = [IsAuthenticated]
    pagination_class = Limits
    filterset_fields = {"title": ["exact", "icontains"], "shelf": ["in"]}
    throttle_classes = [UserRateThrottle]
    schema = Schema()

    @extend_schema(
        parameters=[
            OpenApiParameter("deep", bool, description="Also below."),
            OpenApiParameter("years", int, many=True, required=True),
        ],
        responses={200: TagSerializer(many=True), 409: OpenApiTypes.OBJECT},
    )
    @action(detail=True, url_path=r"labels/(?P<language>\w{2})")
    def labels(self, request, pk, language):
        return Response([])

    @extend_schema(exclude=True)
    @action(detail=False)
    def hidden(self, request):
        return Response()


class DocumentViewSet(viewsets.ModelViewSet):
    queryset = Document.objects.all()
    serializer_class = DocumentSerializer
    permission_classes = [AllowAny]
    pagination_class = Cursors
    versioning_class = AcceptHeaderVersioning


class TreeViewSet(viewsets.ViewSet):
    """Trees, which no model keeps."""

    serializer_class = NodeSerializer
    permission_classes = [AllowAny]

    @extend_schema(responses=NodeSerializer(many=True))
    def list(self, request):
        return Response([])

    @extend_schema(request=NodeSerializer, responses={201: NodeSerializer})
    def create(self, request):
        return Response(status=201)

    @extend_schema(
        responses=PolymorphicProxySerializer(
            component_name="Thing",
            serializers={"shelf": ShelfSerializer, "box": BoxSerializer},
            resource_type_field_name="kind",
        )
    )
    @action(detail=False)
    def thing(self, request):
        return Response({"kind": "box", "is_open": None})

    @extend_schema(responses={204: None})
    @action(detail=False, methods=["put", "delete"], url_path="all-of-it")
    def everything(self, request):
        return Response(status=204)


class HiddenViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.all()
    schema = None


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name"]


class NewRoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["name", "is_staff_only"]


class RoomViewSet(viewsets.ModelViewSet):
    queryset = Room.objects.all()
    permission_classes = [AllowAny]
    versioning_class = NamespaceVersioning
    lookup_field = "name"

    def get_serializer_class(self):
        return NewRoomSerializer if self.request.version == "v2" else RoomSerializer


class Chat(RoomConsumers):
    permission_classes = [IsAuthenticated]
    ephemeral = ["typing", "cursor.moved"]
    history = 3


class Calls(WebsocketConsumers):
    path = r"/calls/(?P<number>\d+)"
    permission_classes = [AllowAny]

    @consumer(kind="dial|hang up", tone=r"[A-D0-9]")
    def dial(self, message):
        """Dial a tone."""

    @consumer
    def rest(self, message):
        """Take anything."""


class Legacy(AsyncAPIConsumer):
    """A consumer from before."""

    @dcrf_action()
    async def greet(self, **kwargs):
        """Return a greeting."""
        return {"text": "hello"}, 200


def routed(router):
    """Register the viewsets that both APIs have."""
    router.register("books", BookViewSet)
    router.register("archive/documents", DocumentViewSet)
    router.register("trees", TreeViewSet, basename="tree")
    router.register("hidden", HiddenViewSet, basename="hidden")
    return router


def versioned(router):
    router.register("rooms", RoomViewSet)
    return router


sockets = routed(DefaultRouter())
sockets.register("chat", Chat)
sockets.register("legacy", Legacy)
books = ModelSubscribeConsumers.as_routes(
    path="/changes", queryset=Book.objects.all(), serializer_kwargs={"fields": ["title"]}
)
application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("ws/", URLRouter(sockets.urls)),
                path("v1/", URLRouter(versioned(SimpleRouter(namespace="v1")).urls)),
                path("v2/", URLRouter(versioned(SimpleRouter(namespace="v2")).urls)),
                path("ws/", URLRouter([*Calls.as_routes(), *books])),
            ]
        )
    }
)

urlpatterns = [
    path("api/", include(routed(drf_routers.DefaultRouter()).urls)),
    path("api/v1/", include((versioned(drf_routers.SimpleRouter()).urls, "v1"), namespace="v1")),
    path("api/v2/", include((versioned(drf_routers.SimpleRouter()).urls, "v2"), namespace="v2")),
]
